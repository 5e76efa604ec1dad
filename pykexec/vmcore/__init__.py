"""Read crash dumps: the memory of a machine whose kernel panicked, and above all the kernel's log."""

from pykexec.vmcore.dump import Dump
from pykexec.vmcore.errors import DumpError, NotInDumpError

__all__ = ["Dump", "DumpError", "NotInDumpError"]

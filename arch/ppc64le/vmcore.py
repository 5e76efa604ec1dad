"""What dumps of ppc64le are like."""

from pykexec.arch.powerpc.vmcore import POWERPC64 as PART

__all__ = ["PART"]

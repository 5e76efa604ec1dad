"""What pykdump knows about ppc."""

from pykexec.arch.powerpc import kdump
from pykexec.kdump.part import KdumpPart

PART = KdumpPart(crashkernel=kdump.crashkernel)

"""What pykdump knows about ppc64."""

from pykexec.arch.powerpc import kdump
from pykexec.kdump.part import KdumpPart

PART = KdumpPart(crashkernel=kdump.crashkernel, section_size=kdump.section_size)

"""What dumps of arm are like."""

from pykexec.vmcore.part import Registers, VmcorePart

PART = VmcorePart(
    registers=Registers("r0 r1 r2 r3 r4 r5 r6 r7 r8 r9 r10 fp ip sp lr pc cpsr orig_r0", pc="pc", sp="sp"),
    char_is_signed=False,
)

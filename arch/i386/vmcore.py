"""What dumps of i386 are like."""

from pykexec.vmcore.part import Registers, VmcorePart

PART = VmcorePart(
    registers=Registers(
        "ebx ecx edx esi edi ebp eax ds es fs gs orig_eax eip cs eflags esp ss",
        pc="eip",
        sp="esp",
    ),
    char_is_signed=True,
    marks_incomplete=True,
)

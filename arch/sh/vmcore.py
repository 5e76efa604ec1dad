"""What dumps of sh are like."""

from pykexec.vmcore.part import Registers, VmcorePart
from pykexec.vmcore.vmcoreinfo import VmcoreInfo


def _unreadable(_: VmcoreInfo) -> str:
    """Neither has a file for it (makedumpfile: arch/, crash: its sources' root)."""
    return "it knows no SuperH"


PART = VmcorePart(
    # arch/sh/include/uapi/asm/ptrace_32.h, struct pt_regs
    registers=Registers(
        "r0 r1 r2 r3 r4 r5 r6 r7 r8 r9 r10 r11 r12 r13 r14 r15 pc pr sr gbr mach macl tra", pc="pc", sp="r15"
    ),
    needed_lines=(),
    unreadable_by_makedumpfile=_unreadable,
    unreadable_by_crash=_unreadable,
    char_is_signed=True,
)

"""What dumps of 64-bit powerpc are like, in either byte order."""

from pykexec.vmcore.paging import to_page_end
from pykexec.vmcore.part import Place, Registers, VmcorePart
from pykexec.vmcore.vmcoreinfo import VmcoreInfo

_LINEAR_START, _LINEAR_END = 0xC000000000000000, 0xC008000000000000
"""All physical memory, from address 0 on, with the kernel itself (asm/book3s/64/radix.h and hash.h: with
pages of 4 KiB the hash MMU has less of it, and nothing else there)."""


def _linear(info: VmcoreInfo, virtual: int) -> Place | None:
    if not _LINEAR_START <= virtual < _LINEAR_END:
        return None
    return Place(virtual - _LINEAR_START, to_page_end(info, virtual))


POWERPC64 = VmcorePart(
    # arch/powerpc/include/uapi/asm/ptrace.h, struct pt_regs
    registers=Registers(
        " ".join(f"r{number}" for number in range(32))
        + " nip msr orig_r3 ctr lr xer ccr softe trap dar dsisr result",
        pc="nip",
        sp="r1",
    ),
    image=_linear,
    char_is_signed=False,
)

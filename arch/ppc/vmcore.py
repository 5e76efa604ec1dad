"""What dumps of ppc are like."""

from pykexec.vmcore.paging import to_page_end
from pykexec.vmcore.part import Place, Registers, VmcorePart
from pykexec.vmcore.vmcoreinfo import VmcoreInfo

_LINEAR_START, _LINEAR_END = 0xC0000000, 0xF0000000
"""The memory that is mapped at once, from address 0 on, with the kernel itself (CONFIG_PAGE_OFFSET,
CONFIG_LOWMEM_SIZE in arch/powerpc/Kconfig)."""


def _linear(info: VmcoreInfo, virtual: int) -> Place | None:
    if not _LINEAR_START <= virtual < _LINEAR_END:
        return None
    return Place(virtual - _LINEAR_START, to_page_end(info, virtual))


PART = VmcorePart(
    # arch/powerpc/include/uapi/asm/ptrace.h, struct pt_regs
    registers=Registers(
        " ".join(f"r{number}" for number in range(32))
        + " nip msr orig_r3 ctr lr xer ccr mq trap dar dsisr result",
        pc="nip",
        sp="r1",
    ),
    image=_linear,
    is_image_bounded=False,  # the formula holds for all of the linear map
    char_is_signed=False,
)

"""What dumps of i386 are like."""

from pykexec.vmcore.paging import to_page_end
from pykexec.vmcore.part import Place, Registers, VmcorePart
from pykexec.vmcore.vmcoreinfo import VmcoreInfo

_PAGE_OFFSETS = (0xC0000000, 0xB0000000, 0x80000000, 0x78000000, 0x40000000)
"""Where the linear map may begin (arch/x86/Kconfig, VMSPLIT_*), the usual place first."""


def _image(info: VmcoreInfo, virtual: int) -> Place | None:
    """Return where an address is in the linear map, in which the kernel runs wherever KASLR puts it.

    VMCOREINFO does not say where that begins: it is taken to be the last place below the kernel.
    """
    text = info.symbol("_stext") or 0
    start = next((each for each in _PAGE_OFFSETS if each <= text), None)
    if start is None or virtual < start:
        return None
    return Place(virtual - start, to_page_end(info, virtual))


PART = VmcorePart(
    registers=Registers(
        "ebx ecx edx esi edi ebp eax ds es fs gs orig_eax eip cs eflags esp ss",
        pc="eip",
        sp="esp",
    ),
    image=_image,
    is_image_bounded=False,  # the formula holds for all of the linear map
    char_is_signed=True,
    marks_incomplete=True,
)

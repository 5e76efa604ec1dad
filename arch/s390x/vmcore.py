"""What dumps of s390x are like."""

from pykexec.vmcore.paging import to_page_end
from pykexec.vmcore.part import Place, Registers, VmcorePart
from pykexec.vmcore.vmcoreinfo import VmcoreInfo


def _image(info: VmcoreInfo, virtual: int) -> Place | None:
    """Return where an address is by the kernel's own arithmetic (arch/s390/include/asm/page.h, __pa()).

    Before Linux 6.10 kernel and memory are mapped as they are. Then both have a place of their own.
    """
    size = to_page_end(info, virtual)
    base = info.hexadecimal("IDENTITYBASE")
    if base is None:
        return Place(virtual, size)
    kernel, physical = info.kernel_offset, info.hexadecimal("KERNELOFFPHYS")
    if kernel is not None and physical is not None and virtual >= kernel:
        return Place(virtual - kernel + physical, size)
    return Place(virtual - base, size) if virtual >= base else None


_REGISTERS = (
    *("mask", "addr"),  # of the PSW
    *(f"r{number}" for number in range(16)),
    *(f"a{number}_{number + 1}" for number in range(0, 16, 2)),  # access registers, of 32 bits
    "orig_r2",
)
PART = VmcorePart(
    registers=Registers(" ".join(_REGISTERS), pc="addr", sp="r15"),
    image=_image,
    # The mappings end where memory does, of which VMCOREINFO does not tell.
    is_image_bounded=False,
    char_is_signed=False,
    marks_incomplete=True,
)

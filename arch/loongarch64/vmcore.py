"""What dumps of loongarch64 are like."""

from pykexec.arch.loongarch64 import windows
from pykexec.vmcore.paging import to_page_end
from pykexec.vmcore.part import Place, Registers, VmcorePart
from pykexec.vmcore.vmcoreinfo import VmcoreInfo


def _in_window(info: VmcoreInfo, virtual: int) -> Place | None:
    """The kernel, too, runs where all physical memory is mapped."""
    if not windows.covers(virtual):
        return None
    return Place(windows.physical(virtual), to_page_end(info, virtual))


PART = VmcorePart(
    registers=Registers(
        "zero ra tp sp a0 a1 a2 a3 a4 a5 a6 a7 t0 t1 t2 t3 t4 t5 t6 t7 t8 u0 fp s0 s1 s2 s3 s4 s5 s6 s7 s8"
        " orig_a0 era badv",
        pc="era",
        sp="sp",
    ),
    image=_in_window,
    char_is_signed=True,
)

"""Addresses in i386's dumps."""

import pytest

from pykexec.arch.i386.vmcore import PART
from pykexec.vmcore.paging import kernel_image
from pykexec.vmcore.vmcoreinfo import VmcoreInfo


def physical(stext: int | None, virtual: int) -> int | None:
    lines = "PAGESIZE=4096\n" + ("" if stext is None else f"SYMBOL(_stext)={stext:x}\n")
    place = kernel_image(PART, VmcoreInfo.parse(lines.encode()), virtual)
    return None if place is None else place.physical


@pytest.mark.parametrize(
    ("stext", "virtual", "expected"),
    [
        # As 6.1 runs with PAGE_OFFSET 0xc0000000: where it was linked to, and where KASLR puts it.
        (0xC1000000, 0xC1D62A04, 0x1D62A04),
        (0xD9000000, 0xD9D06424, 0x19D06424),
        (0xC3000000, 0xC0001000, 0x1000),
        # arch/x86/Kconfig: VMSPLIT_3G_OPT, VMSPLIT_2G, VMSPLIT_2G_OPT, VMSPLIT_1G
        (0xB1000000, 0xB1234567, 0x1234567),
        (0x81000000, 0xF0000000, 0x70000000),
        (0x79000000, 0x79000010, 0x1000010),
        (0x41000000, 0x41000010, 0x1000010),
        (0xC1000000, 0xBFFFFFFF, None),
        (None, 0xC1000000, None),
        (0x1000, 0xC1000000, None),
    ],
)
def test_the_kernel_is_in_the_linear_map(stext: int | None, virtual: int, expected: int | None) -> None:
    assert physical(stext, virtual) == expected

"""Virtual addresses in dumps."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from pykexec.vmcore import Dump, NotInDumpError
from tests.support.vmcore import Kdump, Part, pages_of

KERNEL, NOTES = 0x10_0000, 0x2EF8_8000
PARTS = (Part(KERNEL, b"kernel text"), Part(NOTES, b"notes"))


@pytest.mark.parametrize(
    ("lines", "kernel", "notes"),
    [
        ({"KERNELOFFSET": "0"}, KERNEL, NOTES),
        # arch/s390/include/asm/page.h, __pa() of 6.10 and later: each by its own distance
        (
            {"IDENTITYBASE": "0", "KERNELOFFSET": "3ffe0000000", "KERNELOFFPHYS": "100000"},
            0x3FF_E000_0000,
            NOTES,
        ),
        (
            {"IDENTITYBASE": "10000000000", "KERNELOFFSET": "3ffe0000000", "KERNELOFFPHYS": "100000"},
            0x3FF_E000_0000,
            0x100_0000_0000 + NOTES,
        ),
    ],
)
def test_addresses(lines: Mapping[str, object], kernel: int, notes: int, tmp_path: Path) -> None:
    path = tmp_path / "vmcore"
    named = {"PAGESIZE": 4096, **lines}
    path.write_bytes(Kdump(pages_of(PARTS), machine="s390x", order="big", lines=named).build())
    dump = Dump.open(path)
    assert dump.read_virtual(kernel, 11) == b"kernel text"
    assert dump.read_virtual(notes, 5) == b"notes"
    for nowhere in (0x380_0000_0000, 0x3FF_F000_0000, 0x7000_0000):
        with pytest.raises(NotInDumpError):
            dump.read_virtual(nowhere, 1)

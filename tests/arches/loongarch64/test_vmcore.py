"""Virtual addresses in dumps."""

from pathlib import Path

import pytest

from pykexec.vmcore import Dump, NotInDumpError
from tests.support.vmcore import Kdump, Part, pages_of


def test_addresses(tmp_path: Path) -> None:
    """Documentation/arch/loongarch/introduction.rst: XKPRANGE."""
    parts = (Part(0x22_0000, b"kernel text"), Part(0x9A01_A800, b"notes"))
    lines: dict[str, object] = {"PAGESIZE": 16384, "SYMBOL(swapper_pg_dir)": "9000000001c00000"}
    path = tmp_path / "vmcore"
    pages = pages_of(parts, 16384)
    path.write_bytes(Kdump(pages, machine="loongarch64", block=16384, lines=lines).build())
    dump = Dump.open(path)
    for window in (0x8 << 60, 0x9 << 60, 0xA << 60):
        assert dump.read_virtual(window + 0x22_0000, 11) == b"kernel text"
        assert dump.read_virtual(window + 0x9A01_A800, 5) == b"notes"
    for nowhere in (0xB << 60, 0xFFFF800000220000, 0x9000_0001_0000_0000):
        with pytest.raises(NotInDumpError):
            dump.read_virtual(nowhere, 1)

"""Virtual addresses in dumps."""

from pathlib import Path

import pytest

from pykexec.vmcore import Dump, NotInDumpError
from tests.support.vmcore import Kdump, Part, pages_of


def test_addresses(tmp_path: Path) -> None:
    """arch/powerpc/include/asm/book3s/64/radix.h: the linear map, then vmalloc."""
    parts = (Part(0x22_0000, b"kernel text"), Part(0x9A01_0000, b"notes"))
    lines: dict[str, object] = {"PAGESIZE": 65536, "SYMBOL(swapper_pg_dir)": "c000000001c00000"}
    path = tmp_path / "vmcore"
    path.write_bytes(Kdump(pages_of(parts, 65536), machine="ppc64le", block=65536, lines=lines).build())
    dump = Dump.open(path)
    assert dump.read_virtual(0xC000_0000_0022_0000, 11) == b"kernel text"
    assert dump.read_virtual(0xC000_0000_9A01_0000, 5) == b"notes"
    for nowhere in (0xC008_0000_0022_0000, 0xD000_0000_0022_0000, 0x22_0000, 0xC000_0001_0000_0000):
        with pytest.raises(NotInDumpError):
            dump.read_virtual(nowhere, 1)

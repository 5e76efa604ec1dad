"""Dumps, whose addresses are those of their program headers."""

from pathlib import Path

import pytest

from pykexec.vmcore import Dump, NotInDumpError
from pykexec.vmcore.part import part_of
from pykexec.vmcore.vmcoreinfo import VmcoreInfo
from tests.support.vmcore import Part, elf


def test_dump(tmp_path: Path) -> None:
    path = tmp_path / "vmcore"
    path.write_bytes(elf([Part(0x0C010000, b"kernel".ljust(4096), 0x8C010000)], machine="sh", elf_class=32))
    dump = Dump.open(path)
    assert (dump.arch, dump.word_size, dump.byte_order) == ("sh", 4, "little")
    assert dump.read_virtual(0x8C010000, 6) == b"kernel"
    with pytest.raises(NotInDumpError):
        dump.read_virtual(0x8C020000, 1)


def test_no_other_program_reads_it() -> None:
    """Neither makedumpfile nor crash has a file for it among their sources."""
    part = part_of("sh")
    for ask in (part.unreadable_by_makedumpfile, part.unreadable_by_crash):
        assert ask is not None
        assert ask(VmcoreInfo.parse(b"OSRELEASE=6.1.192\n")) == "it knows no SuperH"

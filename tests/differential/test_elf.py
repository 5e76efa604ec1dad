"""Executables that GNU ld makes, of both classes and byte orders."""

import io
import subprocess
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from pykexec.formats import elf

SCRIPT = """ENTRY(_start)
SECTIONS {
    . = 0x81000000; _start = . + 16;
    .text : AT(0x1000000) { *(.data) }
    . += 0x100000;
    .more : AT(0x1400000) { BYTE(1) LONG(2) }
    .bss : AT(0x1500000) { . += 0x3000; }
}
"""


@pytest.mark.parametrize("name", ["elf32-little", "elf32-big", "elf64-little", "elf64-big"])
def test_what_the_linker_makes(name: str, tmp_path: Path) -> None:
    content, script, linked = (tmp_path / each for each in ("content", "script", "vmlinux"))
    content.write_bytes(b"text" * 1000)
    script.write_text(SCRIPT)
    objcopy: list[str | Path] = ["objcopy", "-I", "binary", "-O", name, content, tmp_path / "object"]
    subprocess.run(objcopy, check=True)
    options: list[str | Path] = ["--oformat", name, "--accept-unknown-input-arch", "-T", script]
    subprocess.run(["ld", *options, "-o", linked, tmp_path / "object"], check=True)
    data = linked.read_bytes()
    expected = ELFFile(io.BytesIO(data))
    assert f"elf{expected.elfclass}-{'little' if expected.little_endian else 'big'}" == name
    found = elf.parse("vmlinux", memoryview(data))
    assert [(each.address, each.virtual, bytes(each.data), each.memsz) for each in found.pieces] == [
        (each["p_paddr"], each["p_vaddr"], each.data(), each["p_memsz"])
        for each in sorted(expected.iter_segments("PT_LOAD"), key=lambda each: int(each["p_paddr"]))
        if each["p_memsz"]
    ]
    assert len(found.pieces) > 1
    assert (found.entry, found.physical_entry()) == (expected["e_entry"], 0x1000010)
    assert bytes(elf.flatten("vmlinux", found.pieces).data[:4000]) == content.read_bytes()

"""The purgatory's SHA-256 on this machine's CPU, and what it costs compared with the C tool's."""

import ctypes
import hashlib
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection
from hypothesis import given, settings
from hypothesis import strategies as st
from unicorn.arm64_const import UC_ARM64_REG_SP, UC_ARM64_REG_X0, UC_ARM64_REG_X30
from unicorn.unicorn import Uc
from unicorn.unicorn_const import UC_ARCH_ARM64, UC_ARCH_X86, UC_HOOK_CODE, UC_MODE_64, UC_MODE_ARM
from unicorn.x86_const import UC_X86_REG_RAX, UC_X86_REG_RSP

from tests.emulated import machine, test_purgatory_cost
from tests.emulated.arm64 import PLAIN
from tests.support.effort import examples
from tools.lab import ARM64, X86_64, Arch
from tools.lab.host import PROJECT
from tools.lab.images import kexec_tools

_LINKERS = {X86_64: "ld", ARM64: "aarch64-linux-gnu-ld"}
_DATA, _STACK, _RETURN = 0x100_0000, 0x1F0_0000, 0x1F8_0000


def c_purgatory(arch: Arch, folder: Path) -> ELFFile:
    """The relocatable object that is part of the C program's data, linked to somewhere."""
    program = kexec_tools(arch)[0].read_bytes()
    # e_ident as of a 64-bit little-endian file, and ET_REL.
    start = next(
        place
        for place in range(1, len(program))
        if program.startswith(b"\x7fELF\x02\x01\x01", place)
        and program[place + 16 : place + 18] == b"\x01\0"
    )
    loose, linked = folder / f"{arch.name}.o", folder / f"{arch.name}.elf"
    loose.write_bytes(program[start:])
    entry = ["-static", "-Ttext=0x100000", "-e", "verify_sha256_digest"]
    subprocess.run([_LINKERS[arch], *entry, "-o", linked, loose], check=True, capture_output=True)
    return ELFFile(linked.open("rb"))


def c_instructions(arch: Arch, elf: ELFFile, size: int) -> int:
    """Instructions that its verify_sha256_digest executes for one region of that many bytes."""
    symbols = elf.get_section_by_name(".symtab")
    assert isinstance(symbols, SymbolTableSection)
    address = {symbol.name: symbol["st_value"] for symbol in symbols.iter_symbols()}
    uc = Uc(UC_ARCH_X86, UC_MODE_64) if arch is X86_64 else Uc(UC_ARCH_ARM64, UC_MODE_ARM)
    uc.mem_map(0, 0x200_0000)
    for segment in elf.iter_segments("PT_LOAD"):
        uc.mem_write(segment["p_vaddr"], segment.data())
    content = bytes(size)
    uc.mem_write(_DATA, content)
    uc.mem_write(address["sha256_regions"], struct.pack("<QQ", _DATA, size))
    uc.mem_write(address["sha256_digest"], hashlib.sha256(content).digest())
    count = [0]
    uc.hook_add(UC_HOOK_CODE, lambda *_: count.__setitem__(0, count[0] + 1))
    if arch is X86_64:
        uc.mem_write(_STACK, struct.pack("<Q", _RETURN))
        uc.reg_write(UC_X86_REG_RSP, _STACK)
    else:
        uc.reg_write(UC_ARM64_REG_SP, _STACK)
        uc.reg_write(UC_ARM64_REG_X30, _RETURN)
    uc.emu_start(elf["e_entry"], _RETURN)
    assert uc.reg_read(UC_X86_REG_RAX if arch is X86_64 else UC_ARM64_REG_X0) == 0, "the digest is right"
    return count[0]


@pytest.mark.parametrize("arch", [pytest.param(X86_64, id="x86_64"), pytest.param(ARM64, id="arm64")])
def test_hashing_takes_a_fraction_of_the_c_tools_instructions(arch: Arch, tmp_path: Path) -> None:
    elf = c_purgatory(arch, tmp_path)
    c_tool = (c_instructions(arch, elf, 20480) - c_instructions(arch, elf, 4096)) / (20480 - 4096)
    if arch is X86_64:
        fast = test_purgatory_cost.x86_64_per_byte(machine.SHA)
        portable = test_purgatory_cost.x86_64_per_byte(machine.PLAIN)
    else:
        fast = test_purgatory_cost.arm64_per_byte(PLAIN)
        portable = test_purgatory_cost.arm64_per_byte(test_purgatory_cost.NO_SHA)
    assert fast <= 0.15 * c_tool
    assert portable <= c_tool


_HARNESS = """
#include "purgatory.h"
sha256_blocks sha256_ni;
sha256_two_blocks sha256_ni_two;
__attribute__((visibility("default"))) void portable(struct message *messages, u32 count)
{
	struct compression compression = { sha256_portable, 0 };
	sha256(&compression, messages, count);
}
__attribute__((visibility("default"))) void ni(struct message *messages, u32 count)
{
	struct compression compression = { sha256_ni, sha256_ni_two };
	sha256(&compression, messages, count);
}
"""

Part = tuple[int, int]
"""Of some bytes: where it begins, and its size."""
Sha256 = Callable[[bytes, list[Part]], list[bytes]]


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Sha256:
    """The sources built for this machine; with the CPU's own instructions as well, where it has them."""
    folder = tmp_path_factory.mktemp("purgatory")
    (folder / "harness.c").write_text(_HARNESS)
    sources = [PROJECT / "pykexec/purgatory" / name for name in ("common/sha256.c", "x86_64/sha256_ni.S")]
    library_path = folder / "sha256.so"
    command = [
        "gcc",
        "-O2",
        "-shared",
        "-fPIC",
        f"-I{PROJECT}/pykexec/purgatory/common",
        "-o",
        str(library_path),
    ]
    subprocess.run([*command, str(folder / "harness.c"), *map(str, sources)], check=True)
    library = ctypes.CDLL(str(library_path))
    functions = [library.portable]
    if " sha_ni " in Path("/proc/cpuinfo").read_text():
        functions.append(library.ni)

    def sha256(content: bytes, parts: list[Part]) -> list[bytes]:
        memory = ctypes.create_string_buffer(content, len(content))
        base = ctypes.addressof(memory)
        rows = b"".join(struct.pack("<QQ32s", base + start, size, b"") for start, size in parts)
        results = set()
        for function in functions:
            table = ctypes.create_string_buffer(rows, len(rows))
            function(table, ctypes.c_uint32(len(parts)))
            results.add(tuple(digest for _, _, digest in struct.iter_unpack("<QQ32s", table.raw)))
        (result,) = results
        return list(result)

    return sha256


PARTS = st.tuples(st.integers(0, 70), st.integers(0, 5000) | st.sampled_from([1 << 20, 55, 56]))


@settings(max_examples=examples(500), deadline=None)
@given(st.binary(max_size=64), st.lists(PARTS, min_size=1, max_size=2))
def test_this_machines_cpu_gives_the_same_digests(native: Sha256, seed: bytes, parts: list[Part]) -> None:
    content = hashlib.shake_128(seed).digest(max(map(sum, parts)) + 1)
    expected = [hashlib.sha256(content[start : start + size]).digest() for start, size in parts]
    assert native(content, parts) == expected

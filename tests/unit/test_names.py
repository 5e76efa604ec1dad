"""The tables of architectures' names, against others' tables of the same."""

import pytest
from elftools.elf.enums import ENUM_E_MACHINE

from pykexec import names
from tests.support.vmcore import Order

_ELF_NAMES = {
    "x86_64": "X86_64",
    "i386": "386",
    "arm64": "AARCH64",
    "arm64be": "AARCH64",
    "armbe": "ARM",
    "riscv64": "RISCV",
    "riscv32": "RISCV",
    "loongarch64": "LOONGARCH",
    "loongarch32": "LOONGARCH",
    "ppc64le": "PPC64",
    "s390x": "S390",
    "sheb": "SH",
    "mips64": "MIPS",
    "parisc64": "PARISC",
    "m68k": "68K",
    "ia64": "IA_64",
    "sparc64": "SPARCV9",
    "arc": "ARC_COMPACT2",
    "nios2": "ALTERA_NIOS2",
}
"""pyelftools' names, where they are not ours in capitals."""
_LINUX_ONLY = {"alpha": 0x9026, "hexagon": 164}  # include/uapi/linux/elf-em.h

_UNAMES = {
    "x86_64": ["x86_64"],
    "i386": ["i386", "i486", "i586", "i686"],
    "arm64": ["aarch64"],
    "arm64be": ["aarch64_be"],
    "arm": ["armv4tl", "armv5tel", "armv5tejl", "armv6l", "armv7l", "armv7ml", "armv8l"],
    "armbe": ["armv5b", "armv7b", "armv8b"],
    "sh": ["sh2", "sh3", "sh4", "sh4a", "sh4al-dsp"],
    "sheb": ["sh2eb", "sh4eb", "sh4aeb"],
    "ppc64le": ["ppc64le"],
    "ppc64": ["ppc64"],
    "ppc": ["ppc"],
    "s390x": ["s390x"],
}
"""UTS_MACHINE of arch/*/Makefile, and what setup.c or the like makes of it."""


@pytest.mark.parametrize("row", names.ALL, ids=lambda row: row.name)
def test_elf_numbers_are_those_of_pyelftools(row: names.ArchNames) -> None:
    name = f"EM_{_ELF_NAMES.get(row.name, row.name.upper())}"
    assert _LINUX_ONLY.get(row.name, ENUM_E_MACHINE.get(name)) == row.elf.machine


@pytest.mark.parametrize(
    ("name", "told"),
    [
        *[("x86_64", "i686"), ("arm64", "armv8l"), ("arm64be", "armv8b"), ("riscv64", "riscv32")],
        *[("ppc64", "ppc"), ("mips64", "mips"), ("parisc64", "parisc"), ("sparc64", "sparc")],
    ],
)
def test_compat_is_what_a_personality_makes_uname_say(name: str, told: str) -> None:
    """COMPAT_UTS_MACHINE, arch/*/include/asm/compat.h."""
    row = names.of_uname(told)
    assert row is not None
    assert names.named(name).compat == row.name


def test_every_name_is_there_once() -> None:
    assert len({row.name for row in names.ALL}) == len(names.ALL)
    assert len({number for row in names.ALL for number in row.pe}) == sum(len(row.pe) for row in names.ALL)
    assert len({row.efi for row in names.ALL if row.efi}) == sum(bool(row.efi) for row in names.ALL)


@pytest.mark.parametrize(
    ("name", "uname"), [(name, each) for name, all_ in _UNAMES.items() for each in all_]
)
def test_uname(name: str, uname: str) -> None:
    found = names.of_uname(uname)
    assert found is not None
    assert found.name == name


def test_every_row_has_a_uname_of_its_own() -> None:
    for row in names.ALL:
        assert names.of_uname(row.usual_uname) == row


@pytest.mark.parametrize("uname", ["", "x86_64\n", "vax", "armchair", "i786", "shell"])
def test_other_machines_have_no_row(uname: str) -> None:
    assert names.of_uname(uname) is None


@pytest.mark.parametrize(("uname", "name"), [("ppc64le", "ppc64le"), ("armv7l", "arm"), ("vax", "vax")])
def test_what_has_no_row_keeps_its_name(uname: str, name: str) -> None:
    assert names.name_of_uname(uname) == name


@pytest.mark.parametrize(
    ("said", "bits", "order", "name"),
    [
        ("ia32", 32, "little", "i386"),
        ("x86_64", 64, "little", "x86_64"),
        ("aarch64", 64, "little", "arm64"),
        ("aarch64", 64, "big", "arm64be"),
        ("ppc64", 64, "little", "ppc64le"),
        ("ppc64", 64, "big", "ppc64"),
        ("mips", 32, "big", "mips"),
        ("mips", 64, "big", "mips64"),
        ("s390x", 64, "big", "s390x"),
        ("s390", 32, "big", None),
    ],
)
def test_libkdumpfile(said: str, bits: int, order: Order, name: str | None) -> None:
    """KDUMP_ARCH_* of its kdumpfile.h."""
    found = names.of_kdumpfile(said, bits, order)
    assert (found and found.name) == name


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("ppc64", ["ppc64", "ppc64le"]),
        ("armbe", ["armbe", "arm"]),
        ("x86_64", ["x86_64"]),
        ("mips", ["mips"]),
        ("riscv64", ["riscv64"]),
        ("../arm64", []),
    ],
)
def test_either_order(name: str, found: list[str]) -> None:
    assert [row.name for row in names.of_either_order(name)] == found


def test_every_row_is_found_by_what_its_elf_files_say() -> None:
    for row in names.ALL:
        order = row.elf.order or "big"
        assert names.of_elf(row.elf.machine, row.elf.bits, order) == row


def test_a_dump_of_class_64_may_be_of_a_32_bit_machine() -> None:
    found = names.of_elf(40, 64, "little")
    assert found is not None
    assert found.name == "arm"
    assert names.of_elf(62, 64, "big") is None

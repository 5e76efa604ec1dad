"""The tables of names, against the kernel's headers (Debian's linux-libc-dev) and U-Boot's mkimage."""

import re
import subprocess
from pathlib import Path

import pytest

from pykexec import names
from tools.lab.debian import fetch

_UAPI = {
    "x86_64": "x86/asm/unistd_64.h",
    "i386": "x86/asm/unistd_32.h",
    "arm64": "arm64/asm/unistd_64.h",
    "arm": "arm/asm/unistd-eabi.h",
    "riscv64": "riscv/asm/unistd_64.h",
    "riscv32": "riscv/asm/unistd_32.h",
    "loongarch64": "loongarch/asm/unistd_64.h",
    "ppc64": "powerpc/asm/unistd_64.h",
    "ppc64le": "powerpc/asm/unistd_64.h",
    "ppc": "powerpc/asm/unistd_32.h",
    "s390x": "s390/asm/unistd_64.h",
    "sh": "sh/asm/unistd_32.h",
    "mips": "mips/asm/unistd_o32.h",
    "mips64": "mips/asm/unistd_n64.h",
    "parisc": "parisc/asm/unistd_32.h",
    "parisc64": "parisc/asm/unistd_64.h",
    "m68k": "m68k/asm/unistd_32.h",
}
_LINUX = {"mips": 4000, "mips64": 5000}
"""What __NR_Linux is, on which the numbers are built (arch/mips/include/uapi/asm/unistd.h)."""
_MKIMAGE = {
    "arm64": "arm64", "i386": "x86", "ppc": "powerpc", "ppc64": "powerpc", "ppc64le": "powerpc",
    "s390x": "s390", "openrisc": "or1k", "riscv64": "riscv", "riscv32": "riscv", "sheb": "sh",
}  # fmt: skip
_NEWER_THAN_MKIMAGE = {"loongarch64", "loongarch32"}


@pytest.fixture(scope="module")
def uapi() -> Path:
    (folder,) = fetch("trixie", "amd64", ["linux-libc-dev"])
    return folder / "usr/lib/linux/uapi"


def _number(header: Path, call: str, base: int) -> int | None:
    found = re.search(rf"^#define __NR_{call}\s+(\d+|\(\w+ ?\+ ?(\d+)\))$", header.read_text(), re.M)
    if found is None:
        return None
    return base + int(found[2]) if found[2] else int(found[1])


@pytest.mark.parametrize("name", _UAPI)
def test_system_calls_have_the_numbers_of_the_kernels_headers(name: str, uapi: Path) -> None:
    row = names.named(name)
    header, base = uapi / _UAPI[name], _LINUX.get(name, 0)
    assert row.kexec_load == _number(header, "kexec_load", base)
    if row.kexec_file_load is not None:  # a header may have a number that no kernel answers to
        assert row.kexec_file_load == _number(header, "kexec_file_load", base)


def test_all_that_have_kexec_are_compared() -> None:
    same = {"arm64be", "armbe", "sheb"}  # as their neighbours of the other byte order
    no_longer = {"ia64"}  # gone with Linux 6.7
    assert {row.name for row in names.ALL if row.kexec_load} == set(_UAPI) | same | no_longer


@pytest.mark.parametrize("row", [row for row in names.ALL if row.u_boot], ids=lambda row: row.name)
def test_u_boot_numbers_are_those_of_mkimage(row: names.ArchNames, tmp_path: Path) -> None:
    if row.name in _NEWER_THAN_MKIMAGE:
        assert row.u_boot == 27  # behind riscv, the last that Debian 12's mkimage knows
        return
    (tmp_path / "data").write_bytes(b"data")
    image = tmp_path / "image"
    command = ["mkimage", "-A", _MKIMAGE.get(row.name, row.name), "-T", "kernel", "-C", "none"]
    subprocess.run([*command, "-d", tmp_path / "data", image], check=True, capture_output=True)
    assert image.read_bytes()[29] == row.u_boot  # ih_arch

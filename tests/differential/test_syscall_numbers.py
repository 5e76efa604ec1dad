"""System call numbers, against the kernel's own headers (Debian's linux-libc-dev)."""

from pathlib import Path

import pytest

from pykexec import syscalls


@pytest.mark.parametrize(
    ("machine", "bits", "header"),
    [
        ("x86_64", 64, "x86_64-linux-gnu/asm/unistd_64.h"),
        ("i686", 32, "x86_64-linux-gnu/asm/unistd_32.h"),
        ("aarch64", 64, "asm-generic/unistd.h"),
        ("riscv64", 64, "asm-generic/unistd.h"),
        ("loongarch64", 64, "asm-generic/unistd.h"),
    ],
)
def test_numbers_are_those_of_the_kernel_headers(machine: str, bits: int, header: str) -> None:
    lines = (Path("/usr/include") / header).read_text().splitlines()
    (number,) = (int(line.split()[2]) for line in lines if line.startswith("#define __NR_kexec_load "))
    assert syscalls.kexec_load_number(machine, bits) == number

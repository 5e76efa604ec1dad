"""System call numbers, against the kernel's own headers (Debian's linux-libc-dev)."""

import re
from pathlib import Path

import pytest

from pykexec import names, syscalls
from tests.support import static_kexec


@pytest.mark.parametrize(
    ("machine", "header"),
    [
        ("x86_64", "x86_64-linux-gnu/asm/unistd_64.h"),
        ("i686", "x86_64-linux-gnu/asm/unistd_32.h"),
        ("aarch64", "asm-generic/unistd.h"),
        ("riscv64", "asm-generic/unistd.h"),
        ("loongarch64", "asm-generic/unistd.h"),
    ],
)
def test_numbers_are_those_of_the_kernel_headers(machine: str, header: str) -> None:
    lines = (Path("/usr/include") / header).read_text().splitlines()
    (number,) = (int(line.split()[2]) for line in lines if line.startswith("#define __NR_kexec_load "))
    assert syscalls.kexec_load_number(names.of_uname(machine)) == number


@pytest.mark.parametrize(
    ("arch", "header"),
    [
        ("x86_64", "x86_64-linux-gnu/asm/unistd_64.h"),
        ("arm64", "asm-generic/unistd.h"),
        ("i386", "x86_64-linux-gnu/asm/unistd_32.h"),
        ("riscv64", "asm-generic/unistd.h"),
    ],
)
def test_the_helpers_numbers_are_those_of_the_kernel_headers(arch: str, header: str) -> None:
    ours = static_kexec.system_call_numbers(arch)
    text = (Path("/usr/include") / header).read_text()
    found = re.findall(r"^#define __NR(?:3264)?_(\w+) (\d+)$", text, re.M)
    theirs = {name: int(number) for name, number in found}
    assert ours == {name: theirs[name] for name in ours}
    assert {"kexec_load", "openat", "reboot"} <= set(ours)
    assert ("kexec_file_load" in ours) == ("kexec_file_load" in theirs)

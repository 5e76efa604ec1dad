"""Arm's system call numbers, against the kernel's own headers of Debian's port."""

import re
import subprocess

from pykexec import names, syscalls
from tools.lab.arches.arm import ARCH
from tools.lab.debian import fetch
from tools.lab.host import PROJECT


def header_numbers() -> dict[str, int]:
    """Return all of the EABI's."""
    (folder,) = fetch("bookworm", ARCH.debian, ["linux-libc-dev"])
    (path,) = folder.rglob("asm/unistd-eabi.h")
    found = re.findall(
        r"^#define __NR_(\w+) \(__NR_SYSCALL_BASE \+ (\d+)\)$", path.read_text(), re.MULTILINE
    )
    return {name: int(number) for name, number in found}


def test_numbers() -> None:
    theirs = header_numbers()
    assert syscalls.kexec_load_number(names.of_uname("armv7l")) == theirs["kexec_load"]
    purgatory = PROJECT / "pykexec/purgatory"
    command = ["gcc", "-E", "-P", f"-I{purgatory}/exec", str(purgatory / ARCH.name / "syscalls.h")]
    source = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    ours = {name: int(number) for name, number in re.findall(r"\bNR_(\w+) = (\d+)", source)}
    assert ours == {name: theirs[name] for name in ours}
    assert {"kexec_load", "openat", "reboot", "socket"} <= set(ours)

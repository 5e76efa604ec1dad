"""pykexec's s390x loads mean what the C kexec's mean, but for the differences listed here.

The C program is Debian's for s390x, run by QEMU's user-mode emulation with the same library preloaded. And
s390x's system call numbers, against the kernel's own headers of Debian's port.
"""

import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from pykexec import names, syscalls
from pykexec.plan import Purpose
from tests.arches.s390x.images import LINE, PARAMETERS, FakeImage
from tests.differential import treeloads
from tests.differential.ckexec import Files, Loaded, NewestCKexec, both_loads, compile_shim
from tests.support import static_kexec
from tests.support.machines import iomem
from tools.lab.arches.s390x import ARCH as S390X
from tools.lab.debian import fetch
from tools.lab.images import kexec_tools

NAME = "qemu-s390x-6.1-1g"
START = 0x10000
KERNEL = FakeImage().build()
INITRD = b"initrd for s390x" * 4000

INTENDED: Mapping[str, str] = {
    "verified before": "the C tool has a purgatory for crashes alone",
}


@dataclass(frozen=True)
class CKexec(NewestCKexec):
    """The program, which takes the number of each block of memory from a file."""

    def load(self, root: Path, arguments: Sequence[str], *, symbols: str | None = None) -> Loaded:
        for block in (root / "sys/devices/system/memory").glob("memory[0-9]*"):
            (block / "phys_index").write_text(f"{int(block.name[6:]):08x}\n")
        return super().load(root, arguments, symbols=symbols)


@pytest.fixture(scope="session")
def c_kexec(tmp_path_factory: pytest.TempPathFactory) -> CKexec:
    shim = tmp_path_factory.mktemp("shim") / "shim.so"
    compile_shim("s390x", "s390x-linux-gnu", shim)
    program, libraries = kexec_tools(S390X)
    (libc,) = fetch("bookworm", S390X.debian, ["libc6"])
    libraries += {path.parent for path in libc.rglob("lib*.so.*")}
    loader = next(libc.rglob("s390x-linux-gnu/ld64.so.1"))
    return CKexec(program, libraries, shim, loader, ("qemu-s390x-static",))


def facts(loaded: Loaded) -> dict[str, object]:
    """All that a load tells the next kernel."""
    is_crash = bool(loaded.flags & 1)
    (region,) = iomem(NAME, "Crash kernel")
    base = region.start if is_crash else 0
    kernel, memsz, content = next(s for s in loaded.segments if s[2][:16] == KERNEL[START : START + 16])
    fields = struct.unpack_from(">7Q", content, PARAMETERS - START)
    line, _, behind = content[LINE - START : LINE - START + 4096].partition(b"\0")
    initrd = next(s for s in loaded.segments if s[2] == INITRD)
    (entered,) = (s for s in loaded.segments if s[0] <= loaded.entry < s[0] + s[1])
    rest = bytearray(content)
    for start, end in ((PARAMETERS, PARAMETERS + 56), (LINE, LINE + 4096)):
        rest[start - START : end - START] = bytes(end - start)
    found: dict[str, object] = {
        "flags": loaded.flags,
        "kernel": kernel - base,
        "kernel memsz": memsz,
        "kernel, less its parameters": bytes(rest),
        "parameters": fields,
        "command line": line.split(),  # the C tool leaves the blank before crashkernel= behind
        "behind the command line": behind.strip(b"\0"),
        "initrd": (initrd[0] - base, initrd[1]),
        "others": len(loaded.segments) - 3 + (entered[0] == kernel),
        "verified before": entered[0] != kernel,
    }
    if is_crash:
        # Not the jump: in the C tool's it is an instruction.
        place = entered[0] - base
        found["purgatory is left where it is"] = place >= 0x2000 and place + entered[1] <= START
    else:
        jump = struct.pack(">Q", START)
        found["the kernel is entered"] = loaded.entry == START or jump in entered[2]
    return found


def differences(
    purpose: Purpose, c_kexec: CKexec, folder: Path, options: Sequence[str] = ()
) -> dict[str, object]:
    loads = both_loads(c_kexec, NAME, purpose, Files(KERNEL, INITRD), folder, options)
    theirs, ours = map(facts, loads)
    return treeloads.differing(theirs, ours)


@pytest.fixture(scope="session")
def found(c_kexec: CKexec, tmp_path_factory: pytest.TempPathFactory) -> dict[Purpose, dict[str, object]]:
    """The differences of both loads."""
    folder = tmp_path_factory.mktemp("machines")
    return {purpose: differences(purpose, c_kexec, folder) for purpose in Purpose}


def unintended(found: Mapping[str, object]) -> dict[str, object]:
    return {what: values for what, values in found.items() if what not in INTENDED}


@pytest.mark.xdist_group("differential-s390x")
@pytest.mark.parametrize("purpose", Purpose)
def test_only_intended_differences(purpose: Purpose, found: dict[Purpose, dict[str, object]]) -> None:
    assert unintended(found[purpose]) == {}


@pytest.mark.xdist_group("differential-s390x")
def test_every_listed_difference_occurs(found: dict[Purpose, dict[str, object]]) -> None:
    assert set(INTENDED) == set().union(*found.values())


OPTIONS = [["-i"], ["-x"], ["-y"], ["-c"], ["-t", "image"], ["--reuse-cmdline"]]


@pytest.mark.xdist_group("differential-s390x")
@pytest.mark.parametrize("purpose", Purpose)
@pytest.mark.parametrize("option", OPTIONS, ids=" ".join)
def test_option(option: Sequence[str], purpose: Purpose, c_kexec: CKexec, tmp_path: Path) -> None:
    """Each option does to a load what it does in the C tool."""
    assert unintended(differences(purpose, c_kexec, tmp_path, option)) == {}


def header_numbers() -> dict[str, int]:
    """Return those of Debian's port."""
    (folder,) = fetch("bookworm", S390X.debian, ["linux-libc-dev"])
    (path,) = folder.rglob("s390x-linux-gnu/asm/unistd_64.h")
    found = re.findall(r"^#define __NR_(\w+) (\d+)$", path.read_text(), re.MULTILINE)
    return {name: int(number) for name, number in found}


def test_numbers() -> None:
    theirs = header_numbers()
    row = names.of_uname("s390x")
    assert row is not None
    assert syscalls.kexec_load_number(row) == theirs["kexec_load"]
    assert row.kexec_file_load == theirs["kexec_file_load"]
    ours = static_kexec.system_call_numbers(S390X.name)
    assert ours == {name: theirs[name] for name in ours}
    assert {"kexec_load", "kexec_file_load", "openat", "reboot", "socket"} <= set(ours)

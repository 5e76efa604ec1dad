"""pykexec's loongarch64 loads mean what the C kexec's mean, but for the differences listed here.

The C program is Debian's for loong64, run by QEMU's user-mode emulation with the same library preloaded.
"""

import io
import struct
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from pykexec import cli
from pykexec.loader import plan_load
from pykexec.memory import KIB, MIB, Range, RangeSet
from pykexec.optionparser import parse
from pykexec.plan import Purpose
from tests.arches.loongarch64.images import FakeImage
from tests.differential import treeloads
from tests.differential.ckexec import Files, Loaded, NewestCKexec, both_loads
from tests.support.machines import iomem, snapshot
from tools.crossbuild import find_tool, targets
from tools.lab import X86_64
from tools.lab.arches.loongarch64 import ARCH
from tools.lab.debian import fetch, fetch_file

NAME = "qemu-loongarch64-7.2-1g"
ENTRY = 0x1000
KERNEL = FakeImage(entry=0x200000 + ENTRY, image_size=0x1A00000).build()
INITRD = b"initrd for loongarch64" * 4000

INTENDED: Mapping[str, str] = {
    "core: kernel text": "the kernel runs in the linear map; the C tool looks for _text in kallsyms, where"
    " Debian's kernels do not have it, and gives it no address",
    "clear of what is reserved": "a boot's command line and initrd are over that in the C tool's",
    "clear of the end of memory": "an early console of the new kernel takes memory from there, and with it"
    " the C tool's initrd and core headers",
}


def compile_library(source: Path, target: Path) -> None:
    """Make a library to preload into a loongarch64 program."""
    (tools,) = (each for each in targets() if each.name == ARCH.name)
    names = ("libgcc-14-dev", "libc6-dev", "linux-libc-dev")
    libgcc, *others = fetch(tools.suite, X86_64.debian, [f"{each}-{ARCH.debian}-cross" for each in names])
    headers = [next(libgcc.rglob("stdarg.h")).parent]
    headers += [each / "usr/loongarch64-linux-gnu/include" for each in others]
    command = [
        find_tool(tools, "gcc"),
        "-shared",
        "-fPIC",
        "-nostdlib",
        *(f"-isystem{each}" for each in headers),
    ]
    subprocess.run([*command, "-o", target, source], check=True)


@pytest.fixture(scope="session")
def c_kexec(tmp_path_factory: pytest.TempPathFactory) -> NewestCKexec:
    folder = tmp_path_factory.mktemp("programs")
    shim, emulator = folder / "shim.so", folder / "qemu"
    compile_library(Path(__file__).with_name("shim.c"), shim)
    # QEMU 7.2 does not know all instructions of sid's C library.
    packed = ("bookworm-backports", X86_64.debian, "qemu-user", "usr/bin/qemu-loongarch64")
    emulator.write_bytes(fetch_file(*packed).read_bytes())
    emulator.chmod(0o755)
    tool, libc = fetch("sid", ARCH.debian, ["kexec-tools", "libc6"])
    return NewestCKexec(
        tool / "usr/sbin/kexec",
        [next(libc.rglob("libc.so.6")).parent],
        shim,
        next(libc.rglob("ld-linux-loongarch-*.so.*")),
        (str(emulator),),
    )


def facts(loaded: Loaded) -> dict[str, object]:
    """All that a load tells the next kernel."""
    kernel, kernel_size, _ = next(s for s in loaded.segments if s[2] == KERNEL)
    start = kernel + ENTRY
    entered = next(s[2] for s in loaded.segments if s[0] <= loaded.entry < s[0] + s[1])
    line = next(s[2] for s in loaded.segments if s[2][:5] == b"kexec")
    words = line.rstrip(b"\0").decode().split()  # the C tool leaves the blank before crashkernel= behind
    told = {name: _numbers(words, name) for name in ("initrd", "elfcorehdr", "mem")}
    initrds = [s[2][:size] for at, size in told["initrd"] for s in loaded.segments if s[0] == at]
    others = RangeSet(Range(s[0], s[0] + len(s[2])) for s in loaded.segments if s[0] != kernel)
    return {
        "flags": loaded.flags,
        "kernel": kernel % (2 * MIB) if loaded.flags & 1 else kernel,
        "kernel memsz": kernel_size,
        # The C tool has no purgatory: the running kernel hands the command line over.
        "the kernel is entered": loaded.entry == start or struct.pack("<Q", start) in entered,
        "the running kernel copies": len(line),
        "command line": [word for word in words if word.partition("=")[0] not in told],
        "initrd": initrds,
        "memory": told["mem"],
        "clear of what is reserved": not others.intersect(iomem(NAME, "Reserved")),
        "clear of the end of memory": max(each.end for each in others) <= _end(loaded) - MIB,
        **_core(loaded, told["elfcorehdr"]),
    }


def _end(loaded: Loaded) -> int:
    return iomem(NAME, "Crash kernel" if loaded.flags & 1 else "System RAM")[-1].end


def _numbers(words: Sequence[str], name: str) -> list[tuple[int, int]]:
    """Return (address, size) of the parameters of that name, which have them in different ways."""
    values = [word.partition("=")[2] for word in words if word.startswith(f"{name}=")]
    if name == "initrd":
        return [(int(at), int(size)) for at, size in (each.split(",") for each in values)]
    pairs = (each.replace("K", "").split("@") for each in values)
    return [(int(at) * KIB, int(size) * KIB) for size, at in pairs]


def _core(loaded: Loaded, told: Sequence[tuple[int, int]]) -> dict[str, object]:
    found = {}
    for at, size in told:
        (headers,) = (s[2] for s in loaded.segments if s[0] == at)
        segments = [each.header for each in ELFFile(io.BytesIO(headers[:size])).iter_segments()]
        loads = [
            (h["p_paddr"], h["p_memsz"], h["p_vaddr"], h["p_offset"])
            for h in segments
            if h["p_type"] == "PT_LOAD"
        ]
        text = [each for each in loads if any(_is_in(each, other) for other in loads if other is not each)]
        found = {
            "core: notes": [(h["p_paddr"], h["p_memsz"]) for h in segments if h["p_type"] == "PT_NOTE"],
            "core: kernel text": text,
            "core: memory": sorted(each for each in loads if each not in text),
        }
    return found


def _is_in(part: tuple[int, ...], whole: tuple[int, ...]) -> bool:
    return whole[0] <= part[0] < part[0] + part[1] <= whole[0] + whole[1]


def differences(
    purpose: Purpose, c_kexec: NewestCKexec, folder: Path, options: Sequence[str] = ()
) -> dict[str, object]:
    loads = both_loads(c_kexec, NAME, purpose, Files(KERNEL, INITRD), folder, options)
    theirs, ours = map(facts, loads)
    return treeloads.differing(theirs, ours)


@pytest.fixture(scope="session")
def found(
    c_kexec: NewestCKexec, tmp_path_factory: pytest.TempPathFactory
) -> dict[Purpose, dict[str, object]]:
    """The differences of both loads."""
    folder = tmp_path_factory.mktemp("machines")
    return {purpose: differences(purpose, c_kexec, folder) for purpose in Purpose}


def unintended(found: Mapping[str, object]) -> dict[str, object]:
    return {what: values for what, values in found.items() if what not in INTENDED}


@pytest.mark.xdist_group("differential-loongarch64")
@pytest.mark.parametrize("purpose", Purpose)
def test_only_intended_differences(purpose: Purpose, found: dict[Purpose, dict[str, object]]) -> None:
    assert unintended(found[purpose]) == {}


@pytest.mark.xdist_group("differential-loongarch64")
def test_every_listed_difference_occurs(found: dict[Purpose, dict[str, object]]) -> None:
    assert set(INTENDED) == set().union(*found.values())


OPTIONS = [["-i"], ["-x"], ["-y"], ["-c"], ["-t", "pei-loongarch"], ["--reuse-cmdline"]]
MIN = "--mem-min=0x91000000"
CASES = [(each, purpose) for each in [*OPTIONS, ["--mem-max=0xa8ffffff"]] for purpose in Purpose]


@pytest.mark.xdist_group("differential-loongarch64")
@pytest.mark.parametrize(("option", "purpose"), [*CASES, ([MIN], Purpose.CRASH)])
def test_option(option: Sequence[str], purpose: Purpose, c_kexec: NewestCKexec, tmp_path: Path) -> None:
    """Each option does to a load what it does in the C tool."""
    assert unintended(differences(purpose, c_kexec, tmp_path, option)) == {}


@pytest.mark.xdist_group("differential-loongarch64")
def test_a_kernel_that_cannot_go_where_it_is_linked_to_be(c_kexec: NewestCKexec, tmp_path: Path) -> None:
    """It relocates itself, of which the C tool makes use in crash loads only."""
    with pytest.raises(AssertionError, match="Could not find a free area of memory of 0x1a00000 bytes"):
        differences(Purpose.BOOT, c_kexec, tmp_path, [MIN])
    asked = cli.request_of(parse([MIN, "-l", str(tmp_path / "kernel")]), Purpose.BOOT, snapshot(NAME))
    assert plan_load(snapshot(NAME), asked).segment("kernel").address == 0x91000000

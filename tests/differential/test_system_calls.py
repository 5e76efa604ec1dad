"""What each option makes of a load, on both architectures: the system call, its flags, initrd and command
line are those of kexec-tools 2.0.32, but for what is listed.

The system call is left to the programs, so that this also shows which options kexec_file_load cannot honour.
"""

import struct
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from pykexec import options
from pykexec.plan import Purpose
from tests.differential.cases import Case
from tests.differential.ckexec import CKexec, NewestCKexec, _complete, arm64_emulator, compile_for_arm64
from tests.differential.programs import LOADED, RUNNING, Done, Lab
from tests.support.arm64_image import FakeImage
from tests.support.dtb import Blob
from tests.support.machines import write
from tools.lab import ARM64
from tools.lab.images import newest_kexec_tools

VALUES = {
    "--type": {"x86_64": "bzImage64", "arm64": "Image"},
    "--mem-min": {"x86_64": "0x1000000", "arm64": "0x40000000"},
    "--mem-max": {"x86_64": "0x3effffff", "arm64": "0x7fffffff"},
    "--entry": {"x86_64": "0x30000000", "arm64": "0x70000000"},
    "--serial": {"x86_64": "ttyS0", "arm64": "ttyAMA0"},
    "--serial-baud": dict.fromkeys(("x86_64", "arm64"), "9600"),
    **{
        name: dict.fromkeys(("x86_64", "arm64"), value)
        for name, value in {
            "--initrd": "{initrd}",
            "--append": "'a=1 b'",
            "--dtb": "{dtb}",
            "--module": "'{other} x'",
            "--reuse-node": "/x",
            "--image-size": "1",
            "--page-offset": "1",
        }.items()
    },
}
"""An argument for each option that takes one, by its first long name."""

REFUSED, FILE, LOAD = "refused", "file", "load"
Outcomes = Mapping[str, tuple[str, str, str]]
"""By option: what the C tool does, what pykexec does, and why."""

_DROPPED = "kexec_file_load cannot honour it; the C tool drops it"
_CONSOLE = "with kexec_file_load the kernel's own purgatory runs, which prints nothing; the C tool drops it"
_ELSEWHERE = "of another architecture, where it makes no difference: scripts need not know which this is"
_CONTRADICTION = "contradictory; the C tool drops one or the other, by their order"
_FORGOTTEN = "contradictory, or for Xen; with -p behind it, the C tool forgets it"
_FOR_CRASHES = (
    "accepted where there is nothing to keep up to date; the C tool wants the kernel to be able to"
)
_COMMON: Outcomes = {
    **dict.fromkeys(("--load -p", "--load-panic -l"), ("file", REFUSED, _CONTRADICTION)),
    **dict.fromkeys(
        ("--exec -l", "--force -l"), ("file ifdown", "file ifdown reboot", "the C tool forgets to start it")
    ),
    **dict.fromkeys(("--exec -p", "--force -p"), ("file ifdown", REFUSED, _CONTRADICTION)),
    "--unload": ("file-unload file-unload", REFUSED, _CONTRADICTION),
    **dict.fromkeys(("--load-preserve-context -p", "--load-live-update -p"), ("file", REFUSED, _FORGOTTEN)),
    "--load-jump-back-helper -p": ("file ifdown", REFUSED, _FORGOTTEN),
    **dict.fromkeys(("--no-checks", "--type", "--mem-min", "--mem-max", "--entry"), (FILE, LOAD, _DROPPED)),
    **dict.fromkeys(("--no-cma", "--force-dtb"), (REFUSED, FILE, "newer than 2.0.32")),
    **dict.fromkeys(
        ("--dt-no-old-root", "--reuse-node", "--page-offset -l"),
        (REFUSED, FILE, _ELSEWHERE),
    ),
    "--serial": (FILE, LOAD, _CONSOLE),
}
DIFFERENT: Mapping[str, Outcomes] = {
    "x86_64": {
        **_COMMON,
        **dict.fromkeys(("--console-vga", "--console-serial", "--serial-baud"), (FILE, LOAD, _CONSOLE)),
        **dict.fromkeys(("--noefi", "--pass-memmap-cmdline -p"), (FILE, LOAD, _DROPPED)),
        # kernel/kexec.c, kimage_alloc_init(): of no use to kexec_load either.
        "--entry -p": (FILE, REFUSED, "outside of the reservation; the C tool drops it"),
        "--entry-32bit": (REFUSED, LOAD, "the C tool finds no way to load it with kexec_file_load"),
        "--real-mode -l": (REFUSED, LOAD, "the C tool finds no way to load it with kexec_file_load"),
        "--real-mode -p": (REFUSED, REFUSED, "the BIOS would give it all of memory; 255 there"),
        "--module": (FILE, REFUSED, "for Multiboot kernels; the C tool drops it"),
        "--dtb": (FILE, REFUSED, "no tree reaches a bzImage's 64-bit entry; the C tool drops it"),
        "--devicetreeblob": (REFUSED, REFUSED, "unknown to the C tool here, to pykexec the same as --dtb"),
    },
    "arm64": {
        **_COMMON,
        "--status": ("nothing", REFUSED, "the C tool drops the load; on x86_64 it refuses, too"),
        "--dtb": (FILE, LOAD, _DROPPED),
        "--devicetreeblob": (REFUSED, LOAD, "the same as --dtb everywhere"),
        "--console-serial": (REFUSED, LOAD, "as on x86_64: to a serial port, whatever the new kernel uses"),
        **dict.fromkeys(
            (
                *("--pass-memmap-cmdline -l", "--reset-vga", "--reuse-video-type"),
                *("--elf32-core-headers", "--elf64-core-headers"),
                *("--args-linux", "--args-elf", "--args-none"),
            ),
            (REFUSED, FILE, _ELSEWHERE),
        ),
    },
}
"""By option, or by option and action, where it differs with only one of them."""


def outcome(done: Done) -> str:
    """The calls that were made, or that there was none."""
    # The C tool writes cached data to disk after a load for a boot, too.
    made = [each.what for each in done.calls if each.what != "sync"]
    return " ".join(made) or (REFUSED if done.status else "nothing")


def told(done: Done) -> list[object]:
    """What the system calls were given; the kernel's file has another number in each program."""
    return [(each.what, each.flags, each.initrd, each.line) for each in done.calls if each.what != "sync"]


@pytest.fixture(scope="session")
def arm64_c_kexec(tmp_path_factory: pytest.TempPathFactory) -> tuple[CKexec, Path]:
    """kexec-tools 2.0.32 for arm64, and the library that notes what it does."""
    folder = tmp_path_factory.mktemp("arm64")
    for name in ("shim", "clients_shim"):
        compile_for_arm64(Path(__file__).with_name(f"{name}.c"), folder / f"{name}.so")
    program, libraries, loader = newest_kexec_tools(ARM64)
    emulator = (str(arm64_emulator()),)
    return NewestCKexec(program, libraries, folder / "shim.so", loader, emulator), folder / "clients_shim.so"


@pytest.fixture
def x86_64(newest_lab: Lab) -> Lab:
    return with_tree(newest_lab)


@pytest.fixture
def arm64(arm64_c_kexec: tuple[CKexec, Path], lab: Lab) -> Lab:
    program, library = arm64_c_kexec
    state = {"proc/cmdline": f"{RUNNING}\n", **dict.fromkeys(LOADED.values(), "0\n")}
    there = replace(lab, folder=lab.folder / "arm64", c_kexec=program, shim=library)
    Case("client", Purpose.BOOT, "qemu-arm64-6.1-1g", files=state).write(there.root)
    _complete(there.root, None)
    (there.folder / "kernel").write_bytes(FakeImage().build())
    return with_tree(replace(there, names={**lab.names, "kernel": str(there.folder / "kernel")}))


def with_tree(lab: Lab) -> Lab:
    """Also with a running kernel that updates core headers."""
    write(lab.root, "sys/kernel/crash_elfcorehdr_size", "8192\n")
    tree = lab.folder / "dtb"
    tree.write_bytes(Blob({"#address-cells": struct.pack(">I", 2), "chosen": {"bootargs": b"a\0"}}).build())
    return replace(lab, names={**lab.names, "dtb": str(tree)})


OPTIONS = [
    (option, name)
    for option in options.OPTIONS
    if not option.ours and option.field not in ("help", "version")
    for name in option.names
]


@pytest.mark.parametrize("action", ["-l", "-p"])
@pytest.mark.parametrize(
    ("arch", "option", "name"),
    [
        pytest.param(
            *(arch, option, name),
            id=f"{arch}-{name}",
            # That names mean the same is shown on one.
            marks=pytest.mark.further if arch != "x86_64" and name != option.names[0] else [],
        )
        for arch in ("x86_64", "arm64")
        for option, name in OPTIONS
    ],
)
def test_option(
    arch: str, option: options.Option, name: str, action: str, request: pytest.FixtureRequest
) -> None:
    there: Lab = request.getfixturevalue(arch)
    long = next(each for each in option.names if each.startswith("--"))
    line = f"{name} {VALUES[long][arch] if option.metavar else ''} {action} {{kernel}}"
    line += "" if long == "--initrd" else " --initrd={initrd}"
    line += "" if long == "--append" else " --append='a=1 b'"
    theirs = there.theirs(line)
    for path in LOADED.values():
        (there.root / path).write_text("0\n")
    ours = there.ours(line)
    found = outcome(theirs), outcome(ours)
    table = DIFFERENT[arch]
    names = (f"{long} {action}", name, long)
    if listed := next((table[each] for each in names if each in table), None):
        assert found == listed[:2], (theirs, ours)
    else:
        assert found[0] == found[1], (theirs, ours)
        assert theirs.status == ours.status
        assert told(theirs) == told(ours)
        if long == "--print-ckr-size":
            assert theirs.stdout == ours.stdout


def test_what_is_listed_is_an_option() -> None:
    names = {name for _, name in OPTIONS}
    for table in DIFFERENT.values():
        assert {key.split()[0] for key in table} <= names

"""pykexec's riscv64 loads mean what the C kexec's mean, but for the differences listed here.

The C program is Debian's for riscv64, run by QEMU's user-mode emulation with the same library preloaded.
"""

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from pykexec.devicetree import DeviceTree
from pykexec.plan import Purpose
from tests.arches.riscv64.images import FakeImage
from tests.differential import treeloads
from tests.differential.ckexec import Files, Loaded, NewestCKexec, both_loads, compile_shim
from tests.support.machines import RISCV64_SNAPSHOTS
from tools.lab.arches.riscv64 import ARCH as RISCV64
from tools.lab.debian import fetch

KERNEL = FakeImage(image_size=0x600000).build()
INITRD = b"initrd for riscv64" * 4000

INTENDED: Mapping[str, str] = {
    "chosen kaslr-seed": "always fresh; the C tool leaves what the running kernel has used up",
    "chosen rng-seed": "the same",
    "core: kernel text": "the mapping in /proc/kcore; the C tool guesses its address from symbols",
    "core: memory": "all RAM but the firmware's; the C tool leaves out all that the kernel has reserved for"
    " itself, its page tables among it, and puts the rest at addresses that the kernel does not use",
}


@pytest.fixture(scope="session")
def c_kexec(tmp_path_factory: pytest.TempPathFactory) -> NewestCKexec:
    shim = tmp_path_factory.mktemp("shim") / "shim.so"
    compile_shim("riscv64", "riscv64-linux-gnu", shim)
    tool, libc = fetch("sid", RISCV64.debian, ["kexec-tools", "libc6"])
    loader = next(libc.rglob("ld-linux-riscv64-*.so.*"))
    return NewestCKexec(
        tool / "usr/sbin/kexec",
        [next(libc.rglob("libc.so.6")).parent],
        shim,
        loader,
        ("qemu-riscv64-static",),
    )


def facts(loaded: Loaded) -> dict[str, object]:
    """All that a load tells the next kernel."""
    at, memsz, _ = next(s for s in loaded.segments if s[2] == KERNEL)
    dtb_at, _, blob = next(s for s in loaded.segments if s[2][:4] == b"\xd0\x0d\xfe\xed")
    entered = next(s[2] for s in loaded.segments if s[0] <= loaded.entry < s[0] + s[1])
    nodes = dict(DeviceTree(blob, "dtb").nodes())
    chosen = treeloads.without_seeds(nodes.pop("/chosen"))
    # The C tool copies up to three bytes behind the text, and leaves the blank before crashkernel= behind.
    chosen["bootargs"] = b" ".join(chosen["bootargs"].partition(b"\0")[0].split())
    result: dict[str, object] = {
        "flags": loaded.flags,
        "kernel memsz": memsz,
        "kernel alignment": at % (2 << 20),
        # The C tool has no purgatory: the running kernel finds the device tree itself.
        "the kernel is entered": loaded.entry == at or struct.pack("<QQ", at, dtb_at) in entered,
        "initrd": treeloads.has_initrd(loaded, chosen, INITRD),
        "device tree, less chosen": nodes,
        **treeloads.core(loaded, chosen),
    }
    return result | {f"chosen {name}": value for name, value in chosen.items()}


def differences(
    name: str, purpose: Purpose, c_kexec: NewestCKexec, folder: Path, options: Sequence[str] = ()
) -> dict[str, object]:
    loads = both_loads(c_kexec, name, purpose, Files(KERNEL, INITRD), folder, options)
    theirs, ours = map(facts, loads)
    return treeloads.differing(theirs, ours)


@pytest.fixture(scope="session")
def found(c_kexec: NewestCKexec, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    """The differences of every case."""
    folder = tmp_path_factory.mktemp("machines")
    return {
        f"{name}-{purpose.value}": differences(name, purpose, c_kexec, folder)
        for name in RISCV64_SNAPSHOTS
        for purpose in Purpose
    }


@pytest.mark.xdist_group("differential-riscv64")
@pytest.mark.parametrize("name", [f"{name}-{each.value}" for name in RISCV64_SNAPSHOTS for each in Purpose])
def test_only_intended_differences(name: str, found: dict[str, dict[str, object]]) -> None:
    assert {what: values for what, values in found[name].items() if what not in INTENDED} == {}


@pytest.mark.xdist_group("differential-riscv64")
def test_every_listed_difference_occurs(found: dict[str, dict[str, object]]) -> None:
    assert set(INTENDED) == set().union(*found.values())


OPTIONS = [["-i"], ["-x"], ["-y"], ["-c"], ["-t", "image-riscv"], ["--reuse-cmdline"]]
OPTIONS += [["--mem-min=0x81000000"], ["--mem-max=0xb0ffffff"]]


@pytest.mark.xdist_group("differential-riscv64")
@pytest.mark.parametrize("purpose", Purpose)
@pytest.mark.parametrize("option", OPTIONS, ids=" ".join)
def test_option(option: Sequence[str], purpose: Purpose, c_kexec: NewestCKexec, tmp_path: Path) -> None:
    """Each option does to a load what it does in the C tool."""
    found = differences(RISCV64_SNAPSHOTS[0], purpose, c_kexec, tmp_path, option)
    assert {what: values for what, values in found.items() if what not in INTENDED} == {}


@pytest.mark.xdist_group("differential-riscv64")
def test_the_later_command_line_counts(c_kexec: NewestCKexec, tmp_path: Path) -> None:
    """As on all architectures, so that a line means one thing. Only here the C tool joins the two."""
    options = ["--command-line=first"]
    found = differences(RISCV64_SNAPSHOTS[0], Purpose.BOOT, c_kexec, tmp_path, options)
    assert {what: values for what, values in found.items() if what not in INTENDED} == {
        "chosen bootargs": (b"first quiet", b"quiet")
    }

"""pykexec's arm64 loads mean what the C kexec's mean, but for the differences listed here.

The C program is Debian's for arm64, run by QEMU's user-mode emulation with the same library preloaded.
"""

import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pykexec import cli
from pykexec.devicetree import DeviceTree
from pykexec.loader import plan_load
from pykexec.machine import Machine
from pykexec.optionparser import parse
from pykexec.plan import Purpose
from tests.differential import treeloads
from tests.differential.ckexec import CKexec, Loaded, arm64_emulator, compile_for_arm64
from tests.support.machines import ARM64_SNAPSHOTS, snapshot, unpacked
from tools.lab import ARM64, Kernel
from tools.lab.debian import fetch
from tools.lab.images import kexec_tools

INITRD = b"initrd for arm64" * 4000

# With nokaslr the kernel leaves kaslr-seed as it was, and the C tool refuses to go on.
MACHINES = [name for name in ARM64_SNAPSHOTS if "nokaslr" not in snapshot(name).command_line]

INTENDED: Mapping[str, str] = {
    "chosen rng-seed": "always fresh; the C tool leaves what the running kernel has used up",
    "core: kernel text": "the mapping in /proc/kcore; the C tool guesses it from symbols and resource names",
}


@dataclass(frozen=True)
class Emulated(CKexec):
    """The program, for another architecture."""

    emulator: Sequence[str] = ()

    def command(self, environment: Mapping[str, str], arguments: Sequence[str]) -> list[str]:
        variables = [part for name, value in environment.items() for part in ("-E", f"{name}={value}")]
        return [*self.emulator, *variables, str(self.program), *arguments]


@pytest.fixture(scope="session")
def c_kexec(tmp_path_factory: pytest.TempPathFactory) -> Emulated:
    shim = tmp_path_factory.mktemp("shim") / "shim.so"
    compile_for_arm64(Path(__file__).with_name("shim.c"), shim)
    program, libraries = kexec_tools(ARM64)
    libc, *others = fetch("bookworm", ARM64.debian, ["libc6", "zlib1g", "liblzma5", "libzstd1"])
    libraries += [path.parent for folder in others for path in folder.rglob("lib*.so.*")]
    return Emulated(program, libraries, shim, emulator=(str(arm64_emulator()), "-L", str(libc)))


def facts(loaded: Loaded, kernel: bytes) -> dict[str, object]:
    """All that a load tells the next kernel."""
    at, memsz, data = next(s for s in loaded.segments if s[2] == kernel)
    dtb_at, _, blob = next(s for s in loaded.segments if s[2][:4] == b"\xd0\x0d\xfe\xed")
    purgatory = next(s[2] for s in loaded.segments if s[0] <= loaded.entry < s[0] + s[1])
    nodes = dict(DeviceTree(blob, "dtb").nodes())
    chosen = treeloads.without_seeds(nodes.pop("/chosen"))
    result: dict[str, object] = {
        "flags": loaded.flags,
        "kernel": data == kernel,
        "kernel memsz": memsz,
        "kernel alignment": at % (2 << 20),
        "purgatory jumps to the kernel": struct.pack("<Q", at) in purgatory,
        "purgatory passes the device tree": struct.pack("<Q", dtb_at) in purgatory,
        "initrd": treeloads.has_initrd(loaded, chosen, INITRD),
        "device tree, less chosen": nodes,
        **treeloads.core(loaded, chosen),
    }
    return result | {f"chosen {name}": value.rstrip(b"\0") for name, value in chosen.items()}


@pytest.fixture(scope="session")
def found(c_kexec: Emulated, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    """The differences of every case."""
    folder = tmp_path_factory.mktemp("machines")
    return {
        f"{name}-{purpose.value}": _differences(name, purpose, c_kexec, folder)
        for name in MACHINES
        for purpose in Purpose
    }


OPTIONS = [["-i"], ["-d"], ["-x"], ["-y"], ["-c"], ["--serial=ttyAMA0"], ["-t", "Image"]]
OPTIONS += [["--mem-min=0x48000000"], ["--mem-max=0x7bffffff"], ["--reuse-cmdline"]]


@pytest.mark.xdist_group("differential-arm64")
@pytest.mark.parametrize("purpose", Purpose)
@pytest.mark.parametrize("option", OPTIONS, ids=" ".join)
def test_option(option: Sequence[str], purpose: Purpose, c_kexec: Emulated, tmp_path: Path) -> None:
    """Each option does to a load what it does in the C tool."""
    found = _differences("qemu-arm64-6.1-1g", purpose, c_kexec, tmp_path, option)
    if option == ["--reuse-cmdline"] and purpose is Purpose.CRASH:
        # The C tool leaves the blank in front of crashkernel= behind.
        assert found.pop("chosen bootargs") == (
            b"console=ttyAMA0 panic=-1  quiet",
            b"console=ttyAMA0 panic=-1 quiet",
        )
    assert {what: values for what, values in found.items() if what not in INTENDED} == {}


@pytest.mark.xdist_group("differential-arm64")
def test_a_device_tree_of_the_users(c_kexec: Emulated, tmp_path: Path) -> None:
    tree = tmp_path / "tree.dtb"
    changed = DeviceTree(snapshot("qemu-arm64-6.1-1g").read("sys/firmware/fdt") or b"", "dtb")
    changed.set("/", "compatible", b"another\0")
    tree.write_bytes(changed.to_bytes())
    found = _differences("qemu-arm64-6.1-1g", Purpose.BOOT, c_kexec, tmp_path, [f"--dtb={tree}"])
    assert {what: values for what, values in found.items() if what not in INTENDED} == {}


def _differences(
    name: str, purpose: Purpose, c_kexec: Emulated, folder: Path, options: Sequence[str] = ()
) -> dict[str, object]:
    root = folder / f"{name}-{purpose.value}"
    unpacked(name, root)
    kernel = Kernel.get("6.1", ARM64).image
    initrd = folder / "initrd"
    initrd.write_bytes(INITRD)
    action = "-p" if purpose is Purpose.CRASH else "-l"
    arguments = [*options, action, str(kernel), f"--initrd={initrd}", "--append=quiet"]
    machine = Machine.from_snapshot(root)
    request = replace(cli.request_of(parse(arguments), purpose, machine), seed=bytes(64))
    ours = facts(Loaded.of(plan_load(machine, request)), kernel.read_bytes())
    # Without _text the C tool writes headers nobody can read: tell it, so that the rest can be compared.
    stext = re.search(rb"SYMBOL\(_stext\)=([0-9a-f]+)", (root / "proc/kcore").read_bytes())
    assert stext is not None
    symbols = f"{stext[1].decode()} T _stext\n{int(stext[1], 16) - 0x10000:x} T _text\n"
    theirs = facts(c_kexec.load(root, arguments, symbols=symbols), kernel.read_bytes())
    return treeloads.differing(theirs, ours)


@pytest.mark.xdist_group("differential-arm64")
@pytest.mark.parametrize("name", [f"{name}-{purpose.value}" for name in MACHINES for purpose in Purpose])
def test_only_intended_differences(name: str, found: dict[str, dict[str, object]]) -> None:
    assert {what: values for what, values in found[name].items() if what not in INTENDED} == {}


@pytest.mark.xdist_group("differential-arm64")
def test_every_listed_difference_occurs(found: dict[str, dict[str, object]]) -> None:
    assert set(INTENDED) == set().union(*found.values())

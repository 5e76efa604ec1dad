"""pykexec's ppc64le loads mean what the C kexec's mean, but for the differences listed here.

The C program is Debian's for ppc64el, run by QEMU's user-mode emulation with the same library preloaded.
"""

import struct
from collections.abc import Mapping
from pathlib import Path

import pytest

from pykexec.devicetree import DeviceTree
from pykexec.plan import Purpose
from tests.arches.powerpc.images import FakeVmlinux
from tests.differential import treeloads
from tests.differential.ckexec import Files, Loaded, NewestCKexec, both_loads, compile_shim
from tests.support.machines import PPC64LE_SNAPSHOTS
from tools.lab.arches.ppc64le import ARCH as PPC64LE
from tools.lab.debian import fetch

KERNEL = FakeVmlinux(memory_size=0x300000)
INITRD = b"initrd for ppc64le" * 40000

INTENDED: Mapping[str, str] = {
    "chosen kaslr-seed": "always fresh; the C tool leaves out what the running kernel was given",
    "chosen rng-seed": "the same",
    "chosen linux,memory-limit": "kernels write it in big-endian and read it in their own byte order",
    "kernel at": "at the first free address; the C tool takes linux,kernel-end for the last byte in use",
    "core: memory": "firmware within the reservation in whole pages of the running kernel; the C tool has"
    " them of the system it runs on, which is this one",
    "reservations": "the core headers with all that the segment takes; the C tool has what it filled",
    "device tree, less chosen": "counters of usable memory for the blocks that kernels read them for; the C"
    " tool has one for each",
}


@pytest.fixture(scope="session")
def c_kexec(tmp_path_factory: pytest.TempPathFactory) -> NewestCKexec:
    shim = tmp_path_factory.mktemp("shim") / "shim.so"
    compile_shim("ppc64el", "powerpc64le-linux-gnu", shim)
    tool, libc, *others = fetch(
        "sid", PPC64LE.debian, ["kexec-tools", "libc6", "zlib1g", "liblzma5", "libzstd1"]
    )
    loader = next(libc.rglob("ld64.so.2"))
    libraries = sorted({path.parent for each in (libc, *others) for path in each.rglob("lib*.so.*")})
    return NewestCKexec(tool / "usr/sbin/kexec", libraries, shim, loader, ("qemu-ppc64le-static",))


def facts(loaded: Loaded) -> dict[str, object]:
    """All that a load tells the next kernel."""
    at, memsz, _ = next(s for s in loaded.segments if s[2][0x1000:0x1020] == KERNEL.contents[0x1000:0x1020])
    dtb_at, _, blob = next(s for s in loaded.segments if s[2][:4] == b"\xd0\x0d\xfe\xed")
    purgatory_at, _, purgatory = next(s for s in loaded.segments if s[0] <= loaded.entry < s[0] + s[1])
    nodes = dict(DeviceTree(blob, "dtb").nodes())
    chosen = treeloads.without_seeds(nodes.pop("/chosen"))
    line, _, headers = chosen["bootargs"].rstrip(b"\0").rstrip(b" ").partition(b" elfcorehdr=")
    chosen["bootargs"] = line
    core_at = int(headers.removesuffix(b"K") or b"0") << 10
    head = loaded.entry - purgatory_at
    result: dict[str, object] = {
        "flags": loaded.flags,
        "kernel at": at,
        "kernel memsz": memsz,
        "what other processors execute": purgatory[head + 4 : head + 0x100],
        "initrd": treeloads.has_initrd(loaded, chosen, INITRD),
        "device tree, less chosen": nodes,
        "reservations": _reservations(loaded, blob, core_at, dtb_at),
    }
    if core_at:
        size = next(s[1] for s in loaded.segments if s[0] == core_at)
        told = {"linux,elfcorehdr": struct.pack(">QQ", core_at, size)}
        result |= treeloads.core(loaded, told, has_text=False)
        # The first 64 KiB are where purgatory saves them.
        memory = result["core: memory"]
        assert isinstance(memory, list)
        first, *others = memory
        result["core: memory"] = [(*first[:3], first[3] in {s[0] for s in loaded.segments}), *others]
    return result | {f"chosen {name}": value for name, value in chosen.items()}


def _reservations(loaded: Loaded, blob: bytes, core_at: int, dtb_at: int) -> list[object]:
    """In their order, with names in the place of addresses that differ between two layouts."""
    (at,) = struct.unpack_from(">I", blob, 16)
    pairs = list(struct.iter_unpack(">QQ", blob[at : at + 16 * 20]))
    named = {core_at: "core headers", dtb_at: "device tree"}
    named |= {s[0]: "initrd" for s in loaded.segments if s[2][: len(INITRD)] == INITRD}
    named |= {s[0]: "backup" for s in loaded.segments if s[1] == 0x10000 and not any(s[2])}
    return [
        (named.get(start, hex(start)), size - len(blob) if start == dtb_at else size)
        for start, size in pairs[: pairs.index((0, 0))]
    ]


def differences(
    name: str, purpose: Purpose, c_kexec: NewestCKexec, folder: Path, *options: str
) -> dict[str, object]:
    loads = both_loads(c_kexec, name, purpose, Files(KERNEL.build(), INITRD), folder, options)
    theirs, ours = map(facts, loads)
    return treeloads.differing(theirs, ours)


CASES = [f"{name}-{purpose.value}" for name in PPC64LE_SNAPSHOTS for purpose in Purpose]


@pytest.fixture(scope="session")
def found(c_kexec: NewestCKexec, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    """The differences of every case."""
    folder = tmp_path_factory.mktemp("machines")
    return {
        f"{name}-{purpose.value}": differences(name, purpose, c_kexec, folder)
        for name in PPC64LE_SNAPSHOTS
        for purpose in Purpose
    }


@pytest.mark.xdist_group("differential-ppc64le")
@pytest.mark.parametrize("case", CASES)
def test_only_intended_differences(case: str, found: dict[str, dict[str, object]]) -> None:
    assert {what: values for what, values in found[case].items() if what not in INTENDED} == {}


@pytest.mark.xdist_group("differential-ppc64le")
def test_every_listed_difference_occurs(found: dict[str, dict[str, object]]) -> None:
    assert set(INTENDED) == set().union(*found.values())

"""pykexec's arm loads mean what the C kexec's mean, but for the differences listed here.

The C program is Debian's for armhf, run by QEMU's user-mode emulation with the same library preloaded. And
arm's system call numbers, against the kernel's own headers of Debian's port.
"""

import re
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from pykexec import names, syscalls
from pykexec.devicetree import DeviceTree
from pykexec.memory import Range
from pykexec.plan import Purpose
from tests.arches.arm.images import FakeZImage
from tests.differential import treeloads
from tests.differential.ckexec import Files, Loaded, NewestCKexec, both_loads, compile_shim
from tests.support import static_kexec
from tests.support.machines import ARM_SNAPSHOTS, iomem
from tools.lab.arches.arm import ARCH as ARM
from tools.lab.debian import fetch
from tools.lab.images import kexec_tools

IMAGE = FakeZImage()
KERNEL = IMAGE.build()
INITRD = b"initrd for arm" * 4000

INTENDED: Mapping[str, str] = {
    "what it unpacks is for itself": "the C tool takes the unpacked kernel to begin at 0x8000, which is at"
    " 0x208000, and puts the initrd where that kernel or the zImage moves to",
    "kernel memsz": "with the stack and the heap that it unpacks itself with",
    "chosen rng-seed": "always fresh; the C tool leaves what the running kernel has used up",
    "core: memory": "what is above the linear map has no virtual address; the C tool counts on through it",
    "core: place": "by 2 MiB, as kernels with LPAE map memory; the C tool takes 1 MiB",
    "chosen linux,usable-memory-range": "less the core headers, which mem= leaves out for both",
}


@pytest.fixture(scope="session")
def c_kexec(tmp_path_factory: pytest.TempPathFactory) -> NewestCKexec:
    shim = tmp_path_factory.mktemp("shim") / "shim.so"
    compile_shim("armhf", "arm-linux-gnueabihf", shim)
    program, libraries = kexec_tools(ARM)
    (libc,) = fetch("bookworm", ARM.debian, ["libc6"])
    libraries += {path.parent for path in libc.rglob("lib*.so.*")}
    loader = next(libc.rglob("ld-linux-armhf.so.*"))
    return NewestCKexec(program, libraries, shim, loader, ("qemu-arm-static",))


def facts(loaded: Loaded, memory: Range) -> dict[str, object]:
    """All that a load tells the next kernel, whose memory that is."""
    at, memsz, _ = next(s for s in loaded.segments if s[2] == KERNEL)
    dtb_at, _, blob = next(s for s in loaded.segments if s[2][:4] == b"\xd0\x0d\xfe\xed")
    entered = next(s[2] for s in loaded.segments if s[0] <= loaded.entry < s[0] + s[1])
    nodes = dict(DeviceTree(blob, "dtb").nodes())
    chosen = treeloads.without_seeds(nodes.pop("/chosen"))
    core_at = memory.end
    if "linux,elfcorehdr" in chosen:
        core_at = int.from_bytes(chosen["linux,elfcorehdr"][:8])
        said = f"elfcorehdr={core_at:#x} mem={(core_at - memory.start) >> 10}K"
        chosen["bootargs"] = chosen["bootargs"].replace(said.encode(), b"<core headers>")
    result: dict[str, object] = {
        "flags": loaded.flags,
        "kernel memsz": memsz,
        # The C tool has no purgatory: the running kernel finds the device tree itself.
        "the kernel is entered": loaded.entry == at or struct.pack("<QQ", at, dtb_at) in entered,
        "in the block where memory begins": at & 0xF8000000 == memory.start & 0xF8000000,
        "what it unpacks is for itself": _is_for_itself(loaded, at, memory.start + IMAGE.text_offset),
        "initrd": treeloads.has_initrd(loaded, chosen, INITRD),
        "device tree, less chosen": nodes,
        "core: place": memory.end - core_at,
        **treeloads.core(loaded, chosen, has_text=False),
    }
    return result | {f"chosen {name}": value for name, value in chosen.items()}


def _is_for_itself(loaded: Loaded, at: int, unpacked: int) -> bool:
    """Return whether no other segment is in what a zImage at `at` uses (arch/arm/boot/compressed/head.S).

    Where the unpacked kernel would meet it, it moves itself behind that first.
    """
    end = unpacked + IMAGE.inflated
    behind = at if at >= end else end
    used = Range(unpacked, max(end + IMAGE.bss, behind + IMAGE.size + 4096 + IMAGE.heap))
    return not any(used.overlaps(Range.sized(s[0], s[1])) for s in loaded.segments if s[0] != at)


def differences(
    name: str, purpose: Purpose, c_kexec: NewestCKexec, folder: Path, options: Sequence[str] = ()
) -> dict[str, object]:
    loads = both_loads(c_kexec, name, purpose, Files(KERNEL, INITRD), folder, options)
    (memory,) = iomem(name, "Crash kernel" if purpose is Purpose.CRASH else "System RAM")
    theirs, ours = (facts(each, memory) for each in loads)
    return treeloads.differing(theirs, ours)


CASES = {f"{name}-{each.value}": (name, each) for name in ARM_SNAPSHOTS for each in Purpose}


@pytest.fixture(scope="session")
def found(c_kexec: NewestCKexec, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    """The differences of every case."""
    folder = tmp_path_factory.mktemp("machines")
    return {case: differences(name, each, c_kexec, folder) for case, (name, each) in CASES.items()}


@pytest.mark.xdist_group("differential-arm")
@pytest.mark.parametrize("case", CASES)
def test_only_intended_differences(case: str, found: dict[str, dict[str, object]]) -> None:
    assert {what: values for what, values in found[case].items() if what not in INTENDED} == {}


@pytest.mark.xdist_group("differential-arm")
def test_every_listed_difference_occurs(found: dict[str, dict[str, object]]) -> None:
    assert set(INTENDED) == set().union(*found.values())


# Not --mem-min: with the C tool the zImage is above that, and unpacks itself to where memory begins.
OPTIONS = [["-i"], ["-x"], ["-y"], ["-c"], ["-t", "zImage"]]
OPTIONS += [["--mem-max=0x6affffff"], ["--page-offset=0x80000000"]]


@pytest.mark.xdist_group("differential-arm")
@pytest.mark.parametrize("purpose", Purpose)
@pytest.mark.parametrize("option", OPTIONS, ids=" ".join)
def test_option(option: Sequence[str], purpose: Purpose, c_kexec: NewestCKexec, tmp_path: Path) -> None:
    """Each option does to a load what it does in the C tool."""
    found = differences(ARM_SNAPSHOTS[0], purpose, c_kexec, tmp_path, option)
    assert {what: values for what, values in found.items() if what not in INTENDED} == {}


@pytest.mark.xdist_group("differential-arm")
@pytest.mark.parametrize("purpose", Purpose)
def test_image_size(purpose: Purpose, c_kexec: NewestCKexec, tmp_path: Path) -> None:
    """With it the C tool's load works, too, if it is large enough."""
    size = IMAGE.text_offset + IMAGE.inflated + IMAGE.size + 0x11000
    found = differences(ARM_SNAPSHOTS[0], purpose, c_kexec, tmp_path, [f"--image-size={size:#x}"])
    assert {what: values for what, values in found.items() if what not in INTENDED} == {}
    assert "what it unpacks is for itself" not in found


def header_numbers() -> dict[str, int]:
    """Return all of the EABI's."""
    (folder,) = fetch("bookworm", ARM.debian, ["linux-libc-dev"])
    (path,) = folder.rglob("asm/unistd-eabi.h")
    found = re.findall(
        r"^#define __NR_(\w+) \(__NR_SYSCALL_BASE \+ (\d+)\)$", path.read_text(), re.MULTILINE
    )
    return {name: int(number) for name, number in found}


def test_numbers() -> None:
    theirs = header_numbers()
    assert syscalls.kexec_load_number(names.of_uname("armv7l")) == theirs["kexec_load"]
    ours = static_kexec.system_call_numbers(ARM.name)
    assert ours == {name: theirs[name] for name in ours}
    assert {"kexec_load", "openat", "reboot", "socket"} <= set(ours)

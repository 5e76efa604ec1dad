"""Plans for rare machines, and for any, against a second and naive way of finding out what is right."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pykexec.errors import PykexecError
from pykexec.files import FileData
from pykexec.loader import plan_load
from pykexec.machine import Machine as Facts
from pykexec.plan import Purpose, Request
from tests.arches.arm import images as arm_images
from tests.arches.loongarch64 import images as loongarch64_images
from tests.arches.powerpc import images as powerpc_images
from tests.arches.ppc import images as ppc_images
from tests.arches.riscv64 import images as riscv64_images
from tests.arches.s390x import images as s390x_images
from tests.arches.sh import images as sh_images
from tests.support import brute_force, real_machines
from tests.support.arm64_image import FakeImage
from tests.support.bzimage import FakeBzImage
from tests.support.effort import examples
from tests.support.machines import FOLDER
from tests.support.odd_machines import (
    CRASH,
    GIB,
    KIB,
    MIB,
    ODD,
    RAM,
    Line,
    OddMachine,
    arm64,
    line,
    loongarch64,
    riscv64,
    x86,
)

KERNELS = {
    "x86_64": FileData.from_bytes("vmlinuz", FakeBzImage().build()),
    "i686": FileData.from_bytes("vmlinuz", FakeBzImage(xloadflags=4).build()),
    "aarch64": FileData.from_bytes("Image", FakeImage().build()),
    "armv7l": FileData.from_bytes("zImage", arm_images.FakeZImage().build()),
    "riscv64": FileData.from_bytes("Image", riscv64_images.FakeImage().build()),
    "loongarch64": FileData.from_bytes("vmlinux.efi", loongarch64_images.FakeImage().build()),
    "ppc": FileData.from_bytes("vmlinux", ppc_images.FakeVmlinux().build()),
    "ppc64le": FileData.from_bytes("vmlinux", powerpc_images.FakeVmlinux().build()),
    "s390x": FileData.from_bytes("bzImage", s390x_images.FakeImage().build()),
}
AT = {Purpose.BOOT: 0x8C010000, Purpose.CRASH: 0x8E010000}
LINKED = {
    ("sh4", purpose): FileData.from_bytes("vmlinux", sh_images.vmlinux(at)) for purpose, at in AT.items()
}
"""Of architectures whose kernels run where they are linked to be."""
INITRD = FileData.from_bytes("initrd", b"\x28\xb5\x2f\xfd" * 20000)


def request(machine: OddMachine, purpose: Purpose) -> Request:
    return Request(KERNELS[machine.arch], purpose=purpose, initrd=INITRD, append="quiet", seed=bytes(64))


@pytest.mark.slow
@pytest.mark.parametrize("purpose", Purpose)
@pytest.mark.parametrize("name", ODD)
def test_odd_machine(name: str, purpose: Purpose) -> None:
    machine = ODD[name]
    brute_force.check(machine, plan_load(machine.machine(), request(machine, purpose)))


@pytest.mark.parametrize("purpose", Purpose)
@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.tar")), ids=lambda path: path.stem)
def test_real_machine(path: Path, purpose: Purpose) -> None:
    machine = real_machines.read(path)
    kernel = LINKED.get((machine.arch, purpose)) or KERNELS[machine.arch]
    plan = plan_load(Facts.from_snapshot(path), Request(kernel, purpose=purpose, append="quiet"))
    brute_force.check(machine, plan)


PLUGGED = ["Persistent Memory", "Soft Reserved", "CXL Window 0"]
"""What drivers/dax/kmem.c can make RAM of."""
KINDS = {
    "x86_64": [
        *([RAM] * 5),
        *PLUGGED,
        *("System RAM (virtio_mem)", "Persistent Memory (legacy)", "Unusable memory"),
        *("Reserved", "ACPI Tables", "ACPI Non-volatile Storage"),
    ],
    "aarch64": [*([RAM] * 5), *PLUGGED, "System RAM (virtio_mem)", "reserved"],
    "riscv64": [*([RAM] * 5), "System RAM (virtio_mem)", "Reserved"],
    "loongarch64": [*([RAM] * 5), "System RAM (virtio_mem)", "Reserved"],
}
WITHIN = {
    "x86_64": ["Reserved", "GART"],
    "aarch64": ["reserved"],
    "riscv64": ["Reserved"],
    "loongarch64": ["Reserved"],
}
"""What is set apart in RAM, besides reservations for a crash kernel."""
MAKERS: Mapping[str, tuple[Callable[..., OddMachine], int]] = {
    "x86_64": (x86, 2 * GIB),
    "aarch64": (arm64, 0xC0000000),
    "riscv64": (riscv64, 4 * GIB),
    "loongarch64": (loongarch64, 4 * GIB),
}
"""And the first address behind the memory that a machine has anyway."""
SIZES = st.integers(1, 64).map(lambda count: count * 64 * KIB)


@st.composite
def parts(draw: st.DrawFn, at: int, end: int, kinds: list[str]) -> list[Line]:
    """Of a piece of RAM, with something of it left between them."""
    found: list[Line] = []
    while at < end and draw(st.booleans()):
        at += draw(st.sampled_from([0, 64 * KIB, MIB]))
        size = min(draw(SIZES), end - at)
        if size <= 0:
            break
        found.append(line(at, size, draw(st.sampled_from(kinds)), 1))
        at += size + 64 * KIB
    return found


@st.composite
def machines(draw: st.DrawFn) -> OddMachine:
    """Memory of all kinds above the part with the kernel, with reservations in the RAM of it."""
    arch = draw(st.sampled_from(sorted(KINDS)))
    make, at = MAKERS[arch]
    lines: list[Line] = []
    cma: list[tuple[int, int]] = []
    for _ in range(draw(st.integers(0, 6))):
        at += draw(st.sampled_from([0, 64 * KIB, 128 * MIB, 4 * GIB, 1 << 40]))
        kind, size = draw(st.sampled_from(KINDS[arch])), draw(SIZES)
        lines.append(line(at, size, kind))
        inside = draw(parts(at, at + size, [CRASH, "cma", *WITHIN[arch]])) if kind == RAM else []
        lines += [each for each in inside if each.name != "cma"]
        cma += [(each.first, each.last) for each in inside if each.name == "cma"]
        if kind in PLUGGED and draw(st.booleans()):
            lines.append(line(at, size, "dax0.0", 1))
            lines.append(
                line(at, draw(st.integers(1, size // KIB // 64)) * 64 * KIB, "System RAM (kmem)", 2)
            )
        at += size
    # The one that takes segments is the highest.
    at += 64 * KIB
    lines += [line(at, GIB, RAM), line(at + 64 * MIB, 256 * MIB, CRASH, 1)]
    sizes = [4 * KIB, 16 * KIB, 64 * KIB] if arch in ("aarch64", "loongarch64") else [4 * KIB]
    page_size = draw(st.sampled_from(sizes))
    return make(*lines, page_size=page_size, cma=cma, cpus=draw(st.sets(st.integers(0, 300), min_size=1)))


@pytest.mark.slow
@settings(max_examples=examples(150), deadline=None)
@given(machines(), st.sampled_from(Purpose))
def test_any_machine(machine: OddMachine, purpose: Purpose) -> None:
    brute_force.check(machine, plan_load(machine.machine(), request(machine, purpose)))


@pytest.mark.parametrize(
    ("machine", "purpose", "message"),
    [
        (x86(crash=0), Purpose.CRASH, 'no "Crash kernel" entry'),
        (
            x86(line(4 * GIB, GIB, RAM), line(5 * GIB - 8 * MIB, 2 * MIB, CRASH, 1)),
            Purpose.CRASH,
            "Could not find a free area of memory of 0x400000 bytes for the kernel",
        ),
        (
            x86(more={"sys/kernel/kexec/crash_cma_ranges": "nonsense\n"}),
            Purpose.CRASH,
            "crash_cma_ranges has a line that is not START-END: 'nonsense'",
        ),
        (OddMachine([line(0, 16 * MIB, RAM)]), Purpose.BOOT, "Could not find a free area of memory"),
    ],
)
def test_what_cannot_be_is_said(machine: OddMachine, purpose: Purpose, message: str) -> None:
    with pytest.raises(PykexecError, match=message):
        plan_load(machine.machine(), request(machine, purpose))

"""Plans for snapshots of real riscv64 machines, checked against what those machines say of themselves."""

import dataclasses
import gzip
import io
import struct
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from pykexec.devicetree import DeviceTree
from pykexec.errors import ImageError, MachineError, PlacementError, PykexecError, UsageError
from pykexec.files import FileData
from pykexec.loader import plan_load
from pykexec.memory import MIB, Range, RangeSet
from pykexec.plan import Console, LoadPlan, Purpose, Request
from tests.arches.riscv64.images import FakeImage
from tests.support.dtb import Blob
from tests.support.elf import executable
from tests.support.fit import fit
from tests.support.machines import RISCV64_SNAPSHOTS, iomem, snapshot, unpacked
from tests.support.zboot import zboot

PLAIN, UEFI = "qemu-riscv64-7.2-1g", "qemu-riscv64-7.2-1g-uefi"
FIRMWARE = Range(0x80000000, 0x80080000)
"""Of OpenSBI 1.1, as it says when it starts ("Firmware Base", "Firmware Size")."""
IMAGE = FakeImage().build()
KERNEL = FileData.from_bytes("Image", IMAGE)
INITRD = FileData.from_bytes("initrd", b"\x28\xb5\x2f\xfd" * 15000)
UART = struct.pack("<IIQ", 3, 0, 0x10000000)  # purgatory/common/params.h: an 8250 of QEMU's virt machine
FROM_FIRMWARE = struct.pack("<IIQ", 5, 0, 0)


def request(purpose: Purpose, **changes: object) -> Request:
    plain = Request(KERNEL, purpose=purpose, initrd=INITRD, append="console=ttyS0", seed=bytes(range(1, 65)))
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


def tree_of(plan: LoadPlan) -> DeviceTree:
    return DeviceTree(bytes(plan.segment("dtb").data), "plan")


def check_sound(plan: LoadPlan) -> None:
    """Documentation/arch/riscv/boot.rst, and what arch/riscv/mm/init.c does with memory."""
    kernel, *rest = (plan.segment(name) for name in ("kernel", "dtb", "initrd", "purgatory"))
    assert kernel.address % (2 * MIB) == kernel.memsz % (2 * MIB) == 0, "setup_vm(), setup_bootmem()"
    assert all(each.address >= kernel.range.end for each in rest), "before 6.4 what lies below is lost"
    assert plan.segment("dtb").memsz <= 2 * MIB
    assert plan.entry % 4 == 0, "stvec, by which it is entered in a crash"
    chosen = dict(tree_of(plan).nodes())["/chosen"]
    assert chosen["bootargs"] == plan.command_line.encode() + b"\0"
    start, end = (struct.unpack(">Q", chosen[f"linux,initrd-{which}"])[0] for which in ("start", "end"))
    assert (start, end - start) == (plan.segment("initrd").address, INITRD.size)
    assert len(chosen["kaslr-seed"]) == 8


@pytest.mark.parametrize("name", RISCV64_SNAPSHOTS)
def test_crash_plans(name: str) -> None:
    plan = plan_load(snapshot(name), request(Purpose.CRASH))
    check_sound(plan)
    assert plan.flags == 0xF30001
    (reserved,) = iomem(name, "Crash kernel")
    assert all(reserved.covers(segment.range) for segment in plan.segments)
    tree, core = tree_of(plan), plan.segment("elfcorehdr")
    assert tree.get("/chosen", "linux,usable-memory-range") == struct.pack(
        ">QQ", reserved.start, reserved.size
    )
    assert tree.get("/chosen", "linux,elfcorehdr") == struct.pack(">QQ", core.address, core.data.nbytes)


@pytest.mark.parametrize("purpose", Purpose)
def test_a_fit_image(purpose: Purpose) -> None:
    """Each board's system comes as one: kernel, initrd and device tree."""
    image = fit("riscv", IMAGE, bytes(INITRD.data), {"chosen": {}, "model": b"board\0"}, "of the image")
    asked = request(
        purpose, kernel=FileData.from_bytes("x.itb", image), initrd=None, append=None, format="fit"
    )
    plan = plan_load(snapshot(PLAIN), asked)
    check_sound(plan)
    assert plan.image_format == "FIT image, configuration one, riscv64 Image"
    assert bytes(plan.segment("kernel").data) == IMAGE
    assert bytes(plan.segment("initrd").data) == bytes(INITRD.data)
    assert tree_of(plan).get("/", "model") == b"board\0"
    assert plan.command_line.startswith("of the image")
    with pytest.raises(ImageError, match=r"-t uki: x\.itb is a FIT image"):
        plan_load(snapshot(PLAIN), dataclasses.replace(asked, format="uki"))


@pytest.mark.parametrize("name", RISCV64_SNAPSHOTS)
def test_boot_plans_keep_off_what_is_reserved(name: str) -> None:
    plan = plan_load(snapshot(name), request(Purpose.BOOT))
    check_sound(plan)
    assert plan.flags == 0xF30000
    free = RangeSet(iomem(name, "System RAM")).minus([*iomem(name, "Reserved"), FIRMWARE])
    free = free.minus(iomem(name, "Crash kernel"))
    assert all(free.covers(segment.range) for segment in plan.segments)


@pytest.mark.parametrize("name", RISCV64_SNAPSHOTS)
def test_core_headers_agree_with_vmcoreinfo(name: str) -> None:
    """arch/riscv/include/asm/page.h: linear_mapping_pa_to_va(x), kernel_mapping_pa_to_va(x)."""
    machine = snapshot(name)
    elf = ELFFile(io.BytesIO(plan_load(machine, request(Purpose.CRASH)).segment("elfcorehdr").data))
    assert elf["e_machine"] == "EM_RISCV"
    text, *linear = (segment.header for segment in elf.iter_segments() if segment["p_type"] == "PT_LOAD")
    info = machine.kcore.vmcoreinfo
    assert text["p_vaddr"] - text["p_paddr"] == int(info["NUMBER(va_kernel_pa_offset)"], 16)
    (kernel,) = iomem(name, "Kernel image")
    assert Range.sized(text["p_paddr"], text["p_memsz"]).covers(kernel), "bss, too: the log is there"
    page_offset, base = (int(info[f"NUMBER({each})"], 0) for each in ("PAGE_OFFSET", "phys_ram_base"))
    assert {h["p_vaddr"] - h["p_paddr"] for h in linear} == {page_offset - base}
    dumped = RangeSet(Range.sized(h["p_paddr"], h["p_memsz"]) for h in linear)
    kept = [*iomem(name, "Crash kernel"), FIRMWARE]
    assert dumped == RangeSet(iomem(name, "System RAM")).minus(kept)


def tree_with(reservations: dict[str, tuple[int, int]]) -> bytes:
    two = (2).to_bytes(4)
    nodes = {name: {"reg": struct.pack(">QQ", *place)} for name, place in reservations.items()}
    return Blob({"#address-cells": two, "#size-cells": two, "chosen": {}, "reserved-memory": nodes}).build()


@pytest.mark.parametrize("given", [False, True], ids=["own-tree", "dtb"])
def test_firmware_is_what_the_machine_says(given: bool, tmp_path: Path) -> None:
    """By its own tree, whatever the next kernel is told."""
    own = tree_with({
        "mmode_resv0@80000000": (0x80000000, 0x40000),
        "mmode_resv1@80040000": (0x80040000, 0x8123),
        "framebuffer@90000000": (0x90000000, 0x100000),
    })  # fmt: skip
    files: dict[str, str | bytes | None] = {
        "sys/firmware/fdt": own,
        "proc/iomem": "80000000-bfffffff : System RAM\n"
        "  80200000-8259ffff : Kernel image\n"
        "    80202000-80fd39f9 : Kernel code\n"
        "  a0000000-afffffff : Crash kernel\n",
    }
    machine = unpacked(PLAIN, tmp_path, files)
    dtb = FileData.from_bytes("dtb", tree_with({"mmode_resv9@0": (0x90000000, 0x1000)}))
    asked = request(Purpose.CRASH, device_tree=dtb if given else None)
    elf = ELFFile(io.BytesIO(plan_load(machine, asked).segment("elfcorehdr").data))
    _, *linear = (each.header for each in elf.iter_segments() if each["p_type"] == "PT_LOAD")
    dumped = [Range.sized(each["p_paddr"], each["p_memsz"]) for each in linear]
    assert dumped == [Range(0x80049000, 0xA0000000), Range(0xB0000000, 0xC0000000)]
    plan = plan_load(machine, dataclasses.replace(asked, purpose=Purpose.BOOT))
    assert plan.segment("kernel").address == 0x80200000, "the lowest place; the running kernel may go"


def test_purgatory_writes_to_the_uart_or_through_firmware(tmp_path: Path) -> None:
    def written(machine_name: Path, line: str, files: dict[str, str | bytes | None]) -> bytes:
        machine = unpacked(PLAIN, machine_name, files)
        return bytes(plan_load(machine, request(Purpose.CRASH, append=line)).segment("purgatory").data)

    assert UART in written(tmp_path / "a", "console=ttyS0", {})
    for number, (line, type_) in enumerate([("console=hvc0", "4"), ("console=ttyS0", "62"), ("quiet", "0")]):
        files: dict[str, str | bytes | None] = {
            "sys/class/tty/ttyS0/type": f"{type_}\n",
            "sys/class/tty/console/active": "hvc0\n",
        }
        data = written(tmp_path / str(number), line, files)
        assert FROM_FIRMWARE in data
        assert UART not in data


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"kernel": FileData.from_bytes("k", b"x" * 5000)}, ImageError, "no riscv64 Image signature"),
        ({"kernel": FileData.from_bytes("k", IMAGE[:40])}, ImageError, "no riscv64 Image signature"),
        ({"kernel": FileData.from_bytes("k", FakeImage(flags=1).build())}, ImageError, "big-endian"),
        (
            {"kernel": FileData.from_bytes("k", FakeImage(size=0x210000, image_size=0x200000).build())},
            ImageError,
            "less than the file's",
        ),
        ({"kernel": FileData.from_bytes("k", FakeImage(image_size=0).build())}, ImageError, "less than the"),
        (
            {"kernel": FileData.from_bytes("k", FakeImage(image_size=1 << 63).build())},
            ImageError,
            "damaged Image",
        ),
        (
            {"kernel": FileData.from_bytes("k", FakeImage(text_offset=0x400000).build())},
            ImageError,
            "a kernel for riscv32",
        ),
        (
            {"kernel": FileData.from_bytes("k", FakeImage(image_size=1 << 36).build())},
            PlacementError,
            "free area",
        ),
        ({"append": "x" * 1024}, UsageError, "Command line overflow: 1024 bytes, riscv64 takes 1023"),
        ({"format": "elf-riscv"}, ImageError, "Wrong file type elf-riscv, file matches type image-riscv"),
        ({"format": "Image"}, UsageError, "Unsupported kernel type Image\n.*image-riscv, vmlinuz-riscv"),
        ({"entry_32bit": True}, UsageError, "--entry-32bit is for x86; this machine is riscv64"),
        ({"console": Console(vga=True)}, UsageError, "--console-vga is for x86"),
        ({"console": Console("ttyS9")}, UsageError, "--serial=ttyS9: this machine has no such"),
        ({"hotplug": True}, MachineError, "--hotplug: the running kernel updates no core headers"),
    ],
)
def test_bad_requests(changes: dict[str, object], error: type[PykexecError], message: str) -> None:
    with pytest.raises(error, match=message):
        plan_load(snapshot(PLAIN), request(Purpose.CRASH, **changes))


def test_a_reservation_that_is_not_shown(tmp_path: Path) -> None:
    """Linux 6.6.0 to 6.6.29: reserved, but "Crash kernel" is missing from /proc/iomem."""
    lines = (snapshot(PLAIN).read("proc/iomem") or b"").splitlines(keepends=True)
    files: dict[str, str | bytes | None] = {
        "proc/iomem": b"".join(line for line in lines if b"Crash kernel" not in line),
        "proc/sys/kernel/osrelease": "6.6.21-test\n",
        "sys/kernel/kexec/crash_size": f"{256 * MIB}\n",
    }
    machine = unpacked(PLAIN, tmp_path / "a", files)
    with pytest.raises(
        MachineError, match=r"6\.6\.21-test has reserved 256 MiB, and does not .*\n.*6\.6\.30"
    ):
        plan_load(machine, request(Purpose.CRASH))
    plan_load(machine, request(Purpose.BOOT))
    machine = unpacked(PLAIN, tmp_path / "b", {**files, "sys/kernel/kexec/crash_size": "0\n"})
    with pytest.raises(MachineError, match="Memory for crashkernel is not reserved"):
        plan_load(machine, request(Purpose.CRASH))


@pytest.mark.parametrize("purpose", Purpose)
@pytest.mark.parametrize(
    ("release", "finds"), [("5.13.0", False), ("5.14.21-x", False), ("5.15.0-rc1", True), ("6.12.1", True)]
)
def test_a_capture_kernel_that_looks_elsewhere(release: str, finds: bool, purpose: Purpose) -> None:
    """Before commit 2931ea847dcc it took them from a node of /reserved-memory."""
    banner = f"Linux version {release} (x) #1 SMP\n\0".encode()
    kernel = FileData.from_bytes("Image", FakeImage(image_size=1 << 20).build() + banner)
    warnings = plan_load(snapshot(PLAIN), request(purpose, kernel=kernel)).warnings
    assert any("no /proc/vmcore" in each for each in warnings) == (purpose is Purpose.CRASH and not finds)


def test_the_longest_command_line() -> None:
    """COMMAND_LINE_SIZE in arch/riscv/include/uapi/asm/setup.h, with the NUL."""
    assert plan_load(snapshot(PLAIN), request(Purpose.BOOT, append="x" * 1023))


FILES = {
    "image-riscv": IMAGE,
    "elf-riscv": executable(IMAGE, address=0xFFFFFFFF80000000, machine=243),
    "vmlinuz-riscv": zboot(gzip.compress(IMAGE, mtime=0), b"gzip"),
}


@pytest.mark.parametrize("wanted", [None, *FILES])
@pytest.mark.parametrize("name", FILES)
def test_each_type_is_what_kexec_tools_call_it(name: str, wanted: str | None) -> None:
    kernel = FileData.from_bytes("/boot/kernel", FILES[name])
    asked = request(Purpose.BOOT, kernel=kernel, format=wanted)
    if wanted not in (None, name):
        with pytest.raises(ImageError, match=f"Wrong file type {wanted}, file matches type {name}"):
            plan_load(snapshot(PLAIN), asked)
        return
    assert bytes(plan_load(snapshot(PLAIN), asked).segment("kernel").data) == IMAGE


def test_a_compressed_image() -> None:
    kernel = FileData.from_bytes("/boot/Image.gz", gzip.compress(IMAGE, mtime=0))
    plan = plan_load(snapshot(PLAIN), request(Purpose.BOOT, kernel=kernel))
    assert bytes(plan.segment("kernel").data) == IMAGE


def test_efis_tables_are_handed_on() -> None:
    """drivers/firmware/efi/fdtparams.c: the next kernel finds memory by these."""
    before = dict(DeviceTree(snapshot(UEFI).read("sys/firmware/fdt") or b"", "before").nodes())["/chosen"]
    after = dict(tree_of(plan_load(snapshot(UEFI), request(Purpose.BOOT))).nodes())["/chosen"]
    efi = {name: value for name, value in before.items() if name.startswith("linux,uefi-")}
    assert len(efi) >= 5
    assert efi.items() <= after.items()

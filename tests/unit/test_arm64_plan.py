"""Plans for snapshots of real arm64 machines, checked against what those machines say of themselves."""

import dataclasses
import gzip
import io
import struct
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from pykexec.arch.arm64 import image
from pykexec.devicetree import DeviceTree
from pykexec.errors import ImageError, MachineError, PlacementError, PykexecError, UsageError
from pykexec.files import FileData
from pykexec.loader import plan_load
from pykexec.memory import GIB, MIB, Range, RangeSet
from pykexec.plan import Console, LoadPlan, Purpose, Request
from tests.support.arm64_image import FakeImage
from tests.support.dtb import Blob
from tests.support.elf import NO_ADDRESS, executable
from tests.support.elf import kcore as fake_kcore
from tests.support.machines import ARM64_SNAPSHOTS, iomem, snapshot, unpacked
from tests.support.program import Load, Program
from tests.support.uimage import uimage
from tests.support.zboot import zboot

PLAIN = "qemu-arm64-6.1-1g"
HIGH_LOW = "qemu-arm64-6.1-6g-high-low"
KERNEL = FileData.from_bytes("Image", FakeImage().build())
INITRD = FileData.from_bytes("initrd", b"\x28\xb5\x2f\xfd" * 15000)


def request(purpose: Purpose, **changes: object) -> Request:
    plain = Request(
        KERNEL, purpose=purpose, initrd=INITRD, append="console=ttyAMA0", seed=bytes(range(1, 65))
    )
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


def tree_of(plan: LoadPlan) -> DeviceTree:
    return DeviceTree(bytes(plan.segment("dtb").data), "plan")


def check_sound(plan: LoadPlan) -> None:
    """booting.rst."""
    kernel, dtb, initrd = (plan.segment(name) for name in ("kernel", "dtb", "initrd"))
    assert kernel.address % (2 * MIB) == FakeImage().text_offset
    assert dtb.address % 8 == 0
    assert dtb.memsz <= 2 * MIB
    assert initrd.range.end - kernel.address // GIB * GIB <= 32 * GIB
    chosen = dict(tree_of(plan).nodes())["/chosen"]
    assert chosen["bootargs"] == plan.command_line.encode() + b"\0"
    start, end = (struct.unpack(">Q", chosen[f"linux,initrd-{which}"])[0] for which in ("start", "end"))
    assert (start, end - start) == (initrd.address, INITRD.size)
    assert len(chosen["kaslr-seed"]) == 8
    assert chosen["rng-seed"] != chosen["kaslr-seed"]


@pytest.mark.parametrize("name", ARM64_SNAPSHOTS)
def test_crash_plans(name: str) -> None:
    plan = plan_load(snapshot(name), request(Purpose.CRASH))
    check_sound(plan)
    assert plan.flags == 0xB70001
    reserved = iomem(name, "Crash kernel")
    assert all(max(reserved).covers(segment.range) for segment in plan.segments)
    tree = tree_of(plan)
    usable = tree.get("/chosen", "linux,usable-memory-range")
    assert usable is not None
    assert [Range.sized(*each) for each in struct.iter_unpack(">QQ", usable)] == reserved[::-1]
    core = plan.segment("elfcorehdr")
    assert tree.get("/chosen", "linux,elfcorehdr") == struct.pack(">QQ", core.address, core.data.nbytes)


@pytest.mark.parametrize("name", ARM64_SNAPSHOTS)
def test_boot_plans_keep_off_what_is_reserved(name: str) -> None:
    plan = plan_load(snapshot(name), request(Purpose.BOOT))
    check_sound(plan)
    assert plan.flags == 0xB70000
    free = RangeSet(iomem(name, "System RAM")).minus(iomem(name, "reserved"))
    free = free.minus(iomem(name, "Crash kernel"))
    assert all(free.covers(segment.range) for segment in plan.segments)


def test_a_boot_does_not_go_where_the_crash_kernel_is() -> None:
    low, _ = iomem(HIGH_LOW, "Crash kernel")
    plan = plan_load(snapshot(HIGH_LOW), request(Purpose.BOOT, within=Range(low.start, 1 << 64)))
    assert not any(low.overlaps(segment.range) for segment in plan.segments)


@pytest.mark.parametrize("purpose", list(Purpose))
@pytest.mark.parametrize("name", ARM64_SNAPSHOTS)
def test_nothing_but_chosen_changes_in_the_tree(name: str, purpose: Purpose) -> None:
    machine = snapshot(name)
    before = dict(DeviceTree(machine.read("sys/firmware/fdt") or b"", "before").nodes())
    after = dict(tree_of(plan_load(machine, request(purpose))).nodes())
    ours = {"bootargs", "kaslr-seed", "rng-seed", "linux,elfcorehdr", "linux,usable-memory-range"}
    ours |= {"linux,initrd-start", "linux,initrd-end"}
    for nodes in (before, after):
        for name_ in ours:
            nodes["/chosen"].pop(name_, None)
    assert before == after


@pytest.mark.parametrize("purpose", Purpose)
def test_buffers_of_an_earlier_handover_are_not_pointed_at(tmp_path: Path, purpose: Purpose) -> None:
    """drivers/of/kexec.c: the memory they are in was given back when this kernel had read them."""
    tree = DeviceTree(snapshot(PLAIN).read("sys/firmware/fdt") or b"", "fdt")
    tree.set("/chosen", "linux,ima-kexec-buffer", struct.pack(">QQ", 0x50000000, 0x1000))
    machine = unpacked(PLAIN, tmp_path, {"sys/firmware/fdt": tree.to_bytes()})
    plan = plan_load(machine, request(purpose))
    assert tree_of(plan).get("/chosen", "linux,ima-kexec-buffer") is None
    said = [each for each in plan.warnings if "IMA's list of measurements will not be handed on" in each]
    assert len(said) == (purpose is Purpose.BOOT)


def test_the_list_of_measurements_stays_behind(tmp_path: Path) -> None:
    count = "sys/kernel/security/ima/runtime_measurements_count"
    for number, files in enumerate(({}, {count: "1\n"}, {count: "2\n"})):
        machine = unpacked(PLAIN, tmp_path / str(number), files)
        said = [each for each in plan_load(machine, request(Purpose.BOOT)).warnings if "IMA" in each]
        assert len(said) == (number == 2)


def test_a_boot_from_a_capture_kernel_drops_what_made_it_one(tmp_path: Path) -> None:
    captured = plan_load(snapshot(PLAIN), request(Purpose.CRASH)).segment("dtb").data
    machine = unpacked(PLAIN, tmp_path, {"sys/firmware/fdt": bytes(captured)})
    chosen = dict(tree_of(plan_load(machine, request(Purpose.BOOT, initrd=None, seed=None))).nodes())[
        "/chosen"
    ]
    assert not {name for name in chosen if name.startswith("linux,") or name.endswith("-seed")}


@pytest.mark.parametrize("reserved", [0x12345, 0x13000])
@pytest.mark.parametrize("cells", [1, 2])
def test_the_old_initrds_memory_is_not_reserved_any_more(tmp_path: Path, reserved: int, cells: int) -> None:
    others = [(0x48000000, 0x100000), (0x4A000000, 0x1000)]
    chosen = {
        "linux,initrd-start": (0x4A100000).to_bytes(4 * cells),
        "linux,initrd-end": (0x4A112345).to_bytes(4 * cells),
    }
    blob = Blob({"chosen": chosen}, [*others, (0x4A100000, reserved)]).build()
    machine = unpacked(PLAIN, tmp_path, {"sys/firmware/fdt": blob})
    told = bytes(plan_load(machine, request(Purpose.BOOT)).segment("dtb").data)
    # Devicetree Specification, 5.2 and 5.3: off_dt_struct, and the reservations before it
    end, _, start = struct.unpack_from(">III", told, 8)
    assert list(struct.iter_unpack(">QQ", told[start:end])) == [*others, (0, 0)]


@pytest.mark.parametrize("name", ARM64_SNAPSHOTS)
def test_core_headers_agree_with_vmcoreinfo(name: str) -> None:
    machine = snapshot(name)
    elf = ELFFile(io.BytesIO(plan_load(machine, request(Purpose.CRASH)).segment("elfcorehdr").data))
    assert elf["e_machine"] == "EM_AARCH64"
    text, *linear = (segment.header for segment in elf.iter_segments() if segment["p_type"] == "PT_LOAD")
    info = machine.kcore.vmcoreinfo
    assert text["p_vaddr"] - text["p_paddr"] == int(info["NUMBER(kimage_voffset)"], 16)
    # include/asm/memory.h: __phys_to_virt(x) = (x - PHYS_OFFSET) | PAGE_OFFSET
    phys_offset = int(info["NUMBER(PHYS_OFFSET)"], 16)
    page_offset = (1 << 64) - (1 << int(info["NUMBER(VA_BITS)"]))
    assert {h["p_vaddr"] - h["p_paddr"] for h in linear} == {page_offset - phys_offset}
    dumped = RangeSet(Range.sized(h["p_paddr"], h["p_memsz"]) for h in linear)
    assert dumped == RangeSet(iomem(name, "System RAM")).minus(iomem(name, "Crash kernel"))


@pytest.mark.parametrize("va_bits", [39, 48, 52])
@pytest.mark.parametrize("kaslr", [0, 0x3BFE_8000_0000])
@pytest.mark.parametrize("phys_offset", [0x40000000, -0xF0_0000_0000_0000])
def test_virtual_layouts(tmp_path: Path, va_bits: int, kaslr: int, phys_offset: int) -> None:
    """PHYS_OFFSET is negative where a kernel with 52-bit addresses runs on a CPU with 48."""
    page_offset = (1 << 64) - (1 << va_bits)
    text = 0xFFFF800008000000 + kaslr
    segments = [
        (text, 0x40200000, 0x1AB0000),
        ((0x40000000 - phys_offset + page_offset) % (1 << 64), 0x40000000, 0x40000000),
        (0xFFFFFC0000000000, NO_ADDRESS, 1 << 30),
    ]
    info = f"PAGESIZE=4096\nSYMBOL(_stext)={text + 0x10000:x}\n"
    kcore = bytearray(fake_kcore(segments, vmcoreinfo=info))
    struct.pack_into("<H", kcore, 18, 183)
    machine = unpacked(PLAIN, tmp_path, {"proc/kcore": bytes(kcore)})
    elf = ELFFile(io.BytesIO(plan_load(machine, request(Purpose.CRASH)).segment("elfcorehdr").data))
    found = [(s["p_vaddr"], s["p_paddr"]) for s in elf.iter_segments() if s["p_type"] == "PT_LOAD"]
    assert found[0] == (text, 0x40200000)
    assert all((v - p) % (1 << 64) == (page_offset - phys_offset) % (1 << 64) for v, p in found[1:])


@pytest.mark.parametrize("page_size", [4096, 16384, 65536])
def test_page_size_is_the_machines(tmp_path: Path, page_size: int) -> None:
    identity = f'{{"machine": "aarch64", "page_size": {page_size}}}'
    machine = unpacked(PLAIN, tmp_path, {"pykexec-snapshot.json": identity})
    plan = plan_load(machine, request(Purpose.CRASH))
    assert all(segment.address % page_size == segment.memsz % page_size == 0 for segment in plan.segments)
    assert bool(plan.warnings) == (page_size != 4096), "a kernel of another page size is worth a word"


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"kernel": FileData.from_bytes("k", b"x" * 5000)}, ImageError, "no arm64 Image signature"),
        ({"kernel": FileData.from_bytes("k", b"")}, ImageError, "no arm64 Image signature"),
        (
            {"kernel": FileData.from_bytes("k", Program([Load(0x1000000, b"x" * 500)], 0x1000000).build())},
            ImageError,
            "k, which is a 64-bit ELF executable for x86_64",
        ),
        ({"kernel": FileData.from_bytes("k", FakeImage(flags=1).build())}, ImageError, "big-endian"),
        (
            {"kernel": FileData.from_bytes("k", FakeImage(image_size=4096).build())},
            ImageError,
            "less than the file",
        ),
        (
            {"kernel": FileData.from_bytes("k", FakeImage(image_size=1 << 63).build())},
            ImageError,
            "damaged Image",
        ),
        (
            {"kernel": FileData.from_bytes("k", FakeImage(text_offset=1 << 40).build())},
            ImageError,
            "damaged Image",
        ),
        (
            {"kernel": FileData.from_bytes("k", FakeImage(image_size=1 << 36).build())},
            PlacementError,
            "free area",
        ),
        ({"append": "x" * 3000}, UsageError, "Command line overflow"),
        ({"append": "ü" * 1024}, UsageError, "Command line overflow: 2048 bytes, arm64 takes 2047 at most"),
        ({"append": "a\0b"}, UsageError, "NUL"),
        ({"initrd": FileData.from_bytes("i", bytes(300 << 20))}, PlacementError, "bytes for the initrd"),
        ({"format": "vmlinuz"}, ImageError, "Wrong file type vmlinuz, file matches type Image"),
        ({"format": "bzImage"}, UsageError, "Unsupported kernel type bzImage\n.*vmlinuz, uki, fit"),
        ({"console": Console(vga=True)}, UsageError, "--console-vga is for x86"),
        ({"console": Console(baud=9600)}, UsageError, "--serial-baud is for x86"),
        ({"console": Console("0x3f8")}, UsageError, "--serial=0x3f8 has no registers in memory"),
        ({"console": Console("ttyS0")}, UsageError, "--serial=ttyS0: this machine has no such"),
    ],
)
def test_bad_requests(changes: dict[str, object], error: type[PykexecError], message: str) -> None:
    with pytest.raises(error, match=message):
        plan_load(snapshot(PLAIN), request(Purpose.CRASH, **changes))


def test_a_kernel_whose_start_is_between_the_running_kernels_pages(tmp_path: Path) -> None:
    """sanity_check_segment_list() in kernel/kexec_core.c: EADDRNOTAVAIL."""
    identity = '{"machine": "aarch64", "page_size": 65536}'
    machine = unpacked(PLAIN, tmp_path, {"pykexec-snapshot.json": identity})
    kernel = FileData.from_bytes("/boot/Image", FakeImage(text_offset=0x11000).build())
    assert plan_load(snapshot(PLAIN), request(Purpose.CRASH, kernel=kernel))
    with pytest.raises(ImageError, match=r"/boot/Image: its text_offset 0x11000 .* of 65536 bytes") as error:
        plan_load(machine, request(Purpose.CRASH, kernel=kernel))
    assert error.value.hint is not None


def test_a_console_that_is_asked_for_is_used(tmp_path: Path) -> None:
    pl011 = struct.pack("<Q", 0x9000000)  # of QEMU's virt machine
    for console in (Console(serial=True), Console("ttyAMA0")):
        plan = plan_load(snapshot(PLAIN), request(Purpose.CRASH, append="quiet", console=console))
        assert pl011 in bytes(plan.segment("purgatory").data)
    without = unpacked(PLAIN, tmp_path, {"sys/class/tty/console/active": "tty0\n"})
    quiet = request(Purpose.CRASH, append="quiet")
    assert pl011 not in bytes(plan_load(without, quiet).segment("purgatory").data)
    with pytest.raises(UsageError, match="--console-serial: this machine shows no serial console"):
        plan_load(without, dataclasses.replace(quiet, console=Console(serial=True)))


def uart(name: str, **files: int) -> dict[str, str | bytes | None]:
    """The one console, with its registers at 0xabcd0000."""
    found = {"iomem_base": 0xABCD0000, "iomem_reg_shift": 2, "port": 0, **files}
    told: dict[str, str | bytes | None] = {
        f"sys/class/tty/{name}/{file}": f"{value:#x}\n" if file == "iomem_base" else f"{value}\n"
        for file, value in found.items()
    }
    return {**told, "sys/class/tty/console/active": f"{name}\n"}


UPIO_MEM, UPIO_MEM16, UPIO_MEM32 = 2, 7, 3  # include/linux/serial_core.h
PORT = {  # include/uapi/linux/serial.h, include/uapi/linux/serial_core.h
    "16550A": 4,
    "BCM7271": 76,
    "IMX": 62,
    "LPUART": 103,
    "MESON": 109,
    "MSM": 88,
    "S3C6400": 84,
    "SPRD": 111,
    "XUARTPS": 98,
}
UART_8250_MMIO, UART_8250_MMIO32 = 3, 4  # purgatory/common/params.h


@pytest.mark.parametrize(
    ("name", "uart_type", "io_type", "kind"),
    [
        ("ttyS0", "16550A", UPIO_MEM, UART_8250_MMIO),
        ("ttyS12", "16550A", UPIO_MEM32, UART_8250_MMIO32),
        ("ttyS0", "BCM7271", UPIO_MEM, UART_8250_MMIO),
        ("ttyS0", "16550A", UPIO_MEM16, None),
        ("ttyS0", "MESON", UPIO_MEM, None),
        ("ttyS0", "SPRD", UPIO_MEM, None),
        ("ttyS0", None, UPIO_MEM, None),
        ("ttySAC0", "S3C6400", UPIO_MEM32, None),
        ("ttymxc0", "IMX", UPIO_MEM, None),
        ("ttyMSM0", "MSM", UPIO_MEM, None),
        ("ttyPS0", "XUARTPS", UPIO_MEM, None),
        ("ttyLP0", "LPUART", UPIO_MEM32, None),
    ],
)
def test_purgatory_only_writes_to_a_uart_that_it_knows(
    name: str, uart_type: str | None, io_type: int, kind: int | None, tmp_path: Path
) -> None:
    files = {"io_type": io_type} | ({} if uart_type is None else {"type": PORT[uart_type]})
    machine = unpacked(PLAIN, tmp_path, uart(name, **files))
    plan = plan_load(machine, request(Purpose.CRASH, append=f"console={name},115200"))
    data = bytes(plan.segment("purgatory").data)
    console = struct.pack("<IIQ", kind or 0, 2, 0xABCD0000)
    assert (console in data) is (kind is not None)
    if kind is None:
        assert struct.pack("<Q", 0xABCD0000) not in data
        for asked, message in (
            (Console(name), f"--serial={name} is not known to be a PL011 or an 8250"),
            (Console(serial=True), f"--console-serial: {name} is not known to be a PL011 or an 8250"),
        ):
            with pytest.raises(UsageError, match=message):
                plan_load(machine, request(Purpose.CRASH, append="quiet", console=asked))


def test_headers_before_3_17_have_no_size() -> None:
    kernel = image.KIND.parse(
        FileData.from_bytes("Image", FakeImage(image_size=0, text_offset=0x123).build())
    )
    assert (kernel.offset, kernel.memory_size) == (0x80000, 16 * MIB)


def test_text_offset_leaves_the_memory_below_unused() -> None:
    kernel = FileData.from_bytes("Image", FakeImage(text_offset=0x80000).build())
    plan = plan_load(snapshot(PLAIN), request(Purpose.CRASH, kernel=kernel))
    address = plan.segment("kernel").address
    assert address % (2 * MIB) == 0x80000
    below = Range(address - 0x80000, address)
    assert not any(segment.range.overlaps(below) for segment in plan.segments)


def test_no_device_tree(tmp_path: Path) -> None:
    machine = unpacked(PLAIN, tmp_path, {"sys/firmware/fdt": None})
    with pytest.raises(MachineError, match="there is no device tree"):
        plan_load(machine, request(Purpose.BOOT))


@pytest.mark.parametrize("purpose", Purpose)
def test_a_screen_that_goes_dark_is_worth_a_word(tmp_path: Path, purpose: Purpose) -> None:
    tree = DeviceTree(snapshot(PLAIN).read("sys/firmware/fdt") or b"", "test")
    tree.set("/framebuffer", "compatible", b"simple-framebuffer\0")
    files: dict[str, str | bytes | None] = {
        "sys/firmware/efi/fw_platform_size": "64\n",
        "sys/class/graphics/fb0/name": "EFI VGA\n",
    }
    variants: list[dict[str, str | bytes | None]] = [
        {},
        {"sys/firmware/fdt": tree.to_bytes()},
        {"sys/class/graphics/fb0/name": "virtiodrmfb\n"},
    ]
    for number, more in enumerate(variants):
        machine = unpacked(PLAIN, tmp_path / str(number), {**files, **more})
        said = [each for each in plan_load(machine, request(purpose)).warnings if "screen" in each]
        assert len(said) == (number == 0)


@pytest.mark.parametrize("phandles", [0, 1])
def test_an_its_without_efi_is_worth_a_word(tmp_path: Path, phandles: int) -> None:
    tree = DeviceTree(snapshot(PLAIN).read("sys/firmware/fdt") or b"", "test")
    if phandles:
        tree.set("/its@8080000", "compatible", b"arm,gic-v3-its\0")
    machine = unpacked(PLAIN, tmp_path, {"sys/firmware/fdt": tree.to_bytes()})
    assert [
        w for w in plan_load(machine, request(Purpose.BOOT)).warnings if "ITS" in w
    ] != [] or not phandles
    assert not any("ITS" in warning for warning in plan_load(machine, request(Purpose.CRASH)).warnings)


IMAGE = FakeImage().build()
FILES = {
    "Image": IMAGE,
    "vmlinux": executable(IMAGE),
    "uImage": uimage(IMAGE),
    "vmlinuz": zboot(gzip.compress(IMAGE, mtime=0), b"gzip"),
}


@pytest.mark.parametrize("wanted", [None, *FILES])
@pytest.mark.parametrize("name", FILES)
def test_each_type_is_what_it_is_called(name: str, wanted: str | None) -> None:
    """kexec-tools' names; a vmlinux, which is an Image once it is flattened, was refused by its own."""
    kernel = FileData.from_bytes("/boot/kernel", FILES[name])
    if wanted not in (None, name):
        with pytest.raises(ImageError, match=f"Wrong file type {wanted}, file matches type {name}"):
            plan_load(snapshot(PLAIN), request(Purpose.BOOT, kernel=kernel, format=wanted))
        return
    plan = plan_load(snapshot(PLAIN), request(Purpose.BOOT, kernel=kernel, format=wanted))
    (segment,) = (each for each in plan.segments if each.name == "kernel")
    assert bytes(segment.data) == IMAGE

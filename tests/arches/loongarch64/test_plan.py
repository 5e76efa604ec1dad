"""Plans for a snapshot of a real loongarch64 machine, checked against what that says of itself."""

import dataclasses
import gzip
import io
import re
import struct
import tarfile
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile

from pykexec.errors import ImageError, MachineError, PlacementError, PykexecError, UsageError
from pykexec.files import FileData
from pykexec.loader import plan_load
from pykexec.machine import Machine
from pykexec.memory import KIB, MIB, Range, RangeSet
from pykexec.plan import Console, LoadPlan, Purpose, Request
from tests.arches.loongarch64.images import FakeImage
from tests.support.elf import executable
from tests.support.machines import FOLDER, iomem, snapshot, unpacked
from tests.support.pe import portable_executable
from tests.support.zboot import zboot

NAME = "qemu-loongarch64-7.2-1g"
CACHED, UNCACHED = 0x9 << 60, 0x8 << 60
IMAGE = FakeImage().build()
KERNEL = FileData.from_bytes("vmlinux.efi", IMAGE)
INITRD = FileData.from_bytes("initrd", b"\x28\xb5\x2f\xfd" * 15000)
# purgatory/common/params.h: an 8250 of QEMU's virt machine, and ACPI's reset register there
UART = struct.pack("<IIQ", 3, 0, UNCACHED | 0x1FE001E0)
RESET = struct.pack("<Q", UNCACHED | 0x100E001E)
FADT = "sys/firmware/acpi/tables/FACP"
PACKED = zboot(gzip.compress(IMAGE, mtime=0), b"gzip")


def request(purpose: Purpose, **changes: object) -> Request:
    plain = Request(KERNEL, purpose=purpose, initrd=INITRD, append="console=ttyS0")
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


def own_words(plan: LoadPlan) -> str:
    """Return the command line without what the loader puts before and behind it."""
    found = re.fullmatch(r"kexec (.*) initrd=\d+,\d+", plan.command_line)
    assert found is not None
    return found[1]


def content(name: str) -> bytes:
    with tarfile.open(FOLDER / f"{NAME}.tar") as tar:
        file = tar.extractfile(name)
        assert file is not None
        return file.read()


def unreserved() -> RangeSet:
    ram = RangeSet(iomem(NAME, "System RAM"))
    return ram.minus([*iomem(NAME, "Reserved"), *iomem(NAME, "Crash kernel")])


def check_sound(plan: LoadPlan) -> None:
    line, initrd = plan.segment("cmdline"), plan.segment("initrd")
    text = bytes(line.data)
    assert text.startswith(b"kexec "), "arch/loongarch/kernel/machine_kexec.c"
    assert text.rstrip(b"\0").decode() == plan.command_line
    assert len(text) == 4096, "the running kernel copies COMMAND_LINE_SIZE bytes of it"
    others = [each for each in plan.segments if each is not line]
    assert not any(bytes(each.data[:5]) == b"kexec" for each in others)
    assert f"initrd={initrd.address},{INITRD.size}" in plan.command_line.split()
    assert all(each.address >= 2 * MIB for each in plan.segments)
    block = bytes(plan.segment("purgatory").data)
    assert struct.pack("<Q", line.address) + RESET in block, "its own line, not the one of the last load"


def test_a_crash_plan() -> None:
    plan = plan_load(snapshot(NAME), request(Purpose.CRASH))
    check_sound(plan)
    assert plan.flags == 0x1020001
    (reserved,) = iomem(NAME, "Crash kernel")
    end = reserved.end - MIB  # the top is lost where there is an early console
    assert all(reserved.start <= each.address < each.range.end <= end for each in plan.segments)
    assert plan.segment("kernel").address % (2 * MIB) == 0
    assert plan.command_line.split()[-1] == f"mem={256 * KIB}K@{reserved.start // KIB}K"


def test_a_boot_plan() -> None:
    """The kernel where it is linked to be, over the running one; all else where nothing is reserved."""
    plan = plan_load(snapshot(NAME), request(Purpose.BOOT, kernel=debians()))
    check_sound(plan)
    assert plan.flags == 0x1020000
    kernel, *rest = plan.segments
    assert kernel.range == Range(0x200000, 0x1C00000)
    assert all(unreserved().covers(each.range) for each in rest)


@pytest.mark.parametrize(
    ("purpose", "line"),
    [(Purpose.BOOT, "-afffffff : System RAM"), (Purpose.CRASH, "-aabfffff : Crash kernel")],
)
def test_all_is_where_windows_reach(purpose: Purpose, line: str, tmp_path: Path) -> None:
    """LoongArch Reference Manual 1, 5.2.1: direct mapping windows have 48 bits of an address."""
    text = content("proc/iomem").decode()
    assert line in text
    far = text.replace(line, line.replace(line[1:9], f"{(1 << 52) - 1:x}"))
    plan = plan_load(unpacked(NAME, tmp_path, {"proc/iomem": far}), request(purpose))
    assert all(each.range.end <= 1 << 48 for each in plan.segments)


def debians(**changes: int) -> FileData:
    """A kernel of the size of the running one, as its file says (Linux 7.2.13 of Debian)."""
    fields: dict[str, Any] = {"image_size": 0x1A00000, **changes}
    return FileData.from_bytes("vmlinux.efi", FakeImage(**fields).build())


def test_a_larger_kernel_goes_elsewhere() -> None:
    """Behind the running one there is what firmware left for the next, too."""
    plan = plan_load(snapshot(NAME), request(Purpose.BOOT, kernel=debians(image_size=0x1A10000)))
    kernel = plan.segment("kernel")
    assert kernel.address % (2 * MIB) == 0
    assert unreserved().covers(kernel.range)


def test_a_vmlinux_that_cannot_relocate_itself() -> None:
    def kernel(names: bytes, at: int) -> FileData:
        return FileData.from_bytes("vmlinux", executable(IMAGE, 0x9000000000000000 + at, 258) + names)

    asked = request(Purpose.CRASH, kernel=kernel(b"\0.text\0", 0x200000))
    with pytest.raises(PlacementError, match="within 00200000-"):
        plan_load(snapshot(NAME), asked)
    (reserved,) = iomem(NAME, "Crash kernel")
    fits = request(Purpose.CRASH, kernel=kernel(b"\0.text\0", reserved.start + 0x200000))
    assert plan_load(snapshot(NAME), fits).segment("kernel").address == reserved.start + 0x200000
    for name in (b"\0.la_abs\0", b"\0.rela.dyn\0", b"\0.relr.dyn\0"):
        asked = request(Purpose.CRASH, kernel=kernel(name, 0x200000))
        assert plan_load(snapshot(NAME), asked).segment("kernel").address == reserved.start


@pytest.mark.parametrize("entry", [0x201000, 0x9000000000201000])
def test_kernels_of_all_versions_are_entered_at_their_entry(entry: int) -> None:
    """It was a virtual address at first (arch/loongarch/kernel/head.S)."""
    for purpose in Purpose:
        plan = plan_load(snapshot(NAME), request(purpose, kernel=debians(entry=entry)))
        start = plan.segment("kernel").address
        assert struct.pack("<Q", start + 0x1000) in bytes(plan.segment("purgatory").data)


@pytest.mark.parametrize("magic", [0, 0x818223CD])
def test_kernels_of_before_linux_6_3_run_where_they_are_linked_to_be(magic: int) -> None:
    """They have no text_offset, and cannot relocate themselves (commits 3f89765d6227, d8da19fbdedd).

    The magic number is in them since 6.2 (commit 29636a5ce87b).
    """
    old = debians(magic=magic, entry=0x9000000000201000, text_offset=0)
    kernel = plan_load(snapshot(NAME), request(Purpose.BOOT, kernel=old)).segment("kernel")
    assert kernel.address == 0x200000
    with pytest.raises(PlacementError, match="within 00200000-01bfffff"):
        plan_load(snapshot(NAME), request(Purpose.CRASH, kernel=old))


@pytest.mark.parametrize("with_kcore", [True, False])
def test_core_headers(with_kcore: bool, tmp_path: Path) -> None:
    machine = unpacked(NAME, tmp_path, {} if with_kcore else {"proc/kcore": None})
    plan = plan_load(machine, request(Purpose.CRASH))
    core = plan.segment("elfcorehdr")
    elf = ELFFile(io.BytesIO(core.data))
    assert elf["e_machine"] == "EM_LOONGARCH"
    loads = [each.header for each in elf.iter_segments() if each["p_type"] == "PT_LOAD"]
    assert {each["p_vaddr"] - each["p_paddr"] for each in loads} == {0x9000000000000000}
    dumped = RangeSet(Range.sized(each["p_paddr"], each["p_memsz"]) for each in loads)
    assert dumped == RangeSet(iomem(NAME, "System RAM")).minus(iomem(NAME, "Crash kernel"))
    assert f"elfcorehdr=1K@{core.address // KIB}K" in plan.command_line.split()


@pytest.mark.parametrize(
    ("running", "kept"),
    [
        ("kexec console=ttyS0 initrd=2949693440,3084349 quiet", "console=ttyS0 quiet"),
        ("kexec_file quiet", "quiet"),
        ("quiet mem=512M@0", "quiet mem=512M@0"),
        ("quiet elfcorehdr=1K@2883568K mem=262144K@2621440K", "quiet"),
    ],
)
def test_what_is_reused_of_a_command_line(running: str, kept: str, tmp_path: Path) -> None:
    machine = unpacked(NAME, tmp_path, {"proc/cmdline": running + "\n"})
    asked = request(Purpose.BOOT, append=None, reuse_command_line=True)
    assert own_words(plan_load(machine, asked)) == kept


def test_purgatory_writes_to_the_uart_past_the_caches(tmp_path: Path) -> None:
    def written(machine: Machine, line: str) -> bytes:
        return bytes(plan_load(machine, request(Purpose.CRASH, append=line)).segment("purgatory").data)

    assert UART in written(snapshot(NAME), "console=ttyS0")
    machine = unpacked(NAME, tmp_path, {"sys/class/tty/console/active": "tty0\n"})
    assert UART not in written(machine, "console=tty0")


def _fadt(**changes: bytes) -> bytes:
    table = bytearray(content(FADT))
    places = {"signature": 0, "flags": 112, "space": 116, "address": 120}
    for name, value in changes.items():
        table[places[name] : places[name] + len(value)] = value
    return bytes(table)


@pytest.mark.parametrize(
    ("table", "is_used"),
    [
        (_fadt(), True),
        (_fadt()[:129], True),
        (_fadt()[:128], False),
        (_fadt(signature=b"XXXX"), False),
        (_fadt(flags=bytes(4)), False),
        (_fadt(space=b"\1"), False),
        (_fadt(address=bytes(8)), False),
        (b"", False),
    ],
)
def test_it_resets_by_the_register_that_acpi_names(table: bytes, is_used: bool, tmp_path: Path) -> None:
    machine = unpacked(NAME, tmp_path, {FADT: table})
    block = bytes(plan_load(machine, request(Purpose.CRASH)).segment("purgatory").data)
    at = block.index(b"PURG")
    (how,) = struct.unpack_from("<I", block, at + 124)  # purgatory/common/params.h: reset
    assert (RESET in block, how) == ((True, 0x142) if is_used else (False, 0))


EFI = ("sys/firmware/efi/fw_platform_size", "sys/firmware/efi/systab")
TREE = "sys/firmware/fdt"


@pytest.mark.parametrize("purpose", Purpose)
@pytest.mark.parametrize(
    ("missing", "added", "is_warned"),
    [
        ((), {}, False),
        ((), {TREE: b"\xd0\x0d\xfe\xed"}, False),  # UEFI hands a tree over, too
        ((FADT,), {TREE: b"\xd0\x0d\xfe\xed"}, True),  # QEMU's own stand-in for EFI's tables
        (EFI, {}, True),
        ((*EFI, FADT), {}, True),
    ],
)
def test_a_machine_without_uefi_is_warned_of(
    missing: tuple[str, ...], added: dict[str, bytes], is_warned: bool, purpose: Purpose, tmp_path: Path
) -> None:
    machine = unpacked(NAME, tmp_path, {**dict.fromkeys(missing), **added})
    for folder in {(tmp_path / name).parent for name in missing}:
        folder.rmdir()
    warnings = "\n".join(plan_load(machine, request(purpose)).warnings)
    assert ("this machine was started without UEFI" in warnings) == is_warned


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"kernel": FileData.from_bytes("k", b"x" * 5000)}, ImageError, "no loongarch64 kernel's header"),
        ({"kernel": FileData.from_bytes("k", IMAGE[:40])}, ImageError, "no loongarch64 kernel's header"),
        ({"kernel": FileData.from_bytes("k", IMAGE[:-600])}, ImageError, "truncated"),
        ({"kernel": debians(machine=0xAA64)}, ImageError, "which is an EFI executable for arm64"),
        ({"kernel": debians(image_size=0)}, ImageError, "0x0 bytes of memory"),
        ({"kernel": debians(image_size=1 << 63)}, ImageError, "0x8000000000000000 bytes of memory"),
        ({"kernel": debians(entry=0x1000)}, ImageError, "its entry point"),
        ({"kernel": debians(entry=0x1201000)}, ImageError, "its entry point"),
        ({"kernel": debians(text_offset=0x200001)}, ImageError, "damaged kernel"),
        (
            {"kernel": debians(magic=0, text_offset=0, entry=0x90000000A0001000)},
            ImageError,
            "linked to be elsewhere than at 0x200000.*\n.*vmlinux",
        ),
        ({"kernel": debians(image_size=1 << 36)}, PlacementError, "free area"),
        (
            {"kernel": FileData.from_bytes("k", PACKED[: len(PACKED) // 2])},
            ImageError,
            "truncated: .* its EFI zboot header",
        ),
        (
            {
                "kernel": FileData.from_bytes(
                    "k", zboot(gzip.compress(FakeImage(machine=0xAA64).build()), b"gzip")
                )
            },
            ImageError,
            "which is an EFI executable for arm64",
        ),
        ({"append": "x" * 4096}, UsageError, "Command line overflow"),
        (
            {"format": "elf-loongarch"},
            ImageError,
            "Wrong file type elf-loongarch, file matches type pei-loong",
        ),
        ({"format": "Image"}, UsageError, "Unsupported kernel type Image\n.*pei-loongarch"),
        ({"entry_32bit": True}, UsageError, "--entry-32bit is for x86; this machine is loongarch64"),
        ({"device_tree": INITRD}, UsageError, "a device tree is for architectures that boot with one"),
        ({"console": Console(vga=True)}, UsageError, "--console-vga is for x86"),
        ({"console": Console("ttyS9")}, UsageError, "--serial=ttyS9: this machine has no such"),
        ({"hotplug": True}, MachineError, "--hotplug: the running kernel updates no core headers"),
    ],
)
def test_bad_requests(changes: dict[str, object], error: type[PykexecError], message: str) -> None:
    with pytest.raises(error, match=message):
        plan_load(snapshot(NAME), request(Purpose.CRASH, **changes))


@pytest.mark.parametrize(
    ("last", "message"),
    [
        ("9ac00000", "the reservation is 0x34000 bytes too small"),
        ("9adfffff", "the reservation is 0x34000 bytes too small"),  # the top of 2 MiB stays free
        ("9ae1ffff", "the reservation is 0x14000 bytes too small"),
        (
            "9abfffff",
            "the reservation is 0x34000 bytes too small",
        ),
        ("zzz", "is not START-END"),
    ],
)
def test_a_reservation_that_is_none(last: str, message: str, tmp_path: Path) -> None:
    text = content("proc/iomem").decode().replace("-aabfffff : Crash kernel", f"-{last} : Crash kernel")
    machine = unpacked(NAME, tmp_path, {"proc/iomem": text})
    with pytest.raises(PykexecError) as error:
        plan_load(machine, request(Purpose.CRASH))
    assert message in f"{error.value} {error.value.hint}"


@pytest.mark.parametrize(
    ("new", "running", "fits"), [("7.2", "7.2", 1), ("6.12", "7.2", 0), ("7.2", "6.12", 0)]
)
def test_both_kernels_have_to_take_the_command_line(
    new: str, running: str, fits: bool, tmp_path: Path
) -> None:
    machine = unpacked(NAME, tmp_path, {"proc/sys/kernel/osrelease": f"{running}.1\n"})
    kernel = FileData.from_bytes("k", FakeImage(banner=f"Linux version {new}.1 (x)".encode()).build())
    asked = request(Purpose.BOOT, kernel=kernel)
    added = len(plan_load(machine, asked).command_line) - len("console=ttyS0")
    for size, is_good in ((511, True), (512, fits)):
        longer = dataclasses.replace(asked, append="x" * (size - added))
        if is_good:
            assert len(plan_load(machine, longer).command_line) == size
        else:
            with pytest.raises(UsageError, match=r"512 bytes, .* takes 511 at most"):
                plan_load(machine, longer)


FILES = {
    "pei-loongarch": IMAGE,
    "elf-loongarch": executable(IMAGE, address=0x9000000000200000, machine=258),
    "pez-loongarch": PACKED,
}


@pytest.mark.parametrize("wanted", [None, *FILES])
@pytest.mark.parametrize("name", FILES)
def test_each_type_is_what_kexec_tools_call_it(name: str, wanted: str | None) -> None:
    kernel = FileData.from_bytes("/boot/kernel", FILES[name])
    asked = request(Purpose.BOOT, kernel=kernel, format=wanted)
    if wanted not in (None, name):
        with pytest.raises(ImageError, match=f"Wrong file type {wanted}, file matches type {name}"):
            plan_load(snapshot(NAME), asked)
        return
    assert bytes(plan_load(snapshot(NAME), asked).segment("kernel").data) == IMAGE


def test_a_unified_kernel_image() -> None:
    parts = [(".osrel", b"ID=x\n"), (".cmdline", b"console=ttyS0 quiet"), (".linux", IMAGE)]
    kernel = FileData.from_bytes("uki", portable_executable(parts, machine=0x6264))
    plan = plan_load(snapshot(NAME), Request(kernel, purpose=Purpose.BOOT))
    assert bytes(plan.segment("kernel").data) == IMAGE
    assert own_words(plan) == "console=ttyS0 quiet"

"""Facts: read as the kernel writes them, refused with a clear word when they are damaged."""

import bz2
import contextlib
import errno
import gzip
import io
import lzma
import os
import re
import resource
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.segments import NoteSegment
from hypothesis import given
from hypothesis import strategies as st

from pykexec import privilege, redact
from pykexec.arch import for_machine
from pykexec.arch.x86 import crash as x86_64_crash
from pykexec.errors import FileError, MachineError, UsageError
from pykexec.files import FileData
from pykexec.loader import plan_load
from pykexec.machine import Machine, firmware_map, iomem, kcore
from pykexec.machine.cpus import NoteArea
from pykexec.machine.root import Folder, Root, unreadable
from pykexec.machine.snapshot import glob, write_snapshot
from pykexec.machine.sysfs import read_end
from pykexec.memory import MemoryKind, Range
from pykexec.plan import Purpose, Request
from tests.support.bzimage import FakeBzImage
from tests.support.elf import NO_ADDRESS, note
from tests.support.elf import kcore as fake_kcore
from tests.support.footprint import takes_at_most
from tests.support.growth import QUADRATIC_SUSPECTED, growth
from tests.support.machines import FOLDER, SNAPSHOTS, snapshot, unpacked, write
from tests.support.stopwatch import Stopwatch

PLAIN = "qemu-6.1-1g"


def machine_of(folder: Path, files: dict[str, str | bytes]) -> Machine:
    for path, content in files.items():
        write(folder, path, content)
    return Machine.from_snapshot(folder)


# /chosen


def chosen(base: bytes | None, size: bytes | None) -> dict[str, str | bytes]:
    folder = "proc/device-tree/chosen"
    told = {f"{folder}/linux,crashkernel-base": base, f"{folder}/linux,crashkernel-size": size}
    return {
        "proc/iomem": "00000000-7fffffff : System RAM\n",
        **{path: data for path, data in told.items() if data is not None},
    }


@pytest.mark.parametrize("width", [4, 8])
@pytest.mark.parametrize(
    ("size_now", "end"), [(None, 0x38000000), ("402653184", 0x38000000), ("16777216", 0x21000000)]
)
def test_a_reservation_that_only_the_device_tree_shows(
    width: int, size_now: str | None, end: int, tmp_path: Path
) -> None:
    """What was given back since is told by /sys alone: arch/powerpc/kexec/core.c, kexec_setup()."""
    files = chosen(0x20000000.to_bytes(width), 0x18000000.to_bytes(width))
    files |= {} if size_now is None else {"sys/kernel/kexec_crash_size": f"{size_now}\n"}
    machine = machine_of(tmp_path, files)
    assert machine.crash_regions == (Range(0x20000000, end),)
    assert machine.iomem.crash_regions == ()


@pytest.mark.parametrize(
    "files",
    [
        chosen(None, None),
        chosen(bytes(8), None),
        chosen(bytes(8), bytes(8)),
        chosen(bytes(8), bytes.fromhex("18000000")) | {"sys/kernel/kexec_crash_size": "0\n"},
    ],
)
def test_nothing_is_reserved_where_neither_shows_it(files: dict[str, str | bytes], tmp_path: Path) -> None:
    assert machine_of(tmp_path, files).crash_regions == ()


def test_what_iomem_shows_is_asked_first(tmp_path: Path) -> None:
    files = chosen(b"x", b"x") | {
        "proc/iomem": "00000000-7fffffff : System RAM\n  10000000-1fffffff : Crash kernel\n"
    }
    assert machine_of(tmp_path, files).crash_regions == (Range(0x10000000, 0x20000000),)


def test_a_reservation_of_a_damaged_tree(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"linux,crashkernel-base is 616263, not an address of 4 or 8"):
        _ = machine_of(tmp_path, chosen(b"abc", bytes(8))).crash_regions


# /proc/iomem

IOMEM = """\
00000000-00000fff : Reserved
00001000-0009fbff : System RAM
00100000-bffdffff : System RAM
  01000000-01ffffff : Kernel code
  a5000000-b4ffffff : Crash kernel
bffe0000-bfffffff : ACPI Tables
100000000-43fffffff : System RAM
  420000000-43effffff : Crash kernel
440000000-47fffffff : Persistent Memory
  440000000-44fffffff : dax0.0
    440000000-44fffffff : System RAM (kmem)
"""


def test_iomem_names_ranges_and_kinds() -> None:
    parsed = iomem.parse(IOMEM)
    assert parsed.crash_regions == (Range(0xA5000000, 0xB5000000), Range(0x420000000, 0x43F000000))
    assert parsed.find("Kernel code") == (Range(0x1000000, 0x2000000),)
    assert parsed.system_ram.covers(Range(0x440000000, 0x450000000)), "System RAM (kmem)"
    assert parsed.memory_map.of(MemoryKind.PERSISTENT).ranges == (Range(0x440000000, 0x480000000),)
    assert [entry.depth for entry in parsed.entries] == [0, 0, 0, 1, 1, 0, 0, 1, 0, 1, 2]


@pytest.mark.parametrize("low", ["Crash kernel", "Crash kernel (low)"])
def test_both_names_of_the_low_reservation(low: str) -> None:
    text = f"10000000-1fffffff : {low}\n400000000-41fffffff : Crash kernel\n10000000-1fffffff : {low}\n"
    assert iomem.parse(text).crash_regions == (
        Range(0x10000000, 0x20000000),
        Range(0x400000000, 0x420000000),
    )


@given(
    st.lists(
        st.tuples(
            st.integers(0, (1 << 52) - 2),
            st.integers(1, 1 << 50),
            st.sampled_from(["a", "b : c", "PCI Bus 0000:00"]),
        )
    )
)
def test_iomem_as_the_kernel_prints_it(lines: list[tuple[int, int, str]]) -> None:
    """seq_printf("%*s%0*llx-%0*llx : %s\\n") in kernel/resource.c."""
    lines.append((1, 1, "end"))
    text = "".join(f"{start:08x}-{start + size - 1:08x} : {name}\n" for start, size, name in lines)
    assert [(e.range.start, e.range.size, e.name) for e in iomem.parse(text).entries] == lines


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("hello\n", "line 1"),
        ("0-f : a\n5-3 : b\n", "line 2"),
        ("0-zz : a\n", "line 1"),
        ("-1-5 : a\n", "line 1"),
        ("0-f: a\n", "line 1"),
        ("00000000-00000000 : System RAM\n" * 3, "only zeros"),
        ("0-f : a\n" * 70_000, "more than 65536 lines"),
    ],
)
def test_damaged_iomem(text: str, message: str) -> None:
    with pytest.raises(MachineError, match=message):
        iomem.parse(text)


@pytest.mark.slow
def test_a_very_long_iomem_is_read_in_linear_time() -> None:
    def text(count: int) -> str:
        return "".join(f"{i << 20:08x}-{(i << 20) + 0xFFFF:08x} : System RAM\n" for i in range(count))

    short, long = text(4000), text(40000)
    assert len(iomem.parse(long).system_ram) == 40000
    factor = growth(lambda: iomem.parse(short).system_ram, lambda: iomem.parse(long).system_ram)
    assert factor < QUADRATIC_SUSPECTED


# /sys/firmware/memmap


def test_firmware_map_overlaps_and_unknown_types(tmp_path: Path) -> None:
    entries = [
        ("0x0", "0xfffff", "System RAM"),
        ("0x9f000", "0xfffff", "Reserved"),
        ("0x200000", "0x2fffff", "New"),
    ]
    for number, (start, end, kind) in enumerate(entries):
        for name, content in (("start", start), ("end", end), ("type", kind)):
            write(tmp_path, f"sys/firmware/memmap/{number}/{name}", content + "\n")
    found = firmware_map.read(Folder(tmp_path))
    assert found is not None
    assert found.ram.ranges == (Range(0, 0x9F000),)
    assert found.of(MemoryKind.RESERVED).ranges == (Range(0x9F000, 0x100000), Range(0x200000, 0x300000))


@pytest.mark.parametrize("text", ["", "0x", "many", "-5"])
def test_damaged_firmware_map(tmp_path: Path, text: str) -> None:
    for name, content in (("start", "0x1000\n"), ("end", text), ("type", "System RAM\n")):
        write(tmp_path, f"sys/firmware/memmap/0/{name}", content)
    with pytest.raises(MachineError, match="/sys/firmware/memmap/0"):
        firmware_map.read(Folder(tmp_path))


def test_without_a_firmware_map_iomem_serves(tmp_path: Path) -> None:
    machine = machine_of(tmp_path, {"proc/iomem": IOMEM, "proc/cmdline": "quiet\n"})
    assert machine.firmware_map is None
    assert machine.boot_memory_map == machine.iomem.memory_map


def test_add_efi_memmap_makes_iomem_the_better_source() -> None:
    machine = snapshot(PLAIN)
    assert machine.boot_memory_map == machine.firmware_map
    machine = Machine.from_snapshot(FOLDER / f"{PLAIN}.tar")
    machine.__dict__["command_line"] = "quiet add_efi_memmap"
    assert machine.boot_memory_map == machine.iomem.memory_map


@pytest.mark.parametrize(
    ("line", "keeps_state", "by_firmware"),
    [
        ("kho=on add_efi_memmap", True, False),
        ('dyndbg="file x kho=on add_efi_memmap +p"', False, True),
        ('kho="on" quiet', True, True),
        ("kho=on kho=off", False, True),
        ("kho", False, True),
    ],
)
def test_words_of_the_command_line_as_the_kernel_splits_it(
    line: str, keeps_state: bool, by_firmware: bool, tmp_path: Path
) -> None:
    """lib/cmdline.c next_arg(): blanks in quotes are part of a value."""
    machine = unpacked(PLAIN, tmp_path, {"proc/cmdline": f"{line}\n"})
    assert machine.keeps_state is keeps_state
    assert (machine.boot_memory_map == machine.firmware_map) is by_firmware


# /proc/kcore

TEXT = (0xFFFFFFFF9A000000, 0x1A000000, 0x2A00000)
LINEAR = [(0xFFFF9C8000001000, 0x1000, 0x9E000), (0xFFFF9C8000100000, 0x100000, 0x3FF00000)]
VMALLOC = (0xFFFFB48000000000, NO_ADDRESS, 0x1FFFFFFFFFFF)
INFO = "OSRELEASE=6.1\nPAGESIZE=4096\nSYMBOL(_stext)=ffffffff9a000000\n"


def read_kcore(folder: Path, data: bytes) -> kcore.Kcore:
    write(folder, "proc/kcore", data)
    return kcore.read(Folder(folder))


@pytest.mark.parametrize("info", [INFO, ""])
def test_text_and_linear_map_are_told_apart(tmp_path: Path, info: str) -> None:
    found = read_kcore(tmp_path, fake_kcore([VMALLOC, TEXT, *LINEAR], vmcoreinfo=info))
    text = found.kernel_text(0x1A000000)
    assert text is not None
    assert (text.virtual, text.physical, text.size) == TEXT
    for physical in (0x1000, 0x100000, 0x1A000000, 0x3FFFFFFF):
        assert found.virtual_of(physical) == 0xFFFF9C8000000000 + physical
    assert found.vmcoreinfo.get("PAGESIZE") == ("4096" if info else None)


def test_kcore_before_4_19_has_no_physical_addresses(tmp_path: Path) -> None:
    found = read_kcore(
        tmp_path, fake_kcore([(virtual, 0, size) for virtual, _, size in [VMALLOC, TEXT, *LINEAR]])
    )
    assert found.virtual_of(0x5000) == 0xFFFF9C8000005000
    text = found.kernel_text(0x1A000000, stext=0xFFFFFFFF9A000000)
    assert text is not None
    assert text.virtual == TEXT[0]


def test_truncated_kcore(tmp_path: Path) -> None:
    whole = fake_kcore([TEXT, *LINEAR])
    headers = 64 + 56 * 4
    for length in range(headers):
        with pytest.raises(MachineError, match="/proc/kcore"):
            read_kcore(tmp_path, whole[:length])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x7fELF" + bytes(60),
        fake_kcore([TEXT], phnum=0xFFFF),
        fake_kcore([TEXT], phnum=60000),
        fake_kcore([(0, 0, 0)] * 0xFFFE),
        fake_kcore([TEXT], notes=bytes(2 << 20)),
        fake_kcore([TEXT], notes=note(b"VMCOREINFO", 0, b"A=1\n" * (1 << 20))),
        b"#!/bin/sh\n" * 100,
    ],
)
def test_hostile_kcore_is_refused_quickly(tmp_path: Path, data: bytes) -> None:
    stopwatch = Stopwatch()
    with pytest.raises(MachineError, match="/proc/kcore"):
        read_kcore(tmp_path, data)
    assert stopwatch.seconds() < 1


@given(st.binary(max_size=200))
def test_any_notes_end(garbage: bytes) -> None:
    data = fake_kcore([TEXT], notes=garbage)

    class Root(Folder):
        def open(self, path: str) -> IO[bytes] | None:
            return io.BytesIO(data)

    assert len(kcore.read(Root(Path("/"))).segments) == 1


# notes, EFI, kexec's state, serial ports


def test_sparse_cpus_in_order_of_their_numbers(tmp_path: Path) -> None:
    folder = "sys/devices/system/cpu"
    files: dict[str, str | bytes] = {f"{folder}/cpu{n}/crash_notes": f"{n:x}00\n" for n in (0, 2, 10, 100)}
    files[f"{folder}/cpu2/crash_notes_size"] = "360\n"
    files[f"{folder}/cpufreq/crash_notes"] = "1\n"
    files[f"{folder}/cpu3/online"] = "0\n"
    notes = machine_of(tmp_path, files).cpu_notes
    assert [(n.cpu, n.address, n.size) for n in notes] == [
        (0, 0, 1024),
        (2, 0x200, 360),
        (10, 0xA00, 1024),
        (100, 0x6400, 1024),
    ]


def test_vmcoreinfo_is_hexadecimal_twice(tmp_path: Path) -> None:
    assert machine_of(tmp_path, {"sys/kernel/vmcoreinfo": "100afb000 1024\n"}).vmcoreinfo == NoteArea(
        0x100AFB000, 0x1024
    )
    write(tmp_path, "sys/kernel/vmcoreinfo", "100afb000\n")
    with pytest.raises(MachineError, match="/sys/kernel/vmcoreinfo"):
        _ = Machine.from_snapshot(tmp_path).vmcoreinfo


def test_efi_facts(tmp_path: Path) -> None:
    efi = "sys/firmware/efi"
    files: dict[str, str | bytes] = {
        f"{efi}/systab": "ACPI20=0x7eb014\nACPI=0x7eb000\nSMBIOS=0x7e9000\n",
        f"{efi}/fw_vendor": "0x7fa18\n",
        f"{efi}/runtime": "0x7fb98\n",
        f"{efi}/config_table": "0x7eaa98\n",
    }
    for number, base in ((0, 0x9000), (10, 0x1000), (2, 0x5000)):
        for name, value in (
            ("type", "0x5"),
            ("phys_addr", hex(base)),
            ("virt_addr", "0xffff"),
            ("num_pages", "0x2"),
            ("attribute", "0x800000000000000f"),
        ):
            files[f"{efi}/runtime-map/{number}/{name}"] = value + "\n"
    facts = machine_of(tmp_path, files).efi
    assert facts is not None
    assert facts.systab == {"ACPI20": 0x7EB014, "ACPI": 0x7EB000, "SMBIOS": 0x7E9000}
    assert [region.physical for region in facts.runtime_map] == [0x1000, 0x5000, 0x9000]
    assert (facts.fw_vendor, facts.runtime, facts.config_table) == (0x7FA18, 0x7FB98, 0x7EAA98)


@pytest.mark.parametrize("new", [True, False])
def test_kexec_state_in_both_places(tmp_path: Path, new: bool) -> None:
    names = {
        "loaded": ("kexec/loaded", "kexec_loaded"),
        "crash_loaded": ("kexec/crash_loaded", "kexec_crash_loaded"),
        "crash_size": ("kexec/crash_size", "kexec_crash_size"),
    }
    values = {"loaded": "0\n", "crash_loaded": "1\n", "crash_size": "268435456\n"}
    files: dict[str, str | bytes] = {
        f"sys/kernel/{names[key][0 if new else 1]}": values[key] for key in names
    }
    files["sys/kernel/security/lockdown"] = "none [integrity] confidentiality\n"
    files["proc/sys/kernel/kexec_load_limit_panic"] = "-1\n"
    state = machine_of(tmp_path, files).kexec_state
    assert (state.loaded, state.crash_loaded, state.crash_size) == (False, True, 1 << 28)
    assert (state.lockdown, state.load_limit_panic, state.load_disabled) == ("integrity", -1, None)


@pytest.mark.parametrize(
    ("command_line", "expected"),
    [
        ("console=ttyS1 console=tty0", "ttyS1"),
        ("console=ttyS0,115200n8 console=ttyS1,9600", "ttyS1"),
        ("console=tty0", "ttyS0"),
        ("", "ttyS0"),
        ("netconsole=ttyS1", "ttyS0"),
        ("console=ttyS99", "ttyS0"),
        ('x="y console=ttyS1" console=ttyS0', "ttyS0"),
        ('console="ttyS1,9600"', "ttyS1"),
    ],
)
def test_the_console_of_the_new_kernel(command_line: str, expected: str) -> None:
    port = snapshot(PLAIN).console_for(command_line)
    assert port is not None
    assert (port.name, port.io_port) == (expected, {"ttyS0": 0x3F8, "ttyS1": 0x2F8}[expected])


@pytest.mark.parametrize("text", ["-1", "1" * 30, "1" * 5000, "0x", ""])
@pytest.mark.parametrize(
    "path",
    [
        "proc/iomem",
        "sys/devices/system/cpu/cpu0/crash_notes",
        "sys/firmware/memmap/0/start",
        "sys/kernel/kexec/crash_cma_ranges",
        "sys/kernel/vmcoreinfo",
    ],
)
def test_an_address_that_makes_no_sense_names_its_file(path: str, text: str, tmp_path: Path) -> None:
    """Whatever a damaged snapshot has in it: never a plan with such an address, nor a traceback."""
    _, *rest = re.split(rb"([ -])", snapshot(PLAIN).read(path) or b"0-ffff\n", maxsplit=1)
    machine = unpacked(PLAIN, tmp_path, {path: text.encode() + b"".join(rest)})
    request = Request(kernel=FileData.from_bytes("k", FakeBzImage().build()), purpose=Purpose.CRASH)
    folder = path.removesuffix("/start").removesuffix("/crash_notes")
    with pytest.raises(MachineError, match=folder):
        (lambda: (machine.firmware_map, plan_load(machine, request)))()


@pytest.mark.parametrize("text", ["1_0", "\u0663", "0x1_0", "1e3", "1" * 5000])
def test_what_kernels_do_not_print_is_no_number(text: str, tmp_path: Path) -> None:
    machine = machine_of(tmp_path, {"sys/kernel/kexec_crash_size": f"{text}\n"})
    with pytest.raises(MachineError, match="/sys/kernel/kexec_crash_size does not hold a number"):
        _ = machine.kexec_state.crash_size


@pytest.mark.parametrize("size", [4096, 8192, 16384, 65536, 262144])
def test_page_sizes_of_other_architectures(size: int, tmp_path: Path) -> None:
    machine = machine_of(tmp_path, {"pykexec-snapshot.json": f'{{"page_size": {size}}}'})
    assert machine.page_size == size


@pytest.mark.parametrize("size", ['"x"', "true", "-4096", "4095", "[1]", "1e30", "9" * 5000])
def test_a_page_size_that_makes_no_sense_is_refused(size: str, tmp_path: Path) -> None:
    machine = machine_of(tmp_path, {"pykexec-snapshot.json": f'{{"page_size": {size}}}'})
    with pytest.raises(MachineError, match="snapshot"):
        _ = machine.page_size


def test_capabilities_that_make_no_sense_are_named(tmp_path: Path) -> None:
    machine = machine_of(tmp_path, {"proc/self/status": "CapEff:\tall\n"})
    with pytest.raises(MachineError, match="/proc/self/status: CapEff"):
        privilege.may_boot(machine)


def test_a_console_that_makes_no_sense_is_named(tmp_path: Path) -> None:
    machine = machine_of(tmp_path, {"sys/class/tty/ttyS0/port": "0x10000\n"})
    with pytest.raises(MachineError, match="sys/class/tty/ttyS0/port"):
        machine.console_for("console=ttyS0")
    with pytest.raises(UsageError, match="--serial=0xzz"):
        machine.console_for("", "0xzz")


def test_vmcoreinfo_that_makes_no_sense_is_named(tmp_path: Path) -> None:
    text = "SYMBOL(_stext)=ffx\n"
    machine = machine_of(tmp_path, {"proc/kcore": fake_kcore([(1 << 40, 0, 1 << 20)], vmcoreinfo=text)})
    with pytest.raises(MachineError, match=r"SYMBOL\(_stext\)"):
        machine.kcore.kernel_text(0)


def test_a_linear_map_beyond_all_addresses_is_refused(tmp_path: Path) -> None:
    changes = {"proc/kcore": fake_kcore([((1 << 64) - (1 << 20), 0, 1 << 20), (1 << 63, 1 << 24, 1 << 24)])}
    machine = unpacked(PLAIN, tmp_path, changes)
    with pytest.raises(MachineError, match="/proc/kcore has no linear mapping"):
        x86_64_crash.core_headers(for_machine(machine), machine, x86_64_crash.survey(machine), None)


# snapshots


class Recording(Root):
    """A root that remembers which files were read from it."""

    def __init__(self, root: Root) -> None:
        self.opened: set[str] = set()
        self._root = root

    def names(self, path: str) -> list[str]:
        return self._root.names(path)

    def open(self, path: str) -> IO[bytes] | None:
        file = self._root.open(path)
        if file is not None:
            self.opened.add(path)
        return file


def every_fact(machine: Machine) -> list[object]:
    properties = [
        name for name in dir(Machine) if not name.startswith("_") and name not in ("root", "is_live")
    ]
    values = [_told(machine, name) for name in properties if name != "kexec_state"]
    state = machine.kexec_state
    values += [getattr(state, name) for name in dir(state) if not name.startswith("_")]
    return [value for value in values if not callable(value)] + [machine.console_for("console=ttyS0")]


def _told(machine: Machine, name: str) -> object:
    """A fact, or why there is none, as arm has no /proc/kcore."""
    try:
        return getattr(machine, name)
    except MachineError as error:
        return str(error)


@pytest.mark.parametrize("name", SNAPSHOTS)
def test_a_snapshot_of_a_snapshot_has_the_same_facts(name: str, tmp_path: Path) -> None:
    machine = snapshot(name)
    write_snapshot(machine, tmp_path / "again.tar", for_machine(machine).facts)
    again = Machine.from_snapshot(tmp_path / "again.tar")
    assert every_fact(again) == every_fact(machine)
    for path in for_machine(machine).facts:
        data = machine.read(path)
        # With nokaslr the kernel leaves the seed in its device tree; a snapshot never has it.
        assert again.read(path) == (None if data is None else redact.fact(path, data))


def test_what_is_read_is_what_a_snapshot_holds(tmp_path: Path) -> None:
    machine = snapshot("qemu-7.2-1g")
    recording = Recording(machine.root)
    every_fact(Machine(recording))
    with tarfile.open(Path(__file__).parent.parent / "machines" / "qemu-7.2-1g.tar") as tar:
        assert recording.opened <= set(tar.getnames())


def test_no_memory_contents_get_into_a_snapshot(tmp_path: Path) -> None:
    secret = b"contents of task_struct"
    data = fake_kcore([TEXT, *LINEAR], vmcoreinfo=INFO, notes=note(b"CORE", 4, secret)) + b"memory " * 100
    machine = unpacked(PLAIN, tmp_path / "tree", {"proc/kcore": data})
    write_snapshot(machine, tmp_path / "m.tar", ())
    assert secret in data
    written = (tmp_path / "m.tar").read_bytes()
    assert secret not in written
    assert b"memory memory" not in written
    cut = Machine.from_snapshot(tmp_path / "m.tar").read("proc/kcore")
    assert cut is not None
    assert ELFFile(io.BytesIO(cut)).num_segments() == 4
    assert Machine.from_snapshot(tmp_path / "m.tar").kcore == machine.kcore


MACHINES = (3, 8, 20, 21, 22, 40, 42, 62, 183, 243, 258, 0xFFFF)  # include/uapi/linux/elf-em.h, and none


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("bits", [32, 64])
def test_every_kcore_in_a_snapshot_is_of_its_own_kind(
    bits: int, big: bool, machine: int, tmp_path: Path
) -> None:
    """pyelftools reads what the snapshot has: class, byte order, machine, segments and VMCOREINFO.

    Of that powerpc's kernels write a line twice.
    """
    end = (1 << bits) - 1
    segments = [
        (end - 0xFFFFFFF, 0x1000, 0x9E000),
        (end - 0xFFFFFF, end, 0x1000),
        (0x1000, 0x200000, 0x1000),
    ]
    data = fake_kcore(
        segments, vmcoreinfo="OSRELEASE=6.1\nX=\xe4\nX=\xe4\n", bits=bits, big_endian=big, machine=machine
    )
    root = machine_of(tmp_path, {"proc/kcore": data, "proc/cmdline": "quiet\n"}).root
    cut = kcore.without_memory(root)
    elf = ELFFile(io.BytesIO(cut))
    assert (elf.elfclass, elf.little_endian, elf.header["e_type"]) == (bits, not big, "ET_CORE")
    assert struct.unpack_from(">H" if big else "<H", cut, 18) == (machine,)
    loads = [each.header for each in elf.iter_segments("PT_LOAD")]
    assert [(each["p_vaddr"], each["p_paddr"], each["p_memsz"]) for each in loads] == segments
    (notes,) = elf.iter_segments("PT_NOTE")
    assert isinstance(notes, NoteSegment)
    assert [(each["n_name"], each["n_desc"]) for each in notes.iter_notes()] == [
        ("VMCOREINFO", b"OSRELEASE=6.1\nX=\xe4\nX=\xe4\n")
    ]
    write(tmp_path, "proc/kcore", cut)
    assert kcore.without_memory(root) == cut


def test_a_machine_that_is_not_known_is_named(tmp_path: Path) -> None:
    for number, name in ((50, "ia64"), (83, "ELF machine 83")):
        machine = machine_of(tmp_path / name, {"proc/kcore": fake_kcore([TEXT], machine=number)})
        assert machine.uname_machine == name
        with pytest.raises(MachineError, match=name):
            for_machine(machine)


@pytest.mark.parametrize(
    ("said", "files", "machine"),
    [
        ("i686", {"proc/sys/kernel/arch": "x86_64\n"}, "x86_64"),
        ("i686", {"proc/sys/kernel/arch": "i686\n"}, "i686"),
        ("armv8l", {"proc/sys/kernel/arch": "aarch64\n"}, "aarch64"),
        # Linux before 6.1.
        ("i686", {"proc/kcore": fake_kcore([TEXT])}, "x86_64"),
        ("i686", {"proc/kcore": fake_kcore([(0xC0000000, 0, 0x1000)], bits=32, machine=3)}, "i686"),
        ("armv7l", {}, "armv7l"),
        # An emulator's uname, beside the files of the kernel below it.
        ("armv7l", {"proc/sys/kernel/arch": "x86_64\n"}, "armv7l"),
        ("riscv64", {"proc/sys/kernel/arch": "x86_64\n"}, "riscv64"),
        ("x86_64", {"proc/kcore": b"damaged"}, "x86_64"),
    ],
)
def test_a_personality_hides_no_64_bit_kernel(
    tmp_path: Path, said: str, files: dict[str, str | bytes], machine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Uname says what setarch wants, and so does it to all that runs in such a build or container."""
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "", "", "", said)))
    for path, content in files.items():
        write(tmp_path, path, content)
    assert Machine(Folder(tmp_path), is_live=True).uname_machine == machine


def test_a_snapshot_tells_of_a_kernel_that_could_hand_over(tmp_path: Path) -> None:
    """By a file that kho_out_debugfs_init() makes in each version; the tree beside it may be large."""
    folder = "sys/kernel/debug/kho/out"
    files: dict[str, str | bytes | None] = {
        f"{folder}/scratch_len": "0x1000\n",
        f"{folder}/fdt": b"tree",
        f"{folder}/finalize": "0\n",
    }
    machine = unpacked(PLAIN, tmp_path / "tree", files)
    write_snapshot(machine, tmp_path / "m.tar", ())
    again = Machine.from_snapshot(tmp_path / "m.tar")
    assert machine.has_handover
    assert again.has_handover
    assert again.read(f"{folder}/fdt") is None


def test_a_snapshot_without_kcore_still_plans_boots(tmp_path: Path) -> None:
    machine = unpacked(PLAIN, tmp_path / "tree", {"proc/kcore": None})
    write_snapshot(machine, tmp_path / "m.tar", for_machine(machine).facts)
    again = Machine.from_snapshot(tmp_path / "m.tar")
    assert again.boot_memory_map == machine.boot_memory_map
    with pytest.raises(MachineError, match="/proc/kcore is missing"):
        _ = again.kcore


def test_a_failed_snapshot_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "m.tar"
    target.write_bytes(b"old")
    broken = unpacked(PLAIN, tmp_path / "tree", {"proc/kcore": b"not ELF"})
    with pytest.raises(MachineError):
        write_snapshot(broken, target, ())
    assert target.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.tar", "tree"]
    with pytest.raises(FileError, match=r"cannot write .*/no/m\.tar: No such file or directory"):
        write_snapshot(snapshot(PLAIN), tmp_path / "no" / "m.tar", ())


class Denying(Root):
    """A root of which a process without privileges may not read some files."""

    def __init__(self, root: Root, *denied: str) -> None:
        self._root, self._denied = root, denied

    def open(self, path: str) -> IO[bytes] | None:
        if path in self._denied:
            denied = PermissionError(errno.EACCES, "Permission denied")
            raise unreadable(path, denied) from denied
        return self._root.open(path)

    def entries(self, path: str) -> list[tuple[str, bool]]:
        return self._root.entries(path)

    def names(self, path: str) -> list[str]:
        return self._root.names(path)


CPU = "sys/devices/system/cpu"


@pytest.mark.parametrize(
    ("denied", "told"),
    [
        (["proc/kcore"], "/proc/kcore cannot be read"),
        (["sys/kernel/vmcoreinfo", f"{CPU}/cpu0/crash_notes"], f"/{CPU}/cpu0/crash_notes, /sys/kernel/vmc"),
        ([f"sys/firmware/memmap/{number}/end" for number in range(7)], "/4/end and 2 more cannot be read"),
    ],
)
def test_a_snapshot_that_would_lack_something_is_refused(
    denied: list[str], told: str, tmp_path: Path
) -> None:
    (tmp_path / "m.tar").write_bytes(b"old")
    machine = Machine(Denying(snapshot(PLAIN).root, *denied))
    with pytest.raises(MachineError, match=told) as caught:
        write_snapshot(machine, tmp_path / "m.tar", ())
    assert caught.value.hint == "run as root"
    assert (tmp_path / "m.tar").read_bytes() == b"old"


def test_a_snapshot_without_addresses_is_refused(tmp_path: Path) -> None:
    """What the kernel shows readers without CAP_SYS_ADMIN."""
    names = [line.partition(b" : ")[2] for line in (snapshot(PLAIN).read("proc/iomem") or b"").splitlines()]
    hidden = b"".join(b"00000000-00000000 : " + name + b"\n" for name in names)
    machine = unpacked(PLAIN, tmp_path / "tree", {"proc/iomem": hidden})
    with pytest.raises(MachineError, match=r"/proc/iomem \(addresses\) cannot be read") as caught:
        write_snapshot(machine, tmp_path / "m.tar", ())
    assert caught.value.hint == "run as root"
    assert not (tmp_path / "m.tar").exists()


def test_what_nobody_can_read_is_passed_over(tmp_path: Path) -> None:
    """Files in sysfs that are there to be written to answer EIO, also to root."""
    machine = unpacked(PLAIN, tmp_path / "tree", {"sys/kernel/kexec/large": b"x" * (20 << 20)})
    os.mkfifo(tmp_path / "tree/sys/kernel/kexec/pipe")
    (tmp_path / "tree/sys/kernel/kexec/loop").symlink_to("loop")
    write_snapshot(machine, tmp_path / "m.tar", ())
    assert Machine.from_snapshot(tmp_path / "m.tar").root.names("sys/kernel/kexec") == []


def test_everything_below_a_folder_but_not_through_links(tmp_path: Path) -> None:
    """sysfs has links that lead in circles: two of them to where they are would be 2^40 paths."""
    for name in ("a/b/c", "a/d", "a/b/e/f"):
        write(tmp_path, name, "x")
    for name in ("a/loop", "a/b/loop", "a/b/e/loop2"):
        (tmp_path / name).symlink_to(tmp_path / "a")
    (tmp_path / "top").symlink_to("a")
    stopwatch = Stopwatch()
    found = glob(Folder(tmp_path), "a/**")
    assert [each for each in found if "loop" not in each] == ["a/b/c", "a/b/e/f", "a/d"]
    assert len(found) == 6
    assert [each for each in glob(Folder(tmp_path), "top/**") if "loop" not in each] == [
        "top/b/c",
        "top/b/e/f",
        "top/d",
    ]
    assert stopwatch.seconds() < 1


def test_the_end_of_a_log(tmp_path: Path) -> None:
    lines = [f"line {number}" for number in range(1000)]
    write(tmp_path, "var/log/x", "\n".join(lines) + "\n")
    for size in (1, 5, 100, 9, 10, 8890, 1 << 20):
        found = read_end(Folder(tmp_path), "var/log/x", size)
        assert found is not None
        assert len(found) <= size
        assert found.decode().splitlines() == lines[len(lines) - found.count(b"\n") :]
    assert len(read_end(Folder(tmp_path), "var/log/x", 1 << 20) or b"") == 8890
    assert len(read_end(Folder(tmp_path), "var/log/x", 9) or b"") == 9
    assert read_end(Folder(tmp_path), "var/log/none", 9) is None


@pytest.mark.parametrize("name", ["pipe", "link-to-pipe", "folder", ""])
def test_a_snapshot_replaces_nothing_but_files(tmp_path: Path, name: str) -> None:
    """As root, another name than a file's would be the end of /dev/null."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link-to-pipe").symlink_to("pipe")
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileError, match=r"cannot write |needs a name"):
        write_snapshot(snapshot(PLAIN), tmp_path / name if name else "", ())
    assert (tmp_path / "pipe").is_fifo()
    assert len(list(tmp_path.iterdir())) == 3


def test_a_snapshot_is_for_its_owner_and_follows_no_planted_link(tmp_path: Path) -> None:
    """It holds addresses which the kernel shows to root only; the folder may be everybody's."""
    target, other = tmp_path / "m.tar", tmp_path / "other"
    other.write_bytes(b"kept")
    target.symlink_to(other)
    with pytest.raises(FileError, match=r"m\.tar: it is a link to .*other"):
        write_snapshot(snapshot(PLAIN), target, ())
    assert other.read_bytes() == b"kept"
    target.unlink()
    write_snapshot(snapshot(PLAIN), target, ())
    assert target.stat().st_mode & 0o077 == 0
    assert Machine.from_snapshot(target).command_line


def packed_bomb(compress: Callable[[bytes], bytes]) -> bytes:
    """A header that announces a name of 1 GiB, and more than can be taken of it, packed."""
    member = tarfile.TarInfo("././@LongLink")
    member.type, member.size = tarfile.GNUTYPE_LONGNAME, 1 << 30
    return compress(member.tobuf()) + compress(bytes(16 << 20)) * 17


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress], ids=["gz", "bz2", "xz"])
def test_archives_that_unpack_to_too_much(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    (tmp_path / "m.tar").write_bytes(packed_bomb(compress))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(MachineError, match="more than 32 MiB"):
        Machine.from_snapshot(tmp_path / "m.tar")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


def test_packed_archives_are_read(tmp_path: Path) -> None:
    plain = (Path(__file__).parent.parent / "machines" / f"{PLAIN}.tar").read_bytes()
    for compress in (gzip.compress, bz2.compress, lzma.compress):
        (tmp_path / "m.tar").write_bytes(compress(plain))
        assert Machine.from_snapshot(tmp_path / "m.tar").iomem == snapshot(PLAIN).iomem


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
@pytest.mark.slow
def test_deep_names_take_no_room(form: int, tmp_path: Path) -> None:
    """Each of these names has 2,000 folders above it: a table of them is 4 MiB a name."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", format=form) as tar:
        for number in range(2000):
            tar.addfile(tarfile.TarInfo("d/" * 2000 + str(number)))
    (tmp_path / "m.tar").write_bytes(packed.getvalue())
    stopwatch = Stopwatch()
    with takes_at_most(64 << 20):
        machine = Machine.from_snapshot(tmp_path / "m.tar")
        assert machine.root.names("d/d") == ["d"]
        assert len(machine.root.names("d" + "/d" * 1999)) == 2000
    assert stopwatch.seconds() < 2


def longer_name_than_any() -> bytes:
    return tarfile.TarInfo("a/" * 100_000 + "iomem").tobuf(tarfile.PAX_FORMAT) + bytes(1024)


def headers_that_announce_headers() -> bytes:
    header = tarfile.TarInfo("././@LongLink")
    header.type = tarfile.GNUTYPE_LONGNAME
    return header.tobuf() * 5000 + bytes(1024)


def with_size(field: bytes) -> bytes:
    header = bytearray(tarfile.TarInfo("proc/iomem").tobuf())
    header[124:136] = field
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + 8 * 32 + sum(header[156:]))
    return bytes(header) + bytes(1024)


def with_pax(records: bytes) -> bytes:
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, len(records)
    member = tarfile.TarInfo("proc/iomem").tobuf()
    return header.tobuf() + records + bytes(-len(records) % 512) + member + bytes(1024)


HOSTILE = {
    "a name that is too long": longer_name_than_any(),
    "names of names": headers_that_announce_headers(),
    "size of 95 bits": with_size(b"\x80" + b"\xff" * 11),
    "size of 63 bits": with_size(b"\x80" + bytes(3) + b"\x7f" + b"\xff" * 7),
    "negative size": with_size(b"\xff" * 12),
    "size that is none": with_size(b"9" * 12),
    "negative size in a pax header": with_pax(b"16 size=-100000\n"),
    "long size in a pax header": with_pax(b"5009 size=" + b"9" * 4998 + b"\n"),
    "size without a number": with_pax(b"9 size=\n\n"),
    "a record without end": with_pax(b"99 size=1\n"),
    "a record that goes backwards": with_pax(b"-9 size=1\n"),
    "records without end": with_pax(b"5 a=\n" * 100),
    "a wrong checksum": tarfile.TarInfo("proc/iomem").tobuf().replace(b"iomem", b"iomen") + bytes(1024),
    "no end": tarfile.TarInfo("proc/iomem").tobuf(),
    "many members": tarfile.TarInfo("proc/iomem").tobuf() * 33_000 + bytes(1024),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_archives_that_make_no_sense(what: str, tmp_path: Path) -> None:
    (tmp_path / "m.tar").write_bytes(HOSTILE[what])
    stopwatch = Stopwatch()
    with pytest.raises(MachineError, match="cannot read the snapshot"):
        Machine.from_snapshot(tmp_path / "m.tar")
    assert stopwatch.seconds() < 2


NAMES = st.lists(st.sampled_from(["a", "b", "a-b", "a0", "ä", "x" * 40]), min_size=1, max_size=5).map(
    "/".join
)


@given(
    files=st.dictionaries(NAMES, st.binary(max_size=2000)),
    form=st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
def test_archives_as_tarfile_writes_and_reads_them(
    files: dict[str, bytes], form: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("archive") / "m.tar"
    with tarfile.open(path, "w", format=form) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    root = Machine.from_snapshot(path).root
    found = {name: file.read() for name in files if (file := root.open(name)) is not None}
    assert found == files
    folders = {name.rpartition("/")[0] for name in files} | {""}
    for folder in folders:
        parts = folder.split("/") if folder else []
        below = [name.split("/") for name in files]
        assert root.names(folder) == sorted(
            {each[len(parts)] for each in below if each[: len(parts)] == parts and len(each) > len(parts)}
        )


@given(data=st.data())
def test_damaged_archives_are_read_or_refused(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole = bytearray((Path(__file__).parent.parent / "machines" / f"{PLAIN}.tar").read_bytes()[:20480])
    for _ in range(data.draw(st.integers(1, 5))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("archive") / "m.tar"
    path.write_bytes(whole + bytes(1024))
    with contextlib.suppress(MachineError):
        _ = Machine.from_snapshot(path).uname_machine


@pytest.mark.parametrize("name", ["", "/dev/zero"])
def test_what_is_no_file_is_no_snapshot(name: str) -> None:
    with pytest.raises(MachineError, match="no such file"):
        Machine.from_snapshot(name)


def test_hostile_archives(tmp_path: Path) -> None:
    target = tmp_path / "m.tar"
    with tarfile.open(target, "w") as tar:
        for name, kind, link in [
            ("../../etc/passwd", tarfile.REGTYPE, ""),
            ("proc/cmdline", tarfile.SYMTYPE, "/etc/passwd"),
            ("proc/iomem", tarfile.LNKTYPE, "/etc/passwd"),
            ("sys/kernel/vmcoreinfo", tarfile.CHRTYPE, ""),
        ]:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, link
            tar.addfile(member, io.BytesIO())
    machine = Machine.from_snapshot(target)
    assert machine.vmcoreinfo is None
    assert machine.root.names("sys") == []
    for fact in ("command_line", "iomem"):
        with pytest.raises(MachineError, match="is missing"):
            getattr(machine, fact)


@pytest.mark.parametrize("data", [b"", b"not an archive" * 100, b"\x1f\x8b" + bytes(50)])
def test_what_is_no_archive(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "m.tar").write_bytes(data)
    with pytest.raises(MachineError, match="cannot read the snapshot"):
        Machine.from_snapshot(tmp_path / "m.tar")


def test_an_archive_that_claims_to_be_huge(tmp_path: Path) -> None:
    member = tarfile.TarInfo("proc/iomem")
    member.size = 1 << 40
    (tmp_path / "m.tar").write_bytes(member.tobuf() + bytes(1024))
    with pytest.raises(MachineError, match="MiB"):
        Machine.from_snapshot(tmp_path / "m.tar")


def test_no_such_snapshot(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="no such file"):
        Machine.from_snapshot(tmp_path / "none.tar")


def test_truncated_snapshots_are_read_or_refused(tmp_path: Path) -> None:
    whole = (Path(__file__).parent.parent / "machines" / f"{PLAIN}.tar").read_bytes()
    for length in range(0, len(whole), 1013):
        (tmp_path / "m.tar").write_bytes(whole[:length])
        try:
            _ = Machine.from_snapshot(tmp_path / "m.tar").iomem
        except MachineError:
            continue

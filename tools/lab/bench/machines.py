"""Snapshots of machines larger than any at hand: real ones from tests/machines, with more in them."""

import io
import itertools
import struct
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..host import PROJECT, build_once, digest
from .measure import FOLDER, MIB

LINES, CPUS = 100_000, 8192

_X86_64, _ARM64 = "qemu-6.1-1g", "qemu-arm64-6.1-1g"
_BLOCK = 2 * MIB
_FIRST_BLOCK = 1 << 40
_DIRECT_MAP = 0xFFFF888000000000  # Documentation/arch/x86/x86_64/mm.rst
_CPU_NOTES = 0x3F000000

_TREE_SIZE = 1 * MIB
# Devicetree Specification 0.4, section 5.4
_BEGIN_NODE, _END_NODE, _PROPERTY, _END = 1, 2, 3, 9


def large() -> Path:
    """An x86_64 machine with a crash kernel's memory, `LINES` lines in /proc/iomem and `CPUS` processors."""
    changes = {
        "proc/iomem": _iomem(),
        "proc/kcore": _kcore(),
        **dict(_cpus()),
    }
    return _snapshot("large", _X86_64, changes)


def with_large_tree() -> Path:
    """An arm64 machine whose device tree takes a MiB."""
    return _snapshot("large-tree", _ARM64, {"sys/firmware/fdt": device_tree()})


def _snapshot(name: str, origin: str, changes: Mapping[str, bytes]) -> Path:
    def build(target: Path) -> None:
        with tarfile.open(target, "w") as tar:
            for path, content in {**_files(origin), **changes}.items():
                member = tarfile.TarInfo(path)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))

    key = digest(Path(__file__).read_bytes())
    return build_once(FOLDER / f"{name}-{key}.tar", build)


def _files(snapshot: str) -> dict[str, bytes]:
    found = {}
    with tarfile.open(PROJECT / "tests/machines" / f"{snapshot}.tar") as tar:
        for member in tar:
            file = tar.extractfile(member) if member.isreg() else None
            if file is not None:
                found[member.name.removeprefix("./")] = file.read()
    return found


def _iomem() -> bytes:
    """The lines of the snapshot, then blocks of memory, each with a hole and firmware's tables behind it."""
    lines = _files(_X86_64)["proc/iomem"].decode().splitlines()
    return "\n".join([*lines, *itertools.islice(_more_lines(), LINES - len(lines)), ""]).encode()


def _more_lines() -> Iterator[str]:
    for start, end in _blocks():
        yield f"{start:010x}-{end - 1:010x} : System RAM"
        yield f"  {start + 0x1000:010x}-{start + 0x1FFF:010x} : Reserved"
        yield f"{end:010x}-{end + 0xFFFF:010x} : ACPI Tables"
        yield f"{end + 0x10000:010x}-{end + 0x1FFFF:010x} : PCI Bus 0000:00"


def _blocks() -> Iterator[tuple[int, int]]:
    for number in itertools.count():
        start = _FIRST_BLOCK + number * _BLOCK
        yield start, start + _BLOCK - 0x20000


def _kcore() -> bytes:
    """The snapshot's headers, and a mapping of each block: one for each range of RAM (fs/proc/kcore.c)."""
    old = _files(_X86_64)["proc/kcore"]
    header = list(struct.unpack_from("<16sHHIQQQIHHHHHH", old))
    start, size, count = header[5], header[9], header[10]
    rows = [struct.unpack_from("<IIQQQQQQ", old, start + number * size) for number in range(count)]
    (_, _, notes_at, _, _, notes_size, _, _) = next(row for row in rows if row[0] == 4)
    added = [
        (1, 7, 0, _DIRECT_MAP + first, first, end - first, end - first, 4096)
        for first, end in itertools.islice(_blocks(), LINES // 4)
    ]
    header[10] = len(rows) + len(added)
    new_notes_at = start + header[10] * size
    moved = [(kind, flags, new_notes_at if kind == 4 else at, *rest) for kind, flags, at, *rest in rows]
    table = b"".join(struct.pack("<IIQQQQQQ", *row) for row in [*moved, *added])
    return (
        struct.pack("<16sHHIQQQIHHHHHH", *header).ljust(start, b"\0")
        + table
        + old[notes_at : notes_at + notes_size]
    )


def _cpus() -> Iterator[tuple[str, bytes]]:
    for cpu in range(CPUS):
        folder = f"sys/devices/system/cpu/cpu{cpu}"
        yield f"{folder}/crash_notes", f"{_CPU_NOTES + cpu * 0x400:x}\n".encode()
        yield f"{folder}/crash_notes_size", b"368\n"


def device_tree() -> bytes:
    """A tree as boards have them, with as many devices as a MiB holds."""
    names: dict[str, int] = {}
    before = [
        _node(
            "memory@40000000", names, device_type=b"memory\0", reg=struct.pack(">QQ", 0x40000000, 1 << 30)
        ),
        _node("psci", names, compatible=b"arm,psci-1.0\0arm,psci-0.2\0", method=b"hvc\0"),
        _node("chosen", names, bootargs=b"console=ttyAMA0\0", **{"kaslr-seed": bytes(8)}),
    ]
    devices, size = [], 0
    for number in itertools.count():
        device = _device(number, names)
        size += len(device)
        if size > _TREE_SIZE - 4096:
            break
        devices.append(device)
    bus = _node("soc", names, b"".join(devices), compatible=b"simple-bus\0", ranges=b"")
    root = _node(
        "",
        names,
        b"".join([*before, bus]),
        **{"#address-cells": _cells(2), "#size-cells": _cells(2), "compatible": b"linux,dummy-virt\0"},
    )
    structure, strings = root + _cells(_END), b"".join(name.encode() + b"\0" for name in names)
    reservations = bytes(16)
    struct_at = 40 + len(reservations)
    strings_at = struct_at + len(structure)
    fields = (0xD00DFEED, _TREE_SIZE, struct_at, strings_at, 40, 17, 16, 0, len(strings), len(structure))
    # The rest is room for changes, as QEMU and U-Boot leave it.
    return (_cells(*fields) + reservations + structure + strings).ljust(_TREE_SIZE, b"\0")


def _device(number: int, names: dict[str, int]) -> bytes:
    address = 0x10000000 + number * 0x1000
    return _node(
        f"serial@{address:x}",
        names,
        compatible=b"arm,pl011\0arm,primecell\0",
        reg=struct.pack(">QQ", address, 0x1000),
        interrupts=_cells(0, number % 1000, 4),
        clocks=_cells(1, 1),
        status=b"disabled\0",
        **{"clock-names": b"uartclk\0apb_pclk\0"},
    )


def _node(name: str, names: dict[str, int], children: bytes = b"", /, **properties: bytes) -> bytes:
    """A node; `names` is the block of strings as it grows: each name and where it stands."""
    body = _cells(_BEGIN_NODE) + _padded(name.encode() + b"\0")
    for key, value in properties.items():
        if key not in names:
            names[key] = sum(len(each) + 1 for each in names)
        body += _cells(_PROPERTY, len(value), names[key]) + _padded(value)
    return body + children + _cells(_END_NODE)


def _cells(*numbers: int) -> bytes:
    return struct.pack(f">{len(numbers)}I", *numbers)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)

"""Layers below a file system, as their programs leave them on a disk: a volume of LVM, an array of one disk.

What is above a layer begins at a fixed place behind the layer's own data. So a file system that was made on
a plain file is put there, and taken out again, by copying.
"""

from __future__ import annotations

import os
import re
import struct
import uuid
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from pykexec.emulation.room import make_sparse
from pykexec.memory import MIB, align_up

_SECTOR = 512
_BEFORE = MIB
"""The bytes of each layer's own data: what is above begins there."""
_AREA = 4096
"""Where an area of LVM's metadata begins, and the superblock of an array (version 1.2)."""
_EXTENT = 4 * MIB
_COPIED = MIB
"""The bytes that are copied at once."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of the capture image's ASSEMBLE."""

    kind: str
    """lvm or md."""
    name: str
    """VG/LV, or the array's UUID as mdadm writes it."""


def understood(layer: Layer) -> bool:
    """Return whether such a layer can be written, by its kind and name."""
    return layer.kind in _FORMS and _FORMS[layer.kind].fullmatch(layer.name) is not None


# lvm(8): the characters that names may have; mdadm(8)
_NAME = r"[A-Za-z0-9+_.][A-Za-z0-9+_.-]{0,127}"
_FORMS: Mapping[str, re.Pattern[str]] = MappingProxyType(
    {"lvm": re.compile(f"{_NAME}/{_NAME}"), "md": re.compile(r"[0-9a-f]{8}(?::[0-9a-f]{8}){3}")}
)


def wrap(inner: Path, disk: Path, layers: Sequence[Layer]) -> None:
    """Make a disk with the layers, from the disk up, and in the topmost a copy of a file."""
    size = align_up(inner.stat().st_size, _EXTENT)
    sizes = [size + _BEFORE * number for number in range(len(layers), -1, -1)]
    make_sparse(disk, sizes[0])
    with disk.open("r+b") as file:
        for number, layer in enumerate(layers):
            file.seek(_BEFORE * number)
            file.write(_HEADS[layer.kind](layer.name, sizes[number]))
    copy(inner, disk, to=_BEFORE * len(layers))


def unwrap(disk: Path, outer: Path, layers: Sequence[Layer]) -> None:
    """Make a file of what is in the topmost layer of a disk."""
    start = _BEFORE * len(layers)
    make_sparse(outer, disk.stat().st_size - start)
    copy(disk, outer, start=start)


def copy(source: Path, target: Path, *, start: int = 0, to: int = 0) -> None:
    """Copy a file from an offset into another one, without its holes (lseek(2))."""
    with source.open("rb") as reader, target.open("r+b") as writer:
        end = os.fstat(reader.fileno()).st_size
        at = start
        while (at := _data(reader.fileno(), at, end)) < end:
            hole = os.lseek(reader.fileno(), at, os.SEEK_HOLE)
            reader.seek(at)
            writer.seek(to + at - start)
            while at < hole:
                piece = reader.read(min(_COPIED, hole - at))
                writer.write(piece)
                at += len(piece)


def _data(file: int, at: int, end: int) -> int:
    """Return where the next data of a file begins; its end where there is none."""
    try:
        return os.lseek(file, at, os.SEEK_DATA)
    except OSError:  # ENXIO
        return end


# LVM: lib/format_text/layout.h, lib/label/label.h, lib/misc/crc.c of LVM2

_LABEL_SIZE = 32
"""What of the label comes before the disk's own header."""
_LOCATION = struct.Struct("<QQ")
_RAW_LOCATION = struct.Struct("<QQII")
_AREA_MAGIC = b" LVM2 x[5A%r0N*>"
_VOLUME_TEXT = """\
{group} {{
id = "{group_id}"
seqno = 1
format = "lvm2"
status = ["RESIZEABLE", "READ", "WRITE"]
flags = []
extent_size = {extent}
max_lv = 0
max_pv = 0
metadata_copies = 0
physical_volumes {{
pv0 {{
id = "{disk_id}"
device = "/dev/rehearsal"
status = ["ALLOCATABLE"]
flags = []
dev_size = {sectors}
pe_start = {start}
pe_count = {extents}
}}
}}
logical_volumes {{
{volume} {{
id = "{volume_id}"
status = ["READ", "WRITE", "VISIBLE"]
flags = []
segment_count = 1
segment1 {{
start_extent = 0
extent_count = {extents}
type = "striped"
stripe_count = 1
stripes = ["pv0", 0]
}}
}}
}}
}}
contents = "Text Format Volume Group"
version = 1
description = "pykdump rehearse"
creation_host = "rehearsal"
creation_time = 0
"""


def _lvm(name: str, size: int) -> bytes:
    """Return the beginning of a disk with one volume on all of it."""
    group, volume = name.split("/")
    ids = [_lvm_id() for _ in range(3)]
    extents = (size - _BEFORE) // _EXTENT
    text = (
        _VOLUME_TEXT.format(
            group=group,
            volume=volume,
            **dict(zip(("group_id", "disk_id", "volume_id"), map(_dashed, ids), strict=True)),
            extent=_EXTENT // _SECTOR,
            sectors=size // _SECTOR,
            start=_BEFORE // _SECTOR,
            extents=extents,
        ).encode()
        + b"\0"
    )
    end = _LOCATION.pack(0, 0)
    disk = (
        ids[1].encode(),
        struct.pack("<Q", size),
        *(_LOCATION.pack(_BEFORE, 0), end),
        *(_LOCATION.pack(_AREA, _BEFORE - _AREA), end),
        *(struct.pack("<II", 2, 1), end),  # the extension: PV_EXT_USED
    )
    label = (struct.pack("<I8s", _LABEL_SIZE, b"LVM2 001") + b"".join(disk)).ljust(_SECTOR - 20, b"\0")
    area = (
        _AREA_MAGIC
        + struct.pack("<IQQ", 1, _AREA, _BEFORE - _AREA)
        + _RAW_LOCATION.pack(_SECTOR, len(text), _lvm_crc(text), 0)
    ).ljust(_SECTOR - 4, b"\0")
    return b"".join(
        (
            bytes(_SECTOR),
            struct.pack("<8sQI", b"LABELONE", 1, _lvm_crc(label)) + label,
            bytes(_AREA - 2 * _SECTOR),
            struct.pack("<I", _lvm_crc(area)) + area,
            text,
        )
    )


def _lvm_crc(data: bytes) -> int:
    return zlib.crc32(data, 0xF597A6CF ^ 0xFFFFFFFF) ^ 0xFFFFFFFF


def _lvm_id() -> str:
    return uuid.uuid4().hex


def _dashed(name: str) -> str:
    ends = (6, 10, 14, 18, 22, 26, 32)
    return "-".join(name[start:end] for start, end in zip((0, *ends), ends, strict=False))


# Software RAID: struct mdp_superblock_1, include/uapi/linux/raid/md_p.h

_ARRAY = struct.Struct("<IIII16s32sQIIQIIiIQIIIIQQQQII16sBBHIQQQII32s")
_ROLES = struct.Struct("<H")


def _md(name: str, size: int) -> bytes:
    """Return the beginning of the only disk of a mirror."""
    inner = (size - _BEFORE) // _SECTOR
    fields = [
        *(0xA92B4EFC, 1, 0, 0, bytes.fromhex(name.replace(":", "")), b"rehearsal", 0),
        *(1, 0, inner, 0, 1),  # the level, the layout, the size, the chunk's size, the number of disks
        *(0, 0, 0, 0, 0, 0, 0),  # the bitmap, and what a change of the shape leaves
        *(_BEFORE // _SECTOR, inner, _AREA // _SECTOR, 0),
        *(0, 0, uuid.uuid4().bytes, 0, 0, 0, 0),
        *(0, 1, (1 << 64) - 1, 0, 1, b""),  # times, events, in sync up to there, the sum, roles
    ]
    plain = _ARRAY.pack(*fields) + _ROLES.pack(0)
    fields[-3] = _md_sum(plain)
    return bytes(_AREA) + _ARRAY.pack(*fields) + _ROLES.pack(0)


def _md_sum(superblock: bytes) -> int:
    """Return calc_sb_1_csum() of drivers/md/md.c."""
    words = len(superblock) // 4
    total: int = sum(struct.unpack_from(f"<{words}I", superblock))
    total += int.from_bytes(superblock[4 * words :], "little")
    return (total & 0xFFFFFFFF) + (total >> 32)


_HEADS: Mapping[str, Callable[[str, int], bytes]] = MappingProxyType({"lvm": _lvm, "md": _md})

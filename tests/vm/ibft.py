"""The table by which firmware tells a system which iSCSI disk it was booted from.

iSCSI Boot Firmware Table, Microsoft, version 1.02; include/linux/iscsi_ibft.h of Linux has its structures.
"""

import ipaddress
import struct
from collections.abc import Iterable
from dataclasses import dataclass

_HEADER = struct.Struct("<4sIBB6s8s24x")
_PART = struct.Struct("<BBHBB")  # number, version, length, index, flags
_CONTROL, _INITIATOR, _CARD, _TARGET = 1, 2, 3, 4
_IN_USE = 3
_STATIC = 1
_ONE_WAY = 1
_ALIGNED = 16


@dataclass(frozen=True)
class Boot:
    """What the firmware has done."""

    initiator: str
    address: str
    """The card's, with the length of its prefix."""
    mac: str
    gateway: str
    server: str
    port: int
    target: str
    user: str
    secret: str

    def table(self) -> bytes:
        """The whole table, with its checksum."""
        own = ipaddress.ip_interface(self.address)
        texts = [each.encode() + b"\0" for each in (self.initiator, self.target, self.user, self.secret)]
        at = list(_places([_HEADER.size, 18, 74, 102, 54, *map(len, texts)]))
        initiator, target, user, secret = (
            (len(text) - 1, place) for text, place in zip(texts, at[5:], strict=True)
        )
        parts = [
            _part(_CONTROL, struct.pack("<H5H", 0, *at[2:5], 0, 0), flags=0),
            _part(_INITIATOR, bytes(64) + struct.pack("<HH", *initiator)),
            _part(
                _CARD,
                struct.pack("<16sBB", _address(str(own.ip)), own.network.prefixlen, _STATIC)
                + struct.pack(
                    "<16s48xH6s6x", _address(self.gateway), 0, bytes.fromhex(self.mac.replace(":", ""))
                ),
            ),
            _part(
                _TARGET,
                struct.pack("<16sHQBB", _address(self.server), self.port, 1 << 8, _ONE_WAY, 0)
                + struct.pack("<6H8x", *target, *user, *secret),
            ),
        ]
        table = bytearray(at[-1] + len(texts[-1]))
        table[: _HEADER.size] = _HEADER.pack(b"iBFT", len(table), 1, 0, b"LAB", b"LAB")
        for place, content in zip(at[1:], (*parts, *texts), strict=True):
            table[place : place + len(content)] = content
        table[9] = -sum(table) & 0xFF
        return bytes(table)


def _part(number: int, content: bytes, *, flags: int = _IN_USE) -> bytes:
    return _PART.pack(number, 1, _PART.size + len(content), 0, flags) + content


def _places(sizes: Iterable[int]) -> Iterable[int]:
    at = 0
    for size in sizes:
        yield at
        at = (at + size + _ALIGNED - 1) & -_ALIGNED


def _address(text: str) -> bytes:
    """An IPv4 address, as IPv6 has it."""
    return b"\0" * 10 + b"\xff\xff" + ipaddress.IPv4Address(text).packed

"""Device trees made by hand, from chapter 5 of the Devicetree Specification alone."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

Tree = Mapping[str, "bytes | Tree"]
"""Property values and nodes by name."""


@dataclass
class Blob:
    """A version 17 blob; the fields are its header's."""

    tree: Tree
    reservations: list[tuple[int, int]] = field(default_factory=list)
    boot_cpu: int = 0
    nops: bool = False

    def build(self) -> bytes:
        strings = bytearray()
        body = self._node("", self.tree, strings) + struct.pack(">I", 9)
        reserve = b"".join(struct.pack(">QQ", *each) for each in [*self.reservations, (0, 0)])
        struct_at = 40 + len(reserve)
        strings_at = struct_at + len(body)
        total = strings_at + len(strings)
        header = struct.pack(
            ">10I",
            0xD00DFEED,
            total,
            struct_at,
            strings_at,
            40,
            17,
            16,
            self.boot_cpu,
            len(strings),
            len(body),
        )
        return header + reserve + body + bytes(strings)

    def _node(self, name: str, node: Tree, strings: bytearray) -> bytes:
        nop = struct.pack(">I", 4) if self.nops else b""
        out = struct.pack(">I", 1) + padded(name.encode() + b"\0")
        for key, value in node.items():
            if isinstance(value, bytes):
                out += nop + struct.pack(">III", 3, len(value), len(strings)) + padded(value)
                strings += key.encode() + b"\0"
        for key, value in node.items():
            if not isinstance(value, bytes):
                out += nop + self._node(key, value, strings)
        return out + struct.pack(">I", 2)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)

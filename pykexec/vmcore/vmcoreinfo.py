"""VMCOREINFO: what the kernel says about itself to those who read its dumps (kernel/vmcore_info.c)."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

_DIGITS_MAX = 24
_SIZE_MAX = 1 << 20
"""The kernel has a page for it."""


@dataclass(frozen=True, slots=True)
class VmcoreInfo:
    """Lines NAME=VALUE. What is missing, or no number, is None."""

    lines: Mapping[str, str]

    @classmethod
    def parse(cls, data: bytes) -> "VmcoreInfo":
        """Read the note; lines without "=" are left out. The first of several with one name holds."""
        lines: dict[str, str] = {}
        text = data[:_SIZE_MAX].partition(b"\0")[0].decode("ascii", "backslashreplace")
        for line in text.split("\n"):
            name, equals, value = line.partition("=")
            if equals:
                lines.setdefault(name, value)
        return cls(MappingProxyType(lines))

    def __bool__(self) -> bool:
        return bool(self.lines)

    @property
    def release(self) -> str | None:
        """The kernel's version, as ``uname -r`` says it."""
        return self.lines.get("OSRELEASE")

    @property
    def page_size(self) -> int | None:
        """In bytes."""
        return _number(self.lines.get("PAGESIZE"), 10)

    @property
    def crash_time(self) -> int | None:
        """Seconds since 1970, by the machine's own clock."""
        return _number(self.lines.get("CRASHTIME"), 10)

    @property
    def kernel_offset(self) -> int | None:
        """How far KASLR moved the kernel from where it was linked, in bytes."""
        return _number(self.lines.get("KERNELOFFSET"), 16)

    def symbol(self, name: str) -> int | None:
        """A symbol's virtual address."""
        return _number(self.lines.get(f"SYMBOL({name})"), 16)

    def size(self, name: str) -> int | None:
        """A structure's size in bytes."""
        return _number(self.lines.get(f"SIZE({name})"), 10)

    def offset(self, name: str) -> int | None:
        """The offset in bytes of a member, named "struct.member"."""
        return _number(self.lines.get(f"OFFSET({name})"), 10)

    def number(self, name: str) -> int | None:
        """A constant: decimal, or hexadecimal with 0x; without 0x only where it has a digit above 9."""
        text = self.lines.get(f"NUMBER({name})")
        value = _number(text, 10)
        return _number(text, 16) if value is None else value

    def address(self, name: str) -> int | None:
        """A constant that is an address: hexadecimal with 0x or, if negative or without, decimal."""
        value = self.number(name)
        return None if value is None else value & ((1 << 64) - 1)


def _number(text: str | None, base: int) -> int | None:
    if text is None or len(text) > _DIGITS_MAX:
        return None
    try:
        return int(text, base)
    except ValueError:
        return None

"""VMCOREINFO: the kernel's description of itself for those who read its dumps (kernel/vmcore_info.c)."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

_DIGITS_MAX = 24
_SIZE_MAX = 1 << 20
"""The most bytes to read; the kernel has one page for it."""


@dataclass(frozen=True, slots=True)
class VmcoreInfo:
    """Lines NAME=VALUE. Methods return None for a missing line, or one without a number."""

    lines: Mapping[str, str]

    @classmethod
    def parse(cls, data: bytes) -> "VmcoreInfo":
        """Read the note; lines without "=" are skipped. Of several lines with one name the first holds."""
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
        """The kernel's release, as ``uname -r`` prints it."""
        return self.lines.get("OSRELEASE")

    @property
    def page_size(self) -> int | None:
        """The page size in bytes."""
        return _number(self.lines.get("PAGESIZE"), 10)

    @property
    def crash_time(self) -> int | None:
        """The time of the crash in seconds since 1970, by the machine's own clock."""
        return _number(self.lines.get("CRASHTIME"), 10)

    @property
    def kernel_offset(self) -> int | None:
        """How far KASLR moved the kernel from where it was linked, in bytes."""
        return self.hexadecimal("KERNELOFFSET")

    def hexadecimal(self, name: str) -> int | None:
        """Return the hexadecimal number of a line that an architecture has by that name alone."""
        return _number(self.lines.get(name), 16)

    def symbol(self, name: str) -> int | None:
        """Return a symbol's virtual address."""
        return _number(self.lines.get(f"SYMBOL({name})"), 16)

    def size(self, name: str) -> int | None:
        """Return a structure's size in bytes."""
        return _number(self.lines.get(f"SIZE({name})"), 10)

    def offset(self, name: str) -> int | None:
        """Return the offset in bytes of a member, named "struct.member"."""
        return _number(self.lines.get(f"OFFSET({name})"), 10)

    def number(self, name: str) -> int | None:
        """Return a constant: decimal, or hexadecimal if it begins with 0x or has a digit above 9."""
        text = self.lines.get(f"NUMBER({name})")
        value = _number(text, 10)
        return _number(text, 16) if value is None else value

    def address(self, name: str) -> int | None:
        """Return a constant that is an address, as 64 bits.

        It is read as by `number`; a negative one wraps around.
        """
        value = self.number(name)
        return None if value is None else value & ((1 << 64) - 1)


def _number(text: str | None, base: int) -> int | None:
    if text is None or len(text) > _DIGITS_MAX:
        return None
    try:
        return int(text, base)
    except ValueError:
        return None

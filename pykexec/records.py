"""Fixed structures, compiled: what `tools/compile-layouts` makes of those declared with construct.

The declarations (``declared.py`` beside each ``compiled.py``) are what people read and change. Importing
construct for them would take longer than a whole load: at run time `struct` does the same work.
"""

from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


class Fields(dict):  # type: ignore[type-arg]
    """Values by name, as items and as attributes."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value


class Numbers:
    """An array of numbers; `layout` in the notation of `struct`."""

    def __init__(self, layout: str) -> None:
        self._struct = struct.Struct(layout)

    def parse(self, data: bytes) -> list[int]:
        return list(self._struct.unpack(data))

    def build(self, values: Any) -> bytes:
        return self._struct.pack(*values)


class Records:
    """An array of structures."""

    def __init__(self, record: Record, count: int) -> None:
        self._record = record
        self._count = count

    def parse(self, data: bytes) -> list[Fields]:
        size = self._record.sizeof()
        return [self._record.parse(data[index * size :]) for index in range(self._count)]

    def build(self, values: Any) -> bytes:
        if len(values) != self._count:
            raise ValueError(f"{len(values)} elements for an array of {self._count}")
        return b"".join(map(self._record.build, values))


class Record:
    """A structure; `layout` in the notation of `struct`, with a name for each value in it.

    `inner` says which of its strings of bytes are structures or arrays themselves, `constants` which
    numbers never vary.
    """

    def __init__(
        self,
        layout: str,
        names: str,
        inner: Mapping[str, Record | Records | Numbers] | None = None,
        constants: Mapping[str, int] | None = None,
    ) -> None:
        self._struct = struct.Struct(layout)
        self._names = tuple(names.split())
        self._inner = inner or {}
        self._constants = constants or {}

    def sizeof(self) -> int:
        """Bytes it takes."""
        return self._struct.size

    def parse(self, data: bytes | bytearray | memoryview) -> Any:
        """The values at the beginning of `data`. Raises struct.error when that is too short."""
        fields = Fields(zip(self._names, self._struct.unpack_from(data), strict=True))
        for name, layout in self._inner.items():
            fields[name] = layout.parse(fields[name])
        return fields

    def build(self, values: Mapping[str, Any]) -> bytes:
        """The structure with these values. Raises KeyError, ValueError, struct.error if they do not fit."""
        plain = [self._plain(name, values) for name in self._names]
        packed = self._struct.pack(*plain)
        if list(self._struct.unpack(packed)) != plain:  # struct cuts and pads strings to length
            raise ValueError("a value is longer or shorter than its field")
        return packed

    def _plain(self, name: str, values: Mapping[str, Any]) -> Any:
        if name in self._constants:
            return self._constants[name]
        value = values[name]
        return self._inner[name].build(value) if name in self._inner else value

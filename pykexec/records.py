"""Binary structures, compiled: `tools/compile-layouts` makes them from those declared with construct.

People read and change the declarations (``declared.py`` beside each ``compiled.py``). Importing construct
for them would take longer than a whole load; at run time `struct` does the same work.
"""

from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from pykexec.names import ByteOrder

_OF_THE_MACHINE = "="
"""Stands at the beginning of a layout instead of a byte order: each call says which order."""


def _compiled(layout: str) -> Mapping[ByteOrder | None, struct.Struct]:
    """Return the layout for each byte order a caller may give; for None where the layout has a fixed one."""
    if not layout.startswith(_OF_THE_MACHINE):
        return {None: struct.Struct(layout)}
    fields = layout.removeprefix(_OF_THE_MACHINE)
    return {"little": struct.Struct("<" + fields), "big": struct.Struct(">" + fields)}


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
    """An array of numbers; `layout` is in the notation of `struct`."""

    def __init__(self, layout: str) -> None:
        self._structs = _compiled(layout)

    def parse(self, data: bytes, order: ByteOrder | None = None) -> list[int]:
        return list(self._structs[order].unpack(data))

    def build(self, values: Any, order: ByteOrder | None = None) -> bytes:
        return self._structs[order].pack(*values)


class Records:
    """An array of structures."""

    def __init__(self, record: Record, count: int) -> None:
        self._record = record
        self._count = count

    def parse(self, data: bytes, order: ByteOrder | None = None) -> list[Fields]:
        size = self._record.sizeof()
        return [self._record.parse(data[index * size :], order) for index in range(self._count)]

    def build(self, values: Any, order: ByteOrder | None = None) -> bytes:
        if len(values) != self._count:
            raise ValueError(f"{len(values)} elements for an array of {self._count}")
        return b"".join(self._record.build(each, order) for each in values)


class Record:
    """A structure; `layout` is in the notation of `struct`, and `names` has a name for each value in it.

    "=" at the beginning of the layout stands for the byte order of the machine that the structure is for
    (not, as in `struct`, of the one this runs on). Such a structure needs an `order` to be parsed and built;
    no other takes one.

    `inner` names the byte strings that are structures or arrays themselves; `constants` names the numbers
    that never vary.
    """

    def __init__(
        self,
        layout: str,
        names: str,
        inner: Mapping[str, Record | Records | Numbers] | None = None,
        constants: Mapping[str, int] | None = None,
    ) -> None:
        self._structs = _compiled(layout)
        self._names = tuple(names.split())
        self._inner = inner or {}
        self._constants = constants or {}

    def sizeof(self) -> int:
        """Return its size in bytes."""
        return next(iter(self._structs.values())).size

    def parse(self, data: bytes | bytearray | memoryview, order: ByteOrder | None = None) -> Any:
        """Return the values at the beginning of `data`. Raises struct.error when it is too short."""
        fields = Fields(zip(self._names, self._structs[order].unpack_from(data), strict=True))
        for name, layout in self._inner.items():
            fields[name] = layout.parse(fields[name], order)
        return fields

    def build(self, values: Mapping[str, Any], order: ByteOrder | None = None) -> bytes:
        """Return the structure with these values.

        Raises KeyError, ValueError or struct.error if they do not fit.
        """
        plain = [self._plain(name, values, order) for name in self._names]
        layout = self._structs[order]
        packed = layout.pack(*plain)
        if list(layout.unpack(packed)) != plain:  # struct cuts and pads strings without a word
            raise ValueError("a value is longer or shorter than its field")
        return packed

    def _plain(self, name: str, values: Mapping[str, Any], order: ByteOrder | None) -> Any:
        if name in self._constants:
            return self._constants[name]
        value = values[name]
        return self._inner[name].build(value, order) if name in self._inner else value

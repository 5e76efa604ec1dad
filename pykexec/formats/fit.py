"""FIT: U-Boot's image, a flattened device tree with kernels, initrds, trees and ways to combine them.

The format: https://fitspec.osfw.foundation/, and doc/usage/fit/source_file_format.rst of U-Boot. Load
addresses are for a boot loader that puts things there; here they mean nothing.
"""

import hashlib
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pykexec.devicetree import flattened
from pykexec.devicetree.node import Node
from pykexec.errors import DeviceTreeError, ImageError
from pykexec.formats import compression
from pykexec.formats.bundle import Bundle
from pykexec.memory import KIB, MIB, align_up

_HASHES: Mapping[str, Callable[[memoryview], bytes]] = {
    "crc32": lambda data: zlib.crc32(data).to_bytes(4),
    "md5": lambda data: hashlib.md5(data, usedforsecurity=False).digest(),
    "sha1": lambda data: hashlib.sha1(data, usedforsecurity=False).digest(),
    "sha256": lambda data: hashlib.sha256(data).digest(),
    "sha384": lambda data: hashlib.sha384(data).digest(),
    "sha512": lambda data: hashlib.sha512(data).digest(),
}
_COMPRESSIONS = {"lzo": "lzop"}
"""U-Boot's names (IH_COMP_* in its image.c) where ours are others."""
_TREE_MAX = 16 * MIB
"""Of all trees and overlays of a configuration together."""
_TREES_MAX = 64
_TEXT_MAX = 64 * KIB
"""Longer than any command line or list of machines."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """A combination of images that boots."""

    name: str
    description: str
    compatible: tuple[str, ...]
    """The machines it is for; empty where only its name says so."""


@dataclass(frozen=True, slots=True)
class Fit:
    """What is in the image; nothing is read or checked before it is selected."""

    path: str
    configurations: tuple[Configuration, ...]
    default: str | None
    """The configuration that the image itself names."""
    _data: memoryview = field(repr=False)
    _external: int = field(repr=False)
    """Where data begins that lies behind the tree (data-offset counts from there)."""
    _images: Node = field(repr=False)
    _configurations: Node = field(repr=False)

    def find(self, wanted: str | None = None, *, compatible: Sequence[str] = ()) -> str:
        """The configuration's name: the wanted one, else the one for that machine, else the default.

        `compatible` has the strings of the machine's own device tree, the most specific first. Raises
        ImageError where there is none, or nothing says which.
        """
        names = [each.name for each in self.configurations]
        hint = f"its configurations: {', '.join(names)}"
        if wanted is not None:
            if wanted not in names:
                raise ImageError(f"{self.path}: no configuration {wanted}", hint=hint)
            return wanted
        fitting: dict[str, str] = {}  # machines to the first configuration for them
        for each in self.configurations:
            for machine in each.compatible:
                fitting.setdefault(machine, each.name)
        for machine in compatible:
            if machine in fitting:
                return fitting[machine]
        if self.default in names:
            return self.default
        if len(names) == 1:
            return names[0]
        raise ImageError(f"{self.path}: none of its configurations is the default one; name one", hint=hint)

    def select(self, wanted: str | None = None, *, compatible: Sequence[str] = ()) -> Bundle:
        """What to boot, its hashes compared and unpacked where the image says so; see `find`.

        Raises ImageError when a part is missing, damaged, or of the wrong kind.
        """
        name = self.find(wanted, compatible=compatible)
        chosen = self._configurations.by_name[name]
        kernels, ramdisks = (
            [self._image(each, name, role, kinds, unpack=unpack) for each in self._texts(chosen, role)[:1]]
            for role, kinds, unpack in (
                ("kernel", ("kernel", "kernel_noload"), True),
                # A kernel unpacks its initrd itself; U-Boot leaves it packed, whatever `compression` says.
                ("ramdisk", ("ramdisk",), False),
            )
        )
        if not kernels:
            raise ImageError(f"{self.path}: its configuration {name} has no kernel")
        trees = self._trees(self._texts(chosen, "fdt"), name)
        return Bundle(
            format=f"FIT image, configuration {name}",
            kernel=kernels[0],
            initrds=tuple(ramdisks),
            command_line=self._text(chosen, "bootargs"),
            device_tree=trees[0] if trees else None,
            overlays=tuple(trees[1:]),
            notes=(*self._other_machine(chosen, name, compatible), *self._left_out(chosen, name)),
        )

    def _trees(self, names: Sequence[str], configuration: str) -> list[memoryview]:
        """A tree and overlays for it. What they say of their sizes, they may say of the same bytes."""
        if len(names) > _TREES_MAX:
            raise ImageError(f"{self.path}: {len(names)} trees in the configuration {configuration}")
        trees: list[memoryview] = []
        left = _TREE_MAX
        for name in names:
            trees.append(self._image(name, configuration, "fdt", ("flat_dt",), size_max=left))
            left -= trees[-1].nbytes
        return trees

    def _image(
        self,
        name: str,
        configuration: str,
        role: str,
        kinds: tuple[str, ...],
        *,
        unpack: bool = True,
        size_max: int | None = None,
    ) -> memoryview:
        where = f"{self.path}: /images/{name}"
        node = self._images.by_name.get(name)
        if node is None:
            raise ImageError(f"{where} is missing, the {role} of the configuration {configuration}")
        if (kind := self._text(node, "type")) not in kinds:
            raise ImageError(f"{where}: a {kind or 'thing of no type'}, not a {role}")
        system = self._text(node, "os")
        if role == "kernel" and system not in (None, "linux"):
            raise ImageError(f"{where}: a kernel of {system}, not of Linux")
        if any(each.name.startswith("cipher") for each in node.children):
            raise ImageError(f"{where}: encrypted, which only U-Boot can undo")
        data = self._contents(where, node)
        if size_max is not None and data.nbytes > size_max:
            raise ImageError(f"{where}: {data.nbytes} bytes, which no {role} has")
        self._compare_hashes(where, node, data)
        packed = self._text(node, "compression") or "none"
        if packed == "none" or not unpack:
            return data
        packed = _COMPRESSIONS.get(packed, packed)
        return memoryview(b"".join(compression.pieces(where, data, packed, size_max)))

    def _contents(self, where: str, node: Node) -> memoryview:
        if "data" in node.properties:
            return memoryview(node.properties["data"])
        size, offset, position = (
            _number(node, name) for name in ("data-size", "data-offset", "data-position")
        )
        if position is None and offset is not None:
            position = self._external + offset
        if position is None or size is None:
            raise ImageError(f"{where}: no data, nor data-size with data-offset or data-position")
        if position + size > self._data.nbytes:
            raise ImageError(
                f"{where}: truncated: its data ends at {position + size:#x},"
                f" the file at {self._data.nbytes:#x}"
            )
        return self._data[position : position + size]

    def _other_machine(self, chosen: Node, name: str, compatible: Sequence[str]) -> Iterator[str]:
        machines = self._texts(chosen, "compatible")
        if machines and compatible and not set(machines) & set(compatible):
            yield f"{self.path}: its configuration {name} is for {machines[0]}, this is {compatible[0]}"

    def _left_out(self, chosen: Node, name: str) -> Iterator[str]:
        used = [(f"/configurations/{name}", chosen)]
        for role in ("kernel", "ramdisk", "fdt"):
            images = [each for each in self._texts(chosen, role) if each in self._images.by_name]
            used += [(f"/images/{each}", self._images.by_name[each]) for each in images]
        for where, node in used:
            if any(each.name.startswith("signature") for each in node.children):
                yield f"{self.path}: {where} is signed; pykexec does not check that"
        for what in self._texts(chosen, "loadables"):
            yield f"{self.path}: /images/{what} of the configuration {name} is left out"

    def _compare_hashes(self, where: str, node: Node, data: memoryview) -> None:
        found: dict[str, bytes] = {}  # by algorithm: each takes its time once, however often it is there
        for each in node.children:
            if not each.name.startswith("hash") or "uboot-ignore" in each.properties:
                continue
            algorithm, value = self._text(each, "algo") or "no algo", each.properties.get("value")
            compute = _HASHES.get(algorithm)
            if compute is None or value is None:
                raise ImageError(f"{where}/{each.name}: a hash that cannot be checked ({algorithm})")
            if algorithm not in found:
                found[algorithm] = compute(data)
            if found[algorithm] != value:
                raise ImageError(f"{where}: damaged: its {algorithm} is another than {each.name} says")

    def _text(self, node: Node, name: str) -> str | None:
        return _text(self.path, node, name)

    def _texts(self, node: Node, name: str) -> list[str]:
        return _texts(self.path, node, name)


def matches(data: memoryview) -> bool:
    """Whether this is a FIT image, good or bad, and not a machine's device tree."""
    if not flattened.matches(data):
        return False
    try:
        root = flattened.read(data, "").root
    except DeviceTreeError:
        return False
    return "images" in root.by_name


def parse(path: str, data: memoryview) -> Fit:
    """Read an image. Raises ImageError when it is none, or damaged."""
    blob = flattened.read(data, path, error=ImageError)
    images, configurations = map(blob.root.by_name.get, ("images", "configurations"))
    if images is None:
        raise ImageError(f"{path}: a device tree without /images: no FIT image")
    if configurations is None or not configurations.children:
        raise ImageError(f"{path}: a FIT image without /configurations: nothing says what boots together")
    found = tuple(
        Configuration(name, _text(path, node, "description") or "", tuple(_texts(path, node, "compatible")))
        for name, node in configurations.by_name.items()
    )
    external = align_up(blob.size, 4)
    return Fit(path, found, _text(path, configurations, "default"), data, external, images, configurations)


def _text(path: str, node: Node, name: str) -> str | None:
    """Return the first string of a property; None without it. Raises ImageError for a very long one."""
    value = _strings(path, node, name)
    return None if value is None else value.partition("\0")[0]


def _texts(path: str, node: Node, name: str) -> list[str]:
    """Return all strings of a property. Raises ImageError when they are very long."""
    return [each for each in (_strings(path, node, name) or "").split("\0") if each]


def _strings(path: str, node: Node, name: str) -> str | None:
    value = node.properties.get(name)
    if value is None:
        return None
    if len(value) > _TEXT_MAX:
        raise ImageError(f"{path}: damaged: {len(value)} bytes of text in a property {name}")
    return bytes(value).decode("utf-8", "surrogateescape")


def _number(node: Node, name: str) -> int | None:
    """Return a property of 32 bits; None where there is none."""
    value = node.properties.get(name)
    return int.from_bytes(value) if value is not None and len(value) == 4 else None

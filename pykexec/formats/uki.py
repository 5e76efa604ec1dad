"""Unified kernel images: a PE file whose sections are a kernel, its initrds and its command line.

The format: https://uapi-group.org/specifications/specs/unified_kernel_image/. What the text leaves open is
done as in systemd's stub (src/boot/pe.c, stub.c), with which these images boot.
"""

import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from pykexec.devicetree import flattened
from pykexec.errors import ImageError
from pykexec.formats import pe
from pykexec.formats.bundle import Bundle
from pykexec.memory import KIB

_ADDON = (".cmdline", ".dtb", ".dtbauto", ".initrd", ".ucode")
"""An add-on has at least one of these."""
_READ = (".linux", ".osrel", ".uname", ".sbat", ".profile", *_ADDON)
"""The sections to read; all others concern only the stub."""
_TEXT_MAX = 64 * KIB
_ALIGNMENT_MAX = 64 * KIB  # the largest FileAlignment (Microsoft's PE format)
_PROFILE = ".profile"


@dataclass(frozen=True, slots=True)
class Profile:
    """One of the ways in which an image can be booted."""

    number: int
    id: str | None = None
    title: str | None = None

    def __str__(self) -> str:
        return f"@{self.number}" + (f" ({self.id or self.title})" if self.id or self.title else "")


@dataclass(frozen=True, slots=True)
class Addon:
    """The contents of a ``*.addon.efi``, which adds to an image."""

    path: str
    machine: int
    command_line: str | None
    initrd: memoryview | None
    microcode: memoryview | None
    device_trees: tuple[tuple[str, memoryview], ...]
    """The .dtb and .dtbauto sections."""
    release: str | None
    """The only kernel release it is for (.uname); None: any."""


_Part = tuple[str, memoryview]


@dataclass(frozen=True, slots=True)
class Uki:
    """The parts of an image; the views are parts of the file."""

    path: str
    machine: int
    """IMAGE_FILE_MACHINE_*."""
    profiles: tuple[Profile, ...]
    """Empty for an image that can be booted in one way only."""
    _base: tuple[_Part, ...] = field(repr=False)
    _of_profiles: tuple[tuple[_Part, ...], ...] = field(repr=False)

    @property
    def machine_name(self) -> str:
        """The architecture's name for people, such as "x86_64"."""
        return pe.machine_name(self.machine)

    def text(self, section: str, profile: int = 0) -> str | None:
        """Return the text of .cmdline, .osrel, .uname or .sbat without padding; None where it is missing.

        Raises ImageError when it is longer than any such text.
        """
        found = self.section(section, profile)
        return None if found is None else _text(self.path, section, found)

    def section(self, name: str, profile: int = 0) -> memoryview | None:
        """Return a section's bytes in that profile: the profile's own, or those that all profiles share."""
        return next((data for each, data in self._parts(profile) if each == name), None)

    def find_profile(self, wanted: str | int | None) -> Profile:
        """Return a profile by number, ID or title; None means the default.

        Raises ImageError for an unknown one.
        """
        if wanted is None:
            return self.profiles[0] if self.profiles else Profile(0)
        for profile in self.profiles or (Profile(0),):
            if str(wanted).removeprefix("@") in (str(profile.number), profile.id) or wanted == profile.title:
                return profile
        there = ", ".join(map(str, self.profiles)) or "it has one way to be booted, without a name"
        raise ImageError(f"{self.path}: no profile {wanted}", hint=f"its profiles: {there}")

    def select(
        self,
        profile: str | int | None = None,
        *,
        compatible: str | None = None,
        addons: Sequence[Addon] = (),
        options: str | None = None,
        secure_boot: bool = False,
    ) -> Bundle:
        """Return what to boot: one profile (number, ID or title), with add-ons in the given order.

        `compatible` is the first string of the machine's own device tree's root; it selects one of several
        device trees. A boot loader's `options` replace the image's command line; under Secure Boot only
        where it has none. Raises ImageError for an unknown profile or a damaged device tree.
        """
        chosen = self.find_profile(profile)
        number = chosen.number
        fitting, notes = _fitting(addons, self, self.text(".uname", number))
        microcode = [each.microcode for each in reversed(fitting)]  # the kernel takes the first it finds
        own = [self.section(".ucode", number), self.section(".initrd", number)]
        more = [each.initrd for each in fitting]
        line = self.text(".cmdline", number)
        if options is not None and secure_boot and line is not None:
            notes.append(f"{self.path}: its own command line counts under Secure Boot, not the boot entry's")
        elif options is not None:
            line = options
        lines = [line, *(each.command_line for each in fitting)]
        tree, overlays = _changed(self.path, self._device_tree(number, compatible), fitting, compatible)
        kernel = self.section(".linux", number)
        assert kernel is not None  # see parse()
        return Bundle(
            format="unified kernel image" + (f", profile {chosen}" if self.profiles else ""),
            kernel=_without_padding(self.path, kernel),
            initrds=tuple(each for each in (*microcode, *own, *more) if each is not None),
            command_line=_joined(lines),
            device_tree=tree,
            overlays=overlays,
            release=self.text(".uname", number),
            notes=tuple(notes),
        )

    def _device_tree(self, profile: int, compatible: str | None) -> memoryview | None:
        return _fitting_tree(self.path, self._parts(profile), compatible)

    def _parts(self, profile: int) -> Iterator[_Part]:
        own = self._of_profiles[profile] if profile < len(self._of_profiles) else ()
        names = {name for name, _ in own}
        yield from own
        yield from (each for each in self._base if each[0] not in names)


def matches(data: memoryview) -> bool:
    """Return whether this is a PE file with a .linux section, sound or not."""
    try:
        found = pe.parse("", data)
    except ImageError:
        return False
    return found is not None and any(each.name == ".linux" for each in found.sections)


def parse(path: str, data: memoryview) -> Uki:
    """Read and check an image. Raises ImageError when it is none, or damaged."""
    headers = pe.parse(path, data)
    if headers is None or not any(each.name == ".linux" for each in headers.sections):
        raise ImageError(f"{path}: no unified kernel image: it has no .linux section")
    base, *of_profiles = _by_profile(_checked(path, data, headers))
    profiles = tuple(_read_profile(path, number, parts[0][1]) for number, parts in enumerate(of_profiles))
    uki = Uki(path, headers.machine, profiles, tuple(base), tuple(map(tuple, of_profiles)))
    for profile in profiles or (Profile(0),):
        if not uki.section(".linux", profile.number):
            raise ImageError(f"{path}: damaged: profile {profile} has no .linux section, or an empty one")
    return uki


def parse_addon(path: str, data: memoryview) -> Addon:
    """Read and check an add-on. Raises ImageError when it is none, or damaged."""
    headers = pe.parse(path, data)
    if headers is None:
        raise ImageError(f"{path}: no add-on of a unified kernel image: not a PE file")
    parts: dict[str, memoryview] = {}
    sections = _checked(path, data, headers)
    for name, contents in sections:
        parts.setdefault(name, contents)
    if ".linux" in parts or not any(name in parts for name in _ADDON):
        what = "it has a kernel" if ".linux" in parts else f"it has none of {' '.join(_ADDON)}"
        raise ImageError(f"{path}: no add-on of a unified kernel image: {what}")
    texts = {name: _text(path, name, parts[name]) for name in (".cmdline", ".uname") if name in parts}
    return Addon(
        path=path,
        machine=headers.machine,
        command_line=texts.get(".cmdline"),
        initrd=parts.get(".initrd"),
        microcode=parts.get(".ucode"),
        device_trees=tuple(each for each in sections if each[0] in (".dtb", ".dtbauto")),
        release=texts.get(".uname"),
    )


def addon_names(names: Iterable[str]) -> list[str]:
    """Return the names in a folder that are add-ons, in the order in which they apply.

    The folders are loader/addons on the EFI system partition, then PATH-OF-THE-IMAGE.extra.d.
    """
    return sorted(name for name in names if name.lower().endswith(".addon.efi"))


def properties(text: str) -> dict[str, str]:
    """Read NAME=VALUE lines, values perhaps quoted, as in os-release(5) and .profile sections."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, equals, value = line.strip().partition("=")
        if not equals or not name.replace("_", "").isalnum():
            continue
        try:
            found[name] = "".join(shlex.split(value))
        except ValueError:  # a quotation that does not end
            found[name] = value
    return found


def _checked(path: str, data: memoryview, headers: pe.PortableExecutable) -> list[_Part]:
    """Return the sections that matter, in the file's order; an empty one counts as missing.

    Raises ImageError.
    """
    used = [each for each in headers.sections if each.name in _READ and each.filled]
    for section in used:
        if section.offset + section.filled > data.nbytes:
            raise ImageError(
                f"{path}: truncated: its section {section.name} ends at"
                f" {section.offset + section.filled:#x}, the file at {data.nbytes:#x}"
            )
    for before, after in pairwise(sorted(used, key=lambda each: each.offset)):
        if after.offset < before.offset + before.filled:
            raise ImageError(f"{path}: damaged: its sections {before.name} and {after.name} overlap")
    return [(each.name, data[each.offset : each.offset + each.filled]) for each in used]


def _by_profile(parts: Sequence[_Part]) -> list[list[_Part]]:
    """Return the sections that all profiles share (before the first .profile), then each profile's own."""
    groups: list[list[_Part]] = [[]]
    for name, contents in parts:
        if name == _PROFILE:
            groups.append([])
        groups[-1].append((name, contents))
    return groups


def _read_profile(path: str, number: int, data: memoryview) -> Profile:
    found = properties(_text(path, _PROFILE, data))
    return Profile(number, found.get("ID") or None, found.get("TITLE") or None)


def _fitting(addons: Sequence[Addon], uki: Uki, release: str | None) -> tuple[list[Addon], list[str]]:
    """Return the add-ons that apply, and why others do not."""
    fitting: list[Addon] = []
    notes: list[str] = []
    for addon in addons:
        if addon.machine != uki.machine:
            notes.append(f"{addon.path} is left out: it is for {pe.machine_name(addon.machine)}")
        elif addon.release is not None and release is not None and addon.release != release:
            notes.append(f"{addon.path} is left out: it is for {addon.release}, the kernel is {release}")
        else:
            fitting.append(addon)
    return fitting, notes


def _fitting_tree(path: str, parts: Iterable[_Part], compatible: str | None) -> memoryview | None:
    """Return the device tree of a .dtbauto section for this machine, else that of the first .dtb section."""
    found = None
    for name, data in parts:
        if name == ".dtbauto" and compatible is not None:
            if _first_compatible(f"{path}: .dtbauto", data) == compatible:
                return data
        elif name == ".dtb" and found is None:
            found = data
    return found


def _changed(
    path: str, tree: memoryview | None, addons: Sequence[Addon], compatible: str | None
) -> tuple[memoryview | None, tuple[memoryview, ...]]:
    """Return the device tree, or the one that an add-on has instead, and the add-ons' overlays for it."""
    overlays: list[memoryview] = []
    for addon in addons:
        given = _fitting_tree(addon.path, addon.device_trees, compatible)
        if given is None:
            continue
        if _is_overlay(addon.path, given):
            overlays.append(given)
        else:
            tree, overlays = given, []
    if overlays and tree is None:
        raise ImageError(f"{path}: an add-on changes its device tree, of which it has none")
    return tree, tuple(overlays)


def _joined(lines: Sequence[str | None]) -> str | None:
    """Join command lines as the stub does: control characters, such as line ends, become blanks."""
    there = [re.sub(r"[\x00-\x1f]", " ", line) for line in lines if line is not None]
    return " ".join(filter(None, there)) if there else None


def _text(path: str, section: str, data: memoryview) -> str:
    """Return the text up to the first NUL, as the stub does, without white space around it."""
    if data.nbytes > _TEXT_MAX:
        raise ImageError(f"{path}: damaged: {data.nbytes} bytes of text in its section {section}")
    return bytes(data).partition(b"\0")[0].decode("utf-8", "surrogateescape").strip()


def _is_overlay(where: str, data: memoryview) -> bool:
    """Return whether this is no tree, but changes to one. Raises ImageError when it is damaged."""
    root = flattened.read(data, where, error=ImageError).root
    return any("__overlay__" in each.by_name for each in root.children)


def _first_compatible(where: str, data: memoryview) -> str | None:
    """Return the first string: it alone names the machine, others name its kin (src/boot/devicetree.c)."""
    value = flattened.read(data, where, error=ImageError).root.properties.get("compatible")
    return None if value is None else bytes(value).partition(b"\0")[0].decode("latin-1")


def _without_padding(path: str, kernel: memoryview) -> memoryview:
    """Return a signed kernel without the zeros that align the section: the signature covers all bytes."""
    try:
        headers = pe.parse(path, kernel)
    except ImageError:
        return kernel  # the loader says what is wrong with it
    end = headers.signature_end if headers else 0
    is_padded = kernel.nbytes - _ALIGNMENT_MAX < end <= kernel.nbytes and not any(kernel[end:])
    return kernel[:end] if end and is_padded else kernel

"""What a capture image says of itself: its dump target and its modules, read as data."""

from __future__ import annotations

import shlex
import stat
from collections.abc import Mapping
from dataclasses import dataclass

from pykexec import initramfs
from pykexec.emulation.devices import drives_hardware
from pykexec.errors import PykexecError
from pykexec.files import FileData
from pykexec.kdump.capture.destination import Transport
from pykexec.kdump.capture.modules import name_of
from pykexec.kdump.config.targets import AbsolutePath, Unfit
from pykexec.kdump.rehearsal import volumes
from pykexec.kdump.rehearsal.volumes import Layer

_SETTINGS = "etc/pykdump.conf"
_MODULES = "lib/modules/"
_ORDER = f"{_MODULES}order"


@dataclass(frozen=True, slots=True)
class CaptureImage:
    """An image of `pykdump mkinitrd`."""

    settings: Mapping[str, str]
    """The values of its /etc/pykdump.conf, by name."""
    modules: tuple[str, ...]
    """The names of the modules that it loads."""
    hardware: tuple[str, ...]
    """Those of them that drive devices."""

    @property
    def filesystem(self) -> str:
        """The type of the file system that dumps go to, as mount(8) has it."""
        return self.settings.get("FILESYSTEM", "")

    @property
    def uuid(self) -> str:
        """The UUID by which it looks for that file system."""
        return self.settings.get("UUID", "")

    @property
    def folder(self) -> str:
        """The folder for dumps in that file system. Raises PykexecError for a path that is none."""
        try:
            return AbsolutePath(self.settings.get("FOLDER", "") or "/")
        except Unfit as error:
            raise PykexecError(f"/{_SETTINGS} of the capture image: the folder{error.fault}") from None

    @property
    def layers(self) -> tuple[Layer, ...]:
        """What it puts together first, from the disk up."""
        found = (each.partition(":") for each in self.settings.get("ASSEMBLE", "").split())
        return tuple(Layer(kind, name) for kind, _, name in found)

    @property
    def saves_memory(self) -> bool:
        """Return whether it saves memory, and not the log alone."""
        return self.settings.get("SAVE_DUMP", "1") == "1"

    @property
    def fits(self) -> bool:
        """Return whether its makedumpfile is known to lose nothing of its kernel."""
        return self.settings.get("KNOWN_TO_FIT", "0") == "1"


def read(file: FileData) -> CaptureImage:
    """Return what an image says. Raises ImageError for a damaged one, PykexecError for another tool's."""
    found: dict[str, memoryview] = {}
    hardware: list[str] = []
    for member in initramfs.members(file.path, file.data):
        if not stat.S_ISREG(member.mode):
            continue
        if member.path in (_SETTINGS, _ORDER):
            found[member.path] = member.data
        if member.path.startswith(_MODULES) and drives_hardware(bytes(member.data)):
            hardware.append(name_of(member.path))
    if _SETTINGS not in found:
        raise PykexecError(
            f"{file.path}: a rehearsal of this image is not possible yet, because pykdump has not made it",
            hint="pykdump mkinitrd --output FILE makes one",
        )
    order = _text(found.get(_ORDER, memoryview(b"")))
    modules = tuple(name_of(line.split(" ")[0]) for line in order.splitlines() if line)
    settings = _settings(file.path, _text(found[_SETTINGS]))
    return CaptureImage(settings, modules, tuple(hardware))


def require_possible(image: CaptureImage) -> None:
    """Raise PykexecError for a dump target that no scratch disk can stand for yet."""
    way = image.settings.get("WAY", "")
    if way != Transport.DISK.value:
        raise _not_yet(
            f"dumps to {way or 'what it does not say'}", "only a file system on a disk has a stand-in so far"
        )
    others = (layer.kind for layer in image.layers if not volumes.understood(layer))
    if kind := next(others, None):
        raise _not_yet(f"dumps to a disk below {kind}", "the stand-in has volumes of LVM and mirrors alone")
    if any(layer.kind == "md" for layer in image.layers) and "raid1" not in image.modules:
        raise _not_yet("dumps to such an array", "the stand-in is a mirror, and the image lacks raid1")
    if "subvol" in image.settings.get("OPTIONS", ""):
        raise _not_yet("dumps to a subvolume of btrfs", "the stand-in has none so far")
    if image.settings.get("DEVICES", "1") != "1":
        raise _not_yet("dumps to a file system on several disks", "the stand-in is one plain disk so far")


def _not_yet(what: str, why: str) -> PykexecError:
    return PykexecError(f"a rehearsal of {what} is not possible yet, because {why}", hint="pykdump test")


def _text(data: memoryview) -> str:
    return bytes(data).decode("utf-8", "replace")


def _settings(path: str, text: str) -> Mapping[str, str]:
    """Return the values that a file of shell assignments gives, up to its first function."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise PykexecError(f"/{_SETTINGS} in {path}: {error}") from None
    values: dict[str, str] = {}
    for word in words:
        if word.endswith("()"):
            break
        name, equals, value = word.partition("=")
        if equals:
            values.setdefault(name, value)
    return values

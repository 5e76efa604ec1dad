"""The scratch disk that stands for the dump target, and what it is for the emulated machine."""

from __future__ import annotations

import uuid as uuids
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from pykexec import children
from pykexec.emulation import Emulation
from pykexec.emulation.devices import DISKS, Device, choose
from pykexec.emulation.room import make_sparse
from pykexec.errors import FileError, PykexecError
from pykexec.kdump import programs
from pykexec.kdump.capture.modules import canonical
from pykexec.kdump.rehearsal import volumes
from pykexec.kdump.rehearsal.volumes import Layer
from pykexec.memory import MIB

_MKFS_SECONDS = 60


@dataclass(frozen=True, slots=True)
class _Maker:
    """How a file system with a UUID is made."""

    command: tuple[str, ...]
    """Without the disk's name."""
    package: str
    smallest: int
    """The least size of a disk in bytes."""


_MAKERS: Mapping[str, _Maker] = MappingProxyType(
    {
        **{
            kind: _Maker((f"mkfs.{kind}", "-q", "-F", "-U", "{uuid}"), "e2fsprogs", 16 * MIB)
            for kind in ("ext2", "ext3", "ext4")
        },
        "xfs": _Maker(("mkfs.xfs", "-q", "-f", "-m", "uuid={uuid}"), "xfsprogs", 320 * MIB),
    }
)
"""By type; mkfs.btrfs makes none with a UUID that the machine itself has."""


@dataclass(frozen=True, slots=True)
class Scratch:
    """A disk with one file system, in volumes or not."""

    filesystem: str
    uuid: str
    size: int
    """Bytes of the file system; what nothing is written to takes no room here."""
    layers: tuple[Layer, ...] = ()
    """What it is in, from the disk up."""

    def make(self, path: Path) -> None:
        """Make the disk's file. Raises PykexecError for a file system that cannot be made here."""
        self._make_filesystem(path)
        if self.layers:
            plain = path.rename(path.with_name(f"{path.name}-plain"))
            volumes.wrap(plain, path, self.layers)
            plain.unlink()

    def lay_bare(self, path: Path) -> None:
        """Make a disk with the file system alone of one that `make` has made."""
        if self.layers:
            whole = path.rename(path.with_name(f"{path.name}-whole"))
            volumes.unwrap(whole, path, self.layers)
            whole.unlink()

    def _make_filesystem(self, path: Path) -> None:
        if self.filesystem not in _MAKERS:
            raise PykexecError(
                f"a rehearsal of dumps to {self.filesystem or 'no file system'} is not possible yet, because"
                f" only {', '.join(_MAKERS)} can be made on a plain file",
                hint="pykdump test",
            )
        maker = _MAKERS[self.filesystem]
        words = maker.command
        program = programs.find(words[0])
        if program is None:
            raise FileError(
                f"{words[0]}, which makes the disk, is not there", hint=f"install {maker.package}"
            )
        try:
            uuid = str(uuids.UUID(self.uuid))
        except ValueError:
            raise PykexecError(f"the capture image looks for {self.uuid!r}, which is no UUID") from None
        make_sparse(path, max(self.size, maker.smallest))
        options = [word.format(uuid=uuid) for word in words[1:]]
        done = children.run([str(program), *options, str(path)], seconds=_MKFS_SECONDS)
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
            raise PykexecError(f"{words[0]} fails: {''.join(said) or f'status {done.returncode}'}")


def device(own: Iterable[str], emulated: Emulation, drivers: Set[str], known: Set[str]) -> Device:
    """Return what the disk is for the emulated machine: as on the machine itself, where QEMU has that.

    `own` are the modules that drive the machine's own disk, `drivers` those that the capture system has,
    `known` the devices that QEMU has. Raises PykexecError where it has none that the image could find.
    """
    modules = {canonical(each) for each in own}
    same = (each for each in DISKS if each.modules[0] in modules and each.on(emulated) in known)
    found = next(same, None) or choose(DISKS, emulated, drivers, known=known)
    if found is None:
        raise PykexecError(
            "a rehearsal of this image is not possible yet, because QEMU has no disk for its drivers",
            hint="pykdump test",
        )
    return found

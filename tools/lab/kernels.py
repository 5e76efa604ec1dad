"""Kernels, nearly all of them Debian's, each with the modules that a guest needs to talk to the host."""

import lzma
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import cpio, ownkernel
from .arches import Arch
from .debian import fetch_kernel
from .host import LabError, build_once, ensure_commands, run


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel ready to boot."""

    arch: Arch
    version: str
    """Its key in the architecture's `kernels` or `built`, such as "6.1"."""
    release: str
    """As `uname -r` says it."""
    image: Path
    folders: tuple[Path, ...]
    """Where its packages are unpacked, or it was built."""

    @classmethod
    def get(cls, version: str, arch: Arch) -> "Kernel":
        """The kernel of that version, fetched or built if need be. Raises LabError."""
        if version in arch.built:
            recipe = arch.built[version]
            release, folder = ownkernel.build(recipe)
            return cls(arch, version, release, folder / Path(recipe.image).name, (folder,))
        if version not in arch.kernels:
            there = ", ".join(arch.kernels)
            raise LabError(f"Debian has no Linux {version} for {arch.name} that the lab knows, but {there}")
        package = arch.kernels[version]
        folders = tuple(fetch_kernel(package.suite, arch.debian, package.name))
        releases = {path.name for folder in folders for path in folder.glob("**/lib/modules/*")}
        # In /boot, and since Linux 7.x beside the modules.
        images = [path for folder in folders for path in folder.rglob("vmlinu[xz]*") if path.is_file()]
        if len(images) != 1 or len(releases) != 1:
            raise LabError(f"the packages of Linux {version} hold not one kernel, but {images}, {releases}")
        return cls(arch, version, releases.pop(), images[0], folders)

    def for_emulator(self) -> Path:
        """The file that QEMU boots. Raises LabError."""
        # Not at the head: only what runs machines has pykexec's own dependencies.
        from pykexec.emulation.kernelfile import unpacked
        from pykexec.errors import PykexecError

        try:
            data = unpacked(self.image)
        except PykexecError as error:
            raise LabError(f"{self.image} cannot be unpacked: {error}") from error
        if data is None:
            return self.image

        def build(target: Path) -> None:
            target.write_bytes(data)

        return build_once(self.image.with_name(f"unpacked-{self.image.name}"), build)

    def modules(self) -> bytes:
        """A cpio archive with the modules and, in lib/modules.order, the order in which to load them."""
        order = self._closure((self.arch.emulation.virtio[1], "virtio_console"), self._module_files())
        entries = [
            *cpio.folders(["lib/modules"]),
            cpio.file("lib/modules.order", "".join(f"{name}.ko\n" for name in order)),
            *(cpio.file(f"lib/modules/{name}.ko", data) for name, data in order.items()),
        ]
        return cpio.archive(entries)

    def has_module(self, name: str) -> bool:
        """Whether it has that module as a file."""
        return name in self._module_files()

    def module_folder(self, names: Iterable[str]) -> Mapping[str, bytes]:
        """Files of /lib/modules/RELEASE with these modules and what they need, as depmod leaves them."""
        ensure_commands({"depmod": "kmod"})
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch, "lib/modules", self.release)
            folder.mkdir(parents=True)
            found = self._module_files()
            for name, data in self._closure(names, found).items():
                parts = found[name].parent.parts
                place = folder.joinpath(*parts[parts.index(self.release) + 1 :], f"{name}.ko")
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(data)
            for each in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
                for path in (file for package in self.folders for file in package.rglob(each)):
                    shutil.copy(path, folder)
            run(["depmod", "-b", scratch, self.release], "indexing modules")
            files = {
                f"/{path.relative_to(scratch)}": path.read_bytes()
                for path in sorted(folder.rglob("*"))
                if path.is_file()
            }
        return files

    def _closure(self, names: Iterable[str], found: Mapping[str, Path]) -> Mapping[str, bytes]:
        """Modules by name, each behind what it depends on; without those built in. Raises LabError."""
        builtin = {Path(line).stem.replace("-", "_") for line in self._builtin().split()}
        order: dict[str, bytes] = {}

        def add(name: str) -> None:
            if name in order or name in builtin:
                return
            if name not in found:
                raise LabError(f"Linux {self.release} has no module {name}, neither as a file nor built in")
            data = _decompressed(found[name])
            for dependency in _dependencies(data):
                add(dependency)
            order[name] = data

        for name in names:
            add(name)
        return order

    def _module_files(self) -> Mapping[str, Path]:
        """By the names that the kernel has for them."""
        ends = ("*.ko", "*.ko.xz")
        files = (file for folder in self.folders for end in ends for file in folder.rglob(end))
        return {file.name.partition(".")[0].replace("-", "_"): file for file in files}

    def _builtin(self) -> str:
        files = (path for folder in self.folders for path in folder.rglob("modules.builtin"))
        return "".join(path.read_text() for path in files)


def _decompressed(module: Path) -> bytes:
    """Decompressed here, because busybox's insmod need not know how."""
    data = module.read_bytes()
    return lzma.decompress(data) if module.suffix == ".xz" else data


def _dependencies(module: bytes) -> Sequence[str]:
    """From the module's own .modinfo strings: modules.dep is made only when a package is installed."""
    match = re.search(rb"\0depends=([^\0]+)\0", module)
    return match.group(1).decode().replace("-", "_").split(",") if match else ()

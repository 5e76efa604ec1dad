"""The kernel modules of one release: the files that a capture system needs, in the order to load them.

The files that depmod(8) left in /lib/modules/RELEASE tell which module needs which. The image has a list and
loads everything on it: it depends neither on busybox's modprobe nor on udev.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pykexec.errors import FileError
from pykexec.formats import compression, magic

_FIRMWARE = re.compile(rb"\0firmware=([^\0]{1,255})\0")
_DEPTH_MAX = 100  # kernels have chains of about ten
_SUFFIXES = ("", ".xz", ".zst")
# modprobe.d(5): of several files with one name, the one in the first of these folders counts.
_CONFIGURATION = ("etc", "run", "usr/local/lib", "usr/lib", "lib")


@dataclass(frozen=True, slots=True)
class Module:
    """A module that is a file."""

    name: str
    file: Path

    def read(self) -> bytes:
        """Return the module, unpacked: not every insmod and not every kernel can unpack it.

        Raises FileError, and ImageError for a damaged file.
        """
        try:
            data = self.file.read_bytes()
        except OSError as error:
            raise FileError(f"cannot read the module {self.file}: {error.strerror}") from error
        packed = magic.compression(memoryview(data))
        return data if packed is None else compression.decompress(str(self.file), memoryview(data), packed)


class Index:
    """The modules of a release."""

    def __init__(self, release: str, root: Path = Path("/")) -> None:
        """Find the modules' folder. Raises FileError where there is none, or depmod has not run."""
        self.release = release
        self._root = root
        places = (root / "lib/modules" / release, root / "usr/lib/modules" / release)
        self._folder = next((each for each in places if each.is_dir()), places[0])
        if not (self._folder / "modules.dep").is_file():
            raise FileError(
                f"{self._folder}/modules.dep is missing",
                hint=f"install the modules of Linux {release}, or run: depmod {release}",
            )

    def closure(self, wanted: Iterable[str], *, optional: Iterable[str] = ()) -> Sequence[Module]:
        """Return these modules and all that they need, in the order to load them, without built-in ones.

        Raises FileError for a module that is neither a file nor built in; `optional` ones may be missing.
        """
        found: dict[str, Module] = {}
        for name in wanted:
            if not self._add(name, found, ()):
                raise FileError(
                    f"Linux {self.release} has no module {name}, neither as a file nor built in",
                    hint="install the package with the kernel's modules",
                )
        for name in optional:
            self._add(name, found, ())
        return tuple(found.values())

    def below(self, folder: str) -> frozenset[str]:
        """Return the modules in a folder of the kernel's sources."""
        return frozenset(name for name, (path, _) in self._files.items() if f"/{folder}/" in f"/{path}")

    def parameters(self, name: str) -> str:
        """Return the parameters that modprobe.d(5) gives a module here; "" for none."""
        return self._options.get(canonical(name), "")

    def has(self, name: str) -> bool:
        """Return whether the kernel has a module of that name, as a file, built in, or by an alias."""
        name = canonical(name)
        return name in self._files or name in self._builtin or name in self._aliases

    def is_builtin(self, name: str) -> bool:
        """Return whether the kernel has a module of that name built in."""
        return canonical(name) in self._builtin

    def firmware(self, module: bytes) -> Iterator[Path]:
        """Yield the existing firmware files that a module may ask for, by path below the root."""
        for found in _FIRMWARE.finditer(module):
            name = found[1].decode("ascii", "replace")
            for folder in (f"lib/firmware/updates/{self.release}", "lib/firmware/updates", "lib/firmware"):
                place = Path(folder, name)
                there = [Path(f"{place}{suffix}") for suffix in _SUFFIXES]
                existing = [each for each in there if (self._root / each).is_file()]
                if existing and ".." not in place.parts and not place.is_absolute():
                    yield existing[0]
                    break

    def _add(self, name: str, found: dict[str, Module], above: tuple[str, ...]) -> bool:
        name = canonical(name)
        if name in found or name in self._builtin or name in above:
            return True
        if name not in self._files:
            added = [self._add(each, found, (*above, name)) for each in self._aliases.get(name, ())]
            return any(added)
        path, needs = self._files[name]
        if len(above) > _DEPTH_MAX:
            raise self._damaged(f"{name} needs a module that needs a module, and so on without end")
        for each in self._soft.get(name, ()):
            self._add(each, found, (*above, name))  # it need not be there (modprobe.d(5))
        for each in needs:
            if not self._add(each, found, (*above, name)):
                raise self._damaged(f"{name} needs {each}, which it does not have")
        found[name] = Module(name, self._folder / path)
        return True

    def _damaged(self, what: str) -> FileError:
        return FileError(f"{self._folder}/modules.dep: {what}", hint=f"make it anew: depmod {self.release}")

    @cached_property
    def _files(self) -> dict[str, tuple[str, tuple[str, ...]]]:
        files: dict[str, tuple[str, tuple[str, ...]]] = {}
        for line in self._lines("modules.dep"):
            path, colon, needs = line.partition(":")
            if colon:
                # depmod lists them in the order of unloading.
                names = tuple(name_of(each) for each in reversed(needs.split()))
                files[name_of(path)] = (path, names)
        return files

    @cached_property
    def _builtin(self) -> frozenset[str]:
        return frozenset(name_of(line) for line in self._lines("modules.builtin"))

    @cached_property
    def _soft(self) -> dict[str, tuple[str, ...]]:
        """Modules to load with a module, before or after it: the order does not matter to either."""
        soft: dict[str, tuple[str, ...]] = {}
        for line in self._lines("modules.softdep"):
            words = line.split()
            if words[:1] == ["softdep"] and len(words) > 2:
                names = tuple(canonical(each) for each in words[2:] if not each.endswith(":"))
                soft[canonical(words[1])] = (*soft.get(canonical(words[1]), ()), *names)
        return soft

    @cached_property
    def _options(self) -> dict[str, str]:
        options: dict[str, str] = {}
        for line in self._configured():
            words = line.split(maxsplit=2)
            if words[:1] == ["options"] and len(words) == 3:
                name = canonical(words[1])
                options[name] = f"{options.get(name, '')} {words[2].strip()}".lstrip()
        return options

    def _configured(self) -> Iterator[str]:
        files: dict[str, Path] = {}
        for folder in _CONFIGURATION:
            for file in (self._root / folder / "modprobe.d").glob("*.conf"):
                files.setdefault(file.name, file)
        for _, file in sorted(files.items()):
            with contextlib.suppress(OSError):  # modprobe ignores files that it cannot read, too
                yield from file.read_text("utf-8", "replace").replace("\\\n", "").splitlines()

    @cached_property
    def _aliases(self) -> dict[str, tuple[str, ...]]:
        """The aliases without wildcards, for instance crc32c and fs-ext4."""
        aliases: dict[str, tuple[str, ...]] = {}
        for line in (*self._lines("modules.alias"), *self._lines("modules.builtin.alias")):
            words = line.split()
            if words[:1] == ["alias"] and len(words) == 3 and not set("*?[") & set(words[1]):
                name = canonical(words[1])
                aliases[name] = (*aliases.get(name, ()), canonical(words[2]))
        return aliases

    def _lines(self, name: str) -> Sequence[str]:
        try:
            text = (self._folder / name).read_text("utf-8", "replace")
        except OSError:
            return ()
        return [line for line in text.splitlines() if line and not line.startswith("#")]


def canonical(name: str) -> str:
    """Return the name with underscores: dashes in names mean the same."""
    return name.replace("-", "_")


def name_of(path: str) -> str:
    """Return the name of the module in a file."""
    return canonical(path.rpartition("/")[2].partition(".ko")[0])

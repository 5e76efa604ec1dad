"""What a boot loader would start: Boot Loader Specification entries, unified kernel images, GRUB's menu.

https://uapi-group.org/specifications/specs/boot_loader_specification/: type 1 entries are text files that
name a kernel, type 2 entries are unified kernel images. Everything is read below one root; nothing is
changed. Paths are relative to that root, as `Root` takes them.
"""

import difflib
import fnmatch
import functools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from pykexec.booting.kernel import release_of
from pykexec.bootpaths import (
    GRUB_CONFIG_MAX,
    GRUB_CONFIGS,
    PARTITIONS,
    efi_variable,
    first_file,
    listed,
    locate,
    parts_of,
    text,
    view,
    where_mounted,
)
from pykexec.errors import ImageError, UsageError
from pykexec.files import FileData
from pykexec.formats import uki
from pykexec.machine.root import Root
from pykexec.names import of_uname
from pykexec.runningkernel import RunningKernel, running_kernel
from pykexec.values import dataclass, replace
from pykexec.versions import version_key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pykexec.grubmenu import Choice, Script

__all__ = ["BootEntry", "RunningKernel", "addons", "default", "entries", "find", "of_grub", "running_kernel"]

_GRUBENVS = ("boot/grub/grubenv", "boot/grub2/grubenv")
_SETTING = re.compile(r"^[ \t]*set (kernelopts|tuned_\w+)=[\"']?([^\"'\n]*)", re.M)
_ENTRIES_MAX = 1024
_COUNTER = re.compile(r"\+(\d{1,9})(?:-\d{1,9})?$")  # "Boot counting": tries left, tries done
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


@dataclass(frozen=True, slots=True)
class BootEntry:
    """A kernel that can be booted, with its files and options; paths are relative to the root."""

    id: str
    """The file's name without its suffix and boot counter."""
    source: str
    """The file that describes it: the .conf file, or the image itself."""
    kernel: str
    """A kernel or a unified kernel image."""
    title: str = ""
    version: str = ""
    machine_id: str = ""
    sort_key: str = ""
    initrds: tuple[str, ...] = ()
    options: str = ""
    """The command line; for a unified kernel image the one that replaces its own."""
    device_tree: str | None = None
    overlays: tuple[str, ...] = ()
    """Device tree overlays."""
    extras: tuple[str, ...] = ()
    """Further files that a unified kernel image gets: add-ons, credentials, system extensions."""
    profile: str | None = None
    """The number or ID of a unified kernel image's profile."""
    is_image: bool = False
    """Whether it is a type 2 entry: a unified kernel image without a .conf file."""
    tries_left: int | None = None
    """The tries left under boot counting; 0 for an entry that has failed too often."""
    has_own_files: bool = True
    """Whether its files were found by their whole paths; if not, some may belong to another entry."""
    notes: tuple[str, ...] = ()
    """Remarks on what may be wrong with it."""

    @property
    def file_name(self) -> str:
        """The ID as boot loaders write it."""
        return self.id + (".efi" if self.is_image else ".conf")


def entries(root: Root, machine: str) -> list[BootEntry]:
    """Return all entries for that machine (``uname -m``), the preferred one first ("Sorting").

    Files that name no kernel are left out, as the specification says. Raises MachineError when a folder or
    file cannot be read.
    """
    variables = _Variables(root)
    found: dict[str, BootEntry] = {}
    for partition in PARTITIONS:
        for entry in (*_texts(root, partition, machine, variables), *_images(root, partition, machine)):
            # A partition may be mounted in two places, or one place may be a link to the other.
            found.setdefault(entry.file_name, entry)
    return _sorted(found.values())


def find(known: Sequence[BootEntry], wanted: str) -> BootEntry:
    """Return the entry with this ID, with or without suffix and boot counter, or with this title or version.

    A title or version counts only if a single entry has it. ``ID@PROFILE`` is a profile of a unified kernel
    image. Raises UsageError, with the nearest IDs.
    """
    name, _, profile = wanted.rpartition("@")
    for entry in known:
        file = entry.source.rpartition("/")[2]
        if wanted in (entry.id, entry.file_name, file, file.rpartition(".")[0]):
            return entry
        if name and name in (entry.id, entry.file_name):
            return replace(entry, profile=profile)
    same = [entry for entry in known if wanted and wanted in (entry.title, entry.version)]
    if len(same) == 1:
        return same[0]
    if same:
        names = ", ".join(entry.id for entry in same)
        raise UsageError(f"{len(same)} boot entries are called {wanted}", hint=f"give an ID: {names}")
    raise _unknown(wanted, [entry.id for entry in known])


def _unknown(wanted: str, ids: Sequence[str]) -> UsageError:
    near = difflib.get_close_matches(wanted[:200], [each[:200] for each in ids[:_ENTRIES_MAX]], 3, 0.4)
    listed = ", ".join(near or ids[:5])
    hint = f"there are, among others: {listed}" if listed else "there are no boot entries at all"
    return UsageError(f"no boot entry {wanted}", hint=hint)


def default(root: Root, known: Sequence[BootEntry]) -> BootEntry:
    """Return the entry that a reboot would start; `known` is the result of `entries`.

    These decide, in this order: the EFI variables and the loader.conf of systemd-boot (which leaves out
    entries without a file), GRUB's environment block, and else the first of the sorted entries. Raises
    UsageError where there is none.
    """
    if not known:
        places = listed(
            f"{each}/{folder}" for each in PARTITIONS for folder in ("loader/entries", "EFI/Linux")
        )
        raise UsageError("no boot entries", hint=f"looked in {places}, and for {listed(GRUB_CONFIGS)}")
    found = [entry for entry in known if _is_there(root, entry)]
    there = [entry for entry in found if entry.has_own_files] or found or known
    good = [entry for entry in there if entry.tries_left != 0]
    chosen = (
        _first_match(_preferences(root, "OneShot"), there)
        or _first_match(_preferences(root, "Preferred"), good)
        or _first_match(_preferences(root, "Default"), there)
        or _of_grub(root, known)
    )
    return chosen or there[0]


def running(root: Root, known: Sequence[BootEntry], release: str) -> BootEntry | None:
    """Return the entry that systemd-boot has started, if its kernel is the running one (``uname -r``).

    After a kexec it may be another one: the EFI variable outlives the kexec.
    """
    selected = efi_variable(root, "LoaderEntrySelected")
    entry = _first_match([selected], known) if selected else None
    if entry is None or not _is_there(root, entry):
        return None
    data = view(root, entry.kernel)
    if uki.matches(data):
        found = uki.parse(f"/{entry.kernel}", data).text(".uname")
    else:
        found = release_of(FileData(entry.kernel, data))
    return entry if (found or entry.version) == release else None


def addons(root: Root, image: str) -> list[str]:
    """Return the add-ons of a unified kernel image in their order: those for all images, then its own.

    Raises MachineError when a folder cannot be read.
    """
    folders = [f"{_partition_of(image)}/loader/addons"] if _partition_of(image) else []
    folders.append(f"{image}.extra.d")
    return [f"{folder}/{name}" for folder in folders for name in uki.addon_names(root.names(folder))]


def companions(root: Root, image: str) -> list[str]:
    """Return the credentials and extensions that systemd's stub adds to the initrd of that image.

    systemd-stub(7), "Companion files". Raises MachineError when a folder cannot be read.
    """
    own = [name for name in root.names(f"{image}.extra.d") if name.endswith((".cred", ".raw"))]
    found = [f"{image}.extra.d/{name}" for name in own]
    if partition := _partition_of(image):
        folder = f"{partition}/loader/credentials"
        found += [f"{folder}/{name}" for name in root.names(folder) if name.endswith(".cred")]
    return found


def _partition_of(image: str) -> str | None:
    return max((each for each in PARTITIONS if image.startswith(f"{each}/")), key=len, default=None)


def _shown_names(root: Root, folder: str) -> Iterator[str]:
    """Yield a folder's names except hidden ones, as systemd-boot does (src/boot/efi/boot.c)."""
    return (name for name in root.names(folder) if not name.startswith("."))


def _texts(root: Root, partition: str, machine: str, variables: "_Variables") -> Iterator[BootEntry]:
    folder = f"{partition}/loader/entries"
    row = of_uname(machine)
    native = row.efi if row and row.efi else machine  # the key "architecture" has EFI's name
    for name in [each for each in _shown_names(root, folder) if each.endswith(".conf")][:_ENTRIES_MAX]:
        fields = _Fields(text(root, f"{folder}/{name}"), variables)
        if fields.last("architecture").lower() in ("", native):
            entry = _from_fields(root, partition, f"{folder}/{name}", fields)
            if entry is not None:
                yield entry


def _from_fields(root: Root, partition: str, path: str, fields: "_Fields") -> BootEntry | None:
    located = _Locator(root, partition)
    kernel = fields.last("linux") or fields.last("uki")
    program = fields.last("efi")
    if not kernel and program and uki.matches(view(root, located(program))):
        kernel = program
    if not kernel:
        return None
    name, tries_left = _counted(path.rpartition("/")[2].removesuffix(".conf"))
    tree = fields.last("devicetree")
    entry = BootEntry(
        id=name,
        source=path,
        kernel=located(kernel),
        title=fields.last("title"),
        version=fields.last("version"),
        machine_id=fields.last("machine-id"),
        sort_key=fields.last("sort-key"),
        initrds=tuple(map(located, fields.all("initrd").split())),
        options=fields.all("options"),
        device_tree=located(tree) if tree else None,
        overlays=tuple(map(located, fields.all("devicetree-overlay").split())),
        extras=tuple(map(located, fields.all("extra").split())),
        profile=fields.last("profile") or None,
        tries_left=tries_left,
    )
    return replace(entry, has_own_files=not located.notes, notes=(*located.notes, *fields.notes()))


class _Locator:
    """Finds the files that an entry names on a partition; notes those it found by a part of their path."""

    def __init__(self, root: Root, partition: str) -> None:
        self._root, self._partition = root, partition
        self._instead: dict[str, str] = {}

    def __call__(self, name: str) -> str:
        named = "/".join(parts_of(name))
        found = locate(self._root, [self._partition], name)
        if found and not found.endswith(named) and found not in where_mounted(self._root, name):
            self._instead[name] = found
        return found or f"{self._partition}/{named}"

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(
            f"it names {name}, which is not there: took /{found}" for name, found in self._instead.items()
        )


def _images(root: Root, partition: str, machine: str) -> Iterator[BootEntry]:
    folder = f"{partition}/EFI/Linux"
    for name in [each for each in _shown_names(root, folder) if each.lower().endswith(".efi")][
        :_ENTRIES_MAX
    ]:
        entry = _from_image(root, f"{folder}/{name}", machine)
        if entry is not None:
            yield entry


def _from_image(root: Root, path: str, machine: str) -> BootEntry | None:
    """Return the entry for an image; None if it is none for that machine: EFI/Linux may hold any file."""
    try:
        image = uki.parse(f"/{path}", view(root, path))
        release = uki.properties(image.text(".osrel") or "")
        version = image.text(".uname") or ""
    except ImageError:
        return None
    row = of_uname(machine)
    if row is None or image.machine not in row.pe:
        return None
    name, tries_left = _counted(path.rpartition("/")[2][: -len(".efi")])
    return BootEntry(
        id=name,
        source=path,
        kernel=path,
        title=release.get("PRETTY_NAME", ""),
        version=version or release.get("IMAGE_VERSION") or release.get("VERSION_ID", ""),
        sort_key=release.get("IMAGE_ID") or release.get("ID", ""),
        is_image=True,
        tries_left=tries_left,
    )


def _counted(name: str) -> tuple[str, int | None]:
    """Return a name without its boot counter, and how many tries are left."""
    counter = _COUNTER.search(name)
    return (name[: counter.start()], int(counter[1])) if counter else (name, None)


class _Fields:
    """The keys of an entry; a key may occur more than once."""

    def __init__(self, content: str, variables: "_Variables") -> None:
        self._variables = variables
        self._lines: dict[str, list[str]] = {}
        for line in content.splitlines():
            key, *value = line.split(maxsplit=1)[:2] or [""]
            if key and not key.startswith("#"):
                self._lines.setdefault(key, []).append(value[0].strip() if value else "")

    def last(self, key: str) -> str:
        """Return the last value of a key that should occur once; "" where it is missing."""
        return self._variables.expand(self._lines.get(key, [""])[-1])

    def all(self, key: str) -> str:
        """Return all values of a key, joined by blanks."""
        return self._variables.expand(" ".join(self._lines.get(key, [])))

    def notes(self) -> Iterator[str]:
        """Yield a note for each variable that is not set."""
        return self._variables.missing(line for lines in self._lines.values() for line in lines)


class _Variables:
    """The values of ``$name`` in an entry: from GRUB's environment block, else from its configuration.

    Only GRUB expands variables: where there is no GRUB, ``$name`` is plain text.
    """

    def __init__(self, root: Root) -> None:
        self._root = root

    def expand(self, line: str) -> str:
        """Return the line with its variables expanded as GRUB does: a variable that is not set is empty."""
        return _VARIABLE.sub(self._value, line).strip() if "$" in line else line

    def missing(self, lines: Iterable[str]) -> Iterator[str]:
        """Yield a note for each variable that has no value."""
        names = {one or other for line in lines for one, other in _VARIABLE.findall(line)}
        for name in sorted(names - {"grub_users"}):
            if self._has_grub and name not in self._values:
                yield f"${name} has no value: neither GRUB's environment block nor its configuration sets it"

    def _value(self, found: re.Match[str]) -> str:
        return self._values.get(found[1] or found[2], "" if self._has_grub else found[0])

    @functools.cached_property
    def _has_grub(self) -> bool:
        return first_file(self._root, (*_GRUBENVS, *GRUB_CONFIGS)) is not None

    @functools.cached_property
    def _values(self) -> Mapping[str, str]:
        settings = [found for path in GRUB_CONFIGS for found in _SETTING.findall(_config(self._root, path))]
        return {**dict(settings), **_grub_environment(self._root)}


def _config(root: Root, path: str) -> str:
    return text(root, path, GRUB_CONFIG_MAX)


def _grub_environment(root: Root) -> dict[str, str]:
    """Return the variables of all environment blocks; where two differ, the one in /boot wins."""
    values: dict[str, str] = {}
    vendors = [f"boot/efi/EFI/{name}/grubenv" for name in root.names("boot/efi/EFI")]
    for path in (*vendors, *_GRUBENVS):
        values |= _environment_block(root, path)
    return values


def _environment_block(root: Root, path: str) -> dict[str, str]:
    values = {}
    for line in text(root, path).splitlines():
        name, equals, value = line.partition("=")
        if equals and not name.startswith("#"):
            values[name] = re.sub(r"\\(.)", r"\1", value)
    return values


def of_grub(root: Root, wanted: str | None = None) -> BootEntry | None:
    """Return an entry of GRUB's menu; None where GRUB has no configuration.

    `wanted` is its ID, its title, or its path in the menu (SUBMENU>ENTRY, each also as a number). None means
    the entry that a reboot would start. Raises UsageError where there is no such entry, or where what it
    loads depends on more than files tell.
    """
    path = _grub_config(root)
    if path is None:
        return None
    from pykexec.grubmenu import Script

    script = Script(f"/{path}", _GrubFiles(root, path), is_efi=bool(root.names("sys/firmware/efi")))
    choice = script.default() if wanted is None else _named(script, wanted)
    loaded = script.kernel(choice)
    _require_mounted(root, choice, loaded.file_system)
    located = _Locator(root, PARTITIONS[0])
    return BootEntry(
        id=choice.path,
        source=choice.entry.place.rpartition(":")[0].lstrip("/"),
        kernel=located(loaded.path),
        title=choice.entry.title,
        initrds=tuple(map(located, loaded.initrds)),
        options=loaded.options,
        device_tree=located(loaded.device_tree) if loaded.device_tree else None,
        notes=(*choice.notes, *loaded.notes, *located.notes),
    )


def _grub_config(root: Root) -> str | None:
    vendors = [f"boot/efi/EFI/{name}/grub.cfg" for name in root.names("boot/efi/EFI")]
    for places in (GRUB_CONFIGS, vendors):
        found = [path for path in places if first_file(root, [path])]
        if len(found) > 1:
            from pykexec.grubmenu import HINT

            raise UsageError(f"GRUB has several configurations: {listed(found)}", hint=HINT)
        if found:
            return found[0]
    return None


def _named(script: "Script", wanted: str) -> "Choice":
    known = list(script.all())
    found = [each for each in known if wanted in (each.path, each.entry.id, each.entry.title)]
    if len(found) == 1:
        return found[0]
    if found:
        paths = ", ".join(each.path for each in found)
        raise UsageError(
            f"{len(found)} entries of GRUB's menu are called {wanted}", hint=f"give one of {paths}"
        )
    if re.fullmatch("[0-9]{1,5}(?:>[0-9]{1,5}){0,8}", wanted):
        choice = script.at(wanted)
        if not choice.notes:
            return choice
    raise _unknown(wanted, [each.path for each in known])


class _GrubFiles:
    """The files that GRUB's configuration names: beside it, or where their file system is mounted."""

    def __init__(self, root: Root, config: str) -> None:
        self._root = root
        self._folder = config.rpartition("/")[0]

    def _path(self, path: str) -> str | None:
        """Find a file as `locate` finds kernels, but by its whole path: another script may have its name."""
        own = "/".join(parts_of(path))
        if own.startswith(f"{self._folder}/"):
            return first_file(self._root, [own])
        mounted = where_mounted(self._root, path)
        return first_file(self._root, [own, *mounted, f"{PARTITIONS[0]}/{own}"])

    def exists(self, path: str) -> bool:
        return self._path(path) is not None

    def text(self, path: str) -> str:
        found = self._path(path)
        content = _config(self._root, found) if found else ""
        if len(content) >= GRUB_CONFIG_MAX:
            raise UsageError(f"/{found}: more than {GRUB_CONFIG_MAX} bytes: no configuration of GRUB")
        return content

    def environment(self, path: str) -> Mapping[str, str]:
        found = self._path(path)
        return _environment_block(self._root, found) if found else {}


def _require_mounted(root: Root, choice: "Choice", file_system: str) -> None:
    """Raise UsageError if an entry's files are on a file system that /etc/fstab does not put on / or /boot.

    An entry for another system may name files by paths that exist here, too.
    """
    sources = [
        words[0].replace('"', "")
        for line in text(root, "etc/fstab").splitlines()
        if len(words := line.split()) > 1 and words[1].strip("/") in ("", *PARTITIONS)
    ]
    mounted = {each.removeprefix("UUID=").casefold() for each in sources if each.startswith("UUID=")}
    if file_system and sources and len(mounted) == len(sources) and file_system.casefold() not in mounted:
        from pykexec.grubmenu import HINT

        what = f"its files are on the file system {file_system[:60]}, which /etc/fstab has not on / or /boot"
        raise UsageError(f"{choice.entry.place}: {what}", hint=HINT)


def _is_there(root: Root, entry: BootEntry) -> bool:
    return locate(root, [""], entry.kernel) is not None


def _preferences(root: Root, name: str) -> Iterator[str]:
    """Yield the IDs or patterns that systemd-boot gets under that name, the most important first."""
    wanted = [efi_variable(root, f"LoaderEntry{name}")]
    for partition in PARTITIONS if name != "OneShot" else ():
        wanted.append(
            _Fields(text(root, f"{partition}/loader/loader.conf"), _Variables(root)).last(name.lower())
        )
    for pattern in filter(None, wanted):
        saved = efi_variable(root, "LoaderEntryLastBooted") if pattern == "@saved" else pattern
        if saved:
            yield saved


def _of_grub(root: Root, known: Sequence[BootEntry]) -> BootEntry | None:
    environment = _grub_environment(root)
    for saved in filter(None, (environment.get("next_entry"), environment.get("saved_entry"))):
        if entry := _first_match([saved], known):
            return entry
        # GRUB may have saved the entry's number in its menu instead.
        if re.fullmatch("[0-9]{1,4}", saved) and int(saved) < len(known):
            return known[int(saved)]
    return None


def _first_match(patterns: Iterable[str], known: Sequence[BootEntry]) -> BootEntry | None:
    for pattern in patterns:
        name, _, profile = pattern.rpartition("@")
        for entry in known:
            if pattern == entry.title or _matches(pattern, entry):
                return entry
            if name and _matches(name, entry):
                return replace(entry, profile=profile)
    return None


def _matches(pattern: str, entry: BootEntry) -> bool:
    names = (entry.id, entry.file_name)
    return any(fnmatch.fnmatchcase(name.lower(), pattern[:256].lower()) for name in names)


def _sorted(found: Iterable[BootEntry]) -> list[BootEntry]:
    """Sort by the rules of "Sorting". Sorts are stable, so the least important key comes first."""
    ordered = sorted(found, key=lambda entry: version_key(entry.id), reverse=True)
    with_key = [entry for entry in ordered if entry.sort_key]
    with_key.sort(key=lambda entry: version_key(entry.version), reverse=True)
    with_key.sort(key=lambda entry: (entry.sort_key, entry.machine_id))
    without = [entry for entry in ordered if not entry.sort_key]
    return sorted([*with_key, *without], key=lambda entry: entry.tries_left == 0)

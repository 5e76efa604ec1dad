"""Boot menus that programs make from shell files: GRUB's /etc/default/grub, Debian's /etc/default/u-boot.

Nothing is run to read these files. What cannot be read without a shell is not changed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pykexec import bootentries
from pykexec.bootpaths import GRUB_CONFIGS
from pykexec.errors import PykexecError
from pykexec.kdump.config import shell
from pykexec.kdump.config.errors import ConfigError, Where
from pykexec.kdump.reservation.crashkernel import PARAMETER
from pykexec.kdump.setup.change import Change, Command, Edit, SetupError, is_file, placed, program, read
from pykexec.kdump.setup.need import Need
from pykexec.machine.root import Root

GRUB_FILE = "/etc/default/grub"
GRUB_NAMES = ("GRUB_CMDLINE_LINUX", "GRUB_CMDLINE_LINUX_DEFAULT")
_GRUB_FOLDER = "/etc/default/grub.d"
U_BOOT_NAMES = ("U_BOOT_PARAMETERS",)
_U_BOOT_FILE = "/etc/default/u-boot"
_U_BOOT_FOLDERS = ("/usr/share/u-boot-menu/conf.d", "/etc/u-boot-menu/conf.d")
_HEAD = "# Written by pykdump setup; pykdump setup --undo takes it away.\n"
_JOINED = "these files together"


@dataclass(frozen=True, slots=True)
class Defaults:
    """The shell files of such a program."""

    loader: str
    names: tuple[str, ...]
    """The variables that make a command line, in their order there."""
    main: str
    """The file for people."""
    others: tuple[str, ...] = ()
    """Files that are read after it."""
    folder: str = ""
    """The folder whose files are read last; "" where the program reads none."""
    suffix: str = ""
    """The end of the names of files in the folder that count."""
    assignment: str = ""
    """What a file in the folder has to say; {parameter} stands for ours."""

    @property
    def own(self) -> str:
        """The file in the folder that is ours."""
        return f"{self.folder}/pykdump{self.suffix}"


def grub(root: Root) -> Defaults:
    """Return GRUB's files; Debian's grub-mkconfig reads a folder of them, others' do not."""
    scripts = (program(root, name) for name in ("grub-mkconfig", "grub2-mkconfig"))
    reads_folder = any("default/grub.d" in (read(root, each) or "") for each in scripts if each)
    # Behind kdump-tools.cfg, which sets one, too: of several plain ones the last counts.
    return Defaults(
        "GRUB",
        GRUB_NAMES,
        GRUB_FILE,
        folder=_GRUB_FOLDER if reads_folder else "",
        suffix=".cfg",
        assignment=f'{GRUB_NAMES[1]}="${GRUB_NAMES[1]} {{parameter}}"',
    )


def of_grub(root: Root, need: Need) -> Change | None:
    """Return the change of GRUB's configuration; None where there is no GRUB. Raises PykexecError."""
    config = next((each for each in GRUB_CONFIGS if is_file(root, each)), None)
    refresh = _grub_refresh(root, f"/{config}") if config else None
    if refresh is None:
        return None
    edits = edits_of(root, grub(root), need)
    is_done = not edits and _is_in_menu(root, need)
    return Change("GRUB", edits, () if is_done else (refresh,))


def _grub_refresh(root: Root, config: str) -> Command | None:
    if program(root, "update-grub"):
        words: tuple[str, ...] = ("update-grub",)
    else:
        scripts = [each for each in ("grub2-mkconfig", "grub-mkconfig") if program(root, each)]
        if not scripts:
            return None
        words = (scripts[0], "-o", config)
    return Command(words, (words,), refreshes=True)


def _is_in_menu(root: Root, need: Need) -> bool:
    """Return whether the entry that GRUB would start reserves enough, as far as its menu can be read."""
    try:
        entry = bootentries.of_grub(root)
    except PykexecError:
        return True
    return entry is None or need.is_met_by(entry.options)


def u_boot_menu(root: Root, script: str) -> Defaults:
    """Return the files of Debian's u-boot-menu, whose program is that script."""
    *others, folder = _U_BOOT_FOLDERS
    reads_folder = folder in (read(root, script) or "")
    return Defaults(
        "u-boot-menu",
        U_BOOT_NAMES,
        _U_BOOT_FILE,
        tuple(path for each in others for path in _files_in(root, each, ".conf")),
        folder if reads_folder else "",
        ".conf",
        # The default is the program's own.
        f'{U_BOOT_NAMES[0]}="${{{U_BOOT_NAMES[0]}:-ro quiet}} {{parameter}}"',
    )


def line_of(root: Root, defaults: Defaults) -> str:
    """Return the command line that the files make. Raises SetupError."""
    try:
        return _line(_texts(root, defaults), defaults.names)
    except ConfigError as error:
        raise SetupError(error.what, hint=error.hint) from error


def edits_of(root: Root, defaults: Defaults, need: Need) -> tuple[Edit, ...]:
    """Return the edits that have the program's next menu reserve enough; none where it does already.

    Raises SetupError for files that cannot be read, or that have the last word whatever is added.
    """
    texts = _texts(root, defaults)
    try:
        if need.is_met_by(_line(texts, defaults.names)):
            return ()
        edit = _in_folder(texts, defaults, need) if defaults.folder else _in_main(texts, defaults, need)
        later = _line(_ordered({**texts, edit.path: edit.after}, defaults), defaults.names)
    except ConfigError as error:
        raise SetupError(error.what, hint=error.hint) from error
    if not need.is_met_by(later):
        last = max((path for path in texts if path != edit.path), key=list(texts).index, default=edit.path)
        raise SetupError(f"{last}: what it says after {edit.path} takes {need.parameter} away again")
    return (edit,)


def _texts(root: Root, defaults: Defaults) -> dict[str, str]:
    """Return the text of each file that is there, in the order in which they are read."""
    paths = [defaults.main, *defaults.others]
    paths += _files_in(root, defaults.folder, defaults.suffix) if defaults.folder else []
    found = {path: read(root, path) for path in paths}
    return {path: text for path, text in found.items() if text is not None}


def _ordered(texts: Mapping[str, str], defaults: Defaults) -> dict[str, str]:
    fixed = (defaults.main, *defaults.others)
    paths = [each for each in fixed if each in texts] + sorted(each for each in texts if each not in fixed)
    return {path: texts[path] for path in paths}


def _files_in(root: Root, folder: str, suffix: str) -> list[str]:
    names = root.names(folder.lstrip("/"))
    return [f"{folder}/{name}" for name in names if name.endswith(suffix) and not name.startswith(".")]


def _line(texts: Mapping[str, str], names: tuple[str, ...]) -> str:
    """Return the command line that the files make. Raises ConfigError with file and line."""
    for path, text in texts.items():
        shell.parse(text, path, frozenset())
    # A file's values may contain those of the files before it.
    joined = "".join(f"{name}=''\n" for name in names)
    starts = []
    for path, text in texts.items():
        starts.append((joined.count("\n"), path))
        joined += text if text.endswith("\n") or not text else f"{text}\n"
    try:
        found = shell.parse(joined, _JOINED, frozenset(names))
    except ConfigError as error:
        raise _placed(error, starts) from error
    return " ".join(each.value for each in map(found.get, names) if each and each.value)


def _placed(error: ConfigError, starts: list[tuple[int, str]]) -> ConfigError:
    """Return an error about the joined texts as one about the file with that line."""
    place = re.match(rf"{_JOINED}:(\d+): ", error.what)
    if place is None:
        return error
    line = int(place[1])
    start, path = max((each for each in starts if each[0] < line), default=(0, _JOINED))
    return Where(path, line - start).error(error.what[place.end() :], error.hint)


def _in_folder(texts: Mapping[str, str], defaults: Defaults, need: Need) -> Edit:
    before = texts.get(defaults.own)
    kind, _, end = defaults.assignment.partition("{parameter}")
    ours = re.compile(rf"(?:#[^\n]*\n)*{re.escape(kind)}\S+{re.escape(end)}\n?")
    if before is not None and not ours.fullmatch(before):
        raise SetupError(f"{defaults.own}: it has that name, and is not pykdump's", hint="move it away")
    return Edit(defaults.own, before, f"{_HEAD}{kind}{need.parameter}{end}\n")


def _in_main(texts: Mapping[str, str], defaults: Defaults, need: Need) -> Edit:
    """Return the edit of the file for people: of the variable that has one already, or of the last one."""
    before = texts.get(defaults.main)
    text = before or ""
    assigned = shell.parse(text, defaults.main, frozenset(defaults.names))
    known = {name: found.value for name in defaults.names if (found := assigned.get(name))}
    having = [name for name, value in known.items() if PARAMETER in value]
    preferred = defaults.names[-1]
    name = having[-1] if having else preferred if preferred in known or not known else [*known][-1]
    if name not in known:
        end = "" if not text or text.endswith("\n") else "\n"
        return Edit(defaults.main, before, f'{text}{end}{name}="{need.parameter}"\n')
    return Edit(defaults.main, before, _assigned(text, defaults.main, name, need))


def _assigned(text: str, path: str, name: str, need: Need) -> str:
    """Return the text with the last assignment of that name changed. Raises SetupError."""
    # Where a shell would do more with a value than take it, changing a part of it may change the rest.
    simple = re.compile(
        rf"[ \t]*(?:export[ \t]+)?{name}=(?:\"(?P<double>[^\"'$`\\]*)\"|'(?P<single>[^'\"]*)'"
        rf"|(?P<bare>[^\s\"'$`\\;&|<>()#]*))(?P<tail>[ \t]*(?:#.*)?)"
    )
    lines = text.split("\n")
    index = max(
        (i for i, line in enumerate(lines) if re.match(rf"[ \t]*(?:export[ \t]+)?{name}\+?=", line)),
        default=None,
    )
    found = None if index is None else simple.fullmatch(lines[index])
    if index is None or found is None:
        place = path if index is None else f"{path}:{index + 1}"
        raise SetupError(f"{place}: {name} has no plain value in quotes on a line of its own")
    kind = next(each for each in ("double", "single", "bare") if found[each] is not None)
    start, end = found.span(kind)
    with placed(f"{path}:{index + 1}"):
        value = need.put_into(found[kind])
    if kind == "bare":
        value = f'"{value}"'
    lines[index] = f"{lines[index][:start]}{value}{lines[index][end:]}"
    return "\n".join(lines)

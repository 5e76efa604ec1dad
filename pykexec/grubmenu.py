"""GRUB's menu as its configuration makes it, and the entry that GRUB would start.

The configuration is a script. Its effects on variables and on the menu are followed as far as files and the
text itself tell. Where it depends on more (the result of a probe, a key that is held), both branches are
followed. What they have in common is known. The rest is refused, with its place, if the choice of a kernel
depends on it.
"""

import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from pykexec import grubscript
from pykexec.errors import UsageError
from pykexec.grubscript import HINT, Command, Function, If, Loop, Menu, Node, Word
from pykexec.values import dataclass, replace

__all__ = ["HINT", "Choice", "Files", "Kernel", "MenuEntry", "Script"]

_SOMETHING = "\0"
"""Stands in a value for what only GRUB knows. No script has this character in it."""
# grub-core/normal/main.c, features[]: every GRUB 2 of the last ten years sets these
_FEATURES = (
    *("200_final", "all_video_module", "chainloader_bpb", "default_font_path", "menuentry_id", "ntldr"),
    *("menuentry_options", "platform_search_hint", "timeout_style"),
)
_OF_GRUB = ("?", "*", "@", "#", "chosen", "cmdpath", "grub_cpu", "grub_platform", "lang", "pager", "root")
_NETWORK = re.compile(r"net_|pxe|[0-9]")
_KERNEL_COMMANDS = ("linux", "linuxefi", "linux16")
_INITRD_COMMANDS = ("initrd", "initrdefi", "initrd16")
_OTHER_LOADERS = re.compile(
    "chainloader|multiboot2?|xen_hypervisor|ntldr|freedos|plan9|truecrypt|configfile|fwsetup|legacy_configfile"
    "|(?:kfreebsd|knetbsd|kopenbsd|xnu_kernel|xnu_kernel64)(?:_.*)?"
)
_LEAVES = ("break", "continue", "eval", "exit", "halt", "normal", "normal_exit", "reboot", "return", "shift")
"""Commands after which nothing is certain."""
_TESTS = ("[", "test", "echo")
_SETTING = ("decrement", "hwmatch", "increment", "read")
"""Commands that give values to the variables among their arguments (hwmatch: to $match)."""
_UNNEEDED = ("vt_handoff",)
"""Variables that a command line can do without: Ubuntu's, which sets what the screen shows during a boot."""
_ENTRY_OPTIONS_WITH_VALUE = ("--class", "--users", "--hotkey", "--source", "--id")
_DEVICE = re.compile(r"\([^()]*\)")
_NUMBER = re.compile("-?[0-9]{1,9}")
_CALLS_MAX = 16
_SUBMENUS_MAX = 8
_ROUNDS_MAX = 8
_TEST_MAX = 64
_VALUE_MAX = 4096
_WORK_MAX = 50_000
"""The most commands to follow and variables to copy."""
_FILE_WORK, _CHARACTERS_A_COMMAND = 100, 16
"""The cost of looking for a file, and of reading it."""


class Files(Protocol):
    """The files that a script names; paths are absolute, without the device."""

    def exists(self, path: str) -> bool:
        """Return whether there is such a file."""
        ...

    def text(self, path: str) -> str:
        """Return the text of a file; "" where there is none."""
        ...

    def environment(self, path: str) -> Mapping[str, str]:
        """Return the variables in an environment block; none where there is no such file."""
        ...


@dataclass(frozen=True, slots=True)
class Kernel:
    """The files and options that an entry loads; paths are as GRUB takes them, without the device."""

    path: str
    options: str
    initrds: tuple[str, ...]
    device_tree: str
    file_system: str
    """The UUID by which GRUB searches for the files; empty where it does not search."""
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MenuEntry:
    """A line of the menu."""

    title: str
    id: str
    place: str
    """Its file and line."""
    body: tuple[Node, ...]
    is_submenu: bool
    condition: str = ""
    """The place of the condition for this entry, where only GRUB knows whether it holds; else empty."""

    @property
    def step(self) -> str:
        """Its part of GRUB's path to it."""
        return self.id.replace(">", ">>")


class _State:
    """The effects of a script so far."""

    def __init__(self) -> None:
        self.variables: dict[str, str] = {}
        self.unknown: dict[str, str] = {}
        """The places that gave a variable a value that only GRUB knows."""
        self.exported: set[str] = set()
        self.functions: dict[str, tuple[str, tuple[Node, ...]]] = {}
        """The functions, each with the file it is from."""
        self.entries: list[MenuEntry] = []
        self.lost = ""
        """The place of a command after which everything may be different; empty for none."""
        self.kernel: tuple[str, str] | None = None
        """Path and options."""
        self.initrds: tuple[str, ...] = ()
        self.device_tree = ""
        self.doubt = ""
        """The place of what decides on these three where only GRUB knows that; empty for none."""
        self.file_system = ""
        self.other = ""
        """A command that loads something else."""
        self.left_out: tuple[str, ...] = ()

    def copy(self) -> "_State":
        new = _State()
        for name, value in vars(self).items():
            setattr(new, name, value.copy() if isinstance(value, dict | set | list) else value)
        return new

    def get(self, name: str) -> str:
        if name in self.variables:
            return self.variables[name]
        return _SOMETHING if name in _OF_GRUB or _NETWORK.match(name) else ""

    def loads(self) -> tuple[object, ...]:
        return self.kernel, self.initrds, self.device_tree

    def set(self, name: str, value: str, place: str) -> None:
        self.variables[name] = value
        if _SOMETHING in value:
            self.unknown[name] = place

    def lose(self, place: str) -> None:
        self.lost = self.lost or place

    def merge(self, others: Sequence["_State"], known: int, place: str) -> None:
        """Keep what is true in all of these states; the condition between them is at `place`.

        The first `known` entries were there before the condition.
        """
        states = [self, *others]
        for name in {name for each in states for name in each.variables}:
            if len({each.get(name) for each in states}) > 1:
                self.set(name, _SOMETHING, place)
        self.exported = set.intersection(*(each.exported for each in states))
        self.lost, self.doubt, self.other = (
            next((value for each in states if (value := str(getattr(each, name)))), "")
            for name in ("lost", "doubt", "other")
        )
        if any(each.functions != self.functions for each in others):
            self.lose(place)
        if any(each.loads() != self.loads() for each in others):
            self.doubt = self.doubt or place
        if any(each.file_system != self.file_system for each in others):
            self.file_system = ""
        self.left_out = tuple(dict.fromkeys(name for each in states for name in each.left_out))
        added = [entry for each in states for entry in each.entries[known:]]
        self.entries = self.entries[:known]
        self.entries += [replace(entry, condition=entry.condition or place) for entry in added]


@dataclass(frozen=True, slots=True)
class Choice:
    """An entry of the menu or of a submenu, and the state in which GRUB starts it."""

    path: str
    """Its path as GRUB knows it: SUBMENU>ENTRY."""
    entry: MenuEntry
    state: _State
    """The state in which it would be started."""
    notes: tuple[str, ...] = ()


class Script:
    """A configuration that has been followed to its end."""

    def __init__(self, path: str, files: Files, *, is_efi: bool) -> None:
        """Follow the configuration. Raises UsageError with file and line for what is not understood."""
        self._file = path
        self._files = files
        self._left = _WORK_MAX
        self._depth = 0
        state = _State()
        folder = path.rpartition("/")[0]
        state.variables = {f"feature_{name}": "y" for name in _FEATURES}
        state.variables |= {"prefix": folder, "config_directory": folder}
        if is_efi:
            state.variables["grub_platform"] = "efi"
        state.exported = {*state.variables}
        self._source(path, state)
        self._state = state

    # choosing an entry

    def all(self) -> Iterator[Choice]:
        """Yield every entry that is no submenu."""
        yield from self._below(self._state, "", 0)

    def _below(self, state: _State, above: str, depth: int) -> Iterator[Choice]:
        for entry in state.entries:
            path = above + entry.step
            if not entry.is_submenu:
                yield Choice(path, entry, state)
            elif depth < _SUBMENUS_MAX:
                yield from self._below(self._opened(state, entry), f"{path}>", depth + 1)

    def at(self, path: str) -> Choice:
        """Return the entry at a path of titles, IDs or numbers, as GRUB writes it. Raises UsageError."""
        return self._chosen(self._state, path, "", 0)

    def default(self) -> Choice:
        """Return the entry that GRUB starts by itself. Raises UsageError."""
        wanted = self._state.get("default")
        if self._state.lost or _SOMETHING in wanted:
            place = self._state.lost or self._state.unknown["default"]
            raise _refused(place, "which entry is the default depends on what only GRUB knows")
        return self.at(wanted or "0")

    def _chosen(self, state: _State, wanted: str, above: str, depth: int) -> Choice:
        if not state.entries:
            raise _refused(self._file, "there is no entry in the menu")
        first, _, rest = wanted.replace(">>", _SOMETHING).partition(">")
        first, rest = first.replace(_SOMETHING, ">"), rest.replace(_SOMETHING, ">>")
        index, notes = self._index(state, first)
        entry = state.entries[index]
        before = next((each.condition for each in state.entries[:index] if each.condition), "")
        # A name finds the entry wherever it stands; a number depends on the entries before it.
        condition = entry.condition or ("" if first in (entry.id, entry.title) else before)
        if state.lost or condition:
            what = "which entry this is depends on a condition that only GRUB knows"
            raise _refused(state.lost or condition, what)
        path = above + entry.step
        if not entry.is_submenu:
            return Choice(path, entry, state, notes)
        if not rest or depth >= _SUBMENUS_MAX:
            what = f"{_shown(entry.title)} is a submenu, out of which GRUB starts nothing by itself"
            raise _refused(entry.place, what)
        found = self._chosen(self._opened(state, entry), rest, f"{path}>", depth + 1)
        return replace(found, notes=(*notes, *found.notes))

    def _index(self, state: _State, wanted: str) -> tuple[int, tuple[str, ...]]:
        """Return an entry's index and notes, found as by get_entry_number() (grub-core/normal/menu.c)."""
        if re.fullmatch("0|[1-9][0-9]{0,4}", wanted):
            index = int(wanted)
        elif re.match("[0-9]", wanted):
            what = f"the default, {_shown(wanted)}, begins with a number, and GRUB may take it for one"
            raise _refused(self._file, what)
        else:
            names = ((number, (each.id, each.title)) for number, each in enumerate(state.entries))
            index = next((number for number, known in names if wanted in known), len(state.entries))
        if index < len(state.entries):
            return index, ()
        return 0, (f"{_shown(wanted)} is not in GRUB's menu, which takes the first entry then",)

    def _opened(self, state: _State, entry: MenuEntry) -> _State:
        """Return the state of a submenu, which keeps only exported variables."""
        inner = state.copy()
        inner.entries = []
        for name, value in state.variables.items():
            if name not in state.exported and value:
                inner.set(name, _SOMETHING, entry.place)
        self._enter(entry, inner)
        return inner

    def _enter(self, entry: MenuEntry, state: _State) -> None:
        file, self._file = self._file, entry.place.rpartition(":")[0]
        self._run(entry.body, state)
        self._file = file

    def kernel(self, choice: Choice) -> Kernel:
        """Return what an entry loads.

        Raises UsageError if that is no Linux kernel, or only GRUB knows it.
        """
        entry, state = choice.entry, choice.state.copy()
        state.kernel, state.initrds, state.device_tree, state.doubt, state.other = None, (), "", "", ""
        self._enter(entry, state)
        title = _shown(entry.title)
        if state.lost or state.doubt:
            what = f"what {title} loads depends on what only GRUB knows"
            raise _refused(state.lost or state.doubt, what)
        if state.kernel is None or state.other:
            command = f": it has {_shown(state.other)}" if state.other else ""
            raise _refused(entry.place, f"{title} loads no Linux kernel{command}")
        path, options = state.kernel
        notes = tuple(f"${name} is left out: only GRUB knows it" for name in state.left_out)
        return Kernel(path, options, state.initrds, state.device_tree, state.file_system, notes)

    # running commands

    def _place(self, line: int) -> str:
        return f"{self._file}:{line}"

    def _spend(self, work: int) -> None:
        self._left -= work
        if self._left < 0:
            raise _refused(self._file, "a script that does as much as this is not followed")

    def _source(self, path: str, state: _State) -> None:
        """Follow a file, if it exists."""
        text = self._files.text(path)
        self._spend(len(text) // _CHARACTERS_A_COMMAND + _FILE_WORK)
        if _SOMETHING in text:
            raise _refused(path, "a NUL character: this is no script")
        file, self._file = self._file, path
        self._run(grubscript.parse(text, path), state)
        self._file = file

    def _run(self, nodes: Sequence[Node], state: _State) -> None:
        for node in nodes:
            self._spend(1)
            if isinstance(node, Command):
                self._command(node, state)
            elif isinstance(node, If):
                self._if(node, state)
            elif isinstance(node, Loop):
                self._loop(node, state)
            elif isinstance(node, Function):
                state.functions[node.name] = self._file, node.body
            else:
                self._menu(node, state)

    def _copy(self, state: _State) -> _State:
        self._spend(len(state.variables) + len(state.entries))
        return state.copy()

    def _if(self, node: If, state: _State) -> None:
        ways: list[_State] = []
        known = len(state.entries)
        for condition, body in node.branches:
            self._run(condition[:-1], state)
            holds = self._holds(condition[-1], state) if condition else None
            if holds is None:
                ways.append(self._copy(state))
                self._run(body, ways[-1])
            elif holds:
                self._run(body, state)
                break
        else:
            self._run(node.otherwise, state)
        if ways:
            state.merge(ways, known, self._place(node.line))

    def _loop(self, node: Loop, state: _State) -> None:
        """Follow a loop until another round changes nothing that is known. Rounds are not counted."""
        place, known = self._place(node.line), len(state.entries)
        if node.words:
            state.set(node.words[0].keyword, _SOMETHING, place)
        for _ in range(_ROUNDS_MAX):
            once, before = self._copy(state), dict(state.variables)
            self._run(node.body, once)
            state.merge([once], known, place)
            if len(state.entries) > known:
                break
            if state.variables == before:
                return
        state.lose(place)

    def _menu(self, node: Menu, state: _State) -> None:
        id, skips, plain = "", False, []
        words = self._all_expanded(node.words, state)
        for word, following in zip(words, [*words[1:], ""], strict=True):
            if skips:
                skips = False
            elif word.startswith("--id="):
                id = word.removeprefix("--id=")
            elif word in _ENTRY_OPTIONS_WITH_VALUE:
                skips = True
                id = following if word == "--id" else id
            elif not word.startswith("--"):
                plain.append(word)
        title = plain[0] if plain else ""
        state.entries.append(
            MenuEntry(title, id or title, self._place(node.line), node.body, node.is_submenu)
        )

    def _command(self, node: Command, state: _State) -> None:
        words = self._all_expanded(node.words, state)
        if not words:
            return
        name, *arguments = words
        place = self._place(node.line)
        if _SOMETHING in name or name in _LEAVES:
            state.lose(place)
        elif name in state.functions:
            self._call(name, arguments, state, place)
        elif name in _KERNEL_COMMANDS:
            self._linux(node, state, place)
        elif name in _INITRD_COMMANDS:
            state.initrds = tuple(self._path(each, state, place) for each in arguments)
        elif name == "devicetree":
            state.device_tree = self._path(arguments[0], state, place) if arguments else ""
        elif _OTHER_LOADERS.fullmatch(name):
            state.other = name
        elif name in _BUILT_IN:
            _BUILT_IN[name](self, arguments, state, place)
        elif "=" in name[1:]:
            self._set(words, state, place)
        else:
            _take_note_of_variables(words, state, place)

    def _call(self, name: str, arguments: Sequence[str], state: _State, place: str) -> None:
        if self._depth >= _CALLS_MAX:
            state.lose(place)
            return
        outer = {key: value for key, value in state.variables.items() if key.isdigit()}
        given = {str(number): value for number, value in enumerate(arguments, 1)}
        state.variables |= {str(number): "" for number in range(1, 10)} | given
        file, (self._file, body) = self._file, state.functions[name]
        self._depth += 1
        self._run(body, state)
        self._depth -= 1
        self._file = file
        for key in [key for key in state.variables if key.isdigit()]:
            del state.variables[key]
        state.variables |= outer

    def _linux(self, node: Command, state: _State, place: str) -> None:
        words = self._all_expanded(node.words, state, may_leave_out=True)
        options = " ".join(map(_quoted, words[2:]))
        path = self._path(words[1], state, place) if len(words) > 1 else ""
        if not path or _SOMETHING in options:
            state.doubt = state.doubt or place
        state.kernel = path, options

    def _path(self, name: str, state: _State, place: str) -> str:
        path = _DEVICE.sub("", name)
        if _SOMETHING in path or not path.startswith("/"):
            state.doubt = state.doubt or place
        return path

    def _set(self, arguments: Sequence[str], state: _State, place: str) -> None:
        for argument in arguments:
            name, equals, value = argument.partition("=")
            if equals:
                state.set(name, value if len(value) <= _VALUE_MAX else _SOMETHING, place)
            if name == "root":
                state.file_system = ""

    def _unset(self, arguments: Sequence[str], state: _State, place: str) -> None:
        state.variables |= dict.fromkeys(arguments, "")

    def _export(self, arguments: Sequence[str], state: _State, place: str) -> None:
        state.exported.update(arguments)

    def _load_env(self, arguments: Sequence[str], state: _State, place: str) -> None:
        path, names, rest = f"{state.get('prefix')}/grubenv", [], list(arguments)
        while rest:
            word = rest.pop(0)
            if word in ("-f", "--file") and rest:
                path = rest.pop(0)
            elif word.startswith("--file="):
                path = word.removeprefix("--file=")
            elif not word.startswith("-"):
                names.append(word)
        if _SOMETHING in "".join([_DEVICE.sub("", path), *names]):
            state.lose(place)
            return
        values = self._files.environment(_DEVICE.sub("", path))
        self._spend(_FILE_WORK + len(values))
        state.variables |= {name: value for name, value in values.items() if not names or name in names}

    def _source_named(self, arguments: Sequence[str], state: _State, place: str) -> None:
        path = _DEVICE.sub("", arguments[0]) if arguments else ""
        if _SOMETHING in path or self._depth >= _CALLS_MAX:
            state.lose(place)
            return
        self._depth += 1
        self._source(path, state)
        self._depth -= 1

    def _search(self, arguments: Sequence[str], state: _State, place: str) -> None:
        _take_note_of_variables(["search", *arguments], state, place)
        state.variables["root"] = _SOMETHING
        plain = [each for each in arguments if not each.startswith("-")]
        by_uuid = {"--fs-uuid", "-u"} & {*arguments}
        state.file_system = plain[-1] if by_uuid and plain and _SOMETHING not in plain[-1] else ""

    # expanding words and evaluating conditions

    def _all_expanded(
        self, words: Sequence[Word], state: _State, *, may_leave_out: bool = False
    ) -> list[str]:
        return [each for word in words for each in self._expanded(word, state, may_leave_out)]

    def _expanded(self, word: Word, state: _State, may_leave_out: bool) -> list[str]:
        """Return the words that one word becomes: unquoted variables are split at blanks."""
        found: list[str] = []
        current: str | None = None
        for part in word.parts:
            text = state.get(part.text) if part.is_variable else part.text
            if may_leave_out and part.is_variable and part.text in _UNNEEDED and _SOMETHING in text:
                state.left_out = tuple(dict.fromkeys([*state.left_out, part.text]))
                text = ""
            self._spend(len(text) // 64)
            if part.is_quoted or not part.is_variable:
                current = (current or "") + text
                continue
            first, *more = re.split("[ \t\n]+", text)
            if first:
                current = (current or "") + first
            for piece in more:
                found += [] if current is None else [current]
                current = piece or None
        return found if current is None else [*found, current]

    def _holds(self, node: Node, state: _State) -> bool | None:
        """Return whether a condition holds; None where only GRUB knows.

        It is run, as it may have effects.
        """
        self._run([node], state)
        if not isinstance(node, Command):
            return None
        words = self._all_expanded(node.words, state)
        if words in (["true"], ["false"]):
            return words == ["true"]
        if words[:1] == ["["] and words[-1] == "]":
            return self._test(words[1:-1])
        return self._test(words[1:]) if words[:1] == ["test"] else None

    def _test(self, words: list[str]) -> bool | None:
        """Evaluate test(1) as far as configurations use it: without parentheses."""
        if len(words) > _TEST_MAX:
            return None
        for joint, decisive in (("-o", True), ("-a", False)):
            if joint in words[1:-1]:
                index = words.index(joint, 1)
                parts = (self._test(words[:index]), self._test(words[index + 1 :]))
                return decisive if decisive in parts else None if None in parts else not decisive
        if words[:1] == ["!"]:
            inner = self._test(words[1:])
            return None if inner is None else not inner
        if any(_SOMETHING in each for each in words):
            return None
        if len(words) < 2:
            return bool(words and words[0])
        if len(words) == 2:
            return self._unary(*words)
        return _compared(*words) if len(words) == 3 else None

    def _unary(self, by: str, value: str) -> bool | None:
        if by in ("-n", "-z"):
            return bool(value) is (by == "-n")
        if by not in ("-e", "-f", "-s"):
            return None
        self._spend(_FILE_WORK)
        path = _DEVICE.sub("", value)
        return bool(self._files.text(path)) if by == "-s" else self._files.exists(path)


def _compared(one: str, by: str, other: str) -> bool | None:
    if by in ("=", "==", "!="):
        return (one == other) is (by != "!=")
    if by in _COMPARISONS and _NUMBER.fullmatch(one) and _NUMBER.fullmatch(other):
        return _COMPARISONS[by](int(one), int(other))
    return None


def _take_note_of_variables(words: Sequence[str], state: _State, place: str) -> None:
    """Mark the variables that a command sets to what it finds: only GRUB knows their values."""
    if words[0] in _TESTS:
        return
    for word, following in zip(words, [*words[1:], ""], strict=True):
        name = following if word in ("--set", "-s") else word.removeprefix("--set=")
        if word in ("--set", "-s") or word.startswith("--set="):
            state.set(name.rpartition(":")[2], _SOMETHING, place)
    if words[0] in _SETTING or words[0].startswith("search."):
        for name in ("match", *words[1:]):
            state.set(name, _SOMETHING, place)


def _quoted(word: str) -> str:
    """Quote an argument as GRUB does for the kernel's command line (grub-core/lib/cmdline.c)."""
    escaped = re.sub(r"([\\'\"])", r"\\\1", word)
    return f'"{escaped}"' if " " in word else escaped


def _shown(text: str) -> str:
    return repr(text.replace(_SOMETHING, "?")[:60])


def _refused(place: str, what: str) -> UsageError:
    return UsageError(f"{place}: {what}", hint=HINT)


_BUILT_IN: Mapping[str, Callable[[Script, Sequence[str], _State, str], None]] = {
    "set": Script._set,
    "unset": Script._unset,
    "export": Script._export,
    "load_env": Script._load_env,
    "source": Script._source_named,
    ".": Script._source_named,
    "search": Script._search,
}
_COMPARISONS: Mapping[str, Callable[[int, int], bool]] = {
    "-eq": operator.eq,
    "-ne": operator.ne,
    "-lt": operator.lt,
    "-le": operator.le,
    "-gt": operator.gt,
    "-ge": operator.ge,
}

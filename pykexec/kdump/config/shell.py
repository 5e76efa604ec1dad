"""Read files of shell assignments (/etc/sysconfig/kdump, /etc/default/kdump-tools) without running a shell.

This does what a shell would do with NAME=VALUE: quotes, backslashes, comments, ``export``, ``unset``,
continued lines, defaults (``${NAME:-VALUE}``), and $NAME of earlier assignments. It runs nothing and reads
no other file. A value that needs more is an error where it counts, and ignored where nothing reads it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pykexec.kdump.config.errors import ConfigError, Where, nearest, shown
from pykexec.kdump.config.names import KDUMP_CONF, OURS, Format, whose
from pykexec.memory import KIB

TEXT_MAX = 256 * KIB
"""The most characters of a file; the longest that a distribution ships has 16 KiB."""
_VALUE_MAX = 64 * KIB
"""The most characters of a value; command lines are shorter. It stops assignments that double each other."""
_VALUES_MAX = 16 * _VALUE_MAX
"""The most characters of all of a file's values together."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(\+?)=")
_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))")
_PLAIN = re.compile(r"[^ \t\n'\"\\$`;&|<>()]+")
_PLAIN_IN_QUOTES = re.compile(r"[^\"\\$`]+")
_SPACES = re.compile(r"(?:[ \t]|\\\n)+")
_COMMENT = re.compile(r"#[^\n]*")
_DEFAULT = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(:?)([-=+])([^\"'\\$`{}~\n]*)\}")
_DECLARING = re.compile(r"(?:export|readonly)(?=[ \t])")
# A comment begins after a blank.
_END = r"(?=[ \t]*(?:[;\n]|\Z)|[ \t]+#)"
_UNSET = re.compile(rf"unset((?:[ \t]+[A-Za-z_][A-Za-z0-9_]*)+){_END}")
# Commands that change no value. A colon matters for its words: : ${NAME:=VALUE}
_HARMLESS = re.compile(rf"(?:true|umask[ \t]+[0-7]{{1,4}}|set[ \t]+[-+][aefux]+){_END}")
_COLON = re.compile(rf":(?=[ \t])|:{_END}")
_LINE = re.compile(r"[^\n]*")
_SOURCED = re.compile(r"(?:^|[;&|{ \t])(?:\.|source)[ \t]+(\S+)", re.M)
_CONDITION = re.compile(r"(?:if|test|\[)[ \t]")
_CONDITION_MAX = 400
_SKIPPED = re.compile(r"[^'\"\\`$(){}; \t\n&|<>]+")

_OF_EVERY_SHELL = frozenset(
    {
        *("HOME", "IFS", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "LC_MESSAGES", "LOGNAME", "PATH", "PS1"),
        *("PS2", "PS4", "PWD", "SHELL", "TERM", "TMPDIR", "TZ", "USER"),
    }
)
"""Variables that have values before a file sets them. They are no settings."""
_UNKNOWN_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Assignment:
    """The last value that a name was given, and its place."""

    name: str
    value: str
    where: Where


@dataclass(frozen=True)
class Assignments:
    """All assignments of a file."""

    by_name: Mapping[str, Assignment]
    used: frozenset[str]
    """Names that another assignment's value contains."""

    unread: Mapping[str, Where]
    """Names that nothing reads and only a shell could give a value."""

    def get(self, name: str) -> Assignment | None:
        return self.by_name.get(name)

    def unknown(self, own: Format) -> Iterator[str]:
        """Yield warnings of names that the tool does not know, unless another assignment uses them."""
        places = {**{name: each.where for name, each in self.by_name.items()}, **self.unread}
        names = [name for name in places if name not in own.names | OURS | self.used | _OF_EVERY_SHELL]
        for name in names[:_UNKNOWN_SHOWN]:
            other = whose([name], own)
            hint = nearest(name, own.names | OURS) or (f"it is a setting of {other.tool}" if other else None)
            told = f"; {hint}" if hint else ""
            yield f"{places[name]}: unknown setting {shown(name)}, which {own.tool} ignores{told}"
        if names[_UNKNOWN_SHOWN:]:
            yield f"/{own.file}: {len(names) - _UNKNOWN_SHOWN} more unknown settings"


class _OnlyAShellKnows(Exception):
    """An error for a value that depends on more than the file says."""

    def __init__(self, error: ConfigError) -> None:
        super().__init__(error.what)
        self.error = error


def parse(text: str, file: str, read: frozenset[str] | None = None) -> Assignments:
    """Return the assignments in the text of `file`; only values of the names in `read` count, default all.

    Raises ConfigError with the line for anything but assignments, comments and harmless commands.
    """
    if len(text) > TEXT_MAX:
        raise ConfigError(f"{file}: more than {TEXT_MAX} characters: no configuration")
    for unfit, what, hint in _UNFIT:
        if unfit in text:
            raise Where(file, text.count("\n", 0, text.index(unfit)) + 1).error(what, hint)
    reader = _Reader(text, file, read)
    reader.run()
    return Assignments(
        MappingProxyType(reader.values),
        frozenset(reader.used),
        MappingProxyType({name: where for name, (where, _) in reader.unread.items()}),
    )


_UNFIT = (
    ("\0", "a NUL character", None),
    (
        "\r\n",
        "a line that ends as in DOS: the carriage return would belong to the value",
        "remove it: sed -i 's/\\r$//'",
    ),
)


def _may_assign(word: str) -> bool:
    """Return whether a shell may assign a variable in this word: ${NAME:=VALUE}, $((NAME += 1))."""
    expands = "${" in word or "$((" in word
    return expands and any(each in word for each in ("=", "++", "--"))


class _Reader:
    """A reader that goes over a text once."""

    def __init__(self, text: str, file: str, read: frozenset[str] | None) -> None:
        self._text = text
        self._file = file
        self._read = read
        self._at = 0
        self._line = 1
        self._line_at = 0
        self._left = _VALUES_MAX
        self._read_only: set[str] = set()
        self.values: dict[str, Assignment] = {}
        self.unread: dict[str, tuple[Where, ConfigError]] = {}
        self.used: set[str] = set()

    def run(self) -> None:
        while True:
            self._skip_between_commands()
            if self._at >= len(self._text):
                return
            self._command()

    def _where(self, at: int | None = None) -> Where:
        # Places are asked for in ascending order, so counting lines takes linear time.
        at = self._at if at is None else at
        if at < self._line_at:
            return Where(self._file, self._text.count("\n", 0, at) + 1)
        self._line += self._text.count("\n", self._line_at, at)
        self._line_at = at
        return Where(self._file, self._line)

    def _match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.match(self._text, self._at)
        if found:
            self._at = found.end()
        return found

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _skip_between_commands(self) -> None:
        while True:
            skipped = self._match(_SPACES) or self._match(_COMMENT)
            if self._peek() == "\n":
                self._at += 1
            elif not skipped:
                return

    def _command(self) -> None:
        """Read one command: only assignments, a declaration of some, or a harmless command."""
        if unset := self._match(_UNSET):
            for name in unset[1].split():
                self._require_writable(name, self._where())
                self.values.pop(name, None)
                self.unread.pop(name, None)
        if unset or self._match(_HARMLESS):
            self._goes_on(1)
            return
        if self._match(_COLON):
            self._words_of_colon()
            return
        declaration = self._match(_DECLARING)
        later: list[Assignment] = []
        count = 0
        while self._goes_on(count):
            assignment = self._assignment(declares=declaration is not None)
            count += 1
            if assignment is not None:
                later.append(assignment)
            if declaration is None:
                self._assign(later)
        # A shell expands all words of a command before it assigns any.
        declared = [each.name for each in later]
        self._assign(later)
        if declaration and declaration[0] == "readonly":
            self._read_only.update(declared)

    def _goes_on(self, count: int) -> bool:
        """Return whether the command has another word; skip what ends it."""
        self._match(_SPACES)
        if self._peek() == ";":
            if not count:
                raise self._where().error("';' without an assignment before it")
            self._at += 1
            return False
        return self._peek() not in ("", "\n", "#")

    def _assign(self, assignments: list[Assignment]) -> None:
        for each in assignments:
            self._require_writable(each.name, each.where)
            self._left -= len(each.value)
            if self._left < 0:
                raise each.where.error(f"values of more than {_VALUES_MAX} characters in all")
            self.values[each.name] = each
            self.unread.pop(each.name, None)
        assignments.clear()

    def _require_writable(self, name: str, where: Where) -> None:
        if name in self._read_only:
            raise where.error(f"{shown(name)} was made readonly above")

    def _words_of_colon(self) -> None:
        """Read the words of the command that does nothing; they may give variables their defaults."""
        count = 1
        while self._goes_on(count):
            where = self._where()
            try:
                self._value(where)
            except _OnlyAShellKnows as unknown:
                raise unknown.error from None

    def _assignment(self, *, declares: bool) -> Assignment | None:
        where = self._where()
        found = self._match(_ASSIGNMENT)
        if found is None:
            if declares and self._match(_NAME):
                return None  # the export of a variable changes nothing here
            raise self._no_assignment(where)
        name, more = found.groups()
        start = self._at
        try:
            value = self._value(where)
            if more:
                value = self._known(name, where, "") + value
        except _OnlyAShellKnows as unknown:
            if self._read is None or name in self._read:
                raise unknown.error from None
            self._at = start
            self._skip_word(where)
            if _may_assign(self._text[start : self._at]):
                raise unknown.error from None
            self.values.pop(name, None)
            self.unread[name] = where, unknown.error
            return None
        if len(value) > _VALUE_MAX:
            raise where.error(f"{shown(name)} has more than {_VALUE_MAX} characters")
        return Assignment(name, value, where)

    def _known(self, name: str, where: Where, unset: str | None) -> str:
        """Return the value of a variable; `unset` where it has none."""
        if name in self.unread:
            self.used.add(name)
            raise _OnlyAShellKnows(self.unread[name][1])
        before = self.values.get(name)
        if before is not None:
            self.used.add(name)
            return before.value
        if unset is None or name in _OF_EVERY_SHELL:
            raise _OnlyAShellKnows(
                where.error(f"${name[:60]} is not assigned above", "write the value itself")
            )
        return unset

    def _skip_word(self, where: Where) -> None:
        """Skip a word, with whatever a shell would do in it."""
        closing: list[str] = []
        while self._at < len(self._text):
            if self._match(_SKIPPED):
                continue
            character, following = self._peek(), self._text[self._at + 1 : self._at + 2]
            inner = closing[-1] if closing else ""
            if not inner and character in "; \t\n":
                return
            if character == "\\":
                self._at += 1
            elif character == inner:
                closing.pop()
            elif character == "'" and inner != '"':
                self._single_quoted()
                continue
            elif character in '"`':
                closing.append(character)
            elif character == "$" and following in ("(", "{"):
                closing.append(")" if following == "(" else "}")
                self._at += 1
            elif character == "(" and inner != '"':
                closing.append(")")
            elif not inner and character in "&|<>)":
                raise self._not_quoted(where, character)
            self._at += 1
        if closing:
            raise where.error(f"a value whose {closing[-1]} is missing")

    def _no_assignment(self, where: Where) -> ConfigError:
        line = _LINE.match(self._text, self._at)
        rest = line.group() if line else ""
        if _CONDITION.match(rest):
            sourced = _SOURCED.search(self._text[self._at : self._at + _CONDITION_MAX].partition("\nfi")[0])
        else:
            sourced = _SOURCED.match(rest)
        if sourced:
            return where.error(
                f"not an assignment: another file is read, {shown(sourced[1].rstrip(';'))}",
                f"pykdump does not follow it: put its settings into {self._file}",
            )
        if re.match(r"[A-Za-z_]\w*[ \t]+=", rest):
            return where.error("a blank before '='", "write NAME=VALUE without blanks")
        before = self._text[self._text.rfind("\n", 0, self._at) + 1 : self._at]
        if "=" in before and before.rstrip() != before:
            return where.error(
                f"{shown(rest)} stands behind a value", "put the whole value in quotes: NAME='A B'"
            )
        if rest.split(maxsplit=1)[:1] and rest.split(maxsplit=1)[0] in KDUMP_CONF.names:
            return where.error(
                f"not an assignment: {shown(rest)}", f"lines of KEY VALUE belong into /{KDUMP_CONF.file}"
            )
        return where.error(
            f"not an assignment: {shown(rest)}",
            "only NAME=VALUE and comments can stand here; no command is run",
        )

    def _value(self, where: Where) -> str:
        if self._peek() == "~":
            raise _OnlyAShellKnows(
                where.error("'~' at the start of a value", "write the path of the folder")
            )
        parts: list[str] = []
        size = 0
        while piece := self._piece(where):
            parts.append(piece[0])
            size += len(piece[0])
            if size > _VALUE_MAX:
                raise where.error(f"a value of more than {_VALUE_MAX} characters")
        return "".join(parts)

    def _piece(self, where: Where) -> tuple[str] | None:
        """Return the next part of an unquoted word; None where the word ends."""
        if plain := self._match(_PLAIN):
            if ":~" in plain.group():
                raise _OnlyAShellKnows(where.error("'~' behind a colon", "write the path of the folder"))
            return (plain.group(),)
        character = self._peek()
        if character == "'":
            return (self._single_quoted(),)
        if character == '"':
            return (self._double_quoted(),)
        if character == "\\":
            return (self._escaped(),)
        if character == "$":
            return (self._variable(quoted=False),)
        if character == "`":
            raise self._substitution()
        if character == "(":
            raise _OnlyAShellKnows(self._not_quoted(where, character))
        if character and character in "&|<>)":
            raise self._not_quoted(where, character)
        return None

    def _not_quoted(self, where: Where, character: str) -> ConfigError:
        return where.error(
            f"{character!r} outside quotes", "only assignments can stand here; no command is run"
        )

    def _escaped(self) -> str:
        character = self._text[self._at + 1 : self._at + 2]
        self._at += 2
        return "" if character == "\n" else character or "\\"

    def _single_quoted(self) -> str:
        end = self._text.find("'", self._at + 1)
        if end < 0:
            raise self._where().error("a ' that does not end")
        content = self._text[self._at + 1 : end]
        self._at = end + 1
        return content

    def _double_quoted(self) -> str:
        start = self._at
        self._at += 1
        parts: list[str] = []
        size = 0
        while self._peek() != '"':
            if plain := self._match(_PLAIN_IN_QUOTES):
                parts.append(plain.group())
            elif self._peek() == "\\":
                parts.append(self._escaped_in_quotes())
            elif self._peek() == "$":
                parts.append(self._variable(quoted=True))
            elif self._peek() == "`":
                raise self._substitution()
            else:
                raise self._where(start).error('a " that does not end')
            size += len(parts[-1])
            if size > _VALUE_MAX:
                raise self._where(start).error(f"a value of more than {_VALUE_MAX} characters")
        self._at += 1
        return "".join(parts)

    def _escaped_in_quotes(self) -> str:
        character = self._text[self._at + 1 : self._at + 2]
        if character == "\n":
            self._at += 2
            return ""
        if character and character in '$`"\\':
            self._at += 2
            return character
        self._at += 1  # before other characters the backslash is literal
        return "\\"

    def _variable(self, *, quoted: bool) -> str:
        where = self._where()
        if default := self._match(_DEFAULT):
            return self._with_default(where, *default.groups())
        found = self._match(_VARIABLE)
        if found is not None:
            return self._known(found[1] or found[2], where, None)
        following = self._text[self._at + 1 : self._at + 2]
        if following == "(":
            raise self._substitution()
        special = "{?!$#@*-0123456789" if quoted else "{?!$#@*-0123456789'\""
        if following and following in special:
            raise _OnlyAShellKnows(
                where.error(
                    f"{shown(self._text[self._at : self._at + 12])} is not $NAME or ${{NAME}}",
                    "write the value itself",
                )
            )
        self._at += 1
        return "$"

    def _with_default(self, where: Where, name: str, colon: str, operator: str, word: str) -> str:
        """Return the value of ${NAME:-WORD} or its like. With a colon an empty value counts as unset."""
        is_set = name in self.values
        value = self._known(name, where, "")
        has_value = bool(value) if colon else is_set
        if operator == "+":
            return word if has_value else ""
        if has_value:
            return value
        if operator == "=":
            self._assign([Assignment(name, word, where)])
        return word

    def _substitution(self) -> _OnlyAShellKnows:
        return _OnlyAShellKnows(
            self._where().error(
                "a command substitution",
                "no command is run to read a configuration; write the value itself",
            )
        )

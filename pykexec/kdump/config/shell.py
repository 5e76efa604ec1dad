"""Files of shell assignments (/etc/sysconfig/kdump, /etc/default/kdump-tools), read without running a shell.

What a shell would do with NAME=VALUE is done here: quotes, backslashes, comments, ``export``, lines that go
on, and $NAME of what was assigned above. All else that a shell might do there (commands, substitutions,
conditions) is an error: a value must not depend on what some command prints today.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pykexec.kdump.config.errors import ConfigError, Where, nearest, shown
from pykexec.memory import KIB, MIB

_TEXT_MAX = 256 * KIB
"""Distributions' files have 10 KiB."""
_VALUE_MAX = 64 * KIB
"""No command line is nearly as long; where assignments that double each other stop growing."""
_VALUES_MAX = 1 * MIB
"""All together: many that hold one long value are long, too."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(\+?)=")
_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))")
_PLAIN = re.compile(r"[^ \t\n'\"\\$`;&|<>()]+")
_PLAIN_IN_QUOTES = re.compile(r"[^\"\\$`]+")
_SPACES = re.compile(r"(?:[ \t]|\\\n)+")
_COMMENT = re.compile(r"#[^\n]*")
_EXPORT = re.compile(r"export(?=[ \t])")
_LINE = re.compile(r"[^\n]*")


@dataclass(frozen=True, slots=True)
class Assignment:
    """The last value a name was given, and where."""

    name: str
    value: str
    where: Where


@dataclass(frozen=True)
class Assignments:
    """All assignments of a file."""

    by_name: Mapping[str, Assignment]
    used: frozenset[str]
    """Names that another assignment's value was made of."""

    def get(self, name: str) -> Assignment | None:
        return self.by_name.get(name)

    def require_known(self, known: frozenset[str]) -> None:
        """Raise ConfigError for a name nothing reads, unless another assignment was made of it."""
        for name, each in self.by_name.items():
            if name not in known and name not in self.used:
                raise each.where.error(f"unknown setting {shown(name)}", nearest(name, known))


def parse(text: str, file: str) -> Assignments:
    """Read the text of `file`. Raises ConfigError with the line for all but assignments and comments."""
    if len(text) > _TEXT_MAX:
        raise ConfigError(f"{file}: more than {_TEXT_MAX} characters: no configuration")
    if "\0" in text:
        raise Where(file, text.count("\n", 0, text.index("\0")) + 1).error("a NUL character")
    if "\r\n" in text:
        raise Where(file, text.count("\n", 0, text.index("\r\n")) + 1).error(
            "a line that ends as in DOS: the carriage return would belong to the value",
            "remove it: sed -i 's/\\r$//'",
        )
    values: dict[str, Assignment] = {}
    reader = _Reader(text, file, values)
    size = 0
    for assignment in reader.assignments():
        values[assignment.name] = assignment
        size += len(assignment.value)
        if size > _VALUES_MAX:
            raise assignment.where.error(f"values of more than {_VALUES_MAX} characters together")
    return Assignments(MappingProxyType(values), frozenset(reader.used))


class _Reader:
    """Walks once over a text; `values` is what the caller has collected so far."""

    def __init__(self, text: str, file: str, values: Mapping[str, Assignment]) -> None:
        self._text = text
        self._file = file
        self._values = values
        self._at = 0
        self._line = 1
        self._line_at = 0
        self.used: set[str] = set()

    def assignments(self) -> Iterator[Assignment]:
        while True:
            self._skip_between_commands()
            if self._at >= len(self._text):
                return
            yield from self._command()

    def _where(self, at: int | None = None) -> Where:
        # Asked for in ascending order, so that counting lines takes linear time.
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

    def _command(self) -> Iterator[Assignment]:
        """One command: words that are all assignments, or an export of such."""
        exported = self._match(_EXPORT) is not None
        later: list[Assignment] = []
        count = 0
        while True:
            self._match(_SPACES)
            if self._peek() in ("", "\n", "#"):
                break
            if self._peek() == ";":
                if not count:
                    raise self._where().error("';' without an assignment before it")
                self._at += 1
                break
            assignment = self._assignment(exported=exported)
            count += 1
            if assignment is None:
                continue
            if exported:
                later.append(assignment)  # a command's words are all expanded before it assigns any
            else:
                yield assignment
        yield from later

    def _assignment(self, *, exported: bool) -> Assignment | None:
        where = self._where()
        found = self._match(_ASSIGNMENT)
        if found is None:
            if exported and self._match(_NAME):
                return None  # the export of a variable changes nothing here
            raise self._no_assignment(where)
        name, more = found.groups()
        value = self._value(where)
        if more:
            before = self._values.get(name)
            value = (before.value if before else "") + value
        if len(value) > _VALUE_MAX:
            raise where.error(f"{name} has more than {_VALUE_MAX} characters")
        return Assignment(name, value, where)

    def _no_assignment(self, where: Where) -> ConfigError:
        line = _LINE.match(self._text, self._at)
        rest = line.group() if line else ""
        if re.match(r"[A-Za-z_]\w*[ \t]+=", rest):
            return where.error("a blank before '='", "write NAME=VALUE without blanks")
        before = self._text[self._text.rfind("\n", 0, self._at) + 1 : self._at]
        if "=" in before and before.rstrip() != before:
            return where.error(
                f"{shown(rest)} stands behind a value", "put the whole value in quotes: NAME='A B'"
            )
        return where.error(
            f"not an assignment: {shown(rest)}",
            "only NAME=VALUE and comments can stand here; no command is run",
        )

    def _value(self, where: Where) -> str:
        if self._peek() == "~":
            raise where.error("'~' at the start of a value", "write the path of the folder")
        parts: list[str] = []
        size = 0
        while piece := self._piece(where):
            parts.append(piece[0])
            size += len(piece[0])
            if size > _VALUE_MAX:
                raise where.error(f"a value of more than {_VALUE_MAX} characters")
        return "".join(parts)

    def _piece(self, where: Where) -> tuple[str] | None:
        """The next part of an unquoted word; None where the word ends."""
        if plain := self._match(_PLAIN):
            if ":~" in plain.group():
                raise where.error("'~' behind a colon", "write the path of the folder")
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
        if character and character in "&|<>()":
            raise where.error(
                f"{character!r} outside quotes", "only assignments can stand here; no command is run"
            )
        return None

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
        self._at += 1  # before any other character the backslash stands for itself
        return "\\"

    def _variable(self, *, quoted: bool) -> str:
        where = self._where()
        found = self._match(_VARIABLE)
        if found is None:
            following = self._text[self._at + 1 : self._at + 2]
            if following == "(":
                raise self._substitution()
            special = "{?!$#@*-0123456789" if quoted else "{?!$#@*-0123456789'\""
            if following and following in special:
                raise where.error(
                    f"{shown(self._text[self._at : self._at + 12])} is not $NAME or ${{NAME}}",
                    "write the value itself",
                )
            self._at += 1
            return "$"
        name = found.group(1) or found.group(2)
        before = self._values.get(name)
        if before is None:
            raise where.error(f"${name} is not assigned above", "write the value itself")
        self.used.add(name)
        return before.value

    def _substitution(self) -> ConfigError:
        return self._where().error(
            "a command substitution", "no command is run to read a configuration; write the value itself"
        )

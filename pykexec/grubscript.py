"""Parse the language of GRUB's configuration into a tree; nothing is run.

GRUB manual, "Writing full configuration files directly"; words are split as in grub-core/script/yylex.l.
"""

import re

from pykexec.errors import UsageError
from pykexec.values import dataclass

__all__ = ["HINT", "Command", "Function", "If", "Loop", "Menu", "Node", "Part", "Word", "parse"]

HINT = "give the kernel by name, or take the running one's: --reuse-kernel"
"""What to do where GRUB's configuration is not understood."""
_PLAIN = re.compile(r"[^{}|&$;<> \t\n'\"\\]+")
_PLAIN_IN_QUOTES = re.compile(r"[^\"\\$]+")
_VARIABLE = re.compile(
    r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*|[0-9]+|[?*@#])\}|([A-Za-z_][A-Za-z0-9_]*|[0-9]+|[?*@#]))"
)
_BLANKS = re.compile(r"(?:[ \t]|\\\n)+")
_COMMENT = re.compile(r"#[^\n]*")
_DEPTH_MAX = 64
_WORDS_MAX = 50_000
"""Ten times as many as the menu of sixty kernels has."""
_MARKS = "\n;{}|&<>"
_LOOPS = ("for", "while", "until")


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a word."""

    text: str
    """The text; of a variable its name."""
    is_variable: bool = False
    is_quoted: bool = False


@dataclass(frozen=True, slots=True)
class Word:
    """A word whose variables have not been replaced by their values."""

    parts: tuple[Part, ...]
    line: int

    @property
    def keyword(self) -> str:
        """The word, if all of it is plain text; else ""."""
        (first, *more) = self.parts
        return "" if more or first.is_variable or first.is_quoted else first.text


@dataclass(frozen=True, slots=True)
class Command:
    """A command and its arguments."""

    words: tuple[Word, ...]
    line: int


@dataclass(frozen=True, slots=True)
class If:
    """Conditions, each with the commands to run if it is the first that holds; those for no condition."""

    branches: tuple[tuple[tuple["Node", ...], tuple["Node", ...]], ...]
    otherwise: tuple["Node", ...]
    line: int


@dataclass(frozen=True, slots=True)
class Loop:
    """A for, while or until loop."""

    words: tuple[Word, ...]
    """All words before the body."""
    body: tuple["Node", ...]
    line: int


@dataclass(frozen=True, slots=True)
class Function:
    """The definition of a function."""

    name: str
    body: tuple["Node", ...]
    line: int


@dataclass(frozen=True, slots=True)
class Menu:
    """A menuentry or submenu."""

    words: tuple[Word, ...]
    body: tuple["Node", ...]
    is_submenu: bool
    line: int


Node = Command | If | Loop | Function | Menu


def parse(text: str, file: str) -> tuple[Node, ...]:
    """Return the commands in the text of `file`. Raises UsageError with the line that is not understood."""
    reader = _Reader(_Words(text, file))
    nodes = reader.nodes()
    if reader.next is not None:
        raise reader.error(f"{reader.next} cannot stand here")
    return nodes


class _Words:
    """Splits a text into words and the marks between them: newlines and other special characters."""

    def __init__(self, text: str, file: str) -> None:
        self._text = text
        self._file = file
        self._at = 0
        self._line, self._counted = 1, 0
        self._left = _WORDS_MAX

    @property
    def line(self) -> int:
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._line

    def error(self, what: str) -> UsageError:
        return UsageError(
            f"{self._file}:{self.line}: {what}",
            hint=HINT,
        )

    def _match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.match(self._text, self._at)
        if found:
            self._at = found.end()
        return found

    def next(self) -> "Word | str | None":
        """Return the next word or mark; None at the end."""
        while self._match(_BLANKS) or self._match(_COMMENT):
            pass
        mark = self._text[self._at : self._at + 1]
        if not mark:
            return None
        line = self.line
        if mark in _MARKS:
            self._at += 1
            return mark
        self._left -= 1
        if self._left < 0:
            raise self.error(f"more than {_WORDS_MAX} words")
        parts: list[Part] = []
        while self._take(parts):
            pass
        return Word(tuple(parts), line)

    def _take(self, parts: list[Part]) -> bool:
        """Add the next pieces of a word; return whether there were any."""
        character = self._text[self._at : self._at + 1]
        if plain := self._match(_PLAIN):
            parts.append(Part(plain[0]))
        elif character == "'":
            parts.append(Part(self._until_quote(), is_quoted=True))
        elif character == '"':
            self._take_quoted(parts)
        elif character == "\\":
            following = self._text[self._at + 1 : self._at + 2]
            if not following:
                raise self.error("a \\ at the end")
            parts += [] if following == "\n" else [Part(following, is_quoted=True)]
            self._at += 2
        elif character == "$":
            parts.append(self._variable(quoted=False))
        else:
            return False
        return True

    def _until_quote(self) -> str:
        end = self._text.find("'", self._at + 1)
        if end < 0:
            raise self.error("a ' that does not end")
        content = self._text[self._at + 1 : end]
        self._at = end + 1
        return content

    def _take_quoted(self, parts: list[Part]) -> None:
        self._at += 1
        parts.append(Part("", is_quoted=True))  # a word, even if there is nothing in it
        while (character := self._text[self._at : self._at + 1]) != '"':
            if plain := self._match(_PLAIN_IN_QUOTES):
                parts.append(Part(plain[0], is_quoted=True))
            elif character == "\\":
                parts.append(Part(self._escaped(), is_quoted=True))
            elif character == "$":
                parts.append(self._variable(quoted=True))
            else:
                raise self.error('a " that does not end')
        self._at += 1

    def _escaped(self) -> str:
        following = self._text[self._at + 1 : self._at + 2]
        self._at += 2
        return "" if following == "\n" else following if following in '$"\\' else f"\\{following}"

    def _variable(self, *, quoted: bool) -> Part:
        found = self._match(_VARIABLE)
        if found is None:
            raise self.error("a $ without the name of a variable")
        return Part(found[1] or found[2], is_variable=True, is_quoted=quoted)


class _Reader:
    """Puts words together to commands."""

    def __init__(self, words: _Words) -> None:
        self._words = words
        self.next: Word | str | None = words.next()
        self._depth = 0

    def error(self, what: str) -> UsageError:
        return self._words.error(what)

    def _pass(self) -> "Word | str | None":
        taken, self.next = self.next, self._words.next()
        return taken

    def _keyword(self) -> str:
        return self.next.keyword if isinstance(self.next, Word) else ""

    def nodes(self, *ends: str) -> tuple[Node, ...]:
        """Return all commands up to one of these keywords, or up to what cannot begin a command."""
        self._depth += 1
        if self._depth > _DEPTH_MAX:
            raise self.error(f"blocks within blocks, {_DEPTH_MAX} deep")
        found: list[Node] = []
        while True:
            while self.next == "\n":
                self._pass()
            if not isinstance(self.next, Word) or self._keyword() in ends:
                break
            found.append(self._node(self.next.line))
            self._end_command()
        self._depth -= 1
        return tuple(found)

    def _end_command(self) -> None:
        if self.next == ";":
            self._pass()
        elif isinstance(self.next, Word):
            raise self.error("a ; is missing here")

    def _some(self, *ends: str) -> tuple[Node, ...]:
        found = self.nodes(*ends)
        if not found:
            raise self.error("a command is missing here")
        return found

    def _node(self, line: int) -> Node:
        keyword = self._keyword()
        if keyword == "if":
            return self._if(line)
        if keyword in _LOOPS:
            return self._loop(line)
        if keyword == "function":
            if self._depth > 1:
                raise self.error("a function cannot stand in a block")
            self._pass()
            name = self._keyword()
            self._pass()
            return Function(name, self._block(), line)
        words = self._arguments()
        if self.next != "{":
            return Command(words, line)
        body = self._block()
        if keyword in ("menuentry", "submenu"):
            return Menu(words[1:], body, keyword == "submenu", line)
        return Command(words, line)  # like openSUSE's hiddenentry, which is not in the menu

    def _arguments(self) -> tuple[Word, ...]:
        words: list[Word] = []
        while isinstance(self.next, Word):
            words.append(self.next)
            self._pass()
        return tuple(words)

    def _block(self) -> tuple[Node, ...]:
        while self.next == "\n":
            self._pass()
        self._expect_mark("{")
        body = self._some()
        self._expect_mark("}")
        return body

    def _expect_mark(self, mark: str) -> None:
        if self.next != mark:
            raise self.error(f"{mark} is missing here")
        self._pass()

    def _expect(self, keyword: str) -> None:
        if self._keyword() != keyword:
            raise self.error(f"{keyword} is missing here")
        self._pass()

    def _if(self, line: int) -> If:
        branches = []
        while self._keyword() in ("if", "elif"):
            self._pass()
            condition = self._some("then")
            self._expect("then")
            branches.append((condition, self._some("elif", "else", "fi")))
        otherwise: tuple[Node, ...] = ()
        if self._keyword() == "else":
            self._pass()
            otherwise = self._some("fi")
        self._expect("fi")
        return If(tuple(branches), otherwise, line)

    def _loop(self, line: int) -> Loop:
        words: list[Word] = []
        while self._keyword() != "do":
            if self.next is None or self.next == "{":
                raise self.error("do is missing here")
            if isinstance(self.next, Word):
                words.append(self.next)
            self._pass()
        self._pass()
        body = self._some("done")
        self._expect("done")
        return Loop(tuple(words[1:]), body, line)

"""Manual pages in roff, with the macros of man(7)."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence

_WIDTH = 78


def comment(text: str) -> str:
    """A line that readers of the page do not see."""
    return f'.\\" {text}'


def title(name: str, date: str, version: str) -> str:
    """The first line of the page of a program for administrators."""
    return f'.TH {escape(name.upper())} 8 {date} "pykexec {version}" "System Administration"'


def section(title: str, *lines: str) -> Sequence[str]:
    """A section with these lines of roff."""
    return [f".SH {title.upper()}", *lines]


def paragraphs(texts: Sequence[str]) -> Iterator[str]:
    """Texts as paragraphs."""
    for index, text in enumerate(texts):
        if index:
            yield ".PP"
        yield from prose(text)


_OPTION_IN_TEXT = re.compile(r"(?<![\w-])--?[a-z][\w-]*", re.IGNORECASE)


def prose(text: str) -> Iterator[str]:
    """Sentences, each beginning a line as roff wants it, with options in bold."""
    for sentence in re.split(r"(?<=[.;:]) ", text):
        marked = _OPTION_IN_TEXT.sub(lambda found: bold(found[0]), sentence.replace("\\", "\\e"))
        for line in textwrap.wrap(marked, _WIDTH, break_long_words=False, break_on_hyphens=False):
            yield re.sub(r"^(?=[.'])", r"\\&", line)


def escape(text: str) -> str:
    """Text as it is, in which each hyphen is one that can be copied."""
    return text.replace("\\", "\\e").replace("-", "\\-")


def bold(text: str) -> str:
    """The same in bold."""
    return "\\fB" + text.replace("-", "\\-") + "\\fR"


def italic(text: str) -> str:
    """The same in italics."""
    return "\\fI" + escape(text) + "\\fR"


def definitions(items: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Names in bold, each with a text."""
    for name, text in items:
        yield ".TP"
        yield bold(name)
        yield from prose(text)


def examples(items: Sequence[tuple[str, Sequence[str]]]) -> Iterator[str]:
    """Commands, each group of them with what it is for."""
    for index, (what, commands) in enumerate(items):
        if index:
            yield ".PP"
        yield from prose(what)
        yield from (".PP", ".nf", ".RS")
        yield from (escape(command) for command in commands)
        yield from (".RE", ".fi")

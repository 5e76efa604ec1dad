"""Write manual pages in roff, with the macros of man(7)."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence

from pykexec import __version__

_WIDTH = 78


def comment(text: str) -> str:
    """Return a line that readers of the page do not see."""
    return f'.\\" {text}'


_MANUALS = {5: "File Formats Manual", 8: "System Administration"}


def title(name: str, date: str, *, section: int) -> str:
    """Return the first lines of a page of that section, 5 or 8.

    Words are not divided, so that names of files and parameters stay whole.
    """
    line = f'.TH {escape(name.upper())} {section} {date} "pykexec {__version__}" "{_MANUALS[section]}"'
    return f"{line}\n.nh\n.ad l"


def section(title: str, *lines: str) -> Sequence[str]:
    """Return a section with these lines of roff."""
    return [f".SH {title.upper()}", *lines]


def subsection(title: str, *lines: str) -> Sequence[str]:
    """Return a part of a section with these lines of roff."""
    return [f".SS {escape(title)}", *lines]


def paragraphs(texts: Sequence[str]) -> Iterator[str]:
    """Yield texts as paragraphs."""
    for index, text in enumerate(texts):
        if index:
            yield ".PP"
        yield from prose(text)


_OPTION_IN_TEXT = re.compile(r"(?<![\w-])--?[a-z][\w-]*", re.IGNORECASE)


def prose(text: str) -> Iterator[str]:
    """Yield sentences, each on a line of its own as roff wants it, with options in bold."""
    for sentence in re.split(r"(?<=[.;:]) ", text):
        marked = _OPTION_IN_TEXT.sub(lambda found: bold(found[0]), sentence.replace("\\", "\\e"))
        for line in textwrap.wrap(marked, _WIDTH, break_long_words=False, break_on_hyphens=False):
            yield re.sub(r"^(?=[.'])", r"\\&", line)


def escape(text: str) -> str:
    """Return plain text for roff; each hyphen in it can be copied from the page."""
    return text.replace("\\", "\\e").replace("-", "\\-")


def bold(text: str) -> str:
    """Return the text in bold."""
    return "\\fB" + text.replace("-", "\\-") + "\\fR"


def italic(text: str) -> str:
    """Return the text in italics."""
    return "\\fI" + escape(text) + "\\fR"


def definitions(items: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Yield names in bold, each with its text."""
    for name, text in items:
        yield ".TP"
        yield bold(name)
        yield from prose(text)


def lines(texts: Sequence[str]) -> Iterator[str]:
    """Yield texts in bold, each in a line of its own."""
    for index, text in enumerate(texts):
        yield from [".br"] * bool(index)
        yield bold(text)


def listed(texts: Sequence[str]) -> Iterator[str]:
    """Yield texts one below the other, set off from what is around them."""
    yield from (".PP", ".RS", ".nf", *map(escape, texts), ".fi", ".RE")


def references(*pages: str) -> Iterator[str]:
    """Yield the names of other pages, as "kexec_load(2)"."""
    for index, page in enumerate(pages, 1):
        name, _, section = page.partition("(")
        yield f".BR {escape(name)} ({section}{',' * (index < len(pages))}"


def examples(items: Sequence[tuple[str, Sequence[str]]]) -> Iterator[str]:
    """Yield groups of commands, each after its explanation."""
    for index, (what, commands) in enumerate(items):
        if index:
            yield ".PP"
        yield from prose(what)
        yield from (".PP", ".nf", ".RS")
        yield from (escape(command) for command in commands)
        yield from (".RE", ".fi")

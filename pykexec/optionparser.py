"""Parse a command line as getopt_long(3) does, which click cannot.

Abbreviated names, ``-ldS``, ``--name value`` and ``--name=value``, operands anywhere.
"""

from __future__ import annotations

from pykexec.errors import UsageError
from pykexec.options import OPTIONS, Option, Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def parse(arguments: Sequence[str], options: Sequence[Option] = OPTIONS) -> Options:
    """Return the given options, read as getopt_long(3) reads them. Nothing after -h or -v is looked at.

    Raises UsageError for an unknown option, a missing argument, or one too many.
    """
    given: dict[str, object] = {}
    operands: list[str] = []
    words = iter(arguments)
    for word in words:
        if word == "--":
            operands.extend(words)
        elif word.startswith("--"):
            _take_long(word, words, given, options)
        elif word.startswith("-") and word != "-":
            _take_short(word, words, given, options)
        else:
            operands.append(word)
        if "help" in given or "version" in given:
            break
    if len(operands) > 1:
        raise UsageError(
            f"unexpected argument {operands[1]!r} after the kernel {operands[0]}",
            hint='a command line of several words needs quotes: --append="root=/dev/sda1 ro"',
        )
    return Options(kernel=operands[0] if operands else None, **given)


def _take_long(word: str, words: Iterator[str], given: dict[str, object], options: Sequence[Option]) -> None:
    name, separator, text = word.partition("=")
    option = _named(name, options)
    if option.metavar is None and separator:
        raise UsageError(f"option {word!r}: {option.spelling} takes no argument", hint=_SEE_HELP)
    _take(option, name, text if separator else None, words, given)


def _take_short(
    word: str, words: Iterator[str], given: dict[str, object], options: Sequence[Option]
) -> None:
    """Read a cluster such as -ldS; the rest of it is the argument of an option that takes one."""
    for index, letter in enumerate(word[1:], 2):
        name = f"-{letter}"
        option = next((each for each in options if name in each.names), None)
        if option is None:
            raise UsageError(
                f"invalid option {name!r} in {word!r}", hint=_meant(f"-{word}", options, _ALIKE)
            )
        _take(option, name, word[index:] or None, words, given)
        if option.metavar is not None:
            return


def _take(
    option: Option, name: str, text: str | None, words: Iterator[str], given: dict[str, object]
) -> None:
    value = option.value
    if option.metavar is not None:
        text = next(words, None) if text is None else text
        if text is None:
            raise UsageError(f"option {name!r} requires an argument {option.metavar}", hint=_SEE_HELP)
        value = option.convert(name, text) if option.convert else text
    if option.repeats:
        earlier = given.get(option.field, ())
        assert isinstance(earlier, tuple)
        value = (*earlier, value if option.metavar and option.field != "meaningless" else option.spelling)
    given[option.field] = value


def _named(name: str, options: Sequence[Option]) -> Option:
    """Return the option of that name, or the only one whose name begins with it. Raises UsageError."""
    for option in options:
        if name in option.names:
            return option
    matching = [
        option
        for option in options
        if not option.ours and any(each.startswith(name) for each in option.names)
    ]
    if not matching:
        raise UsageError(f"unrecognized option {name!r}", hint=_meant(name, options))
    if len({(option.field, str(option.value)) for option in matching}) > 1:
        meant = ", ".join(each for option in matching for each in option.names if each.startswith(name))
        raise UsageError(f"option {name!r} is ambiguous: {meant}", hint="write the name in full")
    return matching[0]


_SEE_HELP = "see pykexec --help"
_NAME_MAX = 40
"""Characters: a longer word is no misspelt option, and comparing takes time with its length."""


_ALIKE = 0.8
"""How alike a cluster of short options and a long option are where that only lacks a dash (difflib)."""


def _meant(word: str, options: Sequence[Option], alike: float = 0.6) -> str:
    """Return a hint that names the option which was probably meant, if one looks like that word."""
    import difflib

    name = word.partition("=")[0]
    names = [each for option in options for each in option.names if each.startswith("--")]
    close = difflib.get_close_matches(name, names, 1, alike) if len(name) <= _NAME_MAX else []
    return f"did you mean {close[0]}? {_SEE_HELP}" if close else _SEE_HELP

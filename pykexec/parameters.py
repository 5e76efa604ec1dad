"""The parameters of a kernel command line, split as the kernel does."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def parameters(command_line: str) -> Iterator[str]:
    """Split at blanks outside double quotes, as next_arg() in lib/cmdline.c does; quotes stay in place."""
    start: int | None = None
    quoted = False
    for index, character in enumerate(command_line):
        if character == '"':
            quoted = not quoted
        if character.isspace() and not quoted:
            if start is not None:
                yield command_line[start:index]
            start = None
        elif start is None:
            start = index
    if start is not None:
        yield command_line[start:]


def name_of(parameter: str) -> str:
    """Return what stands before the first ``=``, without quotes: the name that the kernel looks for."""
    return parameter.partition("=")[0].strip('"')


def value_of(name: str, command_line: str) -> str | None:
    """Return what stands after the last ``name=``; None where there is none."""
    values = [each.partition("=")[2] for each in parameters(command_line) if name_of(each) == name]
    return values[-1] if values else None

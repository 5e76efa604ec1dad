"""Checks of single values. Each raises ConfigError with the place and what is allowed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from pykexec.kdump.config.errors import Where, nearest, shown
from pykexec.kdump.config.settings import Collector
from pykexec.kdump.config.targets import Device, Program, Unfit

_LEVEL_MAX = 31  # makedumpfile(8), -d: a sum of 1, 2, 4, 8 and 16
_COLLECTORS = ("makedumpfile", "cp", "scp", "dd", "rsync", "cat")
_COMPRESSIONS = ("-c", "-l", "-p", "-z", "-E")


T = TypeVar("T")
C = TypeVar("C", bound=str)


def choice(values: Mapping[str, T], text: str, name: str, where: Where) -> T:
    """Return the meaning of one of several words."""
    if text not in values:
        allowed = ", ".join(values)
        raise where.error(
            f"{name} cannot be {shown(text)}",
            nearest(text, values) or f"one of these is possible: {allowed}",
        )
    return values[text]


def number(text: str, name: str, where: Where, *, least: int = 0, most: int = 1 << 31) -> int:
    """Return a decimal number."""
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal() and len(digits) < 20) or not least <= int(text) <= most:
        raise where.error(f"{name} has to be a number from {least} to {most}, not {shown(text)}")
    return int(text)


def checked(kind: Callable[[str], C], text: str, name: str, where: Where) -> C:
    """Return text as a type of `targets`."""
    try:
        return kind(text)
    except Unfit as error:
        raise where.error(f"{name}{error.fault}", error.hint) from None


def plain(text: str, name: str, where: Where) -> str:
    """Return text that has only printable characters, and tabs."""
    if not text.replace("\t", " ").isprintable():
        raise where.error(f"{name} has an unprintable character in it: {shown(text)}")
    return text


def words(text: str, name: str, where: Where) -> tuple[str, ...]:
    """Return words as a shell would split them; quotes keep words together."""
    plain(text, name, where)
    try:
        return tuple(shlex.split(text))
    except ValueError:
        raise where.error(f"{name}: a quote that does not end in {shown(text)}") from None


def device(text: str, name: str, where: Where) -> Device:
    """Return a block device or its name: /dev/..., LABEL=, UUID=, PARTLABEL=, PARTUUID=."""
    found = checked(Device, text, name, where)
    if found.startswith("/") and not found.startswith("/dev/"):
        raise where.error(f"{name}: {shown(text)} names no device", "devices are below /dev")
    return found


def collector(text: str, name: str, where: Where) -> Collector:
    """Return the command that writes a dump; slips in makedumpfile's options are errors, where seen."""
    command = words(text, name, where)
    if not command:
        raise where.error(f"{name} is empty", "makedumpfile -l -d 31 is usual")
    program = checked(Program, command[0], name, where).rpartition("/")[2]
    near = nearest(program, _COLLECTORS) if program not in _COLLECTORS and "/" not in command[0] else None
    if near:
        raise where.error(f"{name}: unknown program {shown(program)}", near)
    if program == "makedumpfile":
        _makedumpfile_options(command[1:], name, where)
    return Collector(command)


def _makedumpfile_options(options: Sequence[str], name: str, where: Where) -> None:
    formats = [each for each in options if each in _COMPRESSIONS]
    if len(set(formats)) > 1:
        raise where.error(f"{name}: {formats[0]} and {formats[1]} exclude each other")
    for index, option in enumerate(options):
        if option == "-d":
            level = options[index + 1] if index + 1 < len(options) else ""
        elif re.fullmatch(r"-d[0-9,]+", option):
            level = option[2:]
        else:
            continue
        for each in level.split(","):
            number(each, f"{name}: makedumpfile's dump level (-d)", where, most=_LEVEL_MAX)

"""Read dracut_args: the words of dracut(8) that mean something for an image that dracut does not make."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from pykexec.kdump.config import targets, values
from pykexec.kdump.config.errors import Where
from pykexec.kdump.config.settings import DracutArguments

_NAME = "dracut_args"
_MODULE = re.compile(r"[A-Za-z0-9_-]{1,55}")  # MODULE_NAME_LEN of include/linux/module.h, without its end
_SHORT = {"-I": "--install", "-i": "--include"}
_LISTS = ("--add-drivers", "--force-drivers", "--omit-drivers", "--install", "--install-optional")
_MOUNT = "--mount"
"""It is the dump's target, which the reader of kdump.conf(5) looks for."""


def parse(words: Sequence[str], where: Where) -> DracutArguments:
    """Return what the words ask for. Raises ConfigError."""
    lists: dict[str, list[str]] = {name: [] for name in _LISTS}
    files: list[tuple[str, str]] = []
    unused: list[str] = []
    for name, arguments in _options(words):
        if name in lists and arguments:
            lists[name] += arguments[0].split()
        elif name == "--include":
            files.append(_included(arguments, where))
        elif name != _MOUNT:
            unused.append(" ".join((name, *arguments)))
    for name in _LISTS[:3]:
        unused += [f"{name} {each}" for each in lists[name] if not _MODULE.fullmatch(each)]
    return DracutArguments(
        drivers=_modules(lists["--add-drivers"] + lists["--force-drivers"]),
        omitted_drivers=_modules(lists["--omit-drivers"]),
        programs=_programs(lists["--install"], where),
        optional_programs=_programs(lists["--install-optional"], where),
        files=tuple(files),
        unused=tuple(unused),
    )


def _options(words: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield options with their arguments: what follows and does not look like an option belongs to it."""
    at = 0
    while at < len(words):
        name, equals, value = words[at].partition("=")
        arguments = [value] if equals and name.startswith("--") else []
        at += 1
        while at < len(words) and not words[at].startswith("-"):
            arguments.append(words[at])
            at += 1
        yield _SHORT.get(name, name), arguments


def _included(arguments: Sequence[str], where: Where) -> tuple[str, str]:
    if len(arguments) != 2:
        raise where.error(f"--include in {_NAME} has to be followed by SOURCE TARGET")
    source, target = (
        values.checked(targets.AbsolutePath, each, f"{_NAME} --include", where) for each in arguments
    )
    return source, target


def _modules(names: Sequence[str]) -> tuple[str, ...]:
    # dracut also takes folders of drivers, and expressions.
    return tuple(each for each in names if _MODULE.fullmatch(each))


def _programs(names: Sequence[str], where: Where) -> tuple[str, ...]:
    return tuple(values.checked(targets.Program, each, f"{_NAME} --install", where) for each in names)

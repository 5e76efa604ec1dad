"""Read the words of fence_kdump_send(8): what a node that saves its memory tells the other nodes."""

from __future__ import annotations

import getopt
import re
from collections.abc import Sequence
from dataclasses import replace

from pykexec.kdump.config import targets, values
from pykexec.kdump.config.errors import Where, shown
from pykexec.kdump.config.settings import Fencing

_PROGRAM = "fence_kdump_send"
_VERBOSE = re.compile(r"-v\d*|--verbose(=\d+)?")
_SHORT, _LONG = "p:f:c:i:", ("ipport=", "family=", "count=", "interval=")
_FAMILIES = {name: name for name in ("auto", "ipv4", "ipv6")}


def parse(words: Sequence[str], name: str, where: Where) -> Fencing:
    """Return what the program's arguments, options and nodes, ask for. Raises ConfigError."""
    # What it would tell about its own work nobody reads.
    arguments = [each for each in words if not _VERBOSE.fullmatch(each)]
    try:
        options, nodes = getopt.gnu_getopt(arguments, _SHORT, _LONG)
    except getopt.GetoptError as error:
        raise where.error(f"{name}: {error.msg}", f"-p, -f, -c and -i are options of {_PROGRAM}") from None
    hosts = tuple(values.checked(targets.Host, each, name, where) for each in nodes)
    found = Fencing(hosts)
    for option, text in options:
        found = _with(found, option, text, f"{name} {option}", where)
    return found


def _with(fencing: Fencing, option: str, text: str, name: str, where: Where) -> Fencing:
    if option in ("-f", "--family"):
        return replace(fencing, family=values.choice(_FAMILIES, text.lower(), name, where))
    if option in ("-p", "--ipport"):
        return replace(fencing, port=values.number(text, name, where, least=1, most=65535))
    if option in ("-c", "--count"):
        return replace(fencing, count=values.number(text, name, where))
    return replace(fencing, interval=values.number(text, name, where, least=1))


def is_send(line: str) -> bool:
    """Return whether a command line has to do with the program."""
    return _PROGRAM in line


def of_command(line: str, name: str, where: Where) -> Fencing:
    """Return what a command line of the program, and of nothing else, asks for. Raises ConfigError."""
    words = values.words(line, name, where)
    if not words[0].endswith(f"/{_PROGRAM}") or any(each in line for each in ";&|<>$`\\"):
        raise where.error(
            f"{name} has more than {_PROGRAM} in it: {shown(line)}",
            f"write {_PROGRAM} with its options and nodes, and nothing else",
        )
    return parse(words[1:], name, where)

"""How a kernel was built: its .config, as a file or in the kernel itself (CONFIG_IKCONFIG)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from pykexec.errors import ImageError
from pykexec.formats import compression, magic
from pykexec.memory import MIB

if TYPE_CHECKING:
    from pykexec.machine import Machine

_EMBEDDED = re.compile(rb"IKCFG_ST(?=\x1f\x8b\x08)")  # kernel/configs.c
_END = b"IKCFG_ED"
_TEXT_MAX = 4 * MIB
_LINE = re.compile(r"^(CONFIG_\w+)=(.*)$|^# (CONFIG_\w+) is not set$", re.M)


def parse(source: str, text: str) -> Mapping[str, str]:
    """Return the options of a .config by their names: "y", "m", a number, or a string without its quotes.

    "n" means that the option is expressly not set. An option is missing if the kernel does not know it, or
    its conditions are not met. Raises ImageError for a text without any option.
    """
    options: dict[str, str] = {}
    for name, value, unset in _LINE.findall(text):
        if unset:
            options[unset] = "n"
        else:
            quoted = len(value) >= 2 and value[0] == value[-1] == '"'
            options[name] = re.sub(r"\\(.)", r"\1", value[1:-1]) if quoted else value.strip()
    if not options:
        raise ImageError(f"{source}: no kernel configuration: not one CONFIG_ option in it")
    return options


def from_file(source: str, data: memoryview) -> Mapping[str, str]:
    """Read a configuration, compressed (/proc/config.gz) or not. Raises ImageError for any other file."""
    packed = magic.compression(data)
    if packed:
        raw = b"".join(compression.pieces(source, data, packed, _TEXT_MAX))
    elif data.nbytes > _TEXT_MAX:
        raise ImageError(f"{source}: {data.nbytes} bytes are no kernel configuration")
    else:
        raw = bytes(data)
    return parse(source, raw.decode("utf-8", "replace"))


def installed(machine: Machine, release: str) -> Mapping[str, str] | None:
    """Return the configuration that stands beside the kernel of a release in /boot; None where none does.

    Raises MachineError where it cannot be read.
    """
    path = f"boot/config-{release}"
    data = machine.read(path) if "/" not in release else None
    if data is not None:
        with suppress(ImageError):  # a file of another kind
            return parse(path, data.decode("utf-8", "replace"))
    return None


def embedded(source: str, data: memoryview) -> Mapping[str, str] | None:
    """Return the configuration in the bytes of an unpacked kernel; None where there is none.

    Raises ImageError when it is damaged.
    """
    start = _EMBEDDED.search(data)
    if start is None:
        return None
    body = data[start.end() : start.end() + _TEXT_MAX]
    end = re.search(_END, body)
    if end is None:
        raise ImageError(f"{source}: truncated: the configuration in it does not end")
    return from_file(f"{source} (the configuration in it)", body[: end.start()])

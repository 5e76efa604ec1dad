"""How a kernel was built: the .config that lies in it (CONFIG_IKCONFIG)."""

import re
from collections.abc import Mapping

from pykexec.errors import ImageError
from pykexec.formats import compression, magic
from pykexec.memory import MIB

_EMBEDDED = re.compile(rb"IKCFG_ST(?=\x1f\x8b\x08)")  # kernel/configs.c
_END = b"IKCFG_ED"
_TEXT_MAX = 4 * MIB
_LINE = re.compile(r"^(CONFIG_\w+)=(.*)$|^# (CONFIG_\w+) is not set$", re.M)


def parse(source: str, text: str) -> Mapping[str, str]:
    """Return the options of a .config by their names: "y", "m", a number, a string without its quotes.

    "n" is what is expressly not set; an option that the kernel does not know, or whose conditions are not
    met, is missing. Raises ImageError for what has not one option in it.
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
    """Read a configuration, compressed (/proc/config.gz) or not. Raises ImageError for another file."""
    packed = magic.compression(data)
    if packed:
        raw = b"".join(compression.pieces(source, data, packed, _TEXT_MAX))
    elif data.nbytes > _TEXT_MAX:
        raise ImageError(f"{source}: {data.nbytes} bytes are no kernel configuration")
    else:
        raw = bytes(data)
    return parse(source, raw.decode("utf-8", "replace"))


def embedded(source: str, data: memoryview) -> Mapping[str, str] | None:
    """What lies open in these bytes, as of a kernel that is unpacked; None where there is none.

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

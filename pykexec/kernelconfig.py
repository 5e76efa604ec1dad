"""How a kernel was built: its .config, from the image itself (CONFIG_IKCONFIG) or from a file beside it."""

import re
from collections.abc import Mapping

from pykexec.errors import ImageError
from pykexec.formats import compression, magic
from pykexec.machine.root import Root
from pykexec.machine.text import read
from pykexec.memory import MIB
from pykexec.values import dataclass, field

_EMBEDDED = re.compile(rb"IKCFG_ST(?=\x1f\x8b\x08)")  # kernel/configs.c
_END = b"IKCFG_ED"
_TEXT_MAX = 4 * MIB
_UNPACKED_MAX = 96 * MIB  # the configuration lies in the read-only data, which comes before half of that
_CHEAP = ("gzip", "zstd", "lz4")
"""The compressions that unpack a kernel in well under a second."""
_LINE = re.compile(r"^(CONFIG_\w+)=(.*)$|^# (CONFIG_\w+) is not set$", re.M)


@dataclass(frozen=True, slots=True)
class KernelConfig:
    """The options a kernel was built with."""

    source: str
    """The file they were read from."""
    _options: Mapping[str, str] = field(repr=False)

    def get(self, name: str) -> str | None:
        """ "y", "m", "n" for what is expressly not set, a number, a string without its quotes; None for an
        option that this kernel does not know, or whose conditions are not met."""
        return self._options.get(name)

    def enabled(self, name: str) -> bool:
        """Whether it is built in, or a module."""
        return self.get(name) in ("y", "m")


def parse(source: str, text: str) -> KernelConfig:
    """Read a .config. Raises ImageError for what has not one option in it."""
    options: dict[str, str] = {}
    for name, value, unset in _LINE.findall(text):
        if unset:
            options[unset] = "n"
        else:
            quoted = len(value) >= 2 and value[0] == value[-1] == '"'
            options[name] = re.sub(r"\\(.)", r"\1", value[1:-1]) if quoted else value.strip()
    if not options:
        raise ImageError(f"{source}: no kernel configuration: not one CONFIG_ option in it")
    return KernelConfig(source, options)


def from_file(source: str, data: memoryview) -> KernelConfig:
    """Read a configuration, compressed (/proc/config.gz) or not. Raises ImageError for another file."""
    packed = magic.compression(data)
    if packed:
        raw = b"".join(compression.pieces(source, data, packed, _TEXT_MAX))
    elif data.nbytes > _TEXT_MAX:
        raise ImageError(f"{source}: {data.nbytes} bytes are no kernel configuration")
    else:
        raw = bytes(data)
    return parse(source, raw.decode("utf-8", "replace"))


def from_image(source: str, data: memoryview) -> KernelConfig | None:
    """What a kernel image carries with it; None for one without, or one that takes long to unpack.

    Raises ImageError when what it carries is damaged.
    """
    found = embedded(source, data)
    if found is not None:
        return found
    payload = bzimage_payload(data)
    inner = data if payload is None else payload
    packed = magic.compression(inner)
    if packed not in _CHEAP:
        return None
    unpacked = _unpacked(source, inner, packed)
    return None if unpacked is None else embedded(source, unpacked)


def beside_image(root: Root, release: str) -> KernelConfig | None:
    """From the usual files for that release (``uname -r``); None where there is none.

    Raises MachineError for a file that cannot be read, ImageError for one that is no configuration.
    """
    if not release or "/" in release:
        return None
    paths = (
        f"boot/config-{release}",
        f"usr/lib/modules/{release}/config",
        f"lib/modules/{release}/config",
        f"usr/src/linux-headers-{release}/.config",
    )
    return _first(root, paths)


def of_running_kernel(root: Root, release: str) -> KernelConfig | None:
    """Of the kernel that runs below that root; see `beside_image`."""
    return _first(root, ("proc/config.gz",)) or beside_image(root, release)


def bzimage_payload(data: memoryview) -> memoryview | None:
    """The compressed kernel in a bzImage; None for another file, or one of before protocol 2.08.

    Documentation/arch/x86/boot.rst: payload_offset and payload_length, from the kernel proper on.
    """
    if bytes(data[0x202:0x206]) != b"HdrS" or data.nbytes < 0x250:
        return None
    if int.from_bytes(data[0x206:0x208], "little") < 0x0208:
        return None
    start = ((data[0x1F1] or 4) + 1) * 512 + int.from_bytes(data[0x248:0x24C], "little")
    payload = data[start : start + int.from_bytes(data[0x24C:0x250], "little")]
    return payload if payload.nbytes else None


def embedded(source: str, data: memoryview) -> KernelConfig | None:
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


def _unpacked(source: str, data: memoryview, packed: str) -> memoryview | None:
    """As much as can hold the configuration; None where the package to unpack it is missing."""
    head = bytearray()
    start: re.Match[bytes] | None = None
    try:
        for piece in compression.pieces(source, data, packed):
            fresh = max(len(head) - 16, 0)
            head += piece
            start = start or _EMBEDDED.search(head, fresh)
            if len(head) >= _UNPACKED_MAX or (start and head.find(_END, start.end()) >= 0):
                break
    except ImageError:
        # Whoever loads this kernel says what is wrong with it.
        return None
    return memoryview(head)


def _first(root: Root, paths: tuple[str, ...]) -> KernelConfig | None:
    for path in paths:
        data = read(root, path)
        if data is not None:
            return from_file(f"/{path}", memoryview(data))
    return None

"""What must not leave a machine in a snapshot: passwords, tokens and keys in texts, seeds in device trees.

Text is hidden where it stands behind a name that says so, or at a place that only a password has. Too much
rather than too little is hidden: up to the next blank or quote. What is left can be read as before.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

HIDDEN = "REDACTED"

_NAMES = (
    r"passw|passphrase|passcode|rootpw|secret(?!mem)|token(?!-timeout)|credential|signature"
    r"|(?:api|access|private|account|shared)[_-]?key"
)
"""What is in the names of secrets. secretmem.enable= and token-timeout= (crypttab(5)) hold none."""
_SHORT_NAMES = r"(?<![A-Za-z0-9])(?:pass|pwd?|sig)2?"  # mount.cifs(8), and signed URLs
_VALUE = r"""(?:"[^"\n]*"|'[^'\n]*'|[^\s"'\0])+"""
NAMED = re.compile(rf"(?i:(?:{_NAMES})[\w./-]*|{_SHORT_NAMES})\+?=")
"""The end of a secret's name, and the sign of its value."""

_PATTERNS = (
    # NAME=VALUE: shell assignments, kernel parameters, options of mounts, queries of URLs
    re.compile(rf"({NAMED.pattern})({_VALUE})"),
    # SCHEME://USER:PASSWORD@HOST; a port, which a path may follow, is no password
    re.compile(r"(://[^\s/\"'@:]*:)(?!\d{1,5}/)(\S{1,1000})(?=@)"),
    # root=, netroot=iscsi:USER:PASSWORD:...@..., dracut.cmdline(7)
    re.compile(r"(\biscsi:[^\s:@]*:)(\S{1,1000})(?=@)"),
    # GRUB's password and password_pbkdf2, and other words of that kind with a value behind a blank
    re.compile(r"(?im)(^[ \t]*#?[ \t]*\w*passw\w*[ \t]+)([^\s=].*)$"),
    # Commands: --password VALUE, and -u USER:PASSWORD of curl(1) or USER,PASSWORD of lftp(1)
    re.compile(rf"((?<![\w-])--[\w-]*(?:{_NAMES})[\w-]*[ \t]+)({_VALUE})"),
    re.compile(rf"((?<![\w-])(?:-u|--user)[ \t=]*[\"']?[^\s:,\"']+[:,])({_VALUE})"),
    # What is a hash or a key by its looks: grub-mkpasswd-pbkdf2, crypt(5), NVMe's DH-HMAC-CHAP
    re.compile(r"()(grub\.pbkdf2\.[\w.]+|\$(?:[1567]|2[abxy]|g?y|sm3)\$[\w./$=,-]{8,}|DHHC-1:[\w+/=:]+)"),
)


def text(given: str, hide: Callable[[str], str] = lambda _: HIDDEN) -> str:
    """The text without secrets; `hide` says what stands in the place of one."""
    for pattern in _PATTERNS:
        given = pattern.sub(lambda found: found[1] + _in_quotes(found[2], hide), given)
    return given


def secrets(given: str) -> list[str]:
    """What `text` would hide."""
    found: list[str] = []
    for pattern in _PATTERNS:
        found += [each[2] for each in pattern.finditer(given)]
    return found


def _in_quotes(value: str, hide: Callable[[str], str]) -> str:
    """Quotes around it stay, and an empty value is none."""
    quote = value[0] if value[:1] in ("'", '"') else ""
    inner = value.removeprefix(quote).removesuffix(quote)
    return quote + hide(inner) + value[len(quote) + len(inner) :] if inner else value


def data(given: bytes) -> bytes:
    """The same for bytes of text in any encoding."""
    return text(given.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")


def json_data(given: bytes) -> bytes:
    """The same for each text in a JSON document; nothing of what is none."""
    try:
        return json.dumps(_in_values(json.loads(given))).encode()
    except (ValueError, RecursionError):
        return b""


def _in_values(value: object) -> object:
    if isinstance(value, str):
        return text(value)
    if isinstance(value, list):
        return [_in_values(each) for each in value]
    return {text(key): _in_values(each) for key, each in value.items()} if isinstance(value, dict) else value


_TREE = "sys/firmware/fdt"
_SEEDS = ("kaslr-seed", "rng-seed")
"""Properties of /chosen: the running kernel's randomness, which kernels wipe when they have taken it."""


def fact(name: str, given: bytes) -> bytes | None:
    """A file of a snapshot without secrets; None where it is one altogether."""
    if name == _TREE:
        return _tree(given)
    if name.startswith("proc/device-tree/"):
        *_, node, last = name.split("/")
        if node == "chosen":
            return None if last in _SEEDS else _same_length(given)
        return given
    return data(given) if name == "proc/cmdline" else given


def _tree(given: bytes) -> bytes | None:
    """In place: nothing else of the blob is changed, which may be just what is looked for."""
    from pykexec.devicetree import DeviceTree
    from pykexec.errors import DeviceTreeError

    try:
        chosen = dict(DeviceTree(given, _TREE).nodes()).get("/chosen", {})
    except DeviceTreeError:
        return None  # nothing tells where in it the command line is
    for name, value in chosen.items():
        safe = bytes(len(value)) if name in _SEEDS else _same_length(value)
        if safe != value:
            given = given.replace(value, safe)
    return given


def _same_length(given: bytes) -> bytes:
    there = given.decode("latin-1")
    return text(there, lambda secret: "X" * len(secret)).encode("latin-1")

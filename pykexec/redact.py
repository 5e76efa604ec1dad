"""Remove what must not leave a machine in a snapshot: passwords, tokens, keys, and seeds in device trees.

Text is hidden where it follows the name of a secret, or stands where only a password can stand. In doubt
more is hidden: up to the next blank or quote. The rest can be read as before.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from pykexec.devicetree import FIRMWARE_TREE, UNPACKED_TREE, DeviceTree
from pykexec.errors import DeviceTreeError
from pykexec.machine import kallsyms

HIDDEN = "REDACTED"

_NAMES = (
    r"passw|passphrase|passcode|rootpw|secret(?!mem)|token(?!-timeout)|credential|signature"
    r"|(?:api|access|private|account|shared)[_-]?key"
)
"""Words in the names of secrets. secretmem.enable= and token-timeout= (crypttab(5)) hold none."""
_SHORT_NAMES = r"(?<![A-Za-z0-9])(?:pass|(?:ssh)?pwd?|psk|pin|sig)2?"  # mount.cifs(8), and signed URLs
_REST = r"[\w./-]{0,80}"
"""What may follow in a name; limited, so that a text of nothing but names takes linear time."""
_QUOTED = r"""(?:"[^"\n]*"|'[^'\n]*')"""
_VALUE = rf"""(?:{_QUOTED}(?=,?[\s}}\]])|(?:{_QUOTED}|[^\s"'\0])+)"""
NAMED = re.compile(rf"(?i:(?:{_NAMES}){_REST}|{_SHORT_NAMES})\}}?[+:]?=")
"""The end of a secret's name, and the sign before its value; a udev rule's ENV{NAME} is a name, too."""
_COMMAND_BEGINS = r"(?:^|[;&|{]|\b(?:then|else|do)\b)[ \t]*"

_PATTERNS = (
    # NAME=VALUE: shell assignments, kernel parameters, options of mounts, queries of URLs
    re.compile(rf"({NAMED.pattern})({_VALUE})"),
    # "NAME=VALUE ...": a parameter that is quoted as a whole, kernel/params.c
    re.compile(rf"((?<![^\s])\"[\w.-]{{0,80}}{NAMED.pattern})([^\"\n]+)"),
    # NAME = VALUE, NAME= "VALUE": no assignment in a shell, but people read it as one
    re.compile(rf"({NAMED.pattern[:-1]}(?:[ \t]{{1,80}}=[ \t]{{0,80}}|=[ \t]{{1,80}}(?=[\"'])))({_VALUE})"),
    # "NAME": "VALUE", as in JSON and YAML, and headers of HTTP
    re.compile(
        rf"((?i:(?:passw|passphrase|secret|token|credential|api[_-]?key)[\w-]{{0,80}})"
        rf"\\?[\"']?:(?:[ \t]{{1,80}}|(?![/:])))({_QUOTED}|\\\"[^\"\n]*\"|[^\s\"',}}]+)"
    ),
    re.compile(r"((?i:authorization|cookie):[ \t]{0,80})([^\s\"'][^\"'\n]*)"),
    # SCHEME://USER:PASSWORD@HOST; a port, which a path may follow, is no password
    re.compile(r"(://[^\s\"'@:]*:)(?!\d{1,5}/)((?:(?!://)\S){1,1000})(?=@)"),
    # Addresses that give access to whoever knows them
    re.compile(
        r"((?:hooks\.slack\.com/\w{1,20}|discord(?:app)?\.com/api/webhooks|api\.telegram\.org)/)([^\s\"']+)"
    ),
    # root=, netroot=iscsi:USER:PASSWORD:...@..., dracut.cmdline(7)
    re.compile(r"(\biscsi:[^\s:@]*:)((?:(?!\biscsi:)\S){1,1000})(?=@)"),
    # GRUB's password and password_pbkdf2, and similar words with a value after a blank
    re.compile(rf"(?im)({_COMMAND_BEGINS}#?[ \t]*\w{{0,80}}passw\w{{0,80}}[ \t]+)([^\s=](?:\\\n|.)*)$"),
    # Commands: --password VALUE, and -u USER:PASSWORD of curl(1) or USER,PASSWORD of lftp(1)
    re.compile(rf"((?<![\w-])--[\w-]{{0,80}}(?:{_NAMES})[\w-]{{0,80}}[ \t]{{1,80}})({_VALUE})"),
    re.compile(rf"((?<![\w-])(?:-u|--user)[ \t=]{{0,80}}[\"']?[^\s:,\"']{{1,200}}[:,])({_VALUE})"),
    # -p PASSWORD, -U USER%PASSWORD
    re.compile(
        rf"(\b(?:sshpass|mysql\w*|mariadb\w*|cryptomount)\b[^\n;|&]{{0,200}}?\s-p[ \t]{{0,80}})({_VALUE})"
    ),
    re.compile(rf"((?<![\w-])(?:-U|--user)[ \t=]{{0,80}}[\"']?[^\s%\"']{{1,200}}%)({_VALUE})"),
    # Passwords that are piped into cryptsetup(8) and others
    re.compile(
        rf"(\b(?:echo|printf)[ \t](?:[ \t]*-\w{{1,3}}[ \t])?)({_VALUE})"
        r"(?=[ \t]{0,80}\|[ \t]{0,80}(?:\S{0,80}/)?(?:cryptsetup|chpasswd|sudo|su|gpg|kinit|openssl)\b)"
    ),
    # Hashes and keys, by their form: grub-mkpasswd-pbkdf2, crypt(5), NVMe's DH-HMAC-CHAP, PEM
    re.compile(r"()(grub\.pbkdf2\.[\w.]+|\$(?:[1567]|2[abxy]|g?y|sm3)\$[\w./$=,-]{8,}|DHHC-1:[\w+/=:]+)"),
    re.compile(r"(-----BEGIN [\w ]{0,40}PRIVATE KEY-----)((?:(?!-----)[\s\S]){1,10000})"),
)


def text(given: str, hide: Callable[[str], str] = lambda _: HIDDEN) -> str:
    """Return the text without secrets; `hide` returns what replaces a secret."""
    for pattern in _PATTERNS if given else ():
        given = pattern.sub(lambda found: found[1] + _in_quotes(found[2], hide), given)
    return given


def secrets(given: str) -> list[str]:
    """Return the secrets that `text` would hide."""
    found: list[str] = []
    for pattern in _PATTERNS:
        found += [each[2] for each in pattern.finditer(given)]
    return found


def _in_quotes(value: str, hide: Callable[[str], str]) -> str:
    """Hide a value but keep the quotes around it; an empty value is no secret."""
    quote = value[0] if re.fullmatch(_QUOTED, value) else ""
    inner = value[len(quote) : len(value) - len(quote)]
    return quote + hide(inner) + quote if inner else value


def data(given: bytes) -> bytes:
    """Return bytes of text, in any encoding, without secrets."""
    return text(given.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")


def json_data(given: bytes) -> bytes:
    """Return a JSON document with no secrets in its texts; b"" for what is no JSON."""
    try:
        return json.dumps(_in_values(json.loads(given))).encode()
    except (ValueError, RecursionError):
        return b""


def _in_values(value: object) -> object:
    if isinstance(value, str):
        return text(value)
    if isinstance(value, list):
        return [_in_values(each) for each in value]
    if isinstance(value, dict):
        return {
            text(key): HIDDEN if _is_secret(key, each) else _in_values(each) for key, each in value.items()
        }
    return value


def _is_secret(name: str, value: object) -> bool:
    return isinstance(value, str) and bool(value) and NAMED.search(f"{name}=") is not None


_SEEDS = ("kaslr-seed", "rng-seed")
"""Properties of /chosen: the running kernel's randomness, which kernels wipe once they have used it."""


_FIRMWARES_SECRETS = "security-"
"""How properties are named that only root may read, Open Firmware's password one (drivers/of/kobj.c)."""


def fact(name: str, given: bytes) -> bytes | None:
    """Return a file of a snapshot without secrets; None where the whole file is a secret."""
    if name == FIRMWARE_TREE:
        return _tree(given)
    if name.startswith(f"{UNPACKED_TREE}/"):
        *_, node, last = name.split("/")
        if node == "chosen":
            return None if last in _SEEDS else _same_length(given)
        return bytes(len(given)) if last.startswith(_FIRMWARES_SECRETS) else given
    if name == kallsyms.PATH:
        return kallsyms.without_most(given)
    return data(given) if name == "proc/cmdline" else given


def _tree(given: bytes) -> bytes | None:
    """Hide secrets in place.

    The rest of the blob stays as it is, because a fault in it may be what we look for.
    """
    try:
        chosen = dict(DeviceTree(given, FIRMWARE_TREE).nodes()).get("/chosen", {})
    except DeviceTreeError:
        return None  # nothing tells where the command line is
    for name, value in chosen.items():
        safe = bytes(len(value)) if name in _SEEDS else _same_length(value)
        if safe != value:
            given = given.replace(value, safe)
    return given


def _same_length(given: bytes) -> bytes:
    there = given.decode("latin-1")
    return text(there, lambda secret: "X" * len(secret)).encode("latin-1")

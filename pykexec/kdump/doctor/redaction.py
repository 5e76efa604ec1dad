"""Remove what must not leave the machine from doctor's facts, by file."""

from __future__ import annotations

import re

from pykexec import redact
from pykexec.kdump.config import debian, fedora, shell
from pykexec.kdump.config.errors import ConfigError

_AUDIT = "var/log/audit/audit.log"
_NO_TEXT = ("boot/config-", "proc/config.gz", "var/lib/dpkg/status")
"""Kernels' options and lists of packages: words have other meanings there."""
_DENIAL = re.compile(r"(?:^| )type=(?:USER_)?AVC .*\bdenied\b")
_TYPED = re.compile(r'\b(data|proctitle|cmd|cmdline)=("[^"]*"|\S+)')


def fact(name: str, data: bytes) -> bytes:
    """Return the file without secrets."""
    if name.startswith(_NO_TEXT):
        return data
    if name.endswith(".json"):
        return redact.json_data(data)
    text = data.decode("utf-8", "surrogateescape")
    if name == _AUDIT:
        text = "".join(_TYPED.sub(r"\1=", line) + "\n" for line in text.splitlines() if _DENIAL.search(line))
    if name in (fedora.SYSCONFIG, debian.FILE) or name.startswith("etc/default/grub"):
        return assignments(text).encode("utf-8", "surrogateescape")
    return redact.text(text).encode("utf-8", "surrogateescape")


_WORD = re.compile(
    r"""(?:(?<=\s)|^)\#[^\n]* | (?:[^\s'"\\;]+ | \\. | '[^']*' | "(?:[^"\\]|\\.)*" | ['"\\])+""",
    re.DOTALL | re.MULTILINE | re.VERBOSE,
)
"""A comment, or one word as a shell splits it; an unclosed quote is part of the word."""
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)(\+?=)(.+)", re.DOTALL)
_VARIABLE = re.compile(r"\$\{?([A-Za-z_]\w*)")


def assignments(text: str) -> str:
    """Return a file of shell assignments without secrets.

    Such a secret may have quotes, blanks or lines in it, or have been assigned to another name first.
    """
    names = _secret_names(text)
    try:
        shell.parse(text, "")
        is_whole = True
    except ConfigError:
        is_whole = False

    def without_secrets(found: re.Match[str]) -> str:
        if found[0].startswith("#"):
            return _comment(found[0])
        assignment = _ASSIGNMENT.fullmatch(found[0])
        if assignment is None:
            return redact.text(found[0])
        name, sign, value = assignment.groups()
        if name in names:
            return name + sign + _hidden(value, is_whole=is_whole)
        quote = value[0] if value[0] in "'\"" and value[0] == value[-1] and len(value) > 1 else ""
        return name + sign + quote + redact.text(value[len(quote) : len(value) - len(quote)]) + quote

    # The second pass finds what stands in several words: NAME = VALUE, --password VALUE.
    return redact.text(_WORD.sub(without_secrets, text))


def _comment(text: str) -> str:
    """Return a comment without secrets: all after a secret's name is hidden, since nothing marks its end."""
    name = redact.NAMED.search(text)
    if name is None or not text[name.end() :].strip():
        return redact.text(text)
    return redact.text(text[: name.end()]) + redact.HIDDEN


def _hidden(value: str, *, is_whole: bool) -> str:
    """Return the replacement of a secret value.

    Later lines keep their numbers, and a file that cannot be read because of a quote stays so.
    """
    if value in ("''", '""'):
        return value
    if not is_whole:
        return "".join(quote for quote in "'\"" if value.count(quote) % 2) + redact.HIDDEN
    lines = "\n" * value.count("\n")
    return f"'{redact.HIDDEN}{lines}'" if lines else redact.HIDDEN


def _secret_names(text: str) -> set[str]:
    """Return the names of secrets, and of the variables that these are made of."""
    found = [each for word in _WORD.finditer(text) if (each := _ASSIGNMENT.fullmatch(word[0]))]
    names = {name for name, sign, _ in map(re.Match[str].groups, found) if redact.NAMED.search(name + sign)}
    parts = [secret for each in found for secret in redact.secrets(each[3])]
    while True:
        parts += [each[3] for each in found if each[1] in names]
        more = {name for part in parts for name in _VARIABLE.findall(part)}
        if more <= names:
            return names
        names |= more

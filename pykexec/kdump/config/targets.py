"""Checked words of a configuration: users, hosts, paths, devices, programs.

Each type is a `str` that can only be made from text that fits its rule. Such a value cannot be mistaken for
an option, leave its folder, or end a line. `Target`, `Settings` and the capture image's `Destination`
contain nothing else, whichever configuration they come from.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Self

from pykexec.kdump.config.errors import ConfigError, shown

_USER = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.+\\-]*[A-Za-z0-9_.+-])?\$?")  # DOMAIN\user is one, too
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")
_USER_MAX = 256  # LOGIN_NAME_MAX
_NAME_MAX = 255  # of a file (NAME_MAX), and of a host (RFC 1035, 2.3.4)
_PATH_MAX = 4096
_TAGS = ("LABEL=", "UUID=", "PARTLABEL=", "PARTUUID=")


class Unfit(ConfigError):
    """An error for text that breaks the rule of its type.

    `fault` follows the name of the value: " has to be ...", or ": ... is no ...".
    """

    def __init__(self, fault: str, *, hint: str | None = None) -> None:
        super().__init__(f"a value of the configuration{fault}", hint=hint)
        self.fault = fault


class _Checked(str):
    def __new__(cls, text: str) -> Self:
        """Make a value. Raises Unfit for text that breaks the rule."""
        if type(text) is not cls:
            cls._check(text)
        return super().__new__(cls, text)

    @classmethod
    def _check(cls, text: str) -> None:
        raise NotImplementedError


class Command(_Checked):
    """A line for a shell."""

    @classmethod
    def _check(cls, text: str) -> None:
        if any(each in text for each in "\0\r\n"):
            raise Unfit(f" has to be one line, not {shown(text)}")


class User(_Checked):
    """The name to log in with."""

    @classmethod
    def _check(cls, text: str) -> None:
        if not _USER.fullmatch(text) or len(text) > _USER_MAX:
            raise Unfit(f": {shown(text)} is no name of a user")


class Host(_Checked):
    """A host's name, its IPv4 or its IPv6 address; the latter with or without brackets."""

    @classmethod
    def _check(cls, text: str) -> None:
        is_name = len(text) <= _NAME_MAX and _NAME.fullmatch(text)
        if not is_name and not _is_ipv6(text):
            raise Unfit(f": {shown(text)} is no name or address of a host")

    @property
    def bare(self) -> str:
        """The name or address without brackets."""
        return self.strip("[]")


class AbsolutePath(_Checked):
    """An absolute path without ".."."""

    @classmethod
    def _check(cls, text: str) -> None:
        if not text.startswith("/"):
            raise Unfit(f" has to be an absolute path, not {shown(text)}")
        _require_printable(text)
        if ".." in text.split("/"):
            raise Unfit(f": {shown(text)} has .. in it", hint="write the path without it")
        if len(text) > _PATH_MAX:
            raise Unfit(f" has more than {_PATH_MAX} characters")


class FileName(_Checked):
    """The name of one file or folder, neither hidden nor like an option."""

    @classmethod
    def _check(cls, text: str) -> None:
        _require_printable(text)
        if "/" in text or text.startswith((".", "-")) or not 0 < len(text) <= _NAME_MAX:
            raise Unfit(f": {shown(text)} is no name of a file or folder")


class Suffix(_Checked):
    """The end of a file's name."""

    @classmethod
    def _check(cls, text: str) -> None:
        FileName(f"x{text}")


class Program(_Checked):
    """A program: its absolute path, or its name, to be found in the usual folders."""

    @classmethod
    def _check(cls, text: str) -> None:
        (AbsolutePath if text.startswith("/") else FileName)(text)


class Device(_Checked):
    """A block device's path, or a name of its file system or partition: LABEL=, UUID= and their like."""

    @classmethod
    def _check(cls, text: str) -> None:
        tag = next((each for each in _TAGS if text.startswith(each)), None)
        if tag is None and not text.startswith("/"):
            raise Unfit(
                f": {shown(text)} names no device", hint=f"write /dev/... or one of {', '.join(_TAGS)}"
            )
        _require_printable(text)
        if text in (tag, "/dev/", "/dev/null", "/dev/zero") or " " in text:
            raise Unfit(f": {shown(text)} is no device to keep a dump on")
        if tag is None:
            AbsolutePath(text)


class ShareTag(_Checked):
    """The tag of a folder that the host shares through virtiofs."""

    @classmethod
    def _check(cls, text: str) -> None:
        _require_printable(text)
        _require_no_option(text)
        if not text or "/" in text or " " in text:
            raise Unfit(f" takes the tag of a shared folder, not {shown(text)}")


class Login(_Checked):
    """USER@HOST."""

    @classmethod
    def _check(cls, text: str) -> None:
        user, at, host = text.partition("@")
        if not at:
            raise Unfit(f" has to be USER@HOST, not {shown(text)}")
        User(user)
        Host(host)

    @property
    def user(self) -> User:
        return User(self.partition("@")[0])

    @property
    def host(self) -> Host:
        return Host(self.partition("@")[2])


class NfsExport(_Checked):
    """HOST:/FOLDER."""

    @classmethod
    def _check(cls, text: str) -> None:
        server, colon, folder = text.partition(":/")
        if not colon:
            raise Unfit(f" has to be HOST:/FOLDER, not {shown(text)}")
        if ":" in server and not server.startswith("["):
            hint = "put an IPv6 address in brackets: [2001:db8::1]:/export"
            raise Unfit(f": {shown(server)} is no name or address of a host", hint=hint)
        Host(server)
        AbsolutePath(f"/{folder}")

    @property
    def host(self) -> Host:
        return Host(self.partition(":/")[0])

    @property
    def folder(self) -> AbsolutePath:
        return AbsolutePath(f"/{self.partition(':/')[2]}")


class SmbShare(_Checked):
    """//HOST/SHARE."""

    @classmethod
    def _check(cls, text: str) -> None:
        host, slash, share = text.removeprefix("//").partition("/")
        if not text.startswith("//") or not slash or not share or "/" in share:
            raise Unfit(f" has to name a share, not {shown(text)}", hint="write cifs://HOST/SHARE/FOLDER")
        Host(host)
        AbsolutePath(f"/{share}")

    @property
    def host(self) -> Host:
        return Host(self.removeprefix("//").partition("/")[0])

    @property
    def folder(self) -> AbsolutePath:
        return AbsolutePath(f"/{self.removeprefix('//').partition('/')[2]}")


class FtpPlace(_Checked):
    """HOST or HOST:FOLDER."""

    @classmethod
    def _check(cls, text: str) -> None:
        bracket = text.find("]") + 1 if text.startswith("[") else 0
        colon = text.find(":", bracket)
        host, folder = (text, "") if colon < 0 else (text[:colon], text[colon + 1 :])
        Host(host)
        AbsolutePath(f"/{folder}")
        _require_no_option(folder)


class MountSource(_Checked):
    """The source of a --mount in dracut_args: a device, an export, a share."""

    @classmethod
    def _check(cls, text: str) -> None:
        _require_printable(text)
        _require_no_option(text)
        if not text or ".." in text.split("/"):
            raise Unfit(f": {shown(text)} names nothing to mount")


def _require_printable(text: str) -> None:
    if not text.isprintable():
        raise Unfit(f" has an unprintable character in it: {shown(text)}")


def _require_no_option(text: str) -> None:
    if text.startswith("-"):
        raise Unfit(f": {shown(text)} would be taken for an option")


def _is_ipv6(text: str) -> bool:
    if text.startswith("[") != text.endswith("]"):
        return False
    address, percent, zone = text.strip("[]").partition("%")
    if percent and not _NAME.fullmatch(zone):
        return False
    try:
        ipaddress.IPv6Address(address)
    except ValueError:
        return False
    return True

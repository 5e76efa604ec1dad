"""What ssh's own configuration says of a server: ssh itself tells it (ssh -G), with all of its rules.

The capture system has none of those files. What matters of them goes into the image by other ways.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pykexec import children
from pykexec.children import ChildError
from pykexec.kdump.capture.errors import Unsupported
from pykexec.kdump.config.errors import shown
from pykexec.kdump.config.targets import Host, Unfit, User

PORT = 22
_SECONDS = 30.0
_JUMP = re.compile(r"(?:ssh://)?(?:(?P<user>[^@]+)@)?(?P<host>\[[^]]+\]|[^:@\[]+)(?::(?P<port>\d{1,5}))?")
_KNOWN_AS = re.compile(r"[\w.:%\[\]-]+")


@dataclass(frozen=True, slots=True)
class Server:
    """A server as ssh would log in to it."""

    host: str
    """Its name or address."""
    port: int = PORT
    user: str = ""
    alias: str = ""
    """Its name in known_hosts, where that is another one."""
    keys: tuple[str, ...] = ()
    """The files of private keys that ssh would try."""
    jump: str = ""
    """The server to go through: [USER@]HOST[:PORT]."""

    @property
    def known_as(self) -> str:
        """Its name in known_hosts, see sshd(8)."""
        return self.alias or (f"[{self.host}]:{self.port}" if self.port != PORT else self.host)


def ask(host: str, user: str, port: int | None) -> Server:
    """Return what ssh would do for a host; only what is given where there is no ssh.

    Raises Unsupported for what the capture system cannot do.
    """
    given = ["-l", user, *(["-p", str(port)] if port else [])]
    try:
        done = children.run(["ssh", "-G", *given, "--", host], seconds=_SECONDS)
    except ChildError:
        return Server(host, port or PORT, user)
    return parse(done.stdout.decode("utf-8", "replace"), Server(host, port or PORT, user))


def parse(text: str, given: Server) -> Server:
    """Return what the text of `ssh -G` says, over what is given. Raises Unsupported."""
    lines = [each.partition(" ") for each in text.splitlines()]
    told: Mapping[str, str] = {name: value.strip() for name, _, value in lines}
    if told.get("proxycommand", "none") != "none":
        raise Unsupported(
            f"reaching {given.host} by a command of ssh's configuration (ProxyCommand)",
            instead="write ProxyJump there",
        )
    port, alias = told.get("port", ""), told.get("hostkeyalias", "none")
    return Server(
        _checked(Host, told.get("hostname") or given.host, given.host),
        int(port) if re.fullmatch(r"\d{1,5}", port) else given.port,
        told.get("user") or given.user,
        alias if alias != "none" and _KNOWN_AS.fullmatch(alias) else "",
        tuple(_expanded(value.strip()) for name, _, value in lines if name == "identityfile"),
        told.get("proxyjump", "none").removeprefix("none"),
    )


def jump_of(server: Server) -> Server | None:
    """Return the server that ssh goes through to another one; None for none.

    Raises Unsupported for several, or one that is not understood.
    """
    if not server.jump:
        return None
    found = _JUMP.fullmatch(server.jump)
    if found is None or "," in server.jump:
        raise Unsupported(
            f"reaching {server.host} through {shown(server.jump)} (ProxyJump)",
            instead="name one server to go through there, as USER@HOST:PORT",
        )
    host = _checked(Host, found["host"].strip("[]"), server.jump)
    asked = ask(host, found["user"] or "root", int(found["port"]) if found["port"] else None)
    if asked.jump:
        raise Unsupported(
            f"reaching {server.host} through {host}, itself behind {shown(asked.jump)} (ProxyJump)",
            instead="name one server to go through there",
        )
    # It becomes a line of a file, where a backslash would be more than itself.
    if "\\" in _checked(User, asked.user, server.jump):
        raise Unsupported(f"logging in to {host} as {shown(asked.user)} (ProxyJump)")
    return asked


def config_of(jump: Server, address: str, key: str, name: str) -> str:
    """Return a configuration for the capture system's ssh in which a server has that name."""
    lines = {
        "HostName": address,
        "Port": str(jump.port),
        "User": jump.user,
        "HostKeyAlias": jump.known_as,
        "IdentityFile": key,
        "BatchMode": "yes",
        "StrictHostKeyChecking": "yes",
        "ConnectTimeout": "30",
        "ServerAliveInterval": "15",
    }
    return f"Host {name}\n" + "".join(f"    {option} {value}\n" for option, value in lines.items())


def _expanded(path: str) -> str:
    try:
        return str(Path(path).expanduser())
    except RuntimeError:  # a user that does not exist
        return path


def _checked(kind: type[str], text: str, where: str) -> str:
    try:
        return kind(text)
    except Unfit as error:
        raise Unsupported(f"ssh's configuration for {shown(where)}{error.fault}") from None

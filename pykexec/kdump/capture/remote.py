"""Disks that a server has, and what the running system's sessions tell of the way to them.

NVMe over TCP, and iSCSI by the kernel's software initiator. What firmware has begun (iBFT, NBFT) is such a
session, too, by the time the service starts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pykexec.errors import FileError
from pykexec.kdump.capture.errors import Unsupported

_WORD = re.compile(r"[A-Za-z0-9.:_-]+")
# drivers/nvme/host/sysfs.c, drivers/scsi/scsi_transport_iscsi.c: what is not set, or not shown to this user.
_NOTHING = ("", "none", "(null)")


@dataclass(frozen=True, slots=True)
class RemoteDisk:
    """A disk that a server has, and how to reach it."""

    kind: str
    """The kind of layer that it is: nvme or iscsi."""
    server: str
    words: tuple[str, ...]
    """What /init's function for that kind is told; the first of it is the target's name."""
    modules: tuple[str, ...]
    login: tuple[str, ...] = field(default=(), repr=False)
    """iscsistart's options for CHAP, with the secrets; empty without."""

    @property
    def port(self) -> int:
        """The server's TCP port; 0 where the session tells none."""
        text = self.words[2]
        return int(text) if text.isdecimal() else 0


def find(disk: Path, sys: Path) -> RemoteDisk | None:
    """Return how a disk in sysfs is reached; None for one that is on a bus.

    Raises Unsupported for other ways over a network, and for names and secrets that cannot be passed on.
    """
    if disk.name.startswith("nvme"):
        return _nvme(disk)
    session = next((each for each in disk.parents if re.fullmatch(r"session[0-9]+", each.name)), None)
    return _iscsi(session, sys) if session else None


def _nvme(disk: Path) -> RemoteDisk | None:
    """Return the first session of several to the same disk: one is enough."""
    # With several paths (CONFIG_NVME_MULTIPATH) it is below the subsystem, beside links to its controllers.
    controllers = [disk.parent, *sorted(each.resolve() for each in disk.parent.glob("nvme*"))]
    kinds = {text: each for each in reversed(controllers) if (text := _text(each / "transport"))}
    if not kinds or "pcie" in kinds:
        return None
    controller = kinds.get("tcp")
    if controller is None:
        raise Unsupported(
            f"reaching {disk.name} by NVMe over {', '.join(kinds)}", instead="name another target"
        )
    secrets = ("dhchap_secret", "dhchap_ctrl_secret", "tls_key")
    if any(_text(controller / each) not in _NOTHING for each in secrets):
        raise Unsupported(f"reaching {disk.name} by NVMe with secrets", instead="name another target")
    address = dict(each.partition("=")[::2] for each in _text(controller / "address").split(","))
    server = address.get("traddr", "")
    names = [_text(controller / each) for each in ("subsysnqn", "hostnqn", "hostid")]
    words = _words(disk.name, names[0], server, address.get("trsvcid", ""), *names[1:])
    return RemoteDisk("nvme", server, words, ("nvme_tcp",))


def _iscsi(session: Path, sys: Path) -> RemoteDisk:
    told = sys / "class/iscsi_session" / session.name
    target = _text(told / "targetname")
    if session.parent.parent.name != "platform":
        raise Unsupported(
            f"reaching the iSCSI target {target} by a card that speaks it itself",
            instead="name another target",
        )
    (number,) = re.findall(r"[0-9]+$", session.name)
    connection = sys / "class/iscsi_connection" / f"connection{number}:0"
    server, port = (_text(connection / f"persistent_{each}") for each in ("address", "port"))
    words = _words(target, target, server, port, _text(told / "tpgt"), _text(told / "initiatorname"))
    return RemoteDisk("iscsi", server, words, ("iscsi_tcp", "sd_mod"), tuple(_login(told, target)))


def _login(session: Path, target: str) -> Iterator[str]:
    """Yield iscsistart's options for CHAP: for the initiator, and for the target. Raises FileError."""
    for suffix, options in (("", ("-u", "-w")), ("_in", ("-U", "-W"))):
        user, secret = (_text(session / f"{each}{suffix}") for each in ("username", "password"))
        if user in _NOTHING:
            continue
        if secret in _NOTHING:
            hint = "run as root; or log in again, so that the running system knows it"
            raise FileError(f"the secret of the iSCSI session with {target} cannot be read", hint=hint)
        yield from (options[0], user, options[1], secret)


def _words(what: str, *words: str) -> tuple[str, ...]:
    for word in words:
        if not _WORD.fullmatch(word):
            raise Unsupported(f"reaching {what}, whose session has {word[:200]!r} for a name or an address")
    return words


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace").removesuffix("\n")
    except OSError:
        return ""

"""The options of an NFS mount, as the capture system can give them again (nfs(5))."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pykexec.kdump.capture.errors import Unsupported
from pykexec.kdump.config.errors import shown

TYPES = ("nfs", "nfs4")
VERSIONS = ("4.2", "4.1", "4", "3")
_VERSION = re.compile(r"[34](?:\.[0-2])?")
_PORT = re.compile(r"\d{1,5}")
_PORT_MAX = 65535
_SECURITY = ("sys", "none", "null")
_TRANSPORTS = ("tcp", "tcp6", "udp", "udp6")


@dataclass(frozen=True, slots=True)
class NfsOptions:
    """What matters of the options after a crash, too: neither sizes nor caches do."""

    versions: tuple[str, ...] = VERSIONS
    """The versions to try, in this order."""
    port: str = ""
    server: str = ""
    """The server's address, where the mount tells it."""
    more: tuple[str, ...] = ()
    """Words to mount with."""


def parse(text: str, type: str = "nfs") -> NfsOptions:
    """Return the options of a mount, as the kernel lists them or a configuration gives them.

    Raises Unsupported for what takes a daemon, which the capture system has not.
    """
    told = {name: value for name, _, value in (each.partition("=") for each in text.split(","))}
    _refuse(told)
    port, more = told.get("port", ""), []
    if told.get("proto", "").startswith("udp") or "udp" in told:
        more.append("proto=udp")
    if "noresvport" in told:
        more.append("noresvport")
    if told.get("sec") in ("none", "null"):
        more.append("sec=none")
    return NfsOptions(
        _versions(told, type),
        port if _PORT.fullmatch(port) and 0 < int(port) <= _PORT_MAX else "",
        told.get("addr", ""),
        tuple(more),
    )


def _refuse(told: dict[str, str]) -> None:
    # sec= may be a list, of which the server takes one.
    wanted = told.get("sec", "sys").split(":")
    if not set(wanted) & set(_SECURITY):
        raise Unsupported(
            f"mounting NFS with sec={shown(told['sec'])}, which takes rpc.gssd and a ticket, after a crash",
            instead="export a folder to this machine with sec=sys",
        )
    if told.get("xprtsec", "none") != "none":
        raise Unsupported(
            f"mounting NFS with xprtsec={shown(told['xprtsec'])}, which takes tlshd",
            instead="export a folder to this machine without TLS",
        )
    if told.get("proto", "tcp") not in _TRANSPORTS or "rdma" in told:
        raise Unsupported("mounting NFS over RDMA", instead="export a folder over TCP")


def _versions(told: dict[str, str], type: str) -> tuple[str, ...]:
    version = told.get("vers", told.get("nfsvers", ""))
    if version == "4" and told.get("minorversion"):
        version = f"4.{told['minorversion']}"
    version = version.removesuffix(".0")
    if _VERSION.fullmatch(version):
        return (version,)
    return VERSIONS[:-1] if type == "nfs4" else VERSIONS

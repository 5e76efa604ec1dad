"""Check whether ssh will log in to a server from the capture system, where there is nobody to ask.

ssh-keygen judges by ssh's own rules. What it cannot judge counts as good.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from pathlib import Path

from pykexec import children
from pykexec.children import ChildError
from pykexec.errors import FileError
from pykexec.kdump.capture.destination import SSH_PORT
from pykexec.kdump.config.settings import Target

KNOWN_HOSTS = ("/root/.ssh/known_hosts", "/etc/ssh/ssh_known_hosts")
_NOT_FOUND = 1
_DOES_NOT_OPEN = b"Load key "  # load_identity() of ssh-keygen.c
_SECONDS = 30.0  # for a local file of a few KiB


def known_as(target: Target) -> str:
    """Return the server's name in known_hosts, see sshd(8)."""
    host = target.address.rpartition("@")[2].strip("[]")
    return f"[{host}]:{target.port}" if target.port not in (None, SSH_PORT) else host


def given_key(target: Target) -> str:
    """Return the server's key that the configuration has, as in known_hosts; "" where it has none, or *."""
    found = dict(target.options).get("host_key", "")
    return "" if found == "*" else found


def command(target: Target, key: str) -> str:
    """Return the command that logs in from the running system, for people to try."""
    port = f" -p {target.port}" if target.port not in (None, SSH_PORT) else ""
    return f"ssh -i {shlex.quote(key)}{port} {shlex.quote(target.address)}"


def is_known(name: str, files: Iterable[Path]) -> bool:
    """Return whether a file in the format of known_hosts has the key of a server, or an authority's."""
    # ssh looks for names in lower case.
    return any(_ssh_keygen("-F", name.lower(), "-f", str(file))[0] != _NOT_FOUND for file in files)


def is_usable(key: Path) -> bool:
    """Return whether a file is a private key that opens without a passphrase. Raises FileError."""
    try:
        data = key.read_bytes()
    except OSError as error:
        raise FileError(f"cannot read {key}: {error.strerror}") from error
    # Not the file itself: its permissions here say nothing about the image, but ssh-keygen would refuse it.
    copy = os.memfd_create("key")
    with os.fdopen(copy, "wb") as file:
        os.fchmod(copy, 0o600)
        file.write(data)
        file.flush()
        _, said = _ssh_keygen("-y", "-P", "", "-f", f"/proc/self/fd/{copy}", keep=(copy,))
        return not said.startswith(_DOES_NOT_OPEN)


def _ssh_keygen(*arguments: str, keep: tuple[int, ...] = ()) -> tuple[int, bytes]:
    """Return ssh-keygen's exit status and messages; 0 and none where it is missing, or does not end."""
    try:
        done = children.run(["ssh-keygen", *arguments], seconds=_SECONDS, pass_fds=keep)
    except ChildError:
        return 0, b""
    return done.returncode, done.stderr

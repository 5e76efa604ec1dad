"""A server that stops answering, as a program that QEMU starts for each connection to it.

PORT BYTES FILE: it relays to that port of this machine until so much has come from the guest, by any of the
connections that have that file in common. From then on it takes what comes, and passes nothing on.
"""

import os
import selectors
import shlex
import socket
import sys
from pathlib import Path

_GUEST = 0
_AT_ONCE = 1 << 16


def program(port: int, after: int, folder: Path) -> str:
    """The command for QEMU; a folder for each machine."""
    return shlex.join([sys.executable, __file__, str(port), str(after), str(folder / "stalled")])


def relay(server: socket.socket, after: int, stalled: Path) -> None:
    """Relay until one side ends the connection."""
    come = 0
    with selectors.DefaultSelector() as waiting:
        waiting.register(_GUEST, selectors.EVENT_READ)
        waiting.register(server, selectors.EVENT_READ)
        while True:
            for key, _ in waiting.select():
                data = os.read(key.fd, _AT_ONCE)
                if not data:
                    return
                come += len(data) if key.fd == _GUEST else 0
                if come > after:
                    stalled.touch()
                if not stalled.exists():
                    _write(server.fileno() if key.fd == _GUEST else _GUEST, data)


def _write(to: int, data: bytes) -> None:
    while data:
        data = data[os.write(to, data) :]


if __name__ == "__main__":
    relay(socket.create_connection(("127.0.0.1", int(sys.argv[1]))), int(sys.argv[2]), Path(sys.argv[3]))

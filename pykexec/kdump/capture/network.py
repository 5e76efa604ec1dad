"""How the running system reaches a server, so that the capture system goes the same way.

The capture system gets the same address on the same card: no DHCP server has to answer after a crash, and
no other interface can be taken for the right one.
"""

from __future__ import annotations

import fcntl
import ipaddress
import socket
import struct
from dataclasses import dataclass
from pathlib import Path

from pykexec.errors import PykexecError
from pykexec.kdump.capture.blockdevice import drivers_above
from pykexec.kdump.capture.errors import OutOfReach

_SIOCGIFADDR, _SIOCGIFNETMASK = 0x8915, 0x891B  # include/uapi/linux/sockios.h
_ADDRESS_AT = 20  # in struct ifreq: behind the name, the family and the port


@dataclass(frozen=True, slots=True)
class Network:
    """One interface, and the way to the server."""

    server: str
    """The server's IPv4 address."""
    mac: str
    address: str
    """This machine's address with the length of its prefix: 192.0.2.7/24."""
    gateway: str
    """Empty where the server is in the same network."""
    drivers: tuple[str, ...]
    """The modules that drive the card."""


def route_to(host: str, sys: Path = Path("/sys"), proc: Path = Path("/proc")) -> Network:
    """The way to a server, by name or address. Raises PykexecError where there is none by IPv4."""
    server, source = _endpoints(host)
    name = _interface_with(source)
    folder = (sys / "class/net" / name).resolve()
    if not (folder / "device").exists():
        raise OutOfReach(
            f"{host} is reached through {name}, which is no card (a bridge, bond, VLAN or tunnel)"
        )
    return Network(
        server,
        (folder / "address").read_text().strip(),
        str(ipaddress.ip_interface(f"{source}/{_query(name, _SIOCGIFNETMASK)}")),
        gateway((proc / "net/route").read_text(), name, server),
        tuple(dict.fromkeys(drivers_above((folder / "device").resolve(), sys))),
    )


def gateway(table: str, name: str, server: str) -> str:
    """Of the routes in /proc/net/route through an interface the most exact one's gateway, or nothing."""
    best, found = -1, ""
    for line in table.splitlines()[1:]:
        words = line.split()
        if len(words) < 8 or words[0] != name:
            continue
        destination, via, mask = (_address(words[at]) for at in (1, 2, 7))
        network = ipaddress.IPv4Network(f"{destination}/{mask}", strict=False)
        if ipaddress.ip_address(server) in network and network.prefixlen > best:
            best, found = network.prefixlen, "" if not int(via) else str(via)
    return found


def _address(digits: str) -> ipaddress.IPv4Address:
    # fib_route_seq_show() prints them as numbers of the CPU's byte order.
    return ipaddress.IPv4Address(struct.pack("=I", int(digits, 16)))


def _endpoints(host: str) -> tuple[str, str]:
    """The server's address and our own on the way to it. Nothing is sent."""
    hint = "the server has to be reachable, by IPv4, when the service starts"
    try:
        server = str(socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_DGRAM)[0][4][0])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((server, 9))
            return server, str(probe.getsockname()[0])
    except OSError as error:
        raise PykexecError(
            f"the dump target's server {host}: {error.strerror or error}", hint=hint
        ) from error


def _interface_with(address: str) -> str:
    for _, name in socket.if_nameindex():
        if _query(name, _SIOCGIFADDR) == address:
            return name
    raise PykexecError(f"no network interface has the address {address}")


def _query(name: str, request: int) -> str:
    """An address of an interface; empty where it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            answer = fcntl.ioctl(any_socket, request, struct.pack("256s", name.encode()))
        except OSError:
            return ""
    return socket.inet_ntoa(answer[_ADDRESS_AT : _ADDRESS_AT + 4])

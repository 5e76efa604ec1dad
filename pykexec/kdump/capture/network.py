"""Find how the running system reaches a server, so that the capture system uses the same way.

The capture system gets the same address on the same card. So no DHCP server has to answer after a crash, and
no other interface can be mistaken for the right one.
"""

from __future__ import annotations

import array
import fcntl
import ipaddress
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pykexec.errors import PykexecError
from pykexec.kdump.capture.blockdevice import drivers_above
from pykexec.kdump.capture.errors import Unsupported

_SIOCGIFCONF, _SIOCGIFNETMASK = 0x8912, 0x891B  # include/uapi/linux/sockios.h
_IFREQ = struct.Struct("=16sHxx4s16x")  # include/uapi/linux/if.h, with a struct sockaddr_in
_ADDRESSES_MAX = 4096


@dataclass(frozen=True, slots=True)
class Network:
    """An interface, and the way to the server."""

    server: str
    """The server's IPv4 address."""
    mac: str
    address: str
    """This machine's address with the length of its prefix: 192.0.2.7/24."""
    gateway: str
    """The gateway; empty where the server is in the same network."""
    drivers: tuple[str, ...]
    """The modules that drive the card."""


def route_to(host: str, sys: Path = Path("/sys"), proc: Path = Path("/proc")) -> Network:
    """Return the way to a server, by name or address. Raises PykexecError where there is none by IPv4."""
    server, source = _endpoints(host)
    name, address = interface_with(source)
    folder = (sys / "class/net" / name).resolve()
    if not (folder / "device").exists():
        raise Unsupported(
            f"{host} is reached through {name}, which is no card (a bridge, bond, VLAN or tunnel)"
        )
    return Network(
        server,
        (folder / "address").read_text().strip(),
        address,
        gateway((proc / "net/route").read_text(), name, server),
        tuple(dict.fromkeys(drivers_above((folder / "device").resolve(), sys))),
    )


def gateway(table: str, name: str, server: str) -> str:
    """Return the gateway of the most specific route to the server through an interface; "" for none.

    `table` is the text of /proc/net/route.
    """
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
    # fib_route_seq_show() prints addresses as numbers in the CPU's byte order.
    return ipaddress.IPv4Address(struct.pack("=I", int(digits, 16)))


def _endpoints(host: str) -> tuple[str, str]:
    """Return the server's address and our own on the way to it. Nothing is sent. Raises PykexecError."""
    hint = "the server has to be reachable, by IPv4, when the service starts"
    try:
        server = str(socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_DGRAM)[0][4][0])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((server, 9))
            return server, str(probe.getsockname()[0])
    except UnicodeError as error:  # an empty label, or one of more than 63 characters
        raise PykexecError(f"the dump target's server {host}: no host can have this name") from error
    except OSError as error:
        raise PykexecError(
            f"the dump target's server {host}: {error.strerror or error}", hint=hint
        ) from error


def interface_with(address: str) -> tuple[str, str]:
    """Return the interface that has an IPv4 address, and the address with its prefix.

    Raises PykexecError.
    """
    wanted = socket.inet_aton(address)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for label, _, found in _addresses(any_socket):
            if found == wanted:
                # devinet_ioctl() compares the address, too: this is its mask, not that of another address.
                asked = _IFREQ.pack(label, socket.AF_INET, found)
                *_, mask = _IFREQ.unpack(fcntl.ioctl(any_socket, _SIOCGIFNETMASK, asked))
                interface = ipaddress.ip_interface(f"{address}/{socket.inet_ntoa(mask)}")
                # An address may have its own label: eth0:1.
                return label.partition(b"\0")[0].partition(b":")[0].decode(), str(interface)
    raise PykexecError(f"no network interface has the address {address}")


def _addresses(any_socket: socket.socket) -> Iterator[tuple[bytes, int, bytes]]:
    """Return the labels, families and addresses of all interfaces, see netdevice(7)."""
    space = array.array("B", bytes(_ADDRESSES_MAX * _IFREQ.size))
    told = fcntl.ioctl(any_socket, _SIOCGIFCONF, struct.pack("iP", len(space), space.buffer_info()[0]))
    length, _ = struct.unpack("iP", told)
    return _IFREQ.iter_unpack(space[:length].tobytes())

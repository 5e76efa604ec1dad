"""Find how the running system reaches a server, so that the capture system uses the same way.

The capture system gets the same address on the same links. So no DHCP server has to answer and no router has
to announce itself after a crash, and no other interface can be mistaken for the right one.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pykexec.errors import MachineError, PykexecError
from pykexec.kdump.capture import links, rtnetlink
from pykexec.kdump.capture.links import Links
from pykexec.kdump.capture.rtnetlink import Address, Route

_ANSWER = 3.0
"""The seconds in which a server has to answer where it has several addresses."""


@dataclass(frozen=True, slots=True)
class Network:
    """An interface, and the way to the server."""

    server: str
    """The server's address."""
    links: Links
    """What the interface is made of."""
    address: str
    """This machine's address with the length of its prefix: 192.0.2.7/24."""
    gateway: str = ""
    """The gateway; empty where the server is in the same network."""
    mtu: int = 0
    """The size of packets that the route is limited to, in bytes; 0 for none of its own."""

    @property
    def own(self) -> str:
        """This machine's address alone."""
        return self.address.partition("/")[0]

    @property
    def neighbour(self) -> str:
        """Return the address to reach first that the interface's own network does not have; "" for none.

        Clouds have gateways in no network of the card; and DHCPv6 gives addresses without a network.
        """
        first = ipaddress.ip_address(self.gateway or self.server)
        own = ipaddress.ip_interface(self.address).network
        return "" if first.is_link_local or first in own else str(first)


def route_to(host: str, port: int, sys: Path = Path("/sys")) -> Network:
    """Return the way to a server, by name or address, that listens at a TCP port.

    Raises PykexecError where there is none, or one that the capture system cannot go.
    """
    with _reachable(f"the dump target's server {host}", "the server has"):
        server, scope = _choose(_addresses(host), port)
    return _way_to(server, scope, sys)


def route_to_node(node: str, family: socket.AddressFamily, sys: Path = Path("/sys")) -> Network:
    """Return the way to a node of a cluster, by name or address, which listens for datagrams.

    Raises PykexecError where there is none, or one that the capture system cannot go.
    """
    with _reachable(f"the cluster's node {node}", "the nodes have"):
        # Nobody answers a datagram: the first address counts, as for the program that sends it.
        address, scope = _addresses(node, family)[0]
        _route(address, scope)
    return _way_to(address, scope, sys)


@contextmanager
def _reachable(who: str, they_have: str) -> Iterator[None]:
    try:
        yield
    except PykexecError as error:
        hint = f"{they_have} to be reachable when the service starts"
        raise PykexecError(f"{who}: {error.what}", hint=hint) from error


def _way_to(server: Address, scope: int, sys: Path) -> Network:
    route = _route(server, scope)
    own = ipaddress.ip_address(route.source)
    name = socket.if_indextoname(route.interface)
    length = rtnetlink.ask_prefix(own, route.interface)
    return Network(str(server), links.describe(name, sys), f"{own}/{length}", route.gateway, route.mtu)


def _addresses(host: str, family: socket.AddressFamily = socket.AF_UNSPEC) -> Sequence[tuple[Address, int]]:
    """Return a host's addresses, each with its interface's number; the best first. Raises PykexecError."""
    try:
        found = socket.getaddrinfo(host, None, family, socket.SOCK_DGRAM)
    except UnicodeError as error:  # an empty label, or one of more than 63 characters
        raise PykexecError("no host can have this name") from error
    except OSError as error:
        raise PykexecError(error.strerror or str(error)) from error
    told = dict.fromkeys((str(each[4][0]).partition("%")[0], _scope(each[4])) for each in found)
    return [(ipaddress.ip_address(text), scope) for text, scope in told]


def _scope(place: Sequence[object]) -> int:
    return place[3] if len(place) > 3 and isinstance(place[3], int) else 0


def _choose(addresses: Sequence[tuple[Address, int]], port: int) -> tuple[Address, int]:
    """Return the first address to which there is a way; of several, the first at which the server answers.

    Raises PykexecError.
    """
    usable: list[tuple[Address, int]] = []
    why = "no address"
    for address, scope in addresses:
        try:
            _route(address, scope)
        except PykexecError as error:
            why = error.what
        else:
            usable.append((address, scope))
    if not usable:
        raise PykexecError(why)
    return next((each for each in usable if len(usable) == 1 or _answers(*each, port)), usable[0])


def _answers(address: Address, scope: int, port: int) -> bool:
    place = (str(address), port) if address.version == 4 else (str(address), port, 0, scope)
    with socket.socket(rtnetlink.family_of(address), socket.SOCK_STREAM) as probe, suppress(OSError):
        probe.settimeout(_ANSWER)
        probe.connect(place)
        return True
    return False


def _route(address: Address, scope: int) -> Route:
    """Return the way to an address. Raises MachineError."""
    try:
        return rtnetlink.ask_route(address, scope)
    except OSError as error:
        raise MachineError(f"the kernel does not tell the way to {address}: {error.strerror}") from error

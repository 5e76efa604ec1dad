"""Ask the kernel which way it takes to an address, and what the interfaces on that way are.

The way follows its rules, tables, metrics and source addresses. rtnetlink(7); include/uapi/linux/netlink.h,
rtnetlink.h, if_addr.h, if_link.h, if_bridge.h. No program has to be installed for it.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pykexec.errors import MachineError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_ATTRIBUTE = struct.Struct("=HH")  # struct rtattr
_ROUTE = struct.Struct("=BBBBBBBBI")  # struct rtmsg
_ADDRESS = struct.Struct("=BBBBI")  # struct ifaddrmsg
_LINK = struct.Struct("=BxHiII")  # struct ifinfomsg
_NUMBER = struct.Struct("=I")
_NEW_LINK, _GET_LINK, _NEW_ADDRESS, _GET_ADDRESS, _NEW_ROUTE, _GET_ROUTE = 16, 18, 20, 22, 24, 26
_ERROR, _DONE = 2, 3
_REQUEST, _DUMP = 0x1, 0x300
_TYPE_MASK = 0x3FFF  # NLA_TYPE_MASK
_DST, _OIF, _GATEWAY, _PREFSRC, _METRICS, _VIA = 1, 4, 5, 7, 8, 18  # RTA_*
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_LINK_INFO, _AF_SPEC, _EXT_MASK = 18, 26, 29  # IFLA_*
_INFO_KIND, _INFO_DATA = 1, 2  # IFLA_INFO_*
_VLAN_ID, _VLAN_PROTOCOL = 1, 5  # IFLA_VLAN_*
_WITH_BRIDGE_VLANS = 0x4  # RTEXT_FILTER_BRVLAN_COMPRESSED: all 4094 of them would be too long an answer
_BRIDGE_VLAN_INFO = 2  # IFLA_BRIDGE_VLAN_INFO, one for each end of a range of VLANs
_BRIDGE_VLAN = struct.Struct("=HH")  # struct bridge_vlan_info
_PVID, _UNTAGGED, _RANGE_BEGIN = 0x2, 0x4, 0x8  # BRIDGE_VLAN_INFO_*
_RTAX_MTU = 2
_RTN_UNICAST = 1
_REPLY_MAX = 1 << 16
_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Message:
    """A message of the kernel: its type, and what follows its header."""

    type: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Route:
    """The way that the kernel takes to an address."""

    interface: int
    """The number of the interface."""
    gateway: str
    """The next router's address; empty where the destination is on the interface's own network."""
    source: str
    """This machine's address on that way."""
    mtu: int
    """The size of packets that the route is limited to, in bytes; 0 for the interface's own."""


@dataclass(frozen=True, slots=True)
class Link:
    """What the kernel tells of an interface."""

    kind: str
    """The kind, for instance bond, vlan or wireguard; empty for a card."""
    vlan: int = 0
    """The number of the VLAN; 0 for an interface of another kind."""
    protocol: int = 0
    """The type of Ethernet that marks the VLAN's packets."""


@dataclass(frozen=True, slots=True)
class PortVlans:
    """VLANs that a bridge lets through one of its ports; it is a port itself, for its own packets."""

    numbers: range
    is_default: bool
    """Whether packets without a tag that come in there are of this VLAN."""
    untagged: bool
    """Whether their packets leave there without a tag."""


def ask_route(address: Address, scope: int = 0) -> Route:
    """Return the way to an address; `scope` is the number of a link-local address's interface.

    Raises MachineError where there is none, OSError where the kernel does not answer.
    """
    family = family_of(address)
    body = _ROUTE.pack(family, address.max_prefixlen, 0, 0, 0, 0, 0, 0, 0) + _attribute(_DST, address.packed)
    if scope:
        body += _attribute(_OIF, _NUMBER.pack(scope))
    return route_of(_asked(_GET_ROUTE, 0, body), str(address))


def ask_prefix(address: Address, interface: int) -> int:
    """Return the length of the prefix of an interface's own address. Raises MachineError, OSError."""
    request = _ADDRESS.pack(family_of(address), 0, 0, 0, 0)
    return prefix_of(_asked(_GET_ADDRESS, _DUMP, request), address, interface)


def ask_link(interface: int) -> Link:
    """Return what an interface is, by its number. Raises MachineError, OSError."""
    return link_of(_asked(_GET_LINK, 0, _LINK.pack(socket.AF_UNSPEC, 0, interface, 0, 0)))


def ask_bridge_vlans() -> Mapping[int, Sequence[PortVlans]]:
    """Return the VLANs of all bridges and their ports, by interface number. Raises MachineError, OSError."""
    request = _LINK.pack(socket.AF_BRIDGE, 0, 0, 0, 0)
    request += _attribute(_EXT_MASK, _NUMBER.pack(_WITH_BRIDGE_VLANS))
    return bridge_vlans_of(_asked(_GET_LINK, _DUMP, request))


def family_of(address: Address) -> socket.AddressFamily:
    """Return the family of sockets for an address."""
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


@contextmanager
def _understood() -> Iterator[None]:
    try:
        yield
    except (struct.error, ValueError) as error:  # a number or an address of another length
        raise MachineError(f"the kernel's answer about the network is not understood: {error}") from None


@_understood()
def route_of(reply: bytes, name: str) -> Route:
    """Return the route in the kernel's answer. Raises MachineError where there is none that leaves here."""
    for message in parse(reply):
        if message.type == _NEW_ROUTE:
            kind = _ROUTE.unpack_from(message.body)[7]
            found = attributes(message.body[_ROUTE.size :])
            if kind != _RTN_UNICAST or _OIF not in found:
                raise MachineError(f"{name} is no other machine, or one to which there is no route")
            if _VIA in found:
                raise MachineError(
                    f"the way to {name} leads over a gateway of the other family (an IPv4 route via inet6)",
                    hint="name the server by its IPv6 address",
                )
            return Route(
                _NUMBER.unpack(found[_OIF])[0],
                _text(found.get(_GATEWAY)),
                _text(found.get(_PREFSRC)),
                _mtu(found.get(_METRICS, b"")),
            )
    raise MachineError(f"the kernel tells no route to {name}")


@_understood()
def prefix_of(reply: bytes, address: Address, interface: int) -> int:
    """Return the length of an address's prefix from the kernel's list of addresses. Raises MachineError."""
    for message in parse(reply):
        if message.type == _NEW_ADDRESS:
            _, length, _, _, index = _ADDRESS.unpack_from(message.body)
            found = attributes(message.body[_ADDRESS.size :])
            # On a point-to-point interface IFA_ADDRESS is the other side's.
            if index == interface and found.get(_IFA_LOCAL, found.get(_IFA_ADDRESS)) == address.packed:
                return int(length)
    raise MachineError(
        f"the interface on the way to the server has not the address {address}, which is used on that way",
        hint="give the route to the server a source address (src) of the interface's own",
    )


@_understood()
def link_of(reply: bytes) -> Link:
    """Return the interface in the kernel's answer. Raises MachineError."""
    for message in parse(reply):
        if message.type == _NEW_LINK:
            told = attributes(message.body[_LINK.size :])
            info = attributes(told.get(_LINK_INFO, b""))
            kind = info.get(_INFO_KIND, b"").rstrip(b"\0").decode("ascii", "replace")
            if kind != "vlan":
                return Link(kind)
            vlan = attributes(info.get(_INFO_DATA, b""))
            (number,) = struct.unpack("=H", vlan.get(_VLAN_ID, b""))
            return Link(kind, number, int.from_bytes(vlan.get(_VLAN_PROTOCOL, b""), "big"))
    raise MachineError("the kernel tells nothing about a network interface")


@_understood()
def bridge_vlans_of(reply: bytes) -> Mapping[int, Sequence[PortVlans]]:
    """Return the VLANs of bridges' ports from the kernel's list of them. Raises MachineError."""
    found: dict[int, Sequence[PortVlans]] = {}
    for message in parse(reply):
        if message.type == _NEW_LINK:
            number = _LINK.unpack_from(message.body)[2]
            told = attributes(message.body[_LINK.size :])
            found[number] = list(_port_vlans(told.get(_AF_SPEC, b"")))
    return found


def _port_vlans(told: bytes) -> Iterator[PortVlans]:
    first = None
    for kind, data in _each_attribute(told):
        if kind != _BRIDGE_VLAN_INFO:
            continue
        flags, number = _BRIDGE_VLAN.unpack(data)
        if flags & _RANGE_BEGIN:
            first = number
            continue
        numbers = range(number if first is None else first, number + 1)
        yield PortVlans(numbers, bool(flags & _PVID), bool(flags & _UNTAGGED))
        first = None


def parse(reply: bytes) -> Iterator[Message]:
    """Yield the messages of an answer. Raises MachineError for an error in it, or for what is none."""
    at = 0
    while at + _HEADER.size <= len(reply):
        length, kind, *_ = _HEADER.unpack_from(reply, at)
        body = reply[at + _HEADER.size : at + length]
        if length < _HEADER.size or at + length > len(reply):
            raise MachineError("the kernel's answer about the network ends in the middle of a message")
        if kind == _ERROR and len(body) >= 4:
            number = -struct.unpack_from("=i", body)[0]
            if number:
                raise MachineError(f"{os.strerror(number)} ({errno.errorcode.get(number, number)})")
        yield Message(kind, body)
        at += _aligned(length)


def attributes(data: bytes) -> Mapping[int, bytes]:
    """Return the attributes of a message, by number. Raises MachineError for what is none."""
    return dict(_each_attribute(data))


def _each_attribute(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the attributes of a message, with their numbers. Raises MachineError for what is none."""
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size or at + length > len(data):
            raise MachineError("the kernel's answer about the network ends in the middle of an attribute")
        yield kind & _TYPE_MASK, data[at + _ATTRIBUTE.size : at + length]
        at += _aligned(length)


def _asked(kind: int, flags: int, body: bytes) -> bytes:
    """Return the kernel's whole answer."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as asker:
        asker.settimeout(_SECONDS)
        asker.send(_HEADER.pack(_HEADER.size + len(body), kind, _REQUEST | flags, 1, 0) + body)
        reply = last = asker.recv(_REPLY_MAX)
        while flags & _DUMP and all(each.type not in (_DONE, _ERROR) for each in parse(last)):
            last = asker.recv(_REPLY_MAX)
            reply += last
        return reply


def _attribute(kind: int, data: bytes) -> bytes:
    packed = _ATTRIBUTE.pack(_ATTRIBUTE.size + len(data), kind) + data
    return packed.ljust(_aligned(len(packed)), b"\0")


def _aligned(length: int) -> int:
    return (length + 3) & ~3


def _text(packed: bytes | None) -> str:
    return str(ipaddress.ip_address(packed)) if packed else ""


def _mtu(metrics: bytes) -> int:
    mtu = attributes(metrics).get(_RTAX_MTU)
    return int(_NUMBER.unpack(mtu)[0]) if mtu else 0

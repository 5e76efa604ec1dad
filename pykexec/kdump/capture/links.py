"""Describe a network interface of the running system so that the capture system makes the same one again.

Cards are known by their addresses and their places on the bus, never by their names. What lies over them is
made again: bonds with the same mode and options, VLANs with the same numbers. Of a bridge the port below it
is enough, with the tag that packets have there. A team becomes the bond that does the same.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pykexec import children
from pykexec.children import ChildError
from pykexec.errors import MachineError
from pykexec.kdump.capture import rtnetlink
from pykexec.kdump.capture.blockdevice import drivers_above, location
from pykexec.kdump.capture.errors import Unsupported
from pykexec.kdump.capture.layers import attribute
from pykexec.kdump.capture.rtnetlink import Link, PortVlans

MTU = 1500
"""The bytes that a packet may have on an interface that nobody has told anything else (ETH_DATA_LEN)."""
_DEPTH_MAX = 16
_MAC_SET_TYPES = ("1", "3")  # NET_ADDR_RANDOM, NET_ADDR_SET of include/uapi/linux/netdevice.h
_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5,31}")
_PLACE = re.compile(r"/devices/[\w:.,@+/-]+")
_VALUE = re.compile(r"[\w:.,+-]+")
_MODE = "mode"
# In the order to set them: most depend on the mode (Documentation/networking/bonding.rst).
_OPTIONS = (_MODE, "fail_over_mac", "xmit_hash_policy", "miimon", "updelay")
_LACP = "802.3ad"
_LACP_OPTIONS = ("lacp_rate", "ad_select")
_ARP_OPTIONS = ("arp_interval", "arp_validate", "arp_all_targets")
_NOTHING = ("", "0", "none")
_MIIMON = ("miimon", "100")
# libteam's teamd.conf(5): what a runner does, as a mode of bonds.
_RUNNERS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "activebackup": ((_MODE, "active-backup"),),
    "broadcast": ((_MODE, "broadcast"),),
    "roundrobin": ((_MODE, "balance-rr"),),
    "loadbalance": ((_MODE, "balance-xor"), ("xmit_hash_policy", "layer3+4")),
    "lacp": ((_MODE, _LACP), ("lacp_rate", "fast")),
}
_RUNNER = "roundrobin"
"""The one of a team whose configuration names none."""
_SECONDS = 10.0
_ETHERNET = "1"
# ARPHRD_* of include/uapi/linux/if_arp.h.
_TYPES: Mapping[str, str] = {
    **dict.fromkeys(("801", "802", "803"), "a wireless card"),
    **dict.fromkeys(("512", "519", "65534"), "a modem or a card that has no Ethernet"),
    "32": "InfiniBand",
}
# DEVTYPE= in uevent: what has a device below it, and still is no card that one can simply use.
_DEVICE_TYPES: Mapping[str, str] = {
    "wlan": "a wireless card",
    "wwan": "a modem",
    "dsa": "a port of a switch in this machine (DSA)",
}
# What the kernel calls them (struct rtnl_link_ops), and people.
_KINDS: Mapping[str, str] = {
    **dict.fromkeys(("macvlan", "macvtap"), "a macvlan"),
    **dict.fromkeys(("ipvlan", "ipvtap"), "an ipvlan"),
    **dict.fromkeys(("vxlan", "geneve", "gretap", "ip6gretap", "bareudp", "erspan"), "an overlay"),
    **dict.fromkeys(("gre", "ip6gre", "ipip", "ip6tnl", "sit", "vti", "vti6", "xfrm", "gtp"), "a tunnel"),
    "wireguard": "a WireGuard tunnel",
    "macsec": "MACsec",
    "ppp": "a PPP connection",
    "tun": "a tun or tap device of a program",
    "veth": "one end of a veth pair",
    "vrf": "a VRF",
    "dummy": "a dummy interface",
    "openvswitch": "a port of Open vSwitch",
    "hsr": "an HSR or PRP ring",
    "ipoib": "InfiniBand",
}
_VLAN_PROTOCOLS: Mapping[int, str] = {0x8100: "802.1q", 0x88A8: "802.1ad"}


@dataclass(frozen=True, slots=True)
class Card:
    """A card, by what every kernel knows of it."""

    mac: str
    """Its own address; empty where it has none that lasts."""
    place: str
    """The path below /sys of the device on a bus that it is part of."""

    def __post_init__(self) -> None:
        if self.mac and not _MAC.fullmatch(self.mac):
            raise MachineError(f"{self.mac[:60]!r} is no address of a network card")
        if not _PLACE.fullmatch(self.place):
            raise MachineError(f"a network card is at no place that can be told: {self.place[:60]!r}")


@dataclass(frozen=True, slots=True)
class Vlan:
    """A VLAN, which marks its packets with a tag."""

    number: int
    protocol: str = "802.1q"
    """The kind of tag: 802.1q or 802.1ad."""


@dataclass(frozen=True, slots=True)
class Links:
    """The parts of an interface: cards, a bond of them, and VLANs on that."""

    cards: tuple[Card, ...]
    bond: tuple[tuple[str, str], ...] = ()
    """The bond's options, in the order to set them; none: there is one card, and no bond."""
    vlans: tuple[Vlan, ...] = ()
    """The VLANs, the outermost tag first."""
    mac: str = ""
    """The address to give to the card or bond, where it has another one than its own."""
    base_mtu: int = MTU
    """The bytes that a packet may have on the card or bond."""
    mtu: int = MTU
    """The bytes that a packet may have on the interface."""
    drivers: tuple[str, ...] = ()
    """The modules that drive the cards."""

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules for what lies over the cards."""
        return (*(["bonding"] if self.bond else ()), *(["8021q"] if self.vlans else ()))


TeamConfig = Callable[[str], str]
"""Gives the configuration of a team as JSON; "" where there is none of that name."""


def teamd_config(name: str) -> str:
    """Return what teamd says about a team, as JSON; "" where it says nothing."""
    try:
        done = children.run(["teamdctl", name, "config", "dump"], seconds=_SECONDS)
    except ChildError:
        return ""
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else ""


@dataclass(frozen=True, slots=True)
class Kernel:
    """What the kernel tells of interfaces, by name, but not in sysfs."""

    link: Callable[[str], Link]
    port_vlans: Callable[[str], Sequence[PortVlans]]
    """The VLANs of a port of a bridge that filters them, or of that bridge."""


def _ask_link(name: str) -> Link:
    try:
        return rtnetlink.ask_link(socket.if_nametoindex(name))
    except OSError as error:
        raise _silent(name, error) from error


def _ask_port_vlans(name: str) -> Sequence[PortVlans]:
    try:
        return rtnetlink.ask_bridge_vlans().get(socket.if_nametoindex(name), ())
    except OSError as error:
        raise _silent(name, error) from error


def _silent(name: str, error: OSError) -> MachineError:
    return MachineError(f"the kernel does not tell what the interface {name} is: {error.strerror}")


RUNNING = Kernel(_ask_link, _ask_port_vlans)


def describe(
    name: str, sys: Path = Path("/sys"), kernel: Kernel = RUNNING, team_config: TeamConfig = teamd_config
) -> Links:
    """Return what an interface of the running system is made of.

    Raises Unsupported for what the capture system cannot make, MachineError for what makes no sense.
    """
    return replace(_below(name, _Tree(sys, kernel, team_config), 0, ()), mtu=_mtu(sys / "class/net" / name))


@dataclass(frozen=True, slots=True)
class _Tree:
    sys: Path
    kernel: Kernel
    team_config: TeamConfig

    def folder(self, name: str) -> Path:
        return self.sys / "class/net" / name


def _below(name: str, tree: _Tree, depth: int, tags: tuple[Vlan, ...]) -> Links:
    """Return the parts of an interface whose packets have these tags where they go into it."""
    folder = tree.folder(name)
    if depth > _DEPTH_MAX:
        raise MachineError(f"the network interface {name} lies over itself")
    if (folder / "device").exists():
        return replace(_card(folder, tree), vlans=tags)
    link = tree.kernel.link(name)
    if link.kind == "bond":
        options = _bond_options(folder / "bonding")
        return replace(_bond(name, options, _slaves(folder), tree), vlans=tags)
    if link.kind == "team":
        options = _team_options(name, tree.team_config(name))
        return replace(_bond(name, options, list(_lower(folder)), tree), vlans=tags)
    if link.kind == "bridge":
        return _bridge(name, tree, depth, tags)
    if link.kind == "vlan":
        return _below(_only_lower(name, folder), tree, depth + 1, (_vlan(name, link), *tags))
    raise _not_possible(name, _KINDS.get(link.kind, ""), link.kind)


def _not_possible(name: str, what: str, told: str) -> Unsupported:
    """Return the error for an interface that is that; `told` is the kernel's word for it, "" for none."""
    unknown = f"which the kernel calls {told[:40]!r}" if told else "and cannot tell what that is"
    return Unsupported(
        f"sending over {name}, {f'which is {what}' if what else unknown}",
        instead="name a server that is reached through an Ethernet card, or a bond, team, VLAN or bridge",
    )


def _card(folder: Path, tree: _Tree) -> Links:
    """Return a card alone. Raises Unsupported for one that is not simply Ethernet."""
    device = (folder / "device").resolve()
    number = attribute(folder / "type")
    words = dict(line.partition("=")[::2] for line in attribute(folder / "uevent").splitlines())
    what = _DEVICE_TYPES.get(words.get("DEVTYPE", "")) or _TYPES.get(number, "")
    if what or number != _ETHERNET:
        raise _not_possible(folder.name, what, number)
    kept = attribute(folder / "bonding_slave/perm_hwaddr")
    now = attribute(folder / "address")
    # Drivers that find no address in their card make one up, another one in each kernel.
    own = kept or ("" if attribute(folder / "addr_assign_type") in _MAC_SET_TYPES else now)
    mtu = _mtu(folder)
    # A card asks for the driver of its transceiver by name, which needs a modprobe, so that comes first.
    parts = [each.resolve() for each in (folder / "phydev", device) if each.exists()]
    return Links(
        (Card(own, location(device, tree.sys)),),
        mac="" if own == now or kept else now,
        base_mtu=mtu,
        mtu=mtu,
        drivers=tuple(dict.fromkeys(name for each in parts for name in drivers_above(each, tree.sys))),
    )


def _bond(name: str, options: tuple[tuple[str, str], ...], slaves: list[str], tree: _Tree) -> Links:
    folder = tree.folder(name)
    for each in slaves:
        if not (tree.folder(each) / "device").exists():
            raise Unsupported(f"the bond or team {name} over {each}, which is no card")
    cards = [_card(tree.folder(each), tree) for each in slaves]
    if not cards:
        raise MachineError(f"the bond {name} has no slaves")
    return Links(
        tuple(card for each in cards for card in each.cards),
        options,
        mac=attribute(folder / "address"),
        base_mtu=_mtu(folder),
        drivers=tuple(dict.fromkeys(driver for each in cards for driver in each.drivers)),
    )


def _bond_options(folder: Path) -> tuple[tuple[str, str], ...]:
    """Return a bond's options as they are to be written again."""
    found = dict(_option(folder, _OPTIONS))
    if _MODE not in found:
        raise MachineError(f"the bond {folder.parent.name} tells no mode")
    if found[_MODE] == _LACP:
        found.update(_option(folder, _LACP_OPTIONS))
    arp = dict(_option(folder, _ARP_OPTIONS))
    if "arp_interval" in arp:
        targets = [("arp_ip_target", f"+{each}") for each in attribute(folder / "arp_ip_target").split()]
        return (*found.items(), *_checked(targets), *arp.items())
    # Without either a bond never learns that a slave is dead.
    found.setdefault(*_MIIMON)
    return tuple(found.items())


def _option(folder: Path, names: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yield the options that say something. Those with names tell their number, too: "802.3ad 4"."""
    told = ((name, attribute(folder / name).partition(" ")[0]) for name in names)
    yield from _checked([(name, value) for name, value in told if value not in _NOTHING])


def _checked(options: list[tuple[str, str]]) -> list[tuple[str, str]]:
    for name, value in options:
        if not _VALUE.fullmatch(value):
            raise MachineError(f"the bond's {name} makes no sense: {value[:60]!r}")
    return options


def _team_options(name: str, config: str) -> tuple[tuple[str, str], ...]:
    try:
        runner = json.loads(config).get("runner", {}).get("name", _RUNNER)
    except (ValueError, RecursionError, AttributeError):
        runner = None
    if not isinstance(runner, str) or runner not in _RUNNERS:
        raise Unsupported(
            f"the team {name}, whose runner {'is not known' if runner is None else 'has no like in bonds'}",
            instead="make it a bond",
        )
    return (*_RUNNERS[runner], _MIIMON)


def _bridge(name: str, tree: _Tree, depth: int, tags: tuple[Vlan, ...]) -> Links:
    """Return what the port of a bridge that leads out of the machine is made of."""
    folder = tree.folder(name)
    outwards = {each: tags for each in _names(folder / "brif") if _leads_out(each, tree, depth + 1)}
    if attribute(folder / "bridge/vlan_filtering") == "1":
        outwards = _filtered(name, outwards, tree, tags)
    if len(outwards) != 1:
        what = (
            f"several ports that lead out ({', '.join(outwards)})" if outwards else "no port that leads out"
        )
        raise Unsupported(
            f"sending over the bridge {name}, which has {what}", instead="make a bond of its cards"
        )
    ((port, tags_there),) = outwards.items()
    return _below(port, tree, depth + 1, tags_there)


def _filtered(
    name: str, ports: Iterable[str], tree: _Tree, tags: tuple[Vlan, ...]
) -> dict[str, tuple[Vlan, ...]]:
    """Return the ports through which a bridge sends its own packets with these tags, and the tags there.

    Raises Unsupported where it takes no such packets.
    """
    protocol = _protocol(name, _hexadecimal(attribute(tree.folder(name) / "bridge/vlan_protocol")))
    own = tree.kernel.port_vlans(name)
    # To a bridge another protocol's tag is no tag.
    is_tagged = bool(tags) and tags[0].protocol == protocol
    default = next((each.numbers[0] for each in own if each.is_default), None)
    number = tags[0].number if is_tagged else default
    if number is None or not any(number in each.numbers for each in own):
        raise Unsupported(
            f"sending over the bridge {name}, which filters VLANs and takes none of these packets itself"
        )
    inner = tags[1:] if is_tagged else tags
    return {
        port: inner if each.untagged else (Vlan(number, protocol), *inner)
        for port in ports
        for each in tree.kernel.port_vlans(port)
        if number in each.numbers
    }


def _leads_out(name: str, tree: _Tree, depth: int) -> bool:
    """Return whether there is a card below an interface: not below those of virtual machines."""
    folder = tree.folder(name)
    if depth > _DEPTH_MAX:
        return False
    below = [*_slaves(folder), *_names(folder / "brif"), *_lower(folder)]
    return (folder / "device").exists() or any(_leads_out(each, tree, depth + 1) for each in set(below))


def _vlan(name: str, link: Link) -> Vlan:
    return Vlan(link.vlan, _protocol(name, link.protocol))


def _protocol(name: str, number: int) -> str:
    if number not in _VLAN_PROTOCOLS:
        raise Unsupported(f"sending over {name}, whose VLANs have tags of the type {number:#x}")
    return _VLAN_PROTOCOLS[number]


def _hexadecimal(text: str) -> int:
    return int(text, 16) if re.fullmatch(r"(0x)?[0-9a-f]{1,8}", text) else 0


def _only_lower(name: str, folder: Path) -> str:
    lower = list(_lower(folder))
    if len(lower) != 1:
        raise MachineError(f"the VLAN {name} has no interface below it")
    return lower[0]


def _lower(folder: Path) -> Iterator[str]:
    yield from sorted(each.name.removeprefix("lower_") for each in folder.glob("lower_*"))


def _slaves(folder: Path) -> list[str]:
    return attribute(folder / "bonding/slaves").split()


def _names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir()) if folder.is_dir() else []


def _mtu(folder: Path) -> int:
    text = attribute(folder / "mtu")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else MTU

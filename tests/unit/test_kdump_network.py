"""How the running system reaches a server, told from trees like /sys and /proc, and the kernel's answers."""

import contextlib
import ipaddress
import json
import re
import struct
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from unittest import mock
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec.errors import MachineError, PykexecError
from pykexec.kdump.capture import (
    destination,
    image,
    init_settings,
    links,
    network,
    nfs,
    rtnetlink,
    sshconfig,
)
from pykexec.kdump.capture.destination import Destination, Transport
from pykexec.kdump.capture.errors import Unsupported
from pykexec.kdump.capture.links import Card, Links, Vlan
from pykexec.kdump.capture.network import Network
from pykexec.kdump.capture.rtnetlink import Link, PortVlans
from pykexec.kdump.config import fedora, suse
from pykexec.kdump.config.settings import Dialect, Settings

_BUS = "devices/pci0000:00/0000:00:0{}.0"
_MACS = [f"52:54:00:00:00:0{number}" for number in range(8)]


class Machine:
    """A machine's interfaces, below a folder."""

    def __init__(self, folder: Path) -> None:
        self.sys = folder / "sys"
        (self.sys / "class/net").mkdir(parents=True)
        self.links: dict[str, Link] = {}
        self.port_vlans: dict[str, Sequence[PortVlans]] = {}

    def card(self, number: int, place: str = "", mac: str = "", **files: str) -> Path:
        """A card named eth0 and so on, of a driver as a module."""
        where = self.sys / (place or _BUS.format(number))
        (self.sys / f"bus/drivers/nic{number}").mkdir(parents=True)
        (self.sys / f"module/nic{number}").mkdir(parents=True)
        (self.sys / f"bus/drivers/nic{number}/module").symlink_to(self.sys / f"module/nic{number}")
        folder = self._interface(f"eth{number}", where / f"net/eth{number}", mac or _MACS[number], files)
        (where / "driver").symlink_to(self.sys / f"bus/drivers/nic{number}")
        (folder / "device").symlink_to(where)
        return folder

    def over(self, name: str, *lower: str, kind: str = "", mac: str = _MACS[0]) -> Path:
        """An interface that lies over others."""
        folder = self._interface(name, self.sys / "devices/virtual/net" / name, mac, {})
        for each in lower:
            (folder / f"lower_{each}").symlink_to(self.sys / "class/net" / each)
        self.links[name] = Link(kind)
        return folder

    def bond(self, name: str, *slaves: str, mac: str = _MACS[0], **options: str) -> Path:
        folder = self.over(name, *slaves, kind="bond", mac=mac)
        _write(folder / "bonding", {"slaves": " ".join(slaves), **options})
        return folder

    def vlan(self, name: str, lower: str, number: int, protocol: int = 0x8100) -> Path:
        folder = self.over(name, lower)
        self.links[name] = Link("vlan", number, protocol)
        return folder

    def bridge(self, name: str, *ports: str, filtering: bool = False, protocol: str = "0x8100") -> Path:
        folder = self.over(name, *ports, kind="bridge")
        _write(folder / "bridge", {"vlan_filtering": str(int(filtering)), "vlan_protocol": protocol})
        for each in ports:
            (folder / "brif" / each).mkdir(parents=True)
        return folder

    def describe(self, name: str, team: Mapping[str, str] | None = None) -> Links:
        kernel = links.Kernel(self.links.__getitem__, lambda asked: self.port_vlans.get(asked, ()))
        return links.describe(name, self.sys, kernel, lambda asked: (team or {}).get(asked, ""))

    def _interface(self, name: str, folder: Path, mac: str, files: Mapping[str, str]) -> Path:
        told = {"address": mac, "mtu": "1500", "addr_assign_type": "0", "type": "1"}
        _write(folder, {**told, **files})
        (self.sys / "class/net" / name).symlink_to(folder)
        return folder


def _write(folder: Path, files: Mapping[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(f"{text}\n")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def _card(number: int) -> Card:
    return Card(_MACS[number], f"/{_BUS.format(number)}")


def test_a_card(machine: Machine) -> None:
    machine.card(1)
    assert machine.describe("eth1") == Links((_card(1),), drivers=("nic1",))


def test_a_card_on_a_virtual_bus(machine: Machine) -> None:
    """Numbers of virtio devices follow the order of discovery; the PCI address below does not."""
    machine.card(1, f"{_BUS.format(3)}/virtio7", mtu="9000")
    (card,) = machine.describe("eth1").cards
    assert card.place == f"/{_BUS.format(3)}"
    machine.card(2, "devices/platform/a003e00.virtio_mmio/virtio3")
    (card,) = machine.describe("eth2").cards
    assert card.place == "/devices/platform/a003e00.virtio_mmio"


def test_a_card_with_a_transceiver(machine: Machine) -> None:
    """Its driver comes before the card's, which asks for it by name."""
    folder = machine.card(1)
    part = machine.sys / "devices/pci0000:00/0000:00:01.0/mdio_bus/x/x:00"
    part.mkdir(parents=True)
    (machine.sys / "bus/drivers/realtek").mkdir()
    (machine.sys / "module/realtek").mkdir()
    (machine.sys / "bus/drivers/realtek/module").symlink_to(machine.sys / "module/realtek")
    (part / "driver").symlink_to(machine.sys / "bus/drivers/realtek")
    (folder / "phydev").symlink_to(part)
    assert machine.describe("eth1").drivers[0] == "realtek"


@pytest.mark.parametrize("kind", ["1", "3"])
def test_an_address_that_does_not_last(kind: str, machine: Machine) -> None:
    """NET_ADDR_RANDOM and NET_ADDR_SET: the capture kernel sees another one, and is to have this one."""
    machine.card(1, addr_assign_type=kind)
    found = machine.describe("eth1")
    assert found.cards == (Card("", f"/{_BUS.format(1)}"),)
    assert found.mac == _MACS[1]


# Files of /sys/class/net/bond0/bonding as Linux 6.1 has them.
_LACP = {
    "mode": "802.3ad 4", "miimon": "100", "lacp_rate": "fast 1", "xmit_hash_policy": "layer3+4 1",
    "ad_select": "stable 0", "fail_over_mac": "none 0", "arp_interval": "0", "updelay": "0",
    "arp_ip_target": "", "arp_validate": "none 0",
}  # fmt: skip


def test_a_bond(machine: Machine) -> None:
    """A slave has the bond's address now, and its own again in the capture kernel."""
    for number in (1, 2):
        slave = machine.card(number, mac=_MACS[0])
        _write(slave / "bonding_slave", {"perm_hwaddr": _MACS[number]})
    machine.bond("bond0", "eth1", "eth2", **_LACP)
    (machine.sys / "class/net/bond0/mtu").write_text("9000\n")
    found = machine.describe("bond0")
    assert found.cards == (_card(1), _card(2))
    assert dict(found.bond) == {
        "mode": "802.3ad", "lacp_rate": "fast", "ad_select": "stable", "xmit_hash_policy": "layer3+4",
        "miimon": "100",
    }  # fmt: skip
    assert found.bond[0] == ("mode", "802.3ad")
    assert (found.mac, found.base_mtu, found.mtu) == (_MACS[0], 9000, 9000)
    assert (found.drivers, found.modules) == (("nic1", "nic2"), ("bonding",))


def test_a_bond_that_asks_its_neighbours(machine: Machine) -> None:
    machine.card(1)
    arp = {"arp_interval": "500", "arp_ip_target": "192.0.2.1 192.0.2.2", "arp_validate": "all 3"}
    # Its file is there in every mode, but only one takes it.
    machine.bond("bond0", "eth1", mode="active-backup 1", miimon="0", lacp_rate="slow 0", **arp)
    assert machine.describe("bond0").bond == (
        ("mode", "active-backup"),
        ("arp_ip_target", "+192.0.2.1"),
        ("arp_ip_target", "+192.0.2.2"),
        ("arp_interval", "500"),
        ("arp_validate", "all"),
    )


def test_a_bond_that_watches_nothing(machine: Machine) -> None:
    """It would go on sending through a slave that is dead."""
    machine.card(1)
    machine.bond("bond0", "eth1", mode="balance-rr 0", miimon="0")
    assert ("miimon", "100") in machine.describe("bond0").bond


def test_vlans_on_a_bridge_on_a_bond(machine: Machine) -> None:
    """A bridge is no more than its port that leads out of the machine."""
    machine.card(1)
    machine.bond("bond0", "eth1", mode="active-backup 1")
    machine.over("vnet0")
    machine.bridge("br0", "bond0", "vnet0")
    machine.vlan("br0.7", "br0", 7)
    machine.vlan("inner", "br0.7", 5).joinpath("mtu").write_text("1400\n")
    found = machine.describe("inner")
    assert (found.vlans, found.mtu, found.base_mtu) == ((Vlan(7), Vlan(5)), 1400, 1500)
    assert found.cards == (_card(1),)
    assert found.modules == ("bonding", "8021q")


def test_a_bridge_over_a_vlan(machine: Machine) -> None:
    machine.card(1)
    machine.vlan("eth1.9", "eth1", 9)
    machine.bridge("br9", "eth1.9")
    assert machine.describe("br9").vlans == (Vlan(9),)


@pytest.mark.parametrize(
    ("runner", "mode"),
    [
        ("activebackup", "active-backup"),
        ("lacp", "802.3ad"),
        ("roundrobin", "balance-rr"),
        ("broadcast", "broadcast"),
        ("loadbalance", "balance-xor"),
    ],
)
def test_a_team_becomes_a_bond(runner: str, mode: str, machine: Machine) -> None:
    machine.card(1)
    machine.card(2)
    machine.over("team0", "eth1", "eth2", kind="team")
    found = machine.describe("team0", {"team0": json.dumps({"device": "team0", "runner": {"name": runner}})})
    assert dict(found.bond)["mode"] == mode
    assert (found.cards, found.mac) == ((_card(1), _card(2)), _MACS[0])
    assert dict(machine.describe("team0", {"team0": "{}"}).bond)["mode"] == "balance-rr"


@pytest.mark.parametrize(
    "config",
    [
        "nonsense",
        "[]",
        "",
        '{"runner": 7}',
        '{"runner": {"name": 7}}',
        '{"runner": {"name": "random"}}',
        "[" * 100_000,
    ],
)
def test_teams_that_are_refused(config: str, machine: Machine) -> None:
    machine.card(1)
    machine.over("team0", "eth1", kind="team")
    with pytest.raises(Unsupported, match=r"the team team0, whose runner [\s\S]*make it a bond"):
        machine.describe("team0", {"team0": config})


def _refused(machine: Machine, name: str, why: str) -> None:
    """It is refused with the name, the reason, and what would do instead."""
    with pytest.raises(Unsupported, match=rf"{name}\b.*{why}") as caught:
        machine.describe(name)
    assert "\n" not in caught.value.what
    assert re.match(r"name a server|make |use the distribution's image", str(caught.value.hint))
    assert "start --initrd FILE" in str(caught.value.hint)


# As drivers/net of Linux 6.12 calls them: rtnl_link_ops.kind.
@pytest.mark.parametrize(
    ("kind", "what"),
    [
        ("macvlan", "which is a macvlan"),
        ("macvtap", "which is a macvlan"),
        ("ipvlan", "which is an ipvlan"),
        ("vrf", "which is a VRF"),
        ("wireguard", "which is a WireGuard tunnel"),
        ("vxlan", "which is an overlay"),
        ("geneve", "which is an overlay"),
        ("gre", "which is a tunnel"),
        ("ipip", "which is a tunnel"),
        ("sit", "which is a tunnel"),
        ("xfrm", "which is a tunnel"),
        ("ppp", "which is a PPP connection"),
        ("macsec", "which is MACsec"),
        ("dummy", "which is a dummy interface"),
        ("veth", "which is one end of a veth pair"),
        ("openvswitch", "which is a port of Open vSwitch"),
        ("tun", "which is a tun or tap device"),
        ("hsr", "which is an HSR or PRP ring"),
        ("batadv", "which the kernel calls 'batadv'"),
        ("", "cannot tell what that is"),
    ],
)
def test_interfaces_that_are_refused(kind: str, what: str, machine: Machine) -> None:
    """The same, whatever is below it, and what is made over it."""
    machine.card(1)
    machine.over("it", "eth1", kind=kind)
    _refused(machine, "it", what)
    machine.vlan("it.5", "it", 5)
    _refused(machine, "it", what)


# ARPHRD_* of include/uapi/linux/if_arp.h; DEVTYPE= as drivers set it (SET_NETDEV_DEVTYPE).
@pytest.mark.parametrize(
    ("files", "what"),
    [
        ({"type": "32"}, "which is InfiniBand"),
        ({"type": "1", "uevent": "DEVTYPE=wlan\nINTERFACE=eth1"}, "which is a wireless card"),
        ({"type": "803"}, "which is a wireless card"),
        ({"type": "1", "uevent": "INTERFACE=eth1\nDEVTYPE=wwan"}, "which is a modem"),
        ({"type": "519"}, "which is a modem"),
        ({"type": "1", "uevent": "DEVTYPE=dsa"}, r"which is a port of a switch in this machine \(DSA\)"),
        ({"type": "256"}, "which the kernel calls '256'"),
        ({"type": ""}, "cannot tell what that is"),
    ],
)
def test_cards_that_are_refused(files: Mapping[str, str], what: str, machine: Machine) -> None:
    machine.card(1, **files)
    machine.bond("bond0", "eth1", mode="active-backup 1")
    _refused(machine, "eth1", what)
    with pytest.raises(Unsupported, match=what):
        machine.describe("bond0")


def test_arrangements_that_are_refused(machine: Machine) -> None:
    for number in (1, 2):
        machine.card(number)
    machine.over("vnet0", kind="tun")
    machine.vlan("eth1.5", "eth1", 5)
    machine.vlan("eth1.6", "eth1", 6, protocol=0x9100)
    machine.bond("bond0", "eth1.5", mode="active-backup 1")
    machine.bridge("br0", "eth1", "eth2")
    machine.bridge("br1", "vnet0")
    _refused(machine, "bond0", "over eth1.5, which is no card")
    _refused(machine, "br0", r"several ports that lead out \(eth1, eth2\)")
    _refused(machine, "br1", "no port that leads out")
    _refused(machine, "eth1.6", "tags of the type 0x9100")


def test_a_vlan_of_a_provider(machine: Machine) -> None:
    """802.1ad, with another VLAN in it."""
    machine.card(1)
    machine.vlan("outer", "eth1", 5, protocol=0x88A8)
    machine.vlan("inner", "outer", 5)
    assert machine.describe("inner").vlans == (Vlan(5, "802.1ad"), Vlan(5))


def _all(*, but: int, untagged: bool) -> Sequence[PortVlans]:
    """All VLANs with a tag but that one, which is the default."""
    return (
        PortVlans(range(1, but), False, False),
        PortVlans(range(but, but + 1), True, untagged),
        PortVlans(range(but + 1, 4095), False, False),
    )


@pytest.mark.parametrize(
    ("own", "port", "tags"),
    [
        # Its packets have no tag on their way into it, those of br0.9 that of 9.
        ({7: True}, _all(but=1, untagged=True), {"br0": (7,)}),
        ({7: True}, _all(but=7, untagged=True), {"br0": ()}),
        ({7: True}, _all(but=7, untagged=False), {"br0": (7,)}),
        ({7: True, 9: False}, _all(but=1, untagged=True), {"br0": (7,), "br0.9": (9,), "inner": (9, 3)}),
        ({7: True, 9: False}, _all(but=9, untagged=True), {"br0": (7,), "br0.9": (), "inner": (3,)}),
    ],
)
def test_a_bridge_that_filters_vlans(
    own: Mapping[int, bool], port: Sequence[PortVlans], tags: Mapping[str, Sequence[int]], machine: Machine
) -> None:
    """The tag is what the port gives the VLAN that the packets are of."""
    machine.card(1)
    machine.card(2)
    machine.bridge("br0", "eth1", "eth2", filtering=True)
    machine.vlan("br0.9", "br0", 9)
    machine.vlan("inner", "br0.9", 3)
    machine.port_vlans = {
        "br0": [PortVlans(range(number, number + 1), default, True) for number, default in own.items()],
        "eth1": port,
        # Through that one no such packets go.
        "eth2": [PortVlans(range(4000, 4010), True, True)],
    }
    for name, numbers in tags.items():
        found = machine.describe(name)
        assert (found.cards, found.vlans) == ((_card(1),), tuple(map(Vlan, numbers)))


def test_a_bridge_that_filters_provider_vlans(machine: Machine) -> None:
    """To it, others' tags are part of the packet."""
    machine.card(1)
    machine.bridge("br0", "eth1", filtering=True, protocol="0x88a8")
    machine.vlan("br0.9", "br0", 9)
    machine.port_vlans = {
        "br0": [PortVlans(range(7, 8), True, True)],
        "eth1": [PortVlans(range(2, 4095), False, False)],
    }
    assert machine.describe("br0.9").vlans == (Vlan(7, "802.1ad"), Vlan(9))


@pytest.mark.parametrize(
    ("own", "port", "why"),
    [
        ([], [7], "takes none of these packets itself"),
        ([PortVlans(range(7, 8), False, True)], [7], "takes none of these packets itself"),
        ([PortVlans(range(7, 8), True, True)], [8], "no port that leads out"),
    ],
)
def test_a_bridge_that_takes_no_packets(
    own: Sequence[PortVlans], port: Sequence[int], why: str, machine: Machine
) -> None:
    machine.card(1)
    machine.bridge("br0", "eth1", filtering=True)
    through = [PortVlans(range(each, each + 1), True, True) for each in port]
    machine.port_vlans = {"br0": own, "eth1": through}
    _refused(machine, "br0", why)


def test_interfaces_in_circles(machine: Machine) -> None:
    machine.vlan("a", "b", 5)
    machine.vlan("b", "a", 6)
    with pytest.raises(MachineError, match="lies over itself"):
        machine.describe("a")
    machine.bridge("br0", "br1")
    machine.bridge("br1", "br0")
    with pytest.raises(PykexecError):
        machine.describe("br0")


@given(st.text(max_size=30), st.text(max_size=60))
def test_no_card_brings_a_second_word(mac: str, place: str) -> None:
    """/init splits the list of cards at blanks."""
    try:
        card = Card(mac, place)
    except MachineError:
        return
    to = Destination(Transport.SSH, "/d", network=Network("192.0.2.1", Links((card,)), "192.0.2.7/24"))
    (line,) = (
        each
        for each in init_settings.render(Settings(Dialect.FEDORA), "6.1", to, None, "h").splitlines()
        if each.startswith("CARDS=")
    )
    assert len(line.split()) == 1
    assert not set("*?[$`'\"\\") & set(line)


# The way to an address


@pytest.mark.parametrize(
    ("server", "own", "gateway", "neighbour"),
    [
        ("192.0.2.1", "192.0.2.7/24", "", ""),
        ("198.51.100.1", "192.0.2.7/24", "192.0.2.1", ""),
        ("198.51.100.1", "192.0.2.7/32", "192.0.2.1", "192.0.2.1"),
        ("203.0.113.2", "203.0.113.1/32", "", "203.0.113.2"),
        ("2001:db8:9::1", "2001:db8::7/128", "fe80::1", ""),
        ("2001:db8::1", "2001:db8::7/128", "", "2001:db8::1"),
        ("fe80::1", "fe80::7/64", "", ""),
    ],
)
def test_what_is_reached_first(server: str, own: str, gateway: str, neighbour: str) -> None:
    assert Network(server, Links((_card(1),)), own, gateway).neighbour == neighbour


# rtnetlink(7), for 198.51.100.1: via 192.0.2.1 dev 4 src 192.0.2.2 mtu 1400.
_REPLY = struct.pack("=IHHII", 72, 24, 0, 1, 0) + struct.pack("=BBBBBBBBI", 2, 32, 0, 0, 254, 0, 0, 1, 0x200)
_REPLY += b"".join(
    struct.pack("=HH", 4 + len(data), kind) + data
    for kind, data in (
        (1, bytes((198, 51, 100, 1))),
        (4, struct.pack("=I", 4)),
        (5, bytes((192, 0, 2, 1))),
        (7, bytes((192, 0, 2, 2))),
        (8 | 0x8000, struct.pack("=HHI", 8, 2, 1400)),
    )
)


def test_the_kernel_s_answer() -> None:
    expected = rtnetlink.Route(4, "192.0.2.1", "192.0.2.2", 1400)
    assert rtnetlink.route_of(_REPLY, "198.51.100.1") == expected


def test_an_address_of_another_interface() -> None:
    """As machines have that tell routers by BGP where they are."""
    with pytest.raises(MachineError, match=r"has not the address 192\.0\.2\.1\b.*\n.*source address"):
        rtnetlink.prefix_of(_DONE, ipaddress.ip_address("192.0.2.1"), 4)


@given(st.integers(0, len(_REPLY)), st.binary(max_size=40))
def test_an_answer_that_is_damaged(at: int, instead: bytes) -> None:
    for damaged in (_REPLY[:at] + instead + _REPLY[at + len(instead) :], _REPLY[:at]):
        try:
            rtnetlink.route_of(damaged, "x")
            rtnetlink.prefix_of(damaged, ipaddress.ip_address("192.0.2.1"), 4)
        except MachineError:
            pass


def _attribute(kind: int, data: bytes) -> bytes:
    return (struct.pack("=HH", 4 + len(data), kind) + data).ljust((4 + len(data) + 3) & ~3, b"\0")


def _link(*attributes: bytes, family: int = 0) -> bytes:
    """An RTM_NEWLINK message for the interface 4."""
    body = struct.pack("=BxHiII", family, 1, 4, 0x1043, 0) + b"".join(attributes)
    return struct.pack("=IHHII", 16 + len(body), 16, 0, 1, 0) + body


# if_link.h: IFLA_LINKINFO with IFLA_INFO_KIND and IFLA_INFO_DATA.
_VLAN_LINK = _link(
    _attribute(3, b"eth1.5\0"),
    _attribute(
        18 | 0x8000,
        _attribute(1, b"vlan\0")
        + _attribute(2 | 0x8000, _attribute(1, struct.pack("=H", 5)) + _attribute(5, b"\x88\xa8")),
    ),
)
# if_bridge.h: IFLA_AF_SPEC with IFLA_BRIDGE_FLAGS and IFLA_BRIDGE_VLAN_INFO.
_BRIDGE_PORT = _link(
    _attribute(3, b"eth1\0"),
    _attribute(
        26 | 0x8000,
        _attribute(0, b"\1\0")
        + b"".join(
            _attribute(2, struct.pack("=HH", flags, number))
            for flags, number in ((0x2 | 0x4, 1), (0x8, 2), (0x10, 4094))
        ),
    ),
    family=7,
)
_DONE = struct.pack("=IHHIIi", 20, 3, 2, 1, 0, 0)


def test_what_the_kernel_tells_of_interfaces() -> None:
    assert rtnetlink.link_of(_VLAN_LINK) == Link("vlan", 5, 0x88A8)
    assert rtnetlink.link_of(_link(_attribute(18, _attribute(1, b"bond\0")))) == Link("bond")
    assert rtnetlink.link_of(_link()) == Link("")
    assert rtnetlink.bridge_vlans_of(_BRIDGE_PORT + _DONE) == {
        4: [PortVlans(range(1, 2), True, True), PortVlans(range(2, 4095), False, False)]
    }


@given(st.integers(0, len(_VLAN_LINK + _BRIDGE_PORT)), st.binary(max_size=40))
def test_an_interface_that_is_damaged(at: int, instead: bytes) -> None:
    for whole in (_VLAN_LINK, _BRIDGE_PORT):
        for damaged in (whole[:at] + instead + whole[at + len(instead) :], whole[:at]):
            with contextlib.suppress(MachineError):
                rtnetlink.link_of(damaged)
            with contextlib.suppress(MachineError):
                rtnetlink.bridge_vlans_of(damaged)


def test_the_running_kernel_s_own_interface() -> None:
    assert rtnetlink.ask_link(1) == Link("")  # the loopback interface is always the first
    assert not rtnetlink.ask_bridge_vlans().get(1)


def test_of_several_addresses_the_one_that_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name may have an IPv6 address at which nobody listens, or to which there is no way."""
    first, second, third = (
        (ipaddress.ip_address(each), 0) for each in ("2001:db8::1", "192.0.2.1", "192.0.2.2")
    )

    def route(address: rtnetlink.Address, scope: int) -> rtnetlink.Route:
        if address.version == 6:
            raise MachineError("Network is unreachable")
        return rtnetlink.Route(1, "", "192.0.2.7", 0)

    monkeypatch.setattr(network, "_route", route)
    monkeypatch.setattr(network, "_answers", lambda address, scope, port: str(address) == "192.0.2.2")
    assert network._choose((first, second, third), 22) == third
    assert network._choose((first, second), 22) == second
    with pytest.raises(PykexecError, match="Network is unreachable"):
        network._choose((first,), 22)


# NFS

# Options of mounts as /proc/self/mountinfo of Linux 6.1 lists them.
_MOUNTED = (
    "rw,vers=4.2,rsize=1048576,wsize=1048576,namlen=255,hard,proto=tcp,timeo=600,retrans=2,sec=sys,"
    "clientaddr=192.0.2.7,local_lock=none,addr=192.0.2.1"
)
_OLD = (
    "rw,vers=3,rsize=8192,wsize=8192,namlen=255,hard,nolock,noresvport,proto=udp,port=2050,timeo=11,retrans=3,"
    "sec=sys,mountaddr=192.0.2.1,mountvers=3,mountport=20048,mountproto=udp,local_lock=all,addr=2001:db8::1"
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (_MOUNTED, nfs.NfsOptions(("4.2",), "", "192.0.2.1", ())),
        (_OLD, nfs.NfsOptions(("3",), "2050", "2001:db8::1", ("proto=udp", "noresvport"))),
        ("nfsvers=4.1,sec=krb5:sys", nfs.NfsOptions(("4.1",))),
        ("vers=4,minorversion=1", nfs.NfsOptions(("4.1",))),
        ("vers=4.0", nfs.NfsOptions(("4",))),
        ("vers=2,port=x", nfs.NfsOptions()),
        ("port=0", nfs.NfsOptions()),
        ("port=65535", nfs.NfsOptions(port="65535")),
        ("port=65536", nfs.NfsOptions()),
        ("defaults", nfs.NfsOptions()),
        ("sec=null", nfs.NfsOptions(more=("sec=none",))),
    ],
)
def test_options_of_a_mount(text: str, expected: nfs.NfsOptions) -> None:
    assert nfs.parse(text) == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("vers=4.2,sec=krb5p", "sec='krb5p', which takes rpc.gssd"),
        ("xprtsec=mtls", "which takes tlshd"),
        ("proto=rdma", "over RDMA"),
    ],
)
def test_mounts_that_are_refused(text: str, why: str) -> None:
    with pytest.raises(Unsupported, match=why):
        nfs.parse(text)


@given(st.text("nfs4=,.vers:udportcmax\n 'x0123456789é", max_size=40))
def test_no_option_becomes_another(text: str) -> None:
    """What the mount gets is made of a few words, whatever is listed."""
    try:
        found = nfs.parse(text)
    except Unsupported:
        return
    assert set(found.more) <= {"proto=udp", "noresvport", "sec=none"}
    assert found.port == "" or 0 < int(found.port) < 100_000
    assert set(found.versions) <= {"3", "4", "4.1", "4.2"}


def test_how_an_export_is_mounted_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The configuration says where to, the running system's mount how; a --mount for dracut says both."""
    asked: list[tuple[str, int]] = []

    def route(host: str, port: int, sys: Path) -> Network:
        asked.append((host, port))
        return Network(host, Links((_card(1),)), "192.0.2.7/24")

    monkeypatch.setattr(network, "route_to", route)
    (tmp_path / "self").mkdir()
    (tmp_path / "self/mountinfo").write_text(
        f"30 1 0:40 / /srv rw,relatime shared:9 - nfs h:/export {_OLD}\n"
        f"31 1 0:41 / /data rw,relatime - nfs4 [2001:db8::1]:/data {_MOUNTED}\n"
    )
    written = fedora.read("nfs h:/export\npath d", "")
    to = destination.resolve(written, tmp_path, tmp_path)
    assert (to.nfs_versions, to.remote, to.folder) == (("3",), "/export", "/d")
    assert to.options == "timeo=600,retrans=2,proto=udp,noresvport,port=2050"
    there = destination.local("/data/crash", tmp_path, tmp_path)
    assert (there.nfs_versions, there.remote, there.folder) == (("4.2",), "/data", "/crash")
    other = fedora.read('dracut_args --mount "h:/other /mnt nfs4 vers=4.1,port=99"\npath d', "")
    assert destination.resolve(other, tmp_path, tmp_path).nfs_versions == ("4.1",)
    assert asked == [("2001:db8::1", 2050), ("192.0.2.1", 2049), ("h", 99)]


# SMB


@pytest.mark.usefixtures("next_door")
@given(st.text("ab,= '$\"\\\\é\n", min_size=1, max_size=20))
def test_a_password_arrives_or_is_refused(password: str) -> None:
    settings = suse.read(f"KDUMP_SAVEDIR='cifs://DOM%5Cu:{quote(password, safe='')}@h:4455/share/a/b'\n")
    try:
        to = destination.resolve(settings)
    except PykexecError:
        assert set(password) & {",", "\n"}
        return
    told = dict(each.split("=", 1) for each in to.credentials.split(","))
    assert told == {"username": "u", "password": password, "domain": "DOM"}
    assert (to.remote, to.folder, to.options) == ("/share", "/a/b", "port=4455")


@pytest.fixture(scope="module")
def next_door() -> Iterator[None]:
    """Every server is in the same network."""
    way = Network("192.0.2.1", Links((_card(1),)), "192.0.2.7/24")
    with mock.patch.object(network, "route_to", return_value=way):
        yield


@pytest.mark.usefixtures("next_door")
def test_a_password_is_in_one_place() -> None:
    """Neither in what is printed, nor in what /init and everything it starts have as variables."""
    settings = suse.read("KDUMP_SAVEDIR=cifs://user:hush-hush@h/share/d\n")
    to = destination.resolve(settings)
    text = init_settings.render(settings, "6.1", to, None, "h")
    assert "hush-hush" not in f"{to} {to!r} {settings!r} {text}"
    (entry,) = image._credentials([to])
    assert entry.data() == b"username=user,password=hush-hush"
    assert entry.mode == 0o600


# ssh

# What OpenSSH 9.2's `ssh -G` says, without what nobody asks for.
_SSH_G = """\
user dumper
hostname dumps.example
port 2222
hostkeyalias dumps
identityfile ~/.ssh/id_rsa
identityfile /keys/a b
"""


def test_what_ssh_s_configuration_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/root")
    given = sshconfig.Server("h", 22, "u")
    keys = ("/root/.ssh/id_rsa", "/keys/a b")
    found = sshconfig.parse(_SSH_G, given)
    assert found == sshconfig.Server("dumps.example", 2222, "dumper", "dumps", keys)
    assert sshconfig.jump_of(found) is None
    assert sshconfig.parse("", given) == given
    assert (
        sshconfig.parse("hostname [2001:db8::1]\nport 22\nproxyjump none", given).known_as == "[2001:db8::1]"
    )
    assert sshconfig.Server("h", 2222).known_as == "[h]:2222"


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ("proxycommand nc %h %p", "by a command of ssh's configuration"),
        ("proxyjump a,b", "through 'a,b'"),
        ("proxyjump a b", "is no name or address of a host"),
        ("hostname -oProxyCommand=x", "is no name or address of a host"),
        ("proxyjump D\\u@a", "logging in to a as"),
        ("proxyjump u@twice", "itself behind 'other'"),
    ],
)
def test_ways_through_others_that_are_refused(more: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(host: str, user: str, port: int | None) -> sshconfig.Server:
        return sshconfig.Server(host, port or 22, user, jump="other" if host == "twice" else "")

    monkeypatch.setattr(sshconfig, "ask", ask)
    with pytest.raises(Unsupported, match=re.escape(why)):
        sshconfig.jump_of(sshconfig.parse(f"{_SSH_G}{more}\n", sshconfig.Server("h")))


@pytest.mark.programs
@pytest.mark.parametrize(
    "jump", ["jump", "j@jump.example:2200", "ssh://j@jump.example:2200", "j@[2001:db8::1]:2200", "192.0.2.9"]
)
def test_a_server_behind_another(jump: str, tmp_path: Path) -> None:
    """As ssh itself reads what is written for it: who logs in where, and how the other one is reached."""
    (tmp_path / "config").write_text(
        f"Host alias\n  HostName dumps.example\n  Port 77\n  ProxyJump {jump}\n"
    )
    done = subprocess.run(
        ["ssh", "-F", tmp_path / "config", "-G", "alias"], check=True, capture_output=True, text=True
    )
    server = sshconfig.parse(done.stdout, sshconfig.Server("alias"))
    assert (server.host, server.port, server.known_as) == ("dumps.example", 77, "[dumps.example]:77")
    found = sshconfig.jump_of(server)
    assert found is not None
    text = sshconfig.config_of(found, "192.0.2.3", "/root/jump-key", "jump-name")
    (tmp_path / "ours").write_text(text)
    read = subprocess.run(
        ["ssh", "-F", tmp_path / "ours", "-G", "jump-name"], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    port = 2200 if "2200" in jump else 22
    user = "j" if "j@" in jump else "root"
    assert {"hostname 192.0.2.3", f"port {port}", f"user {user}", "identityfile /root/jump-key"} <= {*read}
    assert f"hostkeyalias {found.known_as}" in read
    assert "stricthostkeychecking true" in read

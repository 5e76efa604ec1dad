"""A cluster's nodes are told of a dump: the ways to them, what the image takes for that, what it does."""

import socket
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pykexec.errors import PykexecError
from pykexec.kdump import packages, programs
from pykexec.kdump.capture import fencing, image, network
from pykexec.kdump.capture.destination import Transport
from pykexec.kdump.capture.errors import Unsupported
from pykexec.kdump.capture.fencing import Notice
from pykexec.kdump.capture.links import Card, Links, Vlan
from pykexec.kdump.capture.network import Network
from pykexec.kdump.config.settings import Dialect, Fencing, Settings
from tests.unit.test_kdump_init import _DISK, _SSH, Capture

CARDS = [Card(f"52:54:00:00:00:0{number}", f"/devices/pci0000:00/{number}") for number in range(3)]
FIRST, SECOND = (Links((card,)) for card in CARDS[:2])
BOND = Links((CARDS[1],), bond=(("mode", "active-backup"),))
_FIVE = (Vlan(5),)


def way(server: str, links: Links = FIRST, gateway: str = "", own: str = "192.0.2.7/24") -> Network:
    return Network(server, links, own, gateway)


def ways(monkeypatch: pytest.MonkeyPatch, *found: Network) -> None:
    """Each node is reached by the way that ends at its address."""
    by_node = {each.server: each for each in found}
    monkeypatch.setattr(network, "route_to_node", lambda node, family, sys: by_node[node])


def test_nodes_on_one_way_are_told_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two networks over one card are two ways: each has its own address, and router."""
    near, beside, far = way("192.0.2.1"), way("192.0.2.2"), way("203.0.113.5", gateway="192.0.2.254")
    ways(monkeypatch, near, far, beside)
    found = fencing.resolve(Fencing(("192.0.2.1", "203.0.113.5", "192.0.2.2")), ())
    assert found == [Notice(("192.0.2.1", "192.0.2.2"), near), Notice(("203.0.113.5",), far)]


@pytest.mark.parametrize(
    ("links", "others"),
    [
        (BOND, [Links((CARDS[2],), bond=BOND.bond)]),
        (replace(FIRST, vlans=_FIVE), [replace(SECOND, vlans=_FIVE)]),
        (replace(BOND, vlans=_FIVE), [replace(BOND, vlans=(Vlan(5, "802.1ad"), Vlan(6)))]),
    ],
)
def test_interfaces_that_cannot_be_there_together(
    links: Links, others: Sequence[Links], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The capture system has one name for bonds, and one for each VLAN's number."""
    ways(monkeypatch, way("192.0.2.1", links))
    with pytest.raises(Unsupported, match="sending over two"):
        fencing.resolve(Fencing(("192.0.2.1",)), [way("192.0.2.9", each) for each in others])


@pytest.mark.parametrize(
    "other", [FIRST, BOND, *(replace(BOND, vlans=vlans) for vlans in (_FIVE, (Vlan(6),), (Vlan(6), *_FIVE)))]
)
def test_interfaces_that_can(other: Links, monkeypatch: pytest.MonkeyPatch) -> None:
    ways(monkeypatch, way("192.0.2.1", replace(BOND, vlans=_FIVE)))
    assert fencing.resolve(Fencing(("192.0.2.1",)), [way("192.0.2.9", other)])


def test_without_nodes_nothing_is_asked() -> None:
    twice = [way("192.0.2.9", BOND), way("192.0.2.9", Links((CARDS[2],), bond=BOND.bond))]
    assert fencing.resolve(Fencing(), twice) == []


@pytest.mark.parametrize(
    ("node", "why"),
    [
        ("127.0.0.1", "is no other machine"),
        ("no.such.node.invalid", r"\w+"),
        ("a..b", r"\w+"),
    ],
)
def test_a_node_that_cannot_be_told(node: str, why: str) -> None:
    """The kernel of this machine says that 127.0.0.1 is here, as is any address of its own."""
    with pytest.raises(PykexecError, match=rf"^the cluster's node {node}: .*{why}"):
        network.route_to_node(node, socket.AF_UNSPEC)


# What it takes


def test_the_image_takes_the_network_and_the_program() -> None:
    """For a dump to a disk, too; nothing of it where there is no cluster."""
    assert [each.name for each in image.more_of_init([_DISK], [Notice(("a",), way("a"))])] == [
        "fencing",
        "network",
    ]
    assert image.more_of_init([_DISK]) == []
    names = [
        image.program_names(Settings(Dialect.FEDORA, fencing=each), ways=[Transport.DISK], assemblers=[])
        for each in (Fencing(("a",)), Fencing())
    ]
    assert [fencing.PROGRAM in each for each in names] == [True, False]


@pytest.mark.parametrize(("nodes", "network"), [(("a",), True), ((), False)])
def test_memory_for_the_network_is_counted(nodes: tuple[str, ...], network: bool) -> None:
    assert Settings(Dialect.FEDORA, fencing=Fencing(nodes)).uses_network == network


def test_the_program_where_no_path_leads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The packages' lists of files: fence-agents-kdump's of Fedora 41, fence-agents' of Debian 12."""
    assert {"/usr/libexec/fence_kdump_send", "/usr/libexec/fence-agents/fence_kdump_send"} <= {
        *programs.places(fencing.PROGRAM)
    }
    monkeypatch.setattr(programs, "places", lambda name: [str(tmp_path / name)])
    with pytest.raises(PykexecError, match="fence_kdump_send is not there") as caught:
        image._found(fencing.PROGRAM, image._HINTS[fencing.PROGRAM])
    assert "fence-agents-kdump" in (caught.value.hint or "")
    for system, package in {"debian": "fence-agents", "fedora": "fence-agents-kdump"}.items():
        manager = packages.manager({"ID": system}, lambda _: True)
        assert manager is not None
        assert manager.package(fencing.PROGRAM) == package


# What the capture system does


_WORLD = """
ip() { echo ip "$@"; }
fence_kdump_send() { echo fence_kdump_send "$@" > "ROOT/run/sent-$NODES"; }
bring_up_network() { top=eth0 family=-4; echo "up: $ADDRESS $CARDS gateway=$GATEWAY first=$NEIGHBOUR"; }
"""
_OPTIONS = Fencing(("x",), port=7411, family="ipv4", count=3, interval=2)
_TELLS = replace(Capture(Path("/")).settings, fencing=_OPTIONS)


@pytest.mark.programs
def test_the_nodes_are_told(tmp_path: Path) -> None:
    """Each way by its own address; a node behind a router, even one in no network of the card, by it."""
    notices = (
        Notice(("192.0.2.1", "fe80::1"), way("192.0.2.1")),
        Notice(("203.0.113.5",), way("203.0.113.5", SECOND, "198.51.100.1", "192.0.2.8/32")),
    )
    capture = Capture(tmp_path, _TELLS, notices=notices, replaced=_WORLD)
    said = capture.run("tell_nodes; wait; sleep 0.2; cat ROOT/run/sent-*; echo ${top:-nothing} is left")
    assert said == [
        "up: 192.0.2.7/24 52:54:00:00:00:00@/devices/pci0000:00/0 gateway= first=",
        "ip -4 route replace 192.0.2.1 dev eth0",
        "ip -4 route replace fe80::1 dev eth0",
        "telling the cluster's nodes 192.0.2.1 fe80::1%eth0",
        "up: 192.0.2.8/32 52:54:00:00:00:01@/devices/pci0000:00/1 gateway= first=198.51.100.1",
        "ip -4 route replace 203.0.113.5 via 198.51.100.1 dev eth0",
        "telling the cluster's nodes 203.0.113.5",
        "fence_kdump_send -p 7411 -f ipv4 -c 3 -i 2 192.0.2.1 fe80::1%eth0",
        "fence_kdump_send -p 7411 -f ipv4 -c 3 -i 2 203.0.113.5",
        "nothing is left",
    ]


@pytest.mark.programs
@pytest.mark.parametrize("waits", [True, False])
def test_a_network_that_does_not_come_up(waits: bool, tmp_path: Path) -> None:
    """The dump does not wait for it, unless it goes over the same card."""
    dead = "bring_up_network() { sleep 1; return 1; }\nreach_server() { say saving; return 1; }"
    notices = (Notice(("192.0.2.1",), way("192.0.2.1")),)
    to = replace(_SSH, network=way("192.0.2.9", FIRST if waits else SECOND))
    said = Capture(tmp_path, _TELLS, to, notices=notices, replaced=dead).run("tell_cluster; save; wait")
    told = ["cannot tell the cluster's nodes 192.0.2.1", "saving"]
    assert said == (told if waits else told[::-1])

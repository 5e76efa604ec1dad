"""Find how the running system reaches the other nodes of its cluster, which the capture system has to tell.

Whoever misses a node resets it, in the middle of its dump, unless it hears fence_kdump_send(8) from there.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from pykexec.kdump.capture import network
from pykexec.kdump.capture.errors import Unsupported
from pykexec.kdump.capture.links import Links, Vlan
from pykexec.kdump.capture.network import Network
from pykexec.kdump.config.settings import Fencing

PROGRAM = "fence_kdump_send"
_FAMILIES = {"auto": socket.AF_UNSPEC, "ipv4": socket.AF_INET, "ipv6": socket.AF_INET6}


@dataclass(frozen=True, slots=True)
class Notice:
    """The nodes that are told by one way."""

    nodes: tuple[str, ...]
    """Their addresses."""
    network: Network
    """The way to the first of them, which is the way to all."""


def resolve(fencing: Fencing, others: Iterable[Network], sys: Path = Path("/sys")) -> Sequence[Notice]:
    """Return the ways to the nodes. `others` are those to dump targets, which are there at the same time.

    Raises PykexecError where there is none, or where two cannot be there at the same time.
    """
    family = _FAMILIES[fencing.family]
    found: dict[object, list[Network]] = {}
    for node in fencing.nodes:
        way = network.route_to_node(node.strip("[]"), family, sys)
        found.setdefault((way.links, way.address, way.gateway), []).append(way)
    notices = [Notice(tuple(each.server for each in ways), ways[0]) for ways in found.values()]
    all_links = [*(each.network.links for each in notices), *(other.links for other in others)]
    for one, other in combinations(all_links if notices else (), 2):
        _require_together(one, other)
    return notices


def _require_together(one: Links, other: Links) -> None:
    """Raise Unsupported for interfaces of which the capture system, which names them, can make only one."""
    is_same = (one.cards, one.bond) == (other.cards, other.bond)
    if one.bond and other.bond and not is_same:
        raise Unsupported("sending over two bonds, to a cluster's nodes and to a dump target or other nodes")
    mine, its = _vlans(one), _vlans(other)
    if any(not is_same or mine[name] != its[name] for name in mine.keys() & its.keys()):
        raise Unsupported("sending over two VLANs of the same number, to a cluster's nodes and elsewhere")


def _vlans(links: Links) -> Mapping[tuple[int, int], Sequence[Vlan]]:
    """Return VLANs, each with those below it, by what the capture system names it after."""
    return {(at, vlan.number): links.vlans[: at + 1] for at, vlan in enumerate(links.vlans)}


def shares_cards(notices: Iterable[Notice], others: Iterable[Network]) -> bool:
    """Return whether a way to nodes and another one begin at the same card."""
    cards = {card for each in notices for card in each.network.links.cards}
    return any(card in cards for other in others for card in other.links.cards)

"""A switch for guests' cards: it may speak LACP, or take one VLAN only; QEMU's network is behind it.

QEMU hands each card's frames over as UDP datagrams (-netdev dgram), and takes some back.
"""

import selectors
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

_SLOW_PROTOCOLS, _LACP = 0x8809, 1
_VLAN_TAG, PROVIDER_TAG = 0x8100, 0x88A8
_SLOW_ADDRESS = bytes.fromhex("0180c2000002")
_OWN = bytes.fromhex("020000000001")
_STATE = 0x3F
"""IEEE 802.1AX: active, short timeout, aggregatable, in sync, collecting, distributing."""
_WORKS = 0x38
_FRAME_MAX = 1 << 16
_PORT = struct.Struct(">H6sHHHB3x")
"""System priority, system, key, port priority, port, state."""


def mac(number: int) -> str:
    return f"52:54:00:00:00:0{number}"


@dataclass(slots=True)
class Link:
    """A cable: the end of QEMU's, and ours."""

    name: str
    ours: socket.socket
    theirs: int

    @classmethod
    def make(cls, name: str) -> "Link":
        ours = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        ours.bind(("127.0.0.1", 0))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind(("127.0.0.1", 0))
            return cls(name, ours, free.getsockname()[1])

    @property
    def netdev(self) -> str:
        ends = {"local": self.theirs, "remote": self.ours.getsockname()[1]}
        told = (f"{end}.type=inet,{end}.host=127.0.0.1,{end}.port={port}" for end, port in ends.items())
        return ",".join(["dgram", f"id={self.name}", *told])

    def send(self, frame: bytes) -> None:
        self.ours.sendto(frame, ("127.0.0.1", self.theirs))


@dataclass(slots=True)
class Switch:
    """Two cards of the guest on one side, QEMU's own network on the other."""

    dead: int = 0
    """The number of the card whose frames go nowhere, though it has a carrier; 0 for none."""
    vlan: int = 0
    """The VLAN whose frames alone it takes; 0: it takes those without a tag."""
    tag: int = _VLAN_TAG
    """The type of that VLAN's tags."""
    lacp: bool = False
    """Whether it takes frames of those cards only that it has agreed with."""
    cut_after: int = 0
    """The bytes of the guest's after which both cables are out; 0: they stay."""
    taken: int = 0
    """The bytes of the guest's that it has taken."""
    cards: tuple[Link, ...] = field(
        default_factory=lambda: tuple(Link.make(f"card{each}") for each in (1, 2))
    )
    behind: Link = field(default_factory=lambda: Link.make("behind"))
    partners: dict[str, bytes] = field(default_factory=dict)
    """What works, by name: of each link that LACP has agreed on, the system on the other side."""
    agreements: int = 0
    """How many times LACP has agreed anew."""
    last: Link | None = None
    """The one that the last frame came from."""

    @property
    def options(self) -> tuple[str, ...]:
        """QEMU's."""
        hub = (
            "-netdev",
            "hubport,id=h0,hubid=0,netdev=net",
            "-netdev",
            "hubport,id=h1,hubid=0,netdev=behind",
        )
        links = [word for each in (*self.cards, self.behind) for word in ("-netdev", each.netdev)]
        # A bond speaks LACP only through cards that tell their speed.
        kind = "virtio-net-pci,speed=1000,duplex=full"
        cards = [
            word
            for number, each in enumerate(self.cards, 1)
            for word in ("-device", f"{kind},netdev={each.name},mac={mac(number)}")
        ]
        return ("-netdev", "user,id=net", *links, *hub, *cards)

    @property
    def is_cut(self) -> bool:
        return 0 < self.cut_after < self.taken

    def from_card(self, number: int, frame: bytes) -> None:
        link = self.cards[number - 1]
        self.taken += len(frame)
        if number == self.dead or self.is_cut:
            return
        (kind,) = struct.unpack_from(">H", frame, 12)
        if kind == _SLOW_PROTOCOLS and frame[14] == _LACP and self.lacp:
            self._agree(link, number, frame)
        elif not self.lacp or link.name in self.partners:
            self.last = link
            self._pass_on(frame, struct.unpack_from(">H", frame, 14)[0] & 0xFFF if kind == self.tag else 0)

    def _pass_on(self, frame: bytes, vlan: int) -> None:
        if vlan == self.vlan:
            self.behind.send(frame[:12] + frame[16:] if vlan else frame)

    def from_behind(self, frame: bytes) -> None:
        tag = struct.pack(">HH", self.tag, self.vlan) if self.vlan else b""
        if self.last is not None and not self.is_cut:
            self.last.send(frame[:12] + tag + frame[12:])

    def _agree(self, link: Link, number: int, frame: bytes) -> None:
        actor, partner = frame[18 : 18 + _PORT.size], frame[38 : 38 + _PORT.size]
        _, system, *_, state = _PORT.unpack(actor)
        if state & _WORKS == _WORKS and _PORT.unpack(partner)[1] == _OWN:
            self.agreements += link.name not in self.partners
            self.partners[link.name] = system
        else:
            self.partners.pop(link.name, None)
        ours = _PORT.pack(1, _OWN, 1, 1, number, _STATE)
        answer = b"\1\1\1\x14" + ours + b"\2\x14" + actor + b"\3\x10" + bytes(14)
        header = _SLOW_ADDRESS + _OWN + struct.pack(">H", _SLOW_PROTOCOLS)
        link.send(header + answer.ljust(110, b"\0"))


@contextmanager
def running(switch: Switch) -> Iterator[Switch]:
    """The switch forwards while the block runs."""
    ends, end = socket.socketpair()
    with selectors.DefaultSelector() as waiting:
        waiting.register(end, selectors.EVENT_READ, None)
        for link in (*switch.cards, switch.behind):
            waiting.register(link.ours, selectors.EVENT_READ, link)
        thread = threading.Thread(target=_forward, args=(switch, waiting))
        thread.start()
        try:
            yield switch
        finally:
            ends.close()
            thread.join()
            end.close()
            for link in (*switch.cards, switch.behind):
                link.ours.close()


def _forward(switch: Switch, waiting: selectors.BaseSelector) -> None:
    while True:
        for key, _ in waiting.select():
            if key.data is None:
                return
            frame = key.data.ours.recv(_FRAME_MAX)
            if key.data is switch.behind:
                switch.from_behind(frame)
            else:
                switch.from_card(switch.cards.index(key.data) + 1, frame)

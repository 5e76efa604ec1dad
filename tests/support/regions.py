"""Regions of memory for the tests of purgatories: intact, damaged, and of any size."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hypothesis import strategies as st

from pykexec import purgatory
from pykexec.purgatory import Blob, Digest, Region

Contents = Mapping[str, tuple[int, bytes]]
"""Physical addresses and bytes, by the regions' names."""


def digests(contents: Contents) -> tuple[Digest, ...]:
    """Return what purgatory verifies."""
    regions = [Region(name, address, memoryview(data)) for name, (address, data) in contents.items()]
    return purgatory.digest_regions(regions)


def with_purgatory(contents: Contents, blob: Blob, image: bytes, at: int) -> dict[int, bytes]:
    """Return memory by addresses. That beyond the image is nothing that purgatory may rely on."""
    return {**dict(contents.values()), at: image.ljust(blob.memsz, b"\xcc")}


@dataclass(frozen=True)
class Damage:
    """A region with one bit flipped."""

    contents: Contents
    """All regions, with that one as it is now."""
    address: int
    intact: bytes
    damaged: bytes
    name: str

    @property
    def message(self) -> str:
        """What purgatory says of it."""
        return f"region {self.name} is damaged: {len(self.intact)} bytes at 0x{self.address:016x}"

    @property
    def sha256(self) -> str:
        """The digest of the damaged bytes, in hexadecimal."""
        return hashlib.sha256(self.damaged).hexdigest()


def last_bit(contents: Contents, name: str) -> Damage:
    """Flip the lowest bit of a region's last byte."""
    address, intact = contents[name]
    damaged = intact[:-1] + bytes([intact[-1] ^ 1])
    return Damage({**contents, name: (address, damaged)}, address, intact, damaged, name)


def flipped_bit(data: st.DataObject, contents: Contents) -> Damage:
    """Flip one bit of one region, both drawn."""
    name = data.draw(st.sampled_from(sorted(contents)))
    address, intact = contents[name]
    damaged = bytearray(intact)
    where = data.draw(st.integers(0, len(intact) - 1) | st.just(len(intact) - 1))
    damaged[where] ^= 1 << data.draw(st.integers(0, 7))
    changed = {**contents, name: (address, bytes(damaged))}
    return Damage(changed, address, intact, bytes(damaged), name)


def _repeated(size: int, pattern: bytes) -> bytes:
    return ((pattern or b"\0") * (size // max(len(pattern), 1) + 1))[:size]


ANY_BYTES = st.builds(
    _repeated,
    st.integers(0, 300) | st.sampled_from([55, 56, 63, 64, 65, 119, 120, 127, 128, 20_000]),
    st.binary(max_size=9),
)
"""Sizes around those of SHA-256's blocks and of its padding."""
OFFSETS = st.integers(0, 65)


def hashed(content: bytes, base: int, offset: int = 0) -> tuple[Digest, bytes]:
    """Return the digest of bytes at an offset from `base`, and all from there on, other bytes around."""
    digest = Digest("data", base + offset, len(content), hashlib.sha256(content).digest())
    return digest, b"\xff" * offset + content + b"\xff"


def per_byte(instructions: Callable[[int], int]) -> float:
    """Return the instructions for each byte, by what so many bytes take in all."""
    small, large = 512, 4608
    return (instructions(large) - instructions(small)) / (large - small)

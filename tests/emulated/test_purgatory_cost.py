"""What hashing costs, in instructions executed by the shipped purgatory: the machine is down meanwhile.

Counts do not depend on the machine that runs the tests. tests/differential compares them with the C tool's.
"""

import functools
import hashlib

import pytest

from pykexec.purgatory import Digest
from tests.emulated import machine, test_purgatory, test_purgatory_arm64
from tests.emulated.arm64 import PLAIN, Cpu, Level
from tests.support import regions

pytestmark = pytest.mark.slow

_LARGE = 8192


def x86_64(size: int, cpu: machine.Cpu) -> int:
    """Instructions from entry to the kernel, for one region of that many bytes."""
    digest, data = regions.hashed(bytes(size), 0x500000)
    outcome = test_purgatory.start(digests=(digest,), extra={digest.address: data}, cpu=cpu, counted=True)
    assert outcome.jumped
    return outcome.instructions


def arm64(size: int, cpu: Cpu) -> int:
    """The same."""
    digest, data = regions.hashed(bytes(size), 0x44000000)
    contents = {"kernel": test_purgatory_arm64.CONTENTS["kernel"], "data": (digest.address, data)}
    outcome = test_purgatory_arm64.start(digests=(digest,), contents=contents, cpu=cpu, counted=True)
    assert outcome.jumped
    return outcome.instructions


@functools.cache
def x86_64_per_byte(cpu: machine.Cpu) -> float:
    return regions.per_byte(lambda size: x86_64(size, cpu))


def arm64_per_byte(cpu: Cpu) -> float:
    return regions.per_byte(lambda size: arm64(size, cpu))


NO_SHA = Cpu(identification=test_purgatory_arm64.NO_SHA)


def test_instructions_per_byte() -> None:
    assert x86_64_per_byte(machine.SHA) < 2.6
    assert x86_64_per_byte(machine.PLAIN) < 46
    assert arm64_per_byte(PLAIN) < 1.8
    assert arm64_per_byte(NO_SHA) < 29


@pytest.mark.parametrize("level", Level)
def test_what_the_map_and_the_caches_cost_on_arm64(level: Level) -> None:
    assert arm64(64, Cpu(level)) < 50_000


def test_what_asking_the_cpu_costs_on_x86_64() -> None:
    assert x86_64(64, machine.SHA) < 5_000


def test_the_cpu_seldom_waits_for_itself_where_two_regions_are_hashed() -> None:
    content = bytes(_LARGE)
    digest = Digest("data", 0x500000, _LARGE, hashlib.sha256(content).digest())
    rounds, besides = [], x86_64(64, machine.SHA)
    for count in 1, 2:
        memory = {digest.address: content}
        outcome = test_purgatory.start(
            digests=(digest,) * count, extra=memory, cpu=machine.SHA, counted=True
        )
        assert outcome.jumped
        rounds.append((outcome.sha_rounds, outcome.sha_rounds_waiting))
        assert outcome.instructions - besides < 2.7 * count * _LARGE
    (one, _), (two, waiting) = rounds
    assert two == 2 * one
    assert waiting < 0.52 * two

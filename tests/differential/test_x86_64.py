"""pykexec's loads mean what the C kexec's mean, but for the differences that are intended."""

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pykexec.memory import MIB
from pykexec.plan import Purpose
from tests.differential.cases import CODE, LOW, Case, Lines, cases, hand_made
from tests.differential.ckexec import CKexec
from tests.differential.comparison import INTENDED, Difference, compare, unintended
from tests.support.effort import examples

Found = Callable[[Case], dict[str, Difference]]


@pytest.fixture(scope="session")
def found(c_kexec: CKexec, tmp_path_factory: pytest.TempPathFactory) -> Found:
    """The differences of a case; each is tried once."""

    @functools.cache
    def find(case: Case) -> dict[str, Difference]:
        return compare(case, c_kexec, tmp_path_factory.mktemp(case.name))

    return find


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_only_intended_differences(case: Case, found: Found) -> None:
    assert unintended(found(case)) == {}


def test_every_listed_difference_occurs(found: Found) -> None:
    assert set(INTENDED) == set().union(*map(found, cases()))


@st.composite
def iomems(draw: st.DrawFn) -> Lines:
    """/proc/iomem of machines with room for the kernel at its preferred address, then memory of any kind,
    and a reservation in the last of it."""
    kinds = ["System RAM", "Reserved", "ACPI Tables", "ACPI Non-volatile Storage", "Persistent Memory"]
    lines = [*LOW, (MIB, 64 * MIB - 1, "System RAM"), *CODE]
    end = 64 * MIB
    for kind in draw(st.lists(st.sampled_from(kinds), max_size=12)):
        start = end + draw(st.sampled_from([0, 0x200, 0x1000, 4096 * MIB]))
        end = start + draw(st.sampled_from([0x200, 0x400, 0x1000, 0x12C00, 64 * MIB]))
        lines.append((start, end - 1, kind))
    start = (end + 16 * MIB - 1) // (16 * MIB) * 16 * MIB
    offset, size, left = (draw(st.integers(low, 8)) * 16 * MIB for low in (0, 2, 0))
    lines.append((start, start + offset + size + left - 1, "System RAM"))
    lines.append((start + offset, start + offset + size - 1, "Crash kernel"))
    return lines


@settings(max_examples=examples(50), deadline=None, derandomize=True)
@given(st.sampled_from(Purpose), iomems())
def test_any_memory_map(c_kexec: CKexec, purpose: Purpose, lines: Lines) -> None:
    case = Case("any-map", purpose, None, hand_made(lines))
    with tempfile.TemporaryDirectory() as folder:
        assert unintended(compare(case, c_kexec, Path(folder))) == {}

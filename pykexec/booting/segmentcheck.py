"""The rules by which the running kernel accepts the segments of kexec_load(2), as a pure function.

kernel/kexec.c and kernel/kexec_core.c, sanity_check_segment_list(): the rules, their order and their errno.
"""

from __future__ import annotations

import errno

from pykexec.purpose import Purpose
from pykexec.uapi import KEXEC_SEGMENT_MAX
from pykexec.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pykexec.arch import Arch
    from pykexec.machine import Machine
    from pykexec.memory import Range
    from pykexec.plan import LoadPlan, Segment


@dataclass(frozen=True, slots=True)
class Limits:
    """The properties of the machine that the rules depend on."""

    page_size: int
    """The size in bytes of the running kernel's pages."""
    memory: int
    """The bytes of RAM that the running kernel counts."""
    address_end: int
    """The first physical address that it cannot reach."""
    region: Range | None
    """The reservation for the crash kernel's segments (crashk_res); None where there is none."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A rule that a plan breaks."""

    errno: int
    what: str
    """What is wrong with which segment, for people."""


def limits(machine: Machine, arch: Arch) -> Limits:
    """Return the limits that plans are made by. Raises MachineError.

    No kernel counts more RAM than /proc/iomem has outside reservations. So the kernel refuses whatever this
    limit refuses.
    """
    regions = machine.crash_regions
    return Limits(
        page_size=machine.page_size,
        memory=machine.iomem.system_ram.minus(regions).size,
        address_end=arch.address_end,
        region=regions[-1] if regions else None,
    )


def refusals(plan: LoadPlan, limits: Limits) -> Iterator[Refusal]:
    """Yield the rules that the plan breaks, in the order in which the kernel checks them."""
    is_crash = plan.purpose is Purpose.CRASH
    if len(plan.segments) > KEXEC_SEGMENT_MAX:
        what = f"{len(plan.segments)} segments; the kernel takes {KEXEC_SEGMENT_MAX} at most"
        yield Refusal(errno.EINVAL, what)
    if is_crash:
        yield from _entry(plan.entry, limits.region)
    yield from _places(plan.segments, limits)
    yield from _overlaps(plan.segments)
    yield from _sizes(plan.segments, limits.memory)
    if is_crash and limits.region is not None:
        yield from _outside(plan.segments, limits.region)


def _entry(entry: int, region: Range | None) -> Iterator[Refusal]:
    if region is None:
        what = "no memory is reserved for a crash kernel; boot with crashkernel=SIZE"
        yield Refusal(errno.EADDRNOTAVAIL, what)
    elif entry not in region:
        what = f"the entry point {entry:#x} is outside of the reservation {region}"
        yield Refusal(errno.EADDRNOTAVAIL, what)


def _places(segments: tuple[Segment, ...], limits: Limits) -> Iterator[Refusal]:
    for each in segments:
        if each.address % limits.page_size or each.memsz % limits.page_size:
            what = f"segment {each.name} {each.range} is not made of whole pages of {limits.page_size}"
            yield Refusal(errno.EADDRNOTAVAIL, what)
        if each.range.end >= limits.address_end:  # the kernel sees the end 0 there
            what = f"segment {each.name} {each.range} does not end below {limits.address_end:#x}"
            yield Refusal(errno.EADDRNOTAVAIL, what)


def _overlaps(segments: tuple[Segment, ...]) -> Iterator[Refusal]:
    """Yield segments that overlap. A segment of no size overlaps another if it lies inside that."""
    highest: Segment | None = None
    for each in sorted(segments, key=lambda segment: (segment.address, segment.memsz)):
        if highest and each.address < highest.range.end and highest.address < each.range.end:
            what = f"segments overlap: {highest.name} {highest.range}, {each.name} {each.range}"
            yield Refusal(errno.EINVAL, what)
        if highest is None or each.range.end > highest.range.end:
            highest = each


def _sizes(segments: tuple[Segment, ...], memory: int) -> Iterator[Refusal]:
    for each in segments:
        if each.data.nbytes > each.memsz:
            what = f"segment {each.name} has {each.data.nbytes} bytes for a place of {each.memsz}"
            yield Refusal(errno.EINVAL, what)
    for each in segments:
        if each.memsz > memory // 2:
            what = f"segment {each.name} takes {each.memsz:#x} bytes; {_half(memory)}"
            yield Refusal(errno.EINVAL, what)
    total = sum(each.memsz for each in segments)
    if total > memory // 2:
        yield Refusal(errno.EINVAL, f"the segments take {total:#x} bytes; {_half(memory)}")


def _half(memory: int) -> str:
    return f"the kernel allows half of its {memory:#x} at most"


def _outside(segments: tuple[Segment, ...], region: Range) -> Iterator[Refusal]:
    for each in segments:
        if each.address < region.start or each.range.end > region.end:
            missing = max(each.range.end - region.end, region.start - each.range.start)
            what = (
                f"segment {each.name} {each.range} is outside of the reservation {region}, which is"
                f" {missing:#x} bytes too small; load again, or raise crashkernel="
            )
            yield Refusal(errno.EADDRNOTAVAIL, what)

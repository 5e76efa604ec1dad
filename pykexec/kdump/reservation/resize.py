"""Give back memory that is reserved in excess, through /sys/kernel/kexec_crash_size.

kernel/kexec_core.c, crash_shrink_memory(): the reservation can only shrink, by whole pages, and not while a
crash kernel is loaded.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from pykexec.errors import UsageError
from pykexec.kdump.reservation.crashkernel import size_text
from pykexec.machine import Machine
from pykexec.memory import MIB, Range, align_down, align_up

SCHEMA = 1
"""The version of the JSON form."""


@dataclass(frozen=True, slots=True)
class Resize:
    """A plan to shrink the reservation: a number to write to `path`."""

    path: str
    value: int
    """Bytes as the file counts them: with the low part where the kernel counts that."""
    kept: tuple[Range, ...]
    freed: tuple[Range, ...]
    unload_first: bool
    """Whether a crash kernel is loaded; then the kernel refuses to shrink."""


def resize(machine: Machine, wanted: int) -> Resize:
    """Plan to leave `wanted` bytes in the main part of the reservation, which can only shrink.

    The low part stays, because devices need it for DMA. Raises UsageError where there is nothing to shrink
    or it would have to grow, and MachineError.
    """
    regions = machine.crash_regions
    state = machine.kexec_state
    counted = state.crash_size
    if not regions or not counted:
        raise UsageError("no memory is reserved for a crash kernel", hint="pykdump setup asks for some")
    *low, main = regions
    page = machine.page_size
    size = align_up(wanted, page)
    if wanted < 0 or size > main.size:
        raise UsageError(
            f"the reservation has {main.size:#x} bytes and can only shrink, not grow to {size:#x}",
            hint=f"boot with crashkernel={size_text(align_up(max(wanted, 0), MIB))}",
        )
    # Since 6.5 the file counts both parts, and the main one shrinks first.
    counts_low = counted > main.size
    low_size = sum(each.size for each in low) if counts_low else 0
    end = main.start + size
    kept = Range(main.start, align_down(end, page))
    folder = "kexec/crash_size" if machine.read("sys/kernel/kexec/crash_size") else "kexec_crash_size"
    return Resize(
        path=f"/sys/kernel/{folder}",
        value=size + low_size,
        kept=(*low, kept) if kept else tuple(low),
        freed=tuple(filter(None, (Range(kept.end, main.end),))),
        unload_first=bool(state.crash_loaded),
    )


def resize_steps(plan: Resize) -> Sequence[str]:
    """Return what to do, for people."""
    if not plan.freed:
        return ("nothing to do: the reservation has that size",)
    steps = ["unload the crash kernel: pykexec -p -u"] if plan.unload_first else []
    steps.append(f"echo {plan.value} > {plan.path}")
    steps += [f"(gives {each} back to the running kernel, until the next boot)" for each in plan.freed]
    if plan.unload_first:
        steps.append("load the crash kernel again")
    return tuple(steps)


def as_json(plan: Resize) -> str:
    """Return one JSON object; sizes and addresses are in bytes."""
    content = {
        "schema": SCHEMA,
        "path": plan.path,
        "value": plan.value,
        "kept": [{"start": each.start, "end": each.end} for each in plan.kept],
        "freed": [{"start": each.start, "end": each.end} for each in plan.freed],
        "unload_first": plan.unload_first,
    }
    return json.dumps(content, indent=2) + "\n"

"""The state of a load that a loader builds up: machine, request, segments; and the plan made of them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from pykexec import purgatory
from pykexec.arch import Arch
from pykexec.booting import crash
from pykexec.machine import Machine
from pykexec.memory import Placement, Range, RangeSet, TypedRange, align_up
from pykexec.plan import ADDRESS_SPACE, Layout, LoadPlan, Purpose, Request, Segment
from pykexec.uapi import KEXEC_ON_CRASH, KEXEC_PRESERVE_CONTEXT
from pykexec.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

KERNEL, INITRD, PURGATORY, ELFCOREHDR = "kernel", "initrd", "purgatory", "elfcorehdr"
"""Names of segments that all loaders have."""


@dataclass(frozen=True, slots=True)
class Context:
    """One load on one machine: places and fills the segments that all loaders have."""

    arch: Arch
    machine: Machine
    request: Request
    layout: Layout

    @classmethod
    def begin(cls, arch: Arch, machine: Machine, request: Request, free: RangeSet) -> Context:
        """Return a context with nothing placed, in the part of `free` (physical) that the request allows."""
        usable = free.intersect([request.within])
        layout = Layout(usable, page_size=machine.page_size, end=arch.address_end)
        return cls(arch, machine, request, layout)

    @property
    def is_crash(self) -> bool:
        """Whether the kernel is for the next crash."""
        return self.request.purpose is Purpose.CRASH

    def place_core_headers(
        self, headers: bytes, why: str = "describes the crashed kernel's memory", unit: int = 1
    ) -> Range:
        """Place and fill the core headers' segment; return where they lie, without the spare room behind.

        The segment is of whole `unit` bytes, and begins at a multiple of it.

        Raises PlacementError, and MachineError where the running kernel does not update them (--hotplug).
        """
        size = crash.core_headers_room(self.machine, headers, hotplug=self.request.hotplug)
        at = self.layout.place(ELFCOREHDR, align_up(size, unit), alignment=unit, why=why)
        self.layout.fill(ELFCOREHDR, headers)
        return Range.sized(at, len(headers))

    def place_initrd(self, within: Range, placement: Placement, why: str) -> Range | None:
        """Place and fill the initrd's segment; return where it lies, None where there is none.

        Raises PlacementError.
        """
        initrd = self.request.initrd
        if initrd is None or initrd.size == 0:
            return None
        at = self.layout.place(INITRD, initrd.size, within=within, placement=placement, why=why)
        self.layout.fill(INITRD, initrd.data)
        return Range.sized(at, initrd.size)

    def place_purgatory(
        self, within: Range = ADDRESS_SPACE, placement: Placement = Placement.HIGHEST
    ) -> purgatory.Blob:
        """Reserve purgatory's room and return its blob. Raises PlacementError, PurgatoryError."""
        blob = purgatory.load_blob(self.arch.name)
        self.layout.place(
            PURGATORY,
            blob.memsz,
            alignment=blob.alignment,
            within=within,
            placement=placement,
            why="runs first: verifies the rest, then jumps to it",
        )
        return blob

    def fill_purgatory(
        self,
        blob: purgatory.Blob,
        *,
        jump_to: int,
        arguments: Sequence[int],
        console: purgatory.Console,
        seen_at: int = 0,
        **further: Any,
    ) -> int:
        """Fill purgatory after all other segments; return its entry point (physical).

        `seen_at` is where purgatory sees physical address 0. `further` are more arguments of
        `purgatory.build`. Raises PurgatoryError.
        """
        image = purgatory.build(
            blob,
            jump_to=jump_to,
            arguments=arguments,
            digests=() if self.request.skip_checks else purgatory.digest_regions(self._regions(seen_at)),
            console=console,
            **further,
        )
        self.layout.fill(PURGATORY, image)
        return self.layout.range(PURGATORY).start + blob.entry_offset

    def _regions(self, seen_at: int) -> list[purgatory.Region]:
        """Return what purgatory verifies: all segments but itself and what the running kernel rewrites."""
        layout = self.layout
        changing = {PURGATORY, *(self.arch.hotplug_rewrites if self.request.hotplug else ())}
        return [
            purgatory.Region(name, seen_at + layout.range(name).start, layout.data(name))
            for name in layout.names()
            if name not in changing and layout.data(name).nbytes
        ]

    def finish(
        self,
        *,
        entry: int,
        command_line: str,
        image_format: str,
        memory_map: Sequence[TypedRange],
        segments: tuple[Segment, ...] | None = None,
        warnings: Sequence[str] = (),
        losses: Sequence[str] = (),
    ) -> LoadPlan:
        """Return the plan. `entry` is purgatory's; without `segments` the layout's are taken.

        `losses` is what only kexec_file_load would give to the next kernel.
        """
        request = self.request
        # Without them the capture kernel makes its own, and knows where to look.
        has_headers = ELFCOREHDR in self.layout.names()
        missing = crash.warnings(self.machine) if has_headers else []
        return LoadPlan(
            arch=self.arch.name,
            purpose=request.purpose,
            image=request.kernel.path,
            image_format=", ".join(filter(None, (request.container, image_format))),
            initrd=request.initrd.path if request.initrd else None,
            command_line=command_line,
            entry=entry if request.entry is None else request.entry,
            flags=flags(self.arch, request),
            segments=self.layout.segments() if segments is None else segments,
            memory_map=tuple(memory_map),
            warnings=(*missing, *warnings),
            losses=tuple(losses),
        )


def flags(arch: Arch, request: Request) -> int:
    """Return kexec_load's flags for that request."""
    wanted: Mapping[int, bool] = {
        KEXEC_PRESERVE_CONTEXT: request.preserve_context or request.jump_back is not None,
        KEXEC_ON_CRASH: request.purpose is Purpose.CRASH,
        arch.hotplug_flag: request.purpose is Purpose.CRASH and request.hotplug,
    }
    return arch.kexec_flag | sum(flag for flag, is_wanted in wanted.items() if is_wanted)


def line_overflow(line: str, limit: int, whose: str) -> str | None:
    """Return what is wrong with a command line of more bytes than `limit`; None for one that fits."""
    size = len(os.fsencode(line))
    return None if size <= limit else f"Command line overflow: {size} bytes, {whose} takes {limit} at most"


SHORTEN = "shorten --append, or leave out --reuse-cmdline"
"""The hint for a command line that is too long."""

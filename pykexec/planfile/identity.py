"""What a plan's file knows of its machine: no other machine loads it, nor a later boot if that matters.

Compared are the architecture, the kernel's release and page size, the crash kernel's memory, and digests of
files. purgatory/exec/planfile.c does the same where there is no Python.
"""

from __future__ import annotations

import hashlib

from pykexec.arch import facts_for
from pykexec.errors import MachineError, PlanFileError
from pykexec.machine import iomem, kallsyms, kcore, snapshot
from pykexec.memory import Range
from pykexec.purpose import Purpose
from pykexec.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pykexec.machine import Machine

ALWAYS = (
    "proc/device-tree/**",
    "proc/iomem",
    "sys/devices/system/memory/memory*/state",
    "sys/firmware/efi/runtime-map/*/*",
    "sys/firmware/efi/systab",
    "sys/firmware/memmap/*/*",
)
"""The files of which what a plan has depends: memory, and what the firmware says of the machine."""
FOR_CRASHES = (
    kallsyms.PATH,
    kcore.PATH,
    "sys/devices/system/cpu/cpu*/crash_notes",
    "sys/devices/system/cpu/cpu*/crash_notes_size",
    "sys/kernel/kexec_crash_cma_ranges",
    "sys/kernel/kexec_crash_size",
    "sys/kernel/vmcoreinfo",
)
"""The files that say where the running kernel has what a dump needs: mostly elsewhere after each boot."""
CHECKED = (*ALWAYS, *FOR_CRASHES)

NOT_COMPARED = "proc/device-tree/chosen/"
"""What a boot loader tells the kernel about one boot: the command line, the initrd's place, seeds."""

_REMEDY = "take a new snapshot (kexec --snapshot, pykexec --snapshot), and make the plan anew"


@dataclass(frozen=True, slots=True)
class Fact:
    """The state of the files that match a pattern."""

    pattern: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class Identity:
    """A machine, as far as a plan depends on it."""

    machine: str
    """What `uname -m` prints."""
    release: str
    """What `uname -r` prints."""
    page_size: int
    crash_region: Range
    """The last region that is reserved for a crash kernel; empty where there is none."""
    facts: tuple[Fact, ...]


def identify(machine: Machine, purpose: Purpose) -> Identity:
    """Return the identity that a plan for that purpose depends on. Raises MachineError."""
    if not machine.kernel_release:
        raise MachineError(
            "the snapshot does not tell the kernel's release, which a plan's file needs",
            hint="take a new one: kexec --snapshot, pykexec --snapshot",
        )
    known = snapshot.patterns(facts_for(machine))
    wanted = CHECKED if purpose is Purpose.CRASH else ALWAYS
    return identity_of(machine, [pattern for pattern in wanted if pattern in known])


def identity_of(machine: Machine, patterns: Sequence[str]) -> Identity:
    """Return the identity by the files of these patterns. Raises MachineError."""
    regions = machine.crash_regions
    return Identity(
        machine.uname_machine,
        machine.kernel_release,
        machine.page_size,
        regions[-1] if regions else Range(0, 0),
        tuple(Fact(pattern, digest(machine, pattern)) for pattern in patterns),
    )


def digest(machine: Machine, pattern: str) -> bytes:
    """Return the digest of the files that match a pattern, with the contents that a snapshot has.

    That is the exclusive or of each file's SHA-256 over its name, a zero byte and its contents, as folders
    list their files in no order; zeros where there is no file. Raises MachineError.
    """
    found = 0
    reader = snapshot.Reader(machine.root)
    for name, data in reader.safe_files(pattern):
        if name.startswith(NOT_COMPARED):
            continue
        data = iomem.memory_lines(data) if name == "proc/iomem" else data
        found ^= int.from_bytes(hashlib.sha256(name.encode() + b"\0" + data).digest())
    reader.require_all()
    return found.to_bytes(hashlib.sha256().digest_size)


def require_same(planned: Identity, machine: Machine) -> None:
    """Raise PlanFileError, which says what differs, where the plan is for another machine or boot."""
    unknown = [each.pattern for each in planned.facts if each.pattern not in CHECKED]
    if unknown:
        raise PlanFileError(f"the plan depends on {unknown[0]}, which this pykexec does not know")
    found = identity_of(machine, [each.pattern for each in planned.facts])
    for what, one, other in (
        ("machine type", planned.machine, found.machine),
        ("kernel", planned.release, found.release),
        ("page size", planned.page_size, found.page_size),
        ("crash kernel's memory", planned.crash_region or "nowhere", found.crash_region or "nowhere"),
    ):
        if one != other:
            raise PlanFileError(f"the plan is for the {what} {one}, this machine's is {other}", hint=_REMEDY)
    for fact, now in zip(planned.facts, found.facts, strict=True):
        if fact != now:
            raise PlanFileError(
                f"the plan is for another machine, or this one has changed: /{fact.pattern} differs",
                hint=_REMEDY,
            )

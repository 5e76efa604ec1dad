"""Loading with both programs, what differs then, and what of that is intended."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pykexec.files import FileData
from pykexec.loader import plan_load
from pykexec.machine import Machine
from pykexec.memory import MIB, Range
from pykexec.plan import ADDRESS_SPACE, Purpose, Request
from tests.differential.cases import Case
from tests.differential.ckexec import CKexec, Loaded
from tests.differential.meaning import FIELDS, Facts, check_places, facts, joined
from tools.lab import X86_64, Kernel

INITRD = bytes(range(256)) * 400


@dataclass(frozen=True)
class Difference:
    """What one fact is for the C kexec, and what for pykexec."""

    theirs: Any
    ours: Any
    told: Facts = field(repr=False)
    """All that pykexec's load tells the next kernel."""
    running: bytes = field(repr=False)
    """The running kernel's boot_params."""


@dataclass(frozen=True)
class Intended:
    """Why something differs, and whether it differs in just that way."""

    reason: str
    is_so: Callable[[Difference], bool]


def _number(field: bytes) -> int:
    return int.from_bytes(field, "little")


def _handed_on(name: str, reason: str) -> Intended:
    start, end = FIELDS[name.removeprefix("boot_params.")]
    return Intended(reason, lambda d: not any(d.theirs) and d.ours == d.running[start:end])


def _without(ranges: dict[int, Any], kinds: set[int]) -> dict[int, Any]:
    return {kind: each for kind, each in ranges.items() if kind not in kinds}


def _dumped(d: Difference) -> bool:
    """Alike, but for a piece of low memory that the C tool's dump reads where the capture kernel runs."""
    theirs = [part for part in d.theirs if part[2]]
    return len(theirs) == len(d.ours) and all(
        their == our or (their[:3] == our[:3] and their[0] < MIB and their[3] == their[0] != our[3])
        for their, our in zip(theirs, d.ours, strict=True)
    )


def _low_memory(d: Difference) -> bool:
    first_kib = (0, 1024)
    if _without(d.theirs, {1}) == _without(d.ours, {1}) and d.theirs.get(1) == d.ours.get(1, [])[:1]:
        return len(d.ours[1]) > 1
    if d.theirs == {1: [(0, 0xA0000)]}:
        return 1 not in d.ours
    return bool(
        _without(d.theirs, {1}) == _without(d.ours, {1}) and joined([first_kib, *d.theirs[1]]) == d.ours[1]
    )


def _kinds(d: Difference) -> bool:
    """Unusable (5) and soft-reserved memory by their names; to the C tool they are reserved or nothing."""
    known = {5, 0xEFFFFFFF}
    apart = [range_ for kind in known for range_ in d.ours.get(kind, [])]
    apart.append((0x7F030000, 0x7F040000))  # "Unknown E820 type", to pykexec always reserved
    theirs, ours = (joined([*each.get(2, []), *apart]) for each in (d.theirs, d.ours))
    return (
        not known & d.theirs.keys()
        and theirs == ours
        and _without(d.theirs, {2}) == _without(d.ours, {2, *known})
    )


def _is_ram_from_1m(d: Difference) -> bool:
    (start, end), *_ = d.told["e820 from 1 MiB"][1]
    kib = (end - MIB) // 1024
    return bool(start == MIB and _number(d.ours) == min(kib, 0xFC00 if len(d.ours) == 2 else kib))


def _reused(d: Difference) -> bool:
    line = d.theirs.replace(b" kexec_jump_back_entry=0x3f000000 elfcorehdr=1040384K", b"")
    if b"elfcorehdr=HERE" in line:
        line = line.replace(b" crashkernel=256M,low", b"")
    return bool(line.lstrip() == d.ours)


_RAM_FROM_1M = (
    "KiB of RAM from 1 MiB on: the C tool looks at one entry, not at those that adjoin it or cut into it,"
    " and takes its inclusive end for the exclusive one, 1 KiB less"
)
_NOT_ASKED_AGAIN = "the running kernel's boot_params has it, and nobody can ask the firmware again"
_EDD = "from the running boot_params; the C tool has it only while the edd module is loaded"
INTENDED: Mapping[str, Intended] = {
    "boot_params.alt_mem_k": Intended(_RAM_FROM_1M, _is_ram_from_1m),
    "boot_params.ext_mem_k": Intended(_RAM_FROM_1M, _is_ram_from_1m),
    "boot_params.aux_device_info": Intended(
        "today the high byte of boot_flag, 0xaa55, which the C tool clears",
        lambda d: (d.theirs, d.ours) == (b"\0", b"\xaa"),
    ),
    "boot_params.cl_magic and cl_offset": Intended(
        "boot protocol before 2.02, which has no 64-bit entry",
        lambda d: d.theirs[:2] == b"\x3f\xa3" and d.ours == bytes(4),
    ),
    "boot_params.root_dev": Intended(
        "the C tool names /dev/hda (0x300), which no machine has any more",
        lambda d: (_number(d.theirs), _number(d.ours)) == (0x300, 0),
    ),
    "command line": Intended(
        "what an earlier kexec wrote for the running kernel is wrong for the next one, and so is a second"
        " crashkernel= for a capture kernel; no blank at the start",
        _reused,
    ),
    "core: kernel text": Intended(
        "the mapping as /proc/kcore has it: the C tool rounds the virtual start down to 1 MiB, but not the"
        " physical one",
        lambda d: (
            d.ours == (0x1042000, 0xFFFFFFFF81042000, 0x1FBE000, 0x1042000)
            and d.theirs == (0x1042000, 0xFFFFFFFF81000000, 0x2000000, 0x1042000)
        ),
    ),
    "core: memory": Intended(
        "the C tool leaves an empty header where a reservation takes all of a range, and of low memory in"
        " several pieces it saves the first only",
        _dumped,
    ),
    "core: notes": Intended(
        "CPUs behind a gap in the numbers have their notes in the dump, too",
        lambda d: [note for note in d.ours if note != (0x3F000000, 400, 0x3F000000)] == d.theirs,
    ),
    "e820 below 1 MiB": Intended(
        "the firmware's own: the C tool cuts off the first KiB, to place nothing there, and where there is"
        " no RAM it says there were 640 KiB; of several pieces, it uses one",
        _low_memory,
    ),
    "e820 from 1 MiB": Intended("memory keeps its type, also one that the C tool does not know", _kinds),
    **{
        name: _handed_on(name, _NOT_ASKED_AGAIN)
        for name in ("boot_params.ist_info", "boot_params.edid_info", "boot_params.secure_boot")
    },
    **{
        name: _handed_on(name, _EDD)
        for name in (
            "boot_params.eddbuf_entries",
            "boot_params.edd_mbr_sig_buf_entries",
            "boot_params.edd_mbr_sig_buffer",
            "boot_params.eddbuf",
        )
    },
}


@dataclass(frozen=True)
class Loads:
    """A case on disk, and what the two programs make of it."""

    root: Path
    image: bytes
    theirs: Loaded
    ours: Loaded


def compare(case: Case, c_kexec: CKexec, folder: Path) -> dict[str, Difference]:
    """The differences, where both programs put things in places that will do."""
    loads = both(case, c_kexec, folder)
    for loaded in (loads.theirs, loads.ours):
        check_places(loaded, loads.image, allowed(case, loads.root))
    return differences(case, loads)


def both(case: Case, c_kexec: CKexec, folder: Path) -> Loads:
    """Load with the one and the other."""
    root, kernel, initrd = folder / "root", folder / "vmlinuz", folder / "initrd"
    case.write(root)
    image = case.kernel or Kernel.get("6.1", X86_64).image.read_bytes()
    kernel.write_bytes(image)
    initrd.write_bytes(INITRD)
    request = Request(
        FileData.open(kernel, "kernel"),
        purpose=case.purpose,
        initrd=FileData.open(initrd, "initrd") if case.initrd else None,
        append=case.append,
        reuse_command_line=case.reuse,
        within=Range(case.bounds[0], case.bounds[1] + 1) if case.bounds else ADDRESS_SPACE,
        seed=bytes(64),
    )
    arguments = ["-p" if case.purpose is Purpose.CRASH else "-l", str(kernel), f"--append={case.append}"]
    arguments += [f"--initrd={initrd}"] if case.initrd else []
    arguments += ["--reuse-cmdline"] if case.reuse else []
    arguments += [f"--mem-min={case.bounds[0]}", f"--mem-max={case.bounds[1]}"] if case.bounds else []
    ours = Loaded.of(plan_load(Machine.from_snapshot(root), request))
    return Loads(root, image, c_kexec.load(root, arguments), ours)


def differences(case: Case, loads: Loads) -> dict[str, Difference]:
    """Facts in which the two loads are not alike."""
    initrd = INITRD if case.initrd else None
    theirs, ours = (facts(loaded, loads.image, initrd) for loaded in (loads.theirs, loads.ours))
    running = loads.root / "sys/kernel/boot_params/data"
    page = running.read_bytes() if running.exists() else bytes(4096)
    return {
        name: Difference(theirs.get(name), ours.get(name), ours, page)
        for name in sorted(theirs.keys() | ours.keys())
        if theirs.get(name) != ours.get(name)
    }


def allowed(case: Case, root: Path) -> list[tuple[int, int]]:
    """Memory that segments may lie in: read with a regular expression, ends exclusive."""
    what = "Crash kernel" if case.purpose is Purpose.CRASH else "System RAM"
    lines = re.findall(rf"^ *(\w+)-(\w+) : {what}$", (root / "proc/iomem").read_text(), re.MULTILINE)
    ranges = sorted((int(first, 16), int(last, 16) + 1) for first, last in lines)
    if case.purpose is Purpose.CRASH:
        ranges = ranges[-1:]
    low, high = case.bounds or (0, 1 << 64)
    return joined((max(first, low), min(end, high + 1)) for first, end in ranges)


def unintended(differences: Mapping[str, Difference]) -> dict[str, Difference]:
    """Those not in the table, or not as it says."""
    return {
        what: difference
        for what, difference in differences.items()
        if what not in INTENDED or not INTENDED[what].is_so(difference)
    }

"""Check a plan against its machine without any arithmetic on sets of ranges.

Physical memory is checked piece by piece. Nothing changes between two addresses at which a line, header or
segment begins or ends. So checking the first byte of each piece checks every page. The rules are the
kernel's: kernel/kexec_core.c sanity_check_segment_list(), fs/proc/vmcore.c, arch/x86/kernel/crash.c,
drivers/of/fdt.c.
"""

import io
import struct
from collections.abc import Iterable, Iterator, Sequence

from elftools.elf.elffile import ELFFile

from pykexec.devicetree import DeviceTree
from pykexec.plan import LoadPlan, Purpose
from tests.support.odd_machines import (
    BY_LINE,
    BY_NODES,
    BY_PAGE,
    BY_PARAMETERS,
    CRASH,
    GIB,
    KIB,
    MIB,
    WITH_TREE,
    Line,
    OddMachine,
)
from tests.support.real_machines import RealMachine

Machine = OddMachine | RealMachine

Piece = tuple[int, int]
"""The first byte, and the one after the last."""

_E820 = {
    "System RAM": 1,
    "Reserved": 2,
    "ACPI Tables": 3,
    "ACPI Non-volatile Storage": 4,
    "Unusable memory": 5,
    "Persistent Memory": 7,
    "Persistent Memory (legacy)": 12,
    "Soft Reserved": 0xEFFFFFFF,
}
"""arch/x86/include/asm/e820/types.h"""
_LOW_END = 640 * KIB
_VECTORS_END = 64 * KIB
_X86 = ("x86_64", "i686")
_AT_ZERO = ("ppc64le", "ppc64")
"""Where interrupts go to address 0, whatever kernel runs. Of ppc the machines here have BookE cores."""


class Truth:
    """The use of a machine's memory, found by asking every line."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.reservations = sorted(
            (each.first, each.last + 1) for each in machine.lines if each.name == CRASH
        )

    def is_ram(self, address: int) -> bool:
        return any(address in each for each in self._machine.lines if "System RAM" in each.name)

    def is_reserved(self, address: int) -> bool:
        return any(first <= address < end for first, end in self.reservations)

    def is_cma(self, address: int) -> bool:
        return any(first <= address <= last for first, last in self._machine.cma)

    def is_firmwares(self, address: int) -> bool:
        """Whether the firmware protects it from kernels."""
        return any(first <= address <= last for first, last in self._machine.protected)

    def _is_in_firmwares_page(self, address: int) -> bool:
        page, size = address // self._machine.page_size, self._machine.page_size
        return any(first // size <= page <= last // size for first, last in self._machine.protected)

    def is_dumped(self, address: int) -> bool:
        if any(address in each for each in self._machine.lines if each.name == "GART"):
            return False  # arch/x86/kernel/aperture_64.c
        if self._machine.arch in BY_NODES:  # firmware's is within the reservation, and the crashed kernel's
            return self.is_ram(address) and (
                self._is_in_firmwares_page(address) or not self.is_reserved(address)
            )
        if self.is_firmwares(address) or (self._machine.arch == "armv7l" and address >= 4 * GIB):
            return False  # its kernels read core headers of 32 bits only
        return self.is_ram(address) and not self.is_reserved(address) and not self.is_cma(address)

    def kind(self, address: int, *, nested: bool) -> int | None:
        """Return the e820 type in firmware's map or, if `nested`, in the running kernel's.

        The running kernel's map sets apart what is reserved in RAM.
        """
        lines = self._machine.lines if nested else self._machine.firmware_lines
        kinds = [_E820[each.name] for each in lines if each.name in _E820 and address in each]
        return kinds[-1] if kinds else None

    def is_free(self, address: int) -> bool:
        """Return whether a loaded kernel may lie there until it starts."""
        lines = [each for each in self._machine.lines if address in each]
        if self._machine.arch in _X86 and address < MIB:
            return False
        if self.is_firmwares(address):
            return False
        if self._machine.arch in BY_LINE and address < 2 * MIB:
            return False
        # The last of these not on x86: a loaded crash kernel may be unmapped.
        nested = (
            "reserved",
            "Reserved",
            "ACPI Tables",
            *([CRASH] if self._machine.arch in (*WITH_TREE, *BY_LINE, *BY_NODES, *BY_PAGE) else []),
        )
        return any(each.name == "System RAM" and not each.depth for each in lines) and not any(
            each.name in nested for each in lines if each.depth and not self._is_own(each)
        )

    def _is_own(self, reserved: Line) -> bool:
        """Whether that is the end of the running kernel's image, which is made of whole 64 KiB there."""
        if self._machine.arch not in BY_LINE or reserved.last // (64 * KIB) != reserved.first // (64 * KIB):
            return False
        return any(
            each.last + 1 == reserved.first for each in self._machine.lines if each.name == "Kernel bss"
        )

    def pieces(self, *others: Iterable[Piece]) -> Iterator[int]:
        """Return an address in each stretch of memory in which nothing changes."""
        edges = {0}
        for each in self._machine.lines:
            edges |= {each.first, each.last + 1}
        for first, last in self._machine.cma:
            edges |= {first, last + 1}
        for first, last in self._machine.protected:
            edges |= {first, last + 1}
            edges |= {last // self._machine.page_size * self._machine.page_size + self._machine.page_size}
        for piece in (each for other in others for each in other):
            edges |= set(piece)
        return iter(sorted(edges))


def check(machine: Machine, plan: LoadPlan) -> None:
    """Raise AssertionError for a plan that is wrong for that machine."""
    truth = Truth(machine)
    segments = [(each.address, each.address + each.memsz) for each in plan.segments]
    _check_segments(machine, truth, plan, segments)
    if plan.purpose is Purpose.CRASH and machine.arch not in BY_PARAMETERS:
        _check_core(machine, truth, plan)
    if machine.arch in BY_PARAMETERS:
        _check_parameters(truth, plan)
    elif machine.arch in WITH_TREE:
        _check_tree(machine, truth, plan)
    elif machine.arch in BY_LINE:
        _check_line(truth, plan)
    elif machine.arch in BY_NODES:
        _check_nodes(machine, truth, plan)
    elif machine.arch in BY_PAGE:
        _check_end(truth, plan)
    else:
        _check_e820(truth, plan)


def _check_segments(machine: Machine, truth: Truth, plan: LoadPlan, segments: Sequence[Piece]) -> None:
    assert len(segments) <= 16
    last_end = 0
    for (start, end), segment in zip(segments, plan.segments, strict=True):
        assert start % machine.page_size == end % machine.page_size == 0
        assert last_end <= start < end
        assert segment.data.nbytes <= end - start
        last_end = end
        if plan.purpose is Purpose.CRASH:
            first, behind = truth.reservations[-1]
            assert first <= start < end <= behind
        else:
            for address in truth.pieces([(start, end)]):
                if start <= address < end:
                    assert truth.is_free(address), f"{segment.name} at {address:#x}"


def _check_core(machine: Machine, truth: Truth, plan: LoadPlan) -> None:
    """Check that each page of the crashed kernel's memory is in the dump once, at its linear address."""
    elf = ELFFile(io.BytesIO(plan.segment("elfcorehdr").data))
    headers = [segment.header for segment in elf.iter_segments()]
    notes = [each for each in headers if each["p_type"] == "PT_NOTE"]
    assert [each["p_paddr"] for each in notes[:-1]] == list(machine.notes)
    parts = [each for each in headers if each["p_type"] == "PT_LOAD"]
    if machine.text is not None and machine.arch not in BY_LINE:  # there the kernel runs in the linear map
        text = parts.pop(0)
        assert (text["p_vaddr"], text["p_paddr"], text["p_memsz"]) == machine.text
    covered = [(each["p_paddr"], each["p_paddr"] + each["p_memsz"]) for each in parts]
    for address in truth.pieces(covered):
        times = sum(start <= address < end for start, end in covered)
        assert times == truth.is_dumped(address), f"{address:#x} is in the dump {times} times"
    backup = next((each for each in plan.segments if each.name == "backup"), None)
    for each in parts:
        if each["p_paddr"] < machine.mapped_end:
            assert each["p_paddr"] + each["p_memsz"] <= machine.mapped_end
            assert each["p_vaddr"] == (machine.linear_base + each["p_paddr"]) % (1 << 64)
        else:
            assert each["p_vaddr"] == (1 << elf.elfclass) - 1, "all ones, as the C tool has it"
        saved_end = _LOW_END if machine.arch in _X86 else _VECTORS_END if machine.arch in _AT_ZERO else 0
        if each["p_paddr"] < saved_end:
            assert backup is not None
            assert backup.address <= each["p_offset"]
            assert each["p_offset"] + each["p_memsz"] <= backup.address + backup.memsz
        else:
            assert each["p_offset"] == each["p_paddr"]


def _check_e820(truth: Truth, plan: LoadPlan) -> None:
    """Check the map in boot_params and after it, read by the offsets of boot.rst."""
    segment = plan.segment("boot_params")
    block = bytes(segment.data)
    table = block[0x2D0 : 0x2D0 + 20 * block[0x1E8]]
    (node,) = struct.unpack_from("<Q", block, 0x250)
    while node:
        at = node - segment.address
        node, kind, size = struct.unpack_from("<QII", block, at)
        table += block[at + 16 : at + 16 + size] if kind == 1 else b""
    entries = list(struct.iter_unpack("<QQI", table))
    pieces = [(start, start + size) for start, size, _ in entries]
    in_use = [
        (each.address, each.address + each.memsz)
        for each in plan.segments
        if each.name in ("elfcorehdr", "backup")
    ]
    for address in truth.pieces(pieces, in_use):
        kinds = [kind for start, size, kind in entries if start <= address < start + size]
        wanted = truth.kind(address, nested=plan.purpose is Purpose.CRASH)
        if plan.purpose is Purpose.CRASH:
            usable = truth.is_reserved(address) or truth.is_cma(address)
            usable = usable or (address < _LOW_END and truth.is_ram(address))
            usable = usable and not any(start <= address < end for start, end in in_use)
            # crash_setup_memmap_entries() does not tell about soft-reserved memory either.
            wanted = 1 if usable else None if wanted in (1, 0xEFFFFFFF) else wanted
        assert kinds == [wanted] * (wanted is not None), f"{address:#x}: {kinds}, should be {wanted}"


def _check_tree(machine: Machine, truth: Truth, plan: LoadPlan) -> None:
    tree = DeviceTree(bytes(plan.segment("dtb").data), "dtb")
    usable = tree.get("/chosen", "linux,usable-memory-range")
    if plan.purpose is Purpose.BOOT:
        assert usable is None
        return
    assert usable is not None
    told = [(start, start + size) for start, size in struct.iter_unpack(">QQ", usable)]
    start, end = truth.reservations[-1]
    apart = plan.segment("elfcorehdr").address if machine.arch == "armv7l" else end
    assert told[0] == (start, apart), "what an old capture kernel reads; arm's reads no headers in it"
    for address in truth.pieces(told):
        times = sum(start <= address < end for start, end in told)
        assert times == (
            (truth.is_reserved(address) and not apart <= address < end) or truth.is_cma(address)
        )


def _check_nodes(machine: Machine, truth: Truth, plan: LoadPlan) -> None:
    """Check the memory of a capture kernel: all up to the reservation's end, less the old kernel's."""
    tree = DeviceTree(bytes(plan.segment("dtb").data), "dtb")
    nodes = [node for _, node in tree.nodes() if node.get("device_type") == b"memory\0"]
    if plan.purpose is Purpose.BOOT:
        assert not any("linux,usable-memory" in node for node in nodes)
        return
    usable = [pair for node in nodes for pair in struct.iter_unpack(">QQ", node["linux,usable-memory"])]
    first, end = truth.reservations[-1]
    lowest = 0 if machine.arch in _AT_ZERO else first
    assert [(start, start + size) for start, size in usable if size] == [(lowest, end)]
    if machine.arch in _AT_ZERO:
        blob = bytes(plan.segment("dtb").data)
        (at,) = struct.unpack_from(">I", blob, 16)
        assert struct.unpack_from(">QQ", blob, at) == (_VECTORS_END, first - _VECTORS_END)


def _check_parameters(truth: Truth, plan: LoadPlan) -> None:
    """Check what a kernel is told in its image (arch/s390/include/asm/setup.h, PARMAREA).

    A capture kernel runs at 0, by exchanging its memory with the crashed one's.
    """
    segments = {each.name: each for each in plan.segments}
    start, end = truth.reservations[-1] if plan.purpose is Purpose.CRASH else (0, 0)
    assert "elfcorehdr" not in segments
    assert segments["kernel"].address == start + 64 * KIB
    initrd = segments.get("initrd")
    place = (0, 0) if initrd is None else (initrd.address - start, initrd.data.nbytes)
    told = struct.unpack_from(">4Q", segments["kernel"].data, 0x408)
    assert told == (*place, start, end - start)
    own = segments["purgatory"]
    if plan.purpose is Purpose.CRASH:
        assert start + 8 * KIB <= own.address
        assert own.address + own.memsz <= start + 64 * KIB
    else:
        assert own.address + own.memsz <= 2 * GIB


def _check_line(truth: Truth, plan: LoadPlan) -> None:
    """Check what a kernel is told by its command line: initrd=, elfcorehdr= and mem=."""
    told: dict[str, list[str]] = {}
    for word in plan.command_line.split():
        name, _, value = word.partition("=")
        told.setdefault(name, []).append(value)
    segments = {each.name: each for each in plan.segments}
    initrd = segments.get("initrd")
    assert told.get("initrd", []) == ([] if initrd is None else [f"{initrd.address},{initrd.data.nbytes}"])
    if plan.purpose is Purpose.BOOT:
        assert "mem" not in told
        assert "elfcorehdr" not in told
        return
    core = segments["elfcorehdr"]
    ((start, end),) = _sized(told["elfcorehdr"])
    assert start == core.address
    assert core.data.nbytes <= end - start <= core.memsz
    usable = _sized(told["mem"])
    for address in truth.pieces(usable):
        times = sum(start <= address < end for start, end in usable)
        assert times == (truth.is_reserved(address) or truth.is_cma(address))


def _check_end(truth: Truth, plan: LoadPlan) -> None:
    """Check where a kernel's memory ends, by mem=, and that it needs nothing behind that but the headers."""
    told = dict(word.split("=") for word in plan.command_line.split() if "=" in word)
    if plan.purpose is Purpose.BOOT:
        assert "mem" not in told
        assert "elfcorehdr" not in told
        return
    core = next(each for each in plan.segments if each.name == "elfcorehdr")
    assert int(told["elfcorehdr"].removesuffix("K")) * KIB == core.address
    ((first, _),) = truth.reservations
    end = first + int(told["mem"].removesuffix("K")) * KIB
    assert all(each.address + each.memsz <= end for each in plan.segments if each is not core)


def _sized(values: Sequence[str]) -> list[Piece]:
    """Read SIZE@START, in KiB each."""
    pieces = (each.split("@") for each in values)
    numbers = [
        (int(size.removesuffix("K")) * KIB, int(start.removesuffix("K")) * KIB) for size, start in pieces
    ]
    return [(start, start + size) for size, start in numbers]

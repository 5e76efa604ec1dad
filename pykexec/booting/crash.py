"""What crash loads share on all architectures: which memory to dump, and where the kernel had mapped it."""

from collections.abc import Iterable

from pykexec.elfcore import MemoryPart
from pykexec.errors import MachineError, NoCrashMemoryError
from pykexec.machine import Machine
from pykexec.machine.iomem import parse_ranges
from pykexec.memory import Range, RangeSet
from pykexec.values import dataclass


@dataclass(frozen=True, slots=True)
class CrashMemory:
    """The memory of a crash load, from /proc/iomem; all addresses are physical."""

    reserved: tuple[Range, ...]
    """The ranges that crashkernel= reserved, ascending: all of it is the capture kernel's RAM."""
    dumped: RangeSet
    """All System RAM that belongs to the crashed kernel."""
    cma: tuple[Range, ...] = ()
    """More RAM for the capture kernel, ascending. User space uses it until a crash, so it is not dumped."""

    @property
    def load(self) -> Range:
        """The one reservation that takes segments (crashk_res): the highest (kernel/kexec_core.c)."""
        return self.reserved[-1]


def survey(machine: Machine, firmware: Iterable[Range] = ()) -> CrashMemory:
    """Return the memory of a crash load; `firmware` is RAM that no kernel may read (physical).

    Raises NoCrashMemoryError when nothing was reserved.
    """
    reserved = machine.crash_regions
    if not reserved:
        raise NoCrashMemoryError(
            'Memory for crashkernel is not reserved: /proc/iomem has no "Crash kernel" entry',
            hint="boot with crashkernel=SIZE on the kernel command line, for instance crashkernel=256M",
        )
    cma = cma_ranges(machine)
    return CrashMemory(reserved, machine.iomem.system_ram.minus([*reserved, *cma, *firmware]), cma)


_CMA = ("sys/kernel/kexec/crash_cma_ranges", "sys/kernel/kexec_crash_cma_ranges")


def cma_ranges(machine: Machine) -> tuple[Range, ...]:
    """Return the physical ranges of crashkernel=SIZE,cma (kernel/kexec_core.c crash_cma_ranges_show)."""
    for path in _CMA:
        data = machine.read(path)
        if data is not None:
            return tuple(sorted(parse_ranges(f"/{path}", data.decode("ascii", "replace"))))
    return ()


def kernel_text(machine: Machine) -> MemoryPart:
    """Return the mapping that the crashed kernel ran from. Raises MachineError when it is not known."""
    code = machine.iomem.find("Kernel code")
    if len(code) != 1:
        raise MachineError(f'/proc/iomem has {len(code)} entries "Kernel code", a running kernel has one')
    text = machine.kcore.kernel_text(code[0].start)
    if text is None:
        raise MachineError(
            f"/proc/kcore has no mapping of the kernel's text at {code[0].start:#x} (physical)",
            hint="without it a dump could not be read; is /proc/kcore that of the running kernel?",
        )
    physical = text.physical if text.physical is not None else code[0].start
    return MemoryPart(physical=physical, virtual=text.virtual, size=text.size)


def linear_map(machine: Machine, memory: CrashMemory) -> list[MemoryPart]:
    """Return all dumped memory as the crashed kernel's linear map has it, then what that lacks (highmem).

    Raises MachineError.
    """
    parts, mapped = [], Range(0, machine.kcore.linear_end)
    for each in memory.dumped.intersect([mapped]):
        virtual = machine.kcore.virtual_of(each.start)
        if virtual is None or not 0 <= virtual < 1 << 64:
            raise MachineError(
                f"/proc/kcore has no linear mapping of System RAM at {each.start:#x} (physical)"
            )
        parts.append(MemoryPart(each.start, virtual, each.size))
    beyond = memory.dumped.minus([mapped])
    return [*parts, *(MemoryPart(each.start, None, each.size) for each in beyond)]


def core_headers_room(machine: Machine, headers: bytes, *, hotplug: bool) -> int:
    """Return the bytes to reserve for core headers: with `hotplug` as many as the running kernel may write.

    Raises MachineError where the running kernel does not update them.
    """
    return max(updated_headers_size(machine), len(headers)) if hotplug else len(headers)


def updated_headers_size(machine: Machine) -> int:
    """Return how many bytes the running kernel needs for core headers that it updates itself (--hotplug).

    Raises MachineError where it does not update them.
    """
    wanted = machine.kexec_state.elfcorehdr_size
    if not wanted:
        raise MachineError(
            "--hotplug: the running kernel updates no core headers (no /sys/kernel/crash_elfcorehdr_size)",
            hint="it takes CONFIG_CRASH_HOTPLUG, or leave out --hotplug and load again after each change",
        )
    return wanted


def warnings(machine: Machine) -> list[str]:
    """Return what will be missing from the dump."""
    found = []
    if machine.vmcoreinfo is None:
        found.append("/sys/kernel/vmcoreinfo is missing: makedumpfile will not be able to read the dump")
    if not machine.cpu_notes:
        found.append("no CPU has crash_notes below /sys/devices/system/cpu: the dump will hold no registers")
    return found

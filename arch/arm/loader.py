"""Plans for arm kernels: what of the loader with a device tree is arm's own."""

from __future__ import annotations

from functools import partial

from pykexec.arch.arm import ARCH, image, layout, tags, zimage
from pykexec.booting import crash, psci, treeload
from pykexec.booting.context import Context
from pykexec.booting.part import LoaderPart
from pykexec.booting.treeload import TreeBoot, TreeKernel
from pykexec.devicetree import DeviceTree
from pykexec.errors import MachineError, UsageError
from pykexec.files import FileData
from pykexec.formats import unwrap
from pykexec.machine import Machine
from pykexec.memory import KIB, MIB, Range, align_down, align_up
from pykexec.plan import LoadPlan, Purpose, Request
from pykexec.values import replace

_LOWMEM = 760 * MIB
"""What a kernel with the usual split maps of its memory at once (arch/arm/mm/mmu.c, vmalloc_size)."""
_SECTION_LPAE = 2 * MIB
"""What a kernel with LPAE maps memory by; without, half of it."""


def plan(machine: Machine, request: Request) -> LoadPlan:
    """Return a plan for that request on that machine. Raises PykexecError."""
    if request.atags:
        _require_tags_can_do(machine, request)
    boot = replace(
        _BOOT,
        parse=partial(image.parse, image_size=request.image_size),
        core_memory=partial(layout.core_memory, page_offset=request.page_offset),
    )
    return treeload.plan(boot, machine, _with_tree(machine, request))


def _require_tags_can_do(machine: Machine, request: Request) -> None:
    """Raise UsageError, or MachineError, where a kernel cannot be told of its memory by tags."""
    if request.device_tree is not None:
        raise UsageError("--atags is instead of a device tree", hint="leave out --dtb, or --atags")
    is_crash = request.purpose is Purpose.CRASH
    ram = [crash.survey(machine).load] if is_crash else machine.iomem.memory_map.ram
    start = min((each.start for each in ram), default=0)
    if start % image.BLOCK:
        raise MachineError(
            f"--atags: memory begins at {start:#x}; a kernel that gets no device tree unpacks itself to a"
            f" multiple of {image.BLOCK // MIB} MiB"
        )


def _with_tree(machine: Machine, request: Request) -> Request:
    """Return the request with the device tree that is appended to the kernel, where there is no other."""
    if request.atags or request.device_tree is not None or DeviceTree.running(machine.root) is not None:
        return request
    kernel, _ = unwrap(request.kernel)
    if not zimage.matches(kernel.data):
        return request
    appended = zimage.parse(kernel.path, kernel.data).appended
    if not appended.nbytes:
        return request
    tree = FileData.from_bytes(f"{kernel.path} (appended)", appended, [request.kernel])
    return replace(request, device_tree=tree)


def _window(memory_start: int, kernel: TreeKernel) -> Range:
    """The kernel takes memory to begin where the block of 128 MiB does from which it unpacks itself, or at
    the first 2 MiB of memory if that begins later. What lies below that it loses.
    """
    block = align_down(memory_start, image.BLOCK)
    start = align_up(memory_start, kernel.alignment)
    end = align_up(start + kernel.offset + kernel.memory_size, 4 * KIB)
    return Range(start, min(end, block + image.BLOCK))


def _above(kernel: Range) -> Range:
    """Above the kernel's last byte, and where the kernel maps memory at once."""
    return Range(kernel.end, align_down(kernel.start, image.BLOCK) + _LOWMEM)


def _arguments(tree: int, kernel: int) -> tuple[int, ...]:
    """What goes to r2; r1, the machine's number, purgatory keeps."""
    del kernel
    return (tree,)


def _crash_parameters(memory: Range, headers: Range) -> str:
    """For kernels before 5.15, which do not find these in the device tree."""
    return f"elfcorehdr={headers.start:#x} mem={memory.size // KIB}K"


def _cannot_leave(machine: Machine) -> list[str]:
    """Return what is known against kernels with LPAE since Linux 6.10: the code that is to run with the MMU
    off is mapped where they map nothing any more (CONFIG_CPU_TTBR0_PAN; seen with Debian's 6.12)."""
    release = machine.kernel_release
    config = None if "/" in release else machine.read(f"boot/config-{release}")
    if b"\nCONFIG_CPU_TTBR0_PAN=y\n" not in (config or b""):
        return []
    return [
        "the running kernel (CONFIG_CPU_TTBR0_PAN) is known to fail when it is to start another one: an oops"
        " in __soft_restart"
    ]


def _warnings(context: Context, kernel: TreeKernel, tree: DeviceTree) -> list[str]:
    del tree
    found = _cannot_leave(context.machine)
    if not context.is_crash:
        return found
    found += layout.warnings(context.machine)
    reserved = crash.survey(context.machine).load.start
    if kernel.type == "zImage" and reserved % image.BLOCK:
        found.append(
            f"the memory for the crash kernel begins at {reserved:#x}: before Linux 5.16 a zImage unpacks"
            f" itself to a multiple of {image.BLOCK // MIB} MiB, which is outside of it"
        )
    return found


_BOOT = TreeBoot(
    arch=ARCH,
    parse=image.parse,
    initrd_window=_above,
    initrd_why="above the kernel, in memory that it maps at once",
    rest_window=_above,
    arguments=_arguments,
    command_line_limit=image.LINE_LIMIT,
    reset=psci.reset_method,
    kernel_window=_window,
    # The kernel maps no RAM a second time to read it (arch/arm/mm/ioremap.c).
    core_unit=_SECTION_LPAE,
    crash_parameters=_crash_parameters,
    tags=tags.build,
    warnings=_warnings,
)
PART = LoaderPart(plan)

"""The loader of all architectures whose kernels boot with a device tree; the differences are values.

It places kernel, initrd, tree, purgatory and, for a crash, core headers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pykexec import command_line, elfcore, formats, purgatory
from pykexec.arch import Arch
from pykexec.booting import consoles, crash
from pykexec.booting import formats as types
from pykexec.booting import tree as trees
from pykexec.booting.context import KERNEL, SHORTEN, Context, line_overflow
from pykexec.booting.crash import CrashMemory
from pykexec.booting.ram import free_memory
from pykexec.devicetree import DeviceTree
from pykexec.elfcore import MemoryPart
from pykexec.errors import ImageError, UsageError
from pykexec.files import FileData
from pykexec.machine import BOOT_FRAMEBUFFER_DRIVERS, Machine
from pykexec.memory import MIB, MemoryKind, Placement, Range, RangeSet, TypedRange
from pykexec.plan import ADDRESS_SPACE, LoadPlan, Purpose, Request
from pykexec.values import dataclass, replace

_DTB, _TAGS = "dtb", "atags"


@dataclass(frozen=True, slots=True)
class TreeKernel:
    """A kernel as this loader needs it; sizes are in bytes."""

    path: str
    data: memoryview
    offset: int
    """From a multiple of `alignment` to the load address; the memory between them belongs to the kernel."""
    memory_size: int
    """The memory that must be free from the load address on."""
    alignment: int
    type: str
    """kexec-tools' name of its format (-t), for a kernel that came in no container."""
    description: str
    page_size: int | None = None
    """The size of its pages; None where it does not tell."""
    entry: int = 0
    """From the load address to the first instruction."""
    before: str = "text_offset"
    """What the memory up to the load address is."""
    takes: str = "image_size bytes"
    """What the memory from the load address on is."""


def _no_warnings(*_: object) -> Sequence[str]:
    return ()


def _default_reset(*_: object) -> int:
    return 0


def _anywhere(*_: object) -> Range:
    return ADDRESS_SPACE


def by_kcore(machine: Machine, memory: CrashMemory) -> Sequence[MemoryPart]:
    """Return all dumped memory, and the kernel's own mapping, as /proc/kcore tells. Raises MachineError."""
    return [crash.kernel_text(machine), *crash.linear_map(machine, memory)]


def _nothing_added(*_: object) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class TreeBoot:
    """The differences between the architectures."""

    arch: Arch
    parse: Callable[[FileData], TreeKernel]
    """Read and check a kernel. Raises ImageError."""
    initrd_window: Callable[[Range], Range]
    """Return where the initrd may lie, for a kernel in that range (physical)."""
    initrd_why: str
    arguments: Callable[[int, int], tuple[int, ...]]
    """Return what purgatory hands over in registers, from the addresses of tree and kernel."""
    command_line_limit: int
    """The longest command line, in bytes without the NUL."""
    reset: Callable[[Machine, DeviceTree], int] = _default_reset
    """Return how purgatory resets the machine, as the architecture's own number."""
    rest_window: Callable[[Range], Range] = _anywhere
    """Return where device tree and purgatory may lie, for a kernel in that range (physical)."""
    firmware: Callable[[DeviceTree], Sequence[Range]] | None = None
    """Return the memory within System RAM that no kernel may touch, by the machine's own device tree."""
    console: purgatory.Console = purgatory.NO_CONSOLE
    """The console of a purgatory that can drive no UART of the machine."""
    kernel_window: Callable[[int, TreeKernel], Range] = _anywhere
    """Return where a kernel may lie, with the memory up to its load address, by the address at which the RAM
    that it will have begins (physical)."""
    core_memory: Callable[[Machine, CrashMemory], Sequence[MemoryPart]] = by_kcore
    """Return what core headers describe. Raises MachineError."""
    core_unit: int = 1
    """A capture kernel that cannot read core headers in its own RAM has none from there on: they begin at a
    multiple of these bytes. 1: it can."""
    crash_parameters: Callable[[Range, Range], str] = _nothing_added
    """Return what is added to a capture kernel's command line, by its RAM and where the core headers are."""
    tags: Callable[[Machine, str, Range | None], bytes] | None = None
    """Return what takes the place of a device tree (--atags), with that command line and initrd."""
    zboot_type: str = "vmlinuz"
    """kexec-tools' name for the type (-t) of a kernel that unpacks itself under EFI."""
    warnings: Callable[[Context, TreeKernel, DeviceTree], Sequence[str]] = _no_warnings


def plan(boot: TreeBoot, machine: Machine, request: Request) -> LoadPlan:
    """Return a plan for that request on that machine. Raises PykexecError."""
    file, wrapping = formats.unwrap(request.kernel)
    kernel = boot.parse(file)
    types.require(kernel.path, request.format, _type(boot, request, wrapping, kernel), boot.arch.formats)
    tree = DeviceTree.empty() if request.atags else trees.read_tree(machine, request.device_tree)
    lost = trees.not_handed_on(machine, tree) if request.purpose is Purpose.BOOT else []
    line = command_line.for_request(request, machine.command_line)
    if what := line_overflow(line, boot.command_line_limit, boot.arch.name):
        raise UsageError(what, hint=SHORTEN)
    firmware = _firmware(boot, machine, request, tree)
    memory = crash.survey(machine, firmware) if request.purpose is Purpose.CRASH else None
    room = RangeSet([memory.load]) if memory else free_memory(machine).minus(firmware)
    context = Context.begin(boot.arch, machine, request, room)
    layout = context.layout
    headers = None
    if memory:
        headers = context.place_core_headers(_core_headers(boot, machine, memory), unit=boot.core_unit)
        memory = _apart(boot, memory, headers)
        line = _with_crash_parameters(boot, line, memory, headers)
    first = (
        memory.load.start
        if memory
        else min((each.start for each in machine.iomem.memory_map.ram), default=0)
    )
    _place_kernel(context, kernel, boot.kernel_window(first, kernel))
    initrd = context.place_initrd(
        boot.initrd_window(layout.range(KERNEL)), Placement.LOWEST, boot.initrd_why
    )
    rest = boot.rest_window(layout.range(KERNEL))
    if request.atags and boot.tags:
        told = _place_tags(context, boot.tags(machine, line, initrd), within=rest)
    else:
        told = _place_tree(context, tree, line, initrd, headers, memory, within=rest)
    blob = context.place_purgatory(within=rest, placement=Placement.LOWEST)
    start = layout.range(KERNEL).start + kernel.entry
    entry = context.fill_purgatory(
        blob,
        jump_to=start,
        arguments=boot.arguments(told, start),
        console=consoles.in_memory(machine, request, line, boot.console),
        reset=boot.reset(machine, tree),
    )
    return context.finish(
        entry=entry,
        command_line=line,
        image_format=", ".join(filter(None, (wrapping, kernel.description))),
        memory_map=_memory_map(machine, memory),
        warnings=boot.warnings(context, kernel, tree),
        losses=lost,
    )


def _type(boot: TreeBoot, request: Request, wrapping: str, kernel: TreeKernel) -> str:
    """Return the kernel's type; a container is a type of its own."""
    types = {"uImage": "uImage", "EFI zboot": boot.zboot_type}
    layers = ", ".join(filter(None, (request.container, wrapping))).split(", ")
    return next((types[each] for each in layers if each in types), kernel.type)


def _firmware(boot: TreeBoot, machine: Machine, request: Request, tree: DeviceTree) -> Sequence[Range]:
    if boot.firmware is None:
        return ()
    own = tree if request.device_tree is None else DeviceTree.running(machine.root)
    return boot.firmware(own or tree)


def dark_screens(context: Context, tree: DeviceTree) -> list[str]:
    """Return a warning where the new kernel is not told of the screen that the running one was."""
    machine, arch = context.machine, context.arch.name
    if (
        machine.efi is None
        or machine.framebuffer_driver not in BOOT_FRAMEBUFFER_DRIVERS
        or has_device(tree, b"simple-framebuffer")
    ):
        return []
    # The stub tells only the first kernel, or that one erases what it was told: init_screen_info() in
    # drivers/firmware/efi/efi-init.c. With ACPI nothing else describes the framebuffer.
    return [
        f"the new kernel will have no console on the screen ({machine.framebuffer_driver}): on {arch} a"
        " kernel that EFI did not start is not told of EFI's framebuffer"
    ]


def has_device(tree: DeviceTree, compatible: bytes) -> bool:
    """Return whether a tree has such a device."""
    return any(compatible + b"\0" in properties.get("compatible", b"") for _, properties in tree.nodes())


def _core_headers(boot: TreeBoot, machine: Machine, memory: CrashMemory) -> bytes:
    return elfcore.build(
        boot.arch.names.elf,
        cpu_notes=machine.cpu_notes,
        vmcoreinfo=machine.vmcoreinfo,
        memory=boot.core_memory(machine, memory),
    )


def _apart(boot: TreeBoot, memory: CrashMemory, headers: Range) -> CrashMemory:
    """Return the memory of which the capture kernel's is without the core headers, where that must be."""
    if boot.core_unit == 1:
        return memory
    return replace(memory, reserved=(*memory.reserved[:-1], Range(memory.load.start, headers.start)))


def _with_crash_parameters(boot: TreeBoot, line: str, memory: CrashMemory, headers: Range) -> str:
    """Return the command line with what a capture kernel needs. Raises UsageError if it is too long."""
    line = " ".join(filter(None, (line, boot.crash_parameters(memory.load, headers))))
    if what := line_overflow(line, boot.command_line_limit, boot.arch.name):
        raise UsageError(what, hint=SHORTEN)
    return line


def _place_kernel(context: Context, kernel: TreeKernel, within: Range) -> None:
    """Place the kernel with the memory between the aligned address and the kernel, which it may use.

    Raises PlacementError, and ImageError for an offset that is no multiple of the page size.
    """
    page_size = context.machine.page_size
    if kernel.offset % page_size:
        raise ImageError(
            f"{kernel.path}: its {kernel.before} {kernel.offset:#x} is between two pages of the running"
            f" kernel, which are of {page_size} bytes",
            hint="load it from a kernel with smaller pages",
        )
    boundary = f"a {kernel.alignment // MIB} MiB boundary"
    context.layout.place(
        KERNEL,
        kernel.offset + kernel.memory_size,
        alignment=kernel.alignment,
        within=within,
        placement=Placement.LOWEST,
        why=f"{kernel.before} {kernel.offset:#x} above {boundary}, {kernel.takes}",
    )
    context.layout.shrink(KERNEL, kernel.offset)
    context.layout.fill(KERNEL, kernel.data)


def _place_tree(
    context: Context,
    tree: DeviceTree,
    line: str,
    initrd: Range | None,
    elfcorehdr: Range | None,
    memory: CrashMemory | None,
    *,
    within: Range,
) -> int:
    """Place the tree for the next kernel; return its address. Raises PlacementError, DeviceTreeError."""
    blob = trees.rewrite(
        tree,
        command_line=line,
        initrd=initrd,
        seed=context.request.seed,
        elfcorehdr=elfcorehdr,
        usable=_usable(memory) if memory else (),
    )
    why = f"the device tree, at most {trees.SIZE_MAX // MIB} MiB"
    at = context.layout.place(_DTB, len(blob), within=within, placement=Placement.LOWEST, why=why)
    context.layout.fill(_DTB, blob)
    return at


def _place_tags(context: Context, tags: bytes, *, within: Range) -> int:
    why = "the tags of the running kernel, with the command line and the initrd"
    at = context.layout.place(_TAGS, len(tags), within=within, placement=Placement.LOWEST, why=why)
    context.layout.fill(_TAGS, tags)
    return at


def _usable(memory: CrashMemory) -> list[Range]:
    """Return the capture kernel's memory, high ranges first.

    Older capture kernels read the first range only, and all of them take the second for low memory
    (drivers/of/fdt.c).
    """
    return [*reversed(memory.reserved), *memory.cma]


def _memory_map(machine: Machine, memory: CrashMemory | None) -> Sequence[TypedRange]:
    """Return the memory that linux,usable-memory-range leaves, or all RAM."""
    if memory is None:
        return machine.iomem.memory_map.entries
    return [TypedRange(each, MemoryKind.RAM) for each in sorted(_usable(memory))]

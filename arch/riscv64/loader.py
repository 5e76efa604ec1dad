"""Plans for riscv64 kernels: what of the loader with a device tree is riscv64's own."""

from pykexec.arch.riscv64 import ARCH, firmware, image
from pykexec.booting import treeload
from pykexec.booting.context import Context
from pykexec.booting.part import LoaderPart
from pykexec.booting.treeload import TreeBoot, TreeKernel
from pykexec.devicetree import DeviceTree
from pykexec.machine import Machine
from pykexec.memory import Range
from pykexec.plan import ADDRESS_SPACE, LoadPlan, Request
from pykexec.purgatory import Console, ConsoleKind


def plan(machine: Machine, request: Request) -> LoadPlan:
    """Return a plan for that request on that machine. Raises PykexecError."""
    return treeload.plan(_BOOT, machine, request)


def _above(kernel: Range) -> Range:
    """Kernels before 6.4 give up all memory below them (drivers/of/fdt.c, MIN_MEMBLOCK_ADDR)."""
    return Range(kernel.end, ADDRESS_SPACE.end)


def _arguments(tree: int, kernel: int) -> tuple[int, ...]:
    """What goes to a1; a0, the hart's number, purgatory keeps."""
    del kernel
    return (tree,)


def _warnings(context: Context, kernel: TreeKernel, tree: DeviceTree) -> list[str]:
    del kernel
    return treeload.dark_screens(context, tree)


_BOOT = TreeBoot(
    arch=ARCH,
    parse=image.KIND.parse,
    initrd_window=_above,
    initrd_why="above the kernel: an older one gives up what lies below it",
    rest_window=_above,
    arguments=_arguments,
    command_line_limit=image.KIND.line_limit,
    firmware=firmware.memory,
    console=Console(ConsoleKind.FIRMWARE),
    zboot_type="vmlinuz-riscv",
    warnings=_warnings,
)
PART = LoaderPart(plan)

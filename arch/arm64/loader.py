"""Plans for arm64 kernels: the arm64 part of the loader with a device tree."""

from pykexec.arch.arm64 import ARCH, image
from pykexec.booting import psci, treeload
from pykexec.booting.context import Context
from pykexec.booting.part import LoaderPart
from pykexec.booting.treeload import TreeBoot, TreeKernel
from pykexec.devicetree import DeviceTree
from pykexec.machine import Machine
from pykexec.memory import GIB, Range, align_down
from pykexec.plan import LoadPlan, Request

_INITRD_WINDOW = 32 * GIB  # booting.rst: kernel and initrd within 32 GiB, aligned to 1 GiB


def plan(machine: Machine, request: Request) -> LoadPlan:
    """Return a plan for that request on that machine. Raises PykexecError."""
    return treeload.plan(_BOOT, machine, request)


def _initrd_window(kernel: Range) -> Range:
    return Range(kernel.end, align_down(kernel.start, GIB) + _INITRD_WINDOW)


def _arguments(tree: int, kernel: int) -> tuple[int, ...]:
    del kernel
    return (tree,)


def _warnings(context: Context, kernel: TreeKernel, tree: DeviceTree) -> list[str]:
    machine, found = context.machine, []
    if kernel.page_size not in (None, machine.page_size):
        found.append(
            f"{kernel.path} has pages of {kernel.page_size} bytes, the running kernel of"
            f" {machine.page_size}: it only starts on a CPU that supports both"
        )
    found += treeload.dark_screens(context, tree)
    # The ITS goes on using the tables that the first kernel gave it; only EFI reserves them for the second.
    if not context.is_crash and machine.efi is None and treeload.has_device(tree, b"arm,gic-v3-its"):
        found.append(
            "there is a GICv3 ITS and no EFI to hand on its tables: it may overwrite the new kernel's memory"
        )
    return found


_BOOT = TreeBoot(
    arch=ARCH,
    parse=image.KIND.parse,
    initrd_window=_initrd_window,
    initrd_why="above the kernel, within 32 GiB of it",
    arguments=_arguments,
    command_line_limit=image.KIND.line_limit,
    reset=psci.reset_method,
    warnings=_warnings,
)
PART = LoaderPart(plan)

"""Plans for riscv64 kernels: what of the loader with a device tree is riscv64's own."""

from pykexec.arch.riscv64 import ARCH, firmware, image
from pykexec.booting import treeload
from pykexec.booting.context import Context
from pykexec.booting.part import LoaderPart
from pykexec.booting.treeload import TreeBoot, TreeKernel
from pykexec.devicetree import DeviceTree
from pykexec.errors import NoCrashMemoryError
from pykexec.files import FileData
from pykexec.machine import Machine
from pykexec.memory import MIB, Range
from pykexec.plan import ADDRESS_SPACE, LoadPlan, Purpose, Request
from pykexec.purgatory import Console, ConsoleKind


def plan(machine: Machine, request: Request) -> LoadPlan:
    """Return a plan for that request on that machine. Raises PykexecError."""
    if request.purpose is Purpose.CRASH:
        _require_shown(machine)
    return treeload.plan(_BOOT, machine, request)


def _require_shown(machine: Machine) -> None:
    """Raise NoCrashMemoryError where memory is reserved, and the running kernel does not say where.

    Commit 1d6cd2146c2b came to 6.6 alone, and was taken back.
    """
    size = machine.kexec_state.crash_size
    if size and not machine.crash_regions:
        raise NoCrashMemoryError(
            f"the running kernel {machine.kernel_release} has reserved {size // MIB} MiB, and does not say"
            ' where: /proc/iomem has no "Crash kernel" entry',
            hint="Linux 6.6.0 to 6.6.29 are known for that on riscv64: boot 6.6.30 or later",
        )


def _above(kernel: Range) -> Range:
    """Kernels before 6.4 give up all memory below them (drivers/of/fdt.c, MIN_MEMBLOCK_ADDR)."""
    return Range(kernel.end, ADDRESS_SPACE.end)


def _arguments(tree: int, kernel: int) -> tuple[int, ...]:
    """What goes to a1; a0, the hart's number, purgatory keeps."""
    del kernel
    return (tree,)


def _warnings(context: Context, kernel: TreeKernel, tree: DeviceTree) -> list[str]:
    found = treeload.dark_screens(context, tree)
    return found + _looks_elsewhere(kernel) if context.is_crash else found


_CONTRACT_SINCE = (5, 15)
"""The first release that finds its memory and the core headers as on other architectures (2931ea847dcc)."""


def _looks_elsewhere(kernel: TreeKernel) -> list[str]:
    from pykexec.booting.kernel import release_of
    from pykexec.versions import of_release

    release = release_of(FileData.from_bytes(kernel.path, kernel.data), ARCH)
    if release is None or (of_release(release) or _CONTRACT_SINCE) >= _CONTRACT_SINCE:
        return []
    return [
        f"{kernel.path} is Linux {release}: before 5.15 it looks elsewhere in the device tree for the"
        " crashed kernel's memory, and will have no /proc/vmcore"
    ]


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

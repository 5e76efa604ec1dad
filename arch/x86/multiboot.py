"""Plans for Multiboot kernels: where kernel, modules and information go."""

import gzip
import io
import os
import zlib
from collections.abc import Sequence

from pykexec.arch import Arch
from pykexec.arch.x86 import acpi, boot_params, multiboot_info, preparation
from pykexec.arch.x86.kernel import Entry
from pykexec.arch.x86.multiboot_header import MultibootKernel
from pykexec.arch.x86.multiboot_info import Information, LoadedModule
from pykexec.arch.x86.preparation import BELOW_4G, Preparation
from pykexec.booting.context import KERNEL
from pykexec.errors import ImageError, PlacementError, UsageError
from pykexec.files import FileData
from pykexec.machine import Machine
from pykexec.memory import GIB, KIB, Placement, Range, align_up
from pykexec.plan import LoadPlan, Module, Purpose, Request
from pykexec.values import dataclass

_INFORMATION = "information"
_FIRST_PAGE_END = 4 * KIB
_PAGE = 4 * KIB
_MODULE_SEGMENTS_MAX = 6
"""At most so many modules get segments of their own. If there are more, the last ones share one, because a
load has at most KEXEC_SEGMENT_MAX segments."""
_GZIP_MAGIC = b"\x1f\x8b\x08"
_MODULE_SIZE_MAX = 1 * GIB


def plan(arch: Arch, machine: Machine, request: Request, kernel: MultibootKernel) -> LoadPlan:
    """Return a plan to load that kernel. Raises PykexecError."""
    if request.initrd is not None:
        raise UsageError("--initrd is for Linux kernels; a Multiboot kernel takes --module")
    if request.preserve_context:
        raise UsageError(f"--load-preserve-context is for Linux kernels; {kernel.path} is none")
    # The kernel may be linked to low memory; everything else stays out of it.
    base = preparation.prepare(arch, machine, request, lowest=_FIRST_PAGE_END)
    base.require_below_4g(f"{kernel.path}, a Multiboot kernel,")
    shift = _place_kernel(base, kernel)
    blob = preparation.place_purgatory(base, Entry.PROTECTED)
    modules = _place_modules(base, request.modules)
    running = boot_params.read_running(machine)
    screen_info = boot_params.screen_info(running, machine.framebuffer_driver)
    line = _command_line(base, kernel)
    root_pointer = boot_params.rsdp_address(machine, running)
    rsdp = acpi.read_rsdp(machine, root_pointer)
    information = Information(
        command_line=os.fsencode(line),
        memory_map=base.memory_map.entries,
        modules=modules,
        screen=multiboot_info.screen_of(screen_info),
        rsdp=rsdp,
        load_base=kernel.pieces[0].address + shift,
    )
    address = _place_information(base, kernel, information)
    return preparation.finish(
        base,
        blob,
        preparation.Jump(
            kernel.entry + shift,
            Entry.PROTECTED,
            rax=multiboot_info.MAGIC_1 if kernel.version == 1 else multiboot_info.MAGIC_2,
            rbx=address,
        ),
        line=line,
        image_format=f"Multiboot version {kernel.version}",
        warnings=_acpi_warnings(root_pointer, rsdp),
    )


def _acpi_warnings(root_pointer: int, rsdp: bytes | None) -> list[str]:
    """Warn where the kernel may not find ACPI: UEFI's pointer is not where a search below 1 MiB looks."""
    if not root_pointer or rsdp:
        return []
    return [
        f"the new kernel may not find ACPI: its root pointer at {root_pointer:#x} cannot be handed over,"
        " for /dev/mem does not let it be read (CONFIG_IO_STRICT_DEVMEM, lockdown)"
    ]


def _command_line(base: Preparation, kernel: MultibootKernel) -> str:
    """Return the command line; version 1's begins with the kernel's name, by custom."""
    words = [base.command_line, base.crash_parameters]
    return " ".join(filter(None, [kernel.path if kernel.version == 1 else "", *words]))


def _place_kernel(base: Preparation, kernel: MultibootKernel) -> int:
    """Place the kernel; return by how many bytes it was moved from where it was linked."""
    if kernel.relocation:
        (piece,) = kernel.pieces
        address = base.layout.place(
            KERNEL,
            piece.memsz,
            alignment=kernel.relocation.alignment,
            within=BELOW_4G.intersect(Range(kernel.relocation.lowest, kernel.relocation.end)),
            placement=kernel.relocation.placement,
            why="where its header lets it be moved to",
        )
        base.layout.fill(KERNEL, piece.data)
        return address - piece.address
    for number, piece in enumerate(kernel.pieces, 1):
        name = KERNEL if number == 1 else f"{KERNEL} {number}"
        whole = piece.range.aligned_outwards(_PAGE)
        try:
            base.layout.place(name, whole.size, within=whole, why="where it was linked to")
        except PlacementError as error:
            raise PlacementError(
                f"{kernel.path} must lie at {whole}, which is not free", hint=_remedy(base)
            ) from error
        base.layout.fill(name, piece.data)
    return 0


def _remedy(base: Preparation) -> str:
    if base.request.purpose is Purpose.CRASH:
        return "a capture kernel is linked to the reservation, or can be moved: Multiboot2, relocatable tag"
    return "see /proc/iomem for what is there"


def _place_information(base: Preparation, kernel: MultibootKernel, information: Information) -> int:
    size = len(multiboot_info.build(kernel.version, 0, information))
    address = base.layout.place(
        _INFORMATION,
        size,
        within=BELOW_4G,
        placement=Placement.LOWEST,
        why="command line, memory map and the rest of the boot information",
    )
    base.layout.fill(_INFORMATION, multiboot_info.build(kernel.version, address, information))
    return address


@dataclass(frozen=True, slots=True)
class _Unpacked:
    data: memoryview
    text: bytes


def _place_modules(base: Preparation, modules: Sequence[Module]) -> list[LoadedModule]:
    """Place the modules, each on a page of its own, from the lowest place on."""
    unpacked = [_Unpacked(_unpack(each.data), os.fsencode(each.text)) for each in modules]
    placed: list[LoadedModule] = []
    for number, group in enumerate(_grouped(unpacked), 1):
        sizes = [align_up(max(each.data.nbytes, 1), _PAGE) for each in group]
        name = f"module {number}" if len(group) == 1 else "more modules"
        address = base.layout.place(
            name, sum(sizes), within=BELOW_4G, placement=Placement.LOWEST, why="on a page boundary"
        )
        base.layout.fill(name, _joined(group, sizes))
        for each, size in zip(group, sizes, strict=True):
            placed.append(LoadedModule(Range.sized(address, each.data.nbytes), each.text))
            address += size
    return placed


def _grouped(modules: Sequence[_Unpacked]) -> list[Sequence[_Unpacked]]:
    if len(modules) <= _MODULE_SEGMENTS_MAX:
        return [[each] for each in modules]
    alone = _MODULE_SEGMENTS_MAX - 1
    return [*([each] for each in modules[:alone]), modules[alone:]]


def _joined(group: Sequence[_Unpacked], sizes: Sequence[int]) -> memoryview:
    if len(group) == 1:
        return group[0].data
    whole = bytearray(sum(sizes))
    position = 0
    for each, size in zip(group, sizes, strict=True):
        whole[position : position + each.data.nbytes] = each.data
        position += size
    return memoryview(whole)


def _unpack(file: FileData) -> memoryview:
    """Return a module out of its gzip compression with all its members, as GRUB loads it.

    Raises ImageError.
    """
    if bytes(file.data[:3]) != _GZIP_MAGIC:
        return file.data
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(file.data)) as packed:
            content = packed.read(_MODULE_SIZE_MAX + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ImageError(f"{file.path}: damaged gzip data: {error}") from error
    if len(content) > _MODULE_SIZE_MAX:
        raise ImageError(f"{file.path}: unpacks to more than {_MODULE_SIZE_MAX >> 20} MiB")
    return memoryview(content)

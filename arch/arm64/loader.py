"""Plans for an arm64 Image: where kernel, initrd, device tree, purgatory and core headers go."""

import os
from collections.abc import Sequence

from pykexec import command_line, crash, elfcore, formats, purgatory
from pykexec.arch.arm64 import ARCH, chosen, image, psci
from pykexec.arch.arm64.image import Image, PageSize
from pykexec.devicetree import DeviceTree
from pykexec.errors import ImageError, UsageError
from pykexec.machine import BOOT_FRAMEBUFFER_DRIVERS, Machine
from pykexec.memory import GIB, MIB, MemoryKind, Placement, Range, RangeSet, TypedRange, align_down
from pykexec.plan import Layout, LoadPlan, Purpose, Request
from pykexec.uapi import KEXEC_CRASH_HOTPLUG_SUPPORT, KEXEC_ON_CRASH

_EM_AARCH64 = 183  # elf(5)
_KEXEC_ARCH_AARCH64 = _EM_AARCH64 << 16  # include/uapi/linux/kexec.h
_KERNEL, _INITRD, _DTB, _PURGATORY, _ELFCOREHDR = "kernel", "initrd", "dtb", "purgatory", "elfcorehdr"
_IMAGE_ALIGNMENT = 2 * MIB  # booting.rst, "Call the kernel image"
_INITRD_WINDOW = 32 * GIB  # booting.rst: kernel and initrd within 32 GiB, aligned to 1 GiB
_COMMAND_LINE_LIMIT = 2047  # COMMAND_LINE_SIZE in arch/arm64/include/uapi/asm/setup.h, less the NUL
_STAYS_IN_RAM = frozenset({"Kernel code", "Kernel data"})
"""Entries within System RAM that a new kernel may overwrite; all others are reserved for somebody."""


def plan(machine: Machine, request: Request) -> LoadPlan:
    """A plan for that request on that machine. Raises PykexecError."""
    _refuse_what_is_for_x86(request)
    file, wrapping = formats.unwrap(request.kernel)
    wrapping = ", ".join(filter(None, (request.container, wrapping)))
    kernel = image.parse(file)
    _check_format(request, wrapping, kernel)
    tree = chosen.read_tree(machine, request.device_tree)
    line = _checked(command_line.for_request(request, machine.command_line))
    memory = crash.survey(machine) if request.purpose is Purpose.CRASH else None
    losses = () if memory else tuple(chosen.not_handed_on(machine, tree))
    room = RangeSet([memory.load]) if memory else _free_memory(machine)
    layout = Layout(room.intersect([request.within]), page_size=machine.page_size)
    if memory:
        headers = _core_headers(machine, memory)
        size = crash.core_headers_room(machine, headers, hotplug=request.hotplug)
        layout.place(_ELFCOREHDR, size, why="describes the crashed kernel's memory")
        layout.fill(_ELFCOREHDR, headers)
    _place_kernel(layout, kernel, machine.page_size)
    initrd = _place_initrd(layout, request)
    _place_tree(layout, request, tree, line, initrd, memory)
    entry = _place_purgatory(layout, machine, request, line, tree)
    return LoadPlan(
        arch="arm64",
        purpose=request.purpose,
        image=kernel.path,
        image_format=", ".join(filter(None, (wrapping, kernel.format))),
        initrd=request.initrd.path if request.initrd else None,
        command_line=line,
        entry=entry if request.entry is None else request.entry,
        flags=_KEXEC_ARCH_AARCH64 | _flags(request),
        segments=layout.segments(),
        memory_map=tuple(_memory_map(machine, memory)),
        warnings=tuple(_warnings(machine, kernel, tree, memory)),
        losses=losses,
    )


def _flags(request: Request) -> int:
    if request.purpose is not Purpose.CRASH:
        return 0
    return KEXEC_ON_CRASH | (KEXEC_CRASH_HOTPLUG_SUPPORT if request.hotplug else 0)


def _refuse_what_is_for_x86(request: Request) -> None:
    asked = {
        "--entry-32bit": request.entry_32bit,
        "--real-mode": request.real_mode,
        "--module": bool(request.modules),
        "--noefi": not request.hand_over_efi,
        "--pass-memmap-cmdline": request.memmap_parameters,
        "--console-vga": request.console.vga,
        "--load-preserve-context": request.preserve_context,
        "--load-jump-back-helper": request.jump_back is not None,
        "--serial-baud": request.console.baud is not None,
    }
    for option, given in asked.items():
        if given:
            raise UsageError(f"{option} is for x86; this machine is arm64")


def _check_format(request: Request, wrapping: str, kernel: Image) -> None:
    """Hold the format against the one of --type, in kexec-tools' names for them."""
    names = {"uImage": "uImage", "EFI zboot": "vmlinuz"}
    found = next((names[each] for each in wrapping.split(", ") if each in names), None)
    found = found or kernel.type
    wanted = request.format
    if wanted in (None, found):
        return
    if wanted not in ARCH.formats:
        raise UsageError(
            f"Unsupported kernel type {wanted}",
            hint=f"the types that can be loaded: {', '.join(ARCH.formats)}",
        )
    raise ImageError(
        f"{kernel.path}: Wrong file type {wanted}, file matches type {found}", hint="leave out --type"
    )


def _free_memory(machine: Machine) -> RangeSet:
    """RAM less what must stay: firmware's tables, and what devices go on writing to.

    The crash region too: a kernel that is loaded there is unmapped (arch_kexec_protect_crashkres()), and
    the copy of the page tables that a normal load is put in its place with lacks it.
    """
    reserved = (
        entry.range for entry in machine.iomem.entries if entry.depth > 0 and entry.name not in _STAYS_IN_RAM
    )
    return machine.iomem.memory_map.ram.minus(reserved)


def _core_headers(machine: Machine, memory: crash.CrashMemory) -> bytes:
    return elfcore.build(
        _EM_AARCH64,
        cpu_notes=machine.cpu_notes,
        vmcoreinfo=machine.vmcoreinfo,
        memory=[crash.kernel_text(machine), *crash.linear_map(machine, memory)],
    )


def _place_kernel(layout: Layout, kernel: Image, page_size: int) -> None:
    """The 2 MiB boundary below the kernel belongs to it: it may use the memory from there on."""
    if kernel.text_offset % page_size:
        raise ImageError(
            f"{kernel.path}: its text_offset {kernel.text_offset:#x} is between two pages of the running"
            f" kernel, which are of {page_size} bytes",
            hint="load it from a kernel with smaller pages",
        )
    size = kernel.text_offset + kernel.memory_size
    layout.place(
        _KERNEL,
        size,
        alignment=_IMAGE_ALIGNMENT,
        placement=Placement.LOWEST,
        why=f"text_offset {kernel.text_offset:#x} above a 2 MiB boundary, image_size bytes",
    )
    layout.shrink(_KERNEL, kernel.text_offset)
    layout.fill(_KERNEL, kernel.data)


def _place_initrd(layout: Layout, request: Request) -> Range | None:
    if request.initrd is None or request.initrd.size == 0:
        return None
    kernel = layout.range(_KERNEL)
    window = Range(kernel.end, align_down(kernel.start, GIB) + _INITRD_WINDOW)
    address = layout.place(
        _INITRD,
        request.initrd.size,
        within=window,
        placement=Placement.LOWEST,
        why="above the kernel, within 32 GiB of it",
    )
    layout.fill(_INITRD, request.initrd.data)
    return Range.sized(address, request.initrd.size)


def _place_tree(
    layout: Layout,
    request: Request,
    tree: DeviceTree,
    line: str,
    initrd: Range | None,
    memory: crash.CrashMemory | None,
) -> None:
    elfcorehdr = None
    if memory:
        elfcorehdr = Range.sized(layout.range(_ELFCOREHDR).start, layout.data(_ELFCOREHDR).nbytes)
    blob = chosen.rewrite(
        tree,
        command_line=line,
        initrd=initrd,
        seed=request.seed,
        elfcorehdr=elfcorehdr,
        usable=_usable(memory) if memory else (),
    )
    layout.place(_DTB, len(blob), placement=Placement.LOWEST, why="the device tree, at most 2 MiB")
    layout.fill(_DTB, blob)


def _usable(memory: crash.CrashMemory) -> list[Range]:
    """High first: older capture kernels read the first range only, and all of them take the second for low
    memory (drivers/of/fdt.c)."""
    return [*reversed(memory.reserved), *memory.cma]


def _place_purgatory(layout: Layout, machine: Machine, request: Request, line: str, tree: DeviceTree) -> int:
    """Place and fill it; its entry point."""
    blob = purgatory.load_blob("arm64")
    address = layout.place(
        _PURGATORY,
        blob.memsz,
        alignment=blob.alignment,
        placement=Placement.LOWEST,
        why="runs first: verifies the rest, then jumps to it",
    )
    regions = [
        purgatory.Region(name, layout.range(name).start, layout.data(name))
        for name in layout.names()
        # What the running kernel goes on changing has no digest.
        if name != _PURGATORY and not (name == _ELFCOREHDR and request.hotplug)
    ]
    contents = purgatory.build(
        blob,
        jump_to=layout.range(_KERNEL).start,
        arguments=(layout.range(_DTB).start,),
        digests=() if request.skip_checks else purgatory.digest_regions(regions),
        console=_console(machine, request, line),
        reset=psci.reset_method(machine, tree),
    )
    layout.fill(_PURGATORY, contents)
    return address + blob.entry_offset


def _console(machine: Machine, request: Request, line: str) -> purgatory.Console:
    wanted = request.console
    port = machine.console_for(line, wanted.port)
    found = purgatory.mmio_console(port)
    if found.base or not (wanted.port or wanted.serial):
        return found
    if port is None:
        what = "--console-serial: this machine shows no serial console"
    else:
        which = f"--serial={port.name}" if wanted.port else f"--console-serial: {port.name}"
        lack = "is not known to be a PL011 or an 8250" if port.iomem_base else "has no registers in memory"
        what = f"{which} {lack}, and purgatory uses no others"
    raise UsageError(what, hint="name a PL011 or an 8250 with registers in memory: --serial=ttyAMA0")


def _checked(line: str) -> str:
    size = len(os.fsencode(line))
    if size > _COMMAND_LINE_LIMIT:
        raise UsageError(
            f"Command line overflow: {size} bytes, arm64 takes {_COMMAND_LINE_LIMIT} at most",
            hint="shorten --append, or leave out --reuse-cmdline",
        )
    return line


def _memory_map(machine: Machine, memory: crash.CrashMemory | None) -> Sequence[TypedRange]:
    """What linux,usable-memory-range leaves of memory, or all RAM."""
    if memory is None:
        return machine.iomem.memory_map.entries
    return [TypedRange(each, MemoryKind.RAM) for each in sorted(_usable(memory))]


def _warnings(
    machine: Machine, kernel: Image, tree: DeviceTree, memory: crash.CrashMemory | None
) -> list[str]:
    found = crash.warnings(machine) if memory else []
    if kernel.page_size not in (PageSize.UNSPECIFIED, PageSize(machine.page_size)):
        found.append(
            f"{kernel.path} has pages of {kernel.page_size.value} bytes, the running kernel of"
            f" {machine.page_size}: it only starts on a CPU that supports both"
        )
    if (
        machine.efi is not None
        and machine.framebuffer_driver in BOOT_FRAMEBUFFER_DRIVERS
        and not _has(tree, b"simple-framebuffer")
    ):
        # The stub tells the first kernel alone, or that erases what it was told: init_screen_info() in
        # drivers/firmware/efi/efi-init.c. With ACPI nothing else tells of one.
        found.append(
            f"the new kernel will have no console on the screen ({machine.framebuffer_driver}): on arm64 a"
            " kernel that EFI did not start is not told of EFI's framebuffer"
        )
    # The ITS goes on using the tables the first kernel gave it; only EFI reserves them for the second.
    if not memory and machine.efi is None and _has(tree, b"arm,gic-v3-its"):
        found.append(
            "there is a GICv3 ITS and no EFI to hand on its tables: it may overwrite the new kernel's memory"
        )
    return found


def _has(tree: DeviceTree, compatible: bytes) -> bool:
    """Whether it has such a device."""
    return any(compatible + b"\0" in properties.get("compatible", b"") for _, properties in tree.nodes())

"""Plans for Linux kernels on x86: where kernel, initrd and boot parameters go."""

import os

from pykexec.arch import Arch
from pykexec.arch.x86 import boot_params, preparation
from pykexec.arch.x86.boot_params import Handover, RunningBootParams
from pykexec.arch.x86.kernel import Entry, LinuxKernel
from pykexec.arch.x86.preparation import ABOVE_LOW_MEMORY, BELOW_4G, Preparation
from pykexec.booting import crash
from pykexec.booting.context import KERNEL, SHORTEN, line_overflow
from pykexec.command_line import JUMP_BACK_ENTRY
from pykexec.errors import ImageError, MachineError, UsageError
from pykexec.machine import Machine
from pykexec.machine.efi import EfiFacts
from pykexec.memory import Placement, Range
from pykexec.plan import Layout, LoadPlan, Purpose, Request

_PARAMETERS = "boot_params"
_JUMP_BACK_DIGITS = 16


def plan(arch: Arch, machine: Machine, request: Request, kernel: LinuxKernel) -> LoadPlan:
    """Return a plan to load that kernel. Raises PykexecError."""
    if request.modules:
        raise UsageError("--module is for Multiboot kernels; a Linux kernel takes an --initrd")
    warnings = _capture_warnings(arch, machine, kernel) if request.purpose is Purpose.CRASH else []
    warnings += _paging_warnings(machine, kernel)
    running = boot_params.read_running(machine)
    # Only x86_64's kernels leave EFI's services so that another one can take them over.
    takes_efi = request.hand_over_efi and arch.names.elf.bits == 64
    efi = boot_params.efi_to_hand_over(machine, kernel, running) if takes_efi else None
    base = preparation.prepare(arch, machine, request)
    if kernel.entry is not Entry.LONG:
        base.require_below_4g(f"{kernel.path}, entered through its 32-bit entry,")
    line = _command_line(base, kernel, running, efi)
    handover = _handover(base, running, efi, line, kernel)
    layout = base.layout
    if not kernel.relocatable:
        place_kernel(layout, kernel)  # before another segment takes the only place it has
    blob = preparation.place_purgatory(base, kernel.entry)
    _place_parameters(layout, kernel, handover)
    if kernel.relocatable:
        place_kernel(layout, kernel)
    initrd = place_initrd(base, kernel)
    parameters = layout.range(_PARAMETERS).start
    layout.fill(_PARAMETERS, boot_params.build(parameters, kernel, handover.with_initrd(initrd)))
    if request.purpose is Purpose.BOOT and machine.efi is not None and efi is None and request.hand_over_efi:
        warnings.append(
            "the new kernel will have no EFI runtime services (no runtime map, or it cannot take it)"
        )
    losses = boot_params.not_handed_on(machine) if request.purpose is Purpose.BOOT else ()
    entry = layout.range(KERNEL).start + kernel.entry_offset
    return preparation.finish(
        base,
        blob,
        preparation.Jump(entry, kernel.entry, rsi=parameters),
        line=line,
        image_format=kernel.description,
        jump_back_digits=_jump_back_digits(parameters, line) if request.preserve_context else 0,
        warnings=warnings,
        losses=losses,
    )


def _jump_back_digits(parameters: int, line: str) -> int:
    """Return the physical address of the command line's last digits."""
    return parameters + boot_params.COMMAND_LINE_OFFSET + len(os.fsencode(line)) - _JUMP_BACK_DIGITS


def _capture_warnings(arch: Arch, machine: Machine, kernel: LinuxKernel) -> list[str]:
    """Return warnings about a capture kernel.

    Raises ImageError for one that cannot run in the crash region.
    """
    if not kernel.relocatable and not crash.survey(machine).load.covers(kernel.window):
        raise ImageError(
            f"{kernel.path}: {_why_fixed(kernel)}, so it cannot run in the crash region",
            hint="a capture kernel needs CONFIG_RELOCATABLE=y",
        )
    own = arch.names.elf.bits
    if kernel.bits in (None, own):
        return []
    if own == 32:  # only the other way round: vmcore_elf_check_arch_cross, arch/x86/include/asm/kexec.h
        return [f"{kernel.path} is a 64-bit kernel, which reads no core headers of a 32-bit one: no dump"]
    return [f"{kernel.path} is a 32-bit kernel, whose programs do not read a 64-bit kernel's dump"]


def _why_fixed(kernel: LinuxKernel) -> str:
    if kernel.entry is Entry.PROTECTED and not kernel.entry_offset and kernel.release is None:
        return "not relocatable (offset 0x234)"
    return f"not relocatable, it must lie at {kernel.window.start:#x}"


def _paging_warnings(machine: Machine, kernel: LinuxKernel) -> list[str]:
    """Check five-level paging: purgatory's page tables stay active at the kernel's 64-bit entry.

    Raises ImageError for a kernel that cannot be entered so.
    """
    if kernel.entry is not Entry.LONG or kernel.takes_5level_paging or not _five_levels(machine):
        return []
    remedy = "boot the running kernel with no5lvl, or take a bzImage of Linux 4.14 or later"
    if kernel.takes_5level_paging is None:
        if kernel.release == machine.kernel_release:
            return []
        return [f"{kernel.path} dies at once if it was built without CONFIG_X86_5LEVEL; in doubt {remedy}"]
    raise ImageError(
        f"{kernel.path}: cannot be started in 5-level paging mode (offset 0x236), which is on",
        hint=f"{remedy}, or load it with --entry-32bit",
    )


def _five_levels(machine: Machine) -> bool:
    try:
        return machine.kcore.vmcoreinfo.get("NUMBER(pgtable_l5_enabled)") == "1"
    except MachineError:
        return False  # a kernel need not show kcore, and a boot needs nothing else of it


def _command_line(
    base: Preparation, kernel: LinuxKernel, running: RunningBootParams, efi: EfiFacts | None
) -> str:
    words = [base.command_line]
    if base.elfcorehdr is not None:
        # A capture kernel before 5.0 ignores acpi_rsdp_addr: without EFI's tables it would not find ACPI.
        rsdp = boot_params.rsdp_address(base.machine, running)
        words += [f"acpi_rsdp={rsdp:#x}"] if rsdp and efi is None else []
        words.append(base.crash_parameters)
    if base.request.preserve_context:
        words.append(f"{JUMP_BACK_ENTRY}=0x{'0' * _JUMP_BACK_DIGITS}")
    return checked_command_line(" ".join(filter(None, words)), kernel)


def checked_command_line(line: str, kernel: LinuxKernel) -> str:
    """Return the command line unchanged. Raises ImageError where the kernel cannot take it."""
    if what := line_overflow(line, kernel.command_line_limit, kernel.path):
        raise ImageError(what, hint=SHORTEN)
    return line


def _handover(
    base: Preparation, running: RunningBootParams, efi: EfiFacts | None, line: str, kernel: LinuxKernel
) -> Handover:
    machine = base.machine
    return Handover(
        command_line=os.fsencode(line),
        memory_map=base.memory_map.entries,
        initrd=None,
        running=running,
        screen_info=boot_params.screen_info(running, machine.framebuffer_driver),
        efi=efi,
        rsdp=boot_params.rsdp_address(machine, running),
        seed=base.request.seed,
    )


def _place_parameters(layout: Layout, kernel: LinuxKernel, handover: Handover) -> None:
    size = len(boot_params.build(0, kernel, handover))
    within = ABOVE_LOW_MEMORY if kernel.entry is Entry.LONG else BELOW_4G
    layout.place(_PARAMETERS, size, within=within, why="boot_params, command line and setup_data")


def place_kernel(layout: Layout, kernel: LinuxKernel) -> None:
    """Place and fill the kernel's segment, `KERNEL`. Raises PlacementError."""
    if kernel.relocatable:
        why = f"init_size bytes, aligned to {kernel.alignment:#x}, not below {kernel.window.start:#x}"
    else:
        why = "not relocatable: its own address"
    layout.place(
        KERNEL,
        kernel.memory_size,
        alignment=kernel.alignment,
        within=kernel.window,
        placement=Placement.HIGHEST if kernel.entry is Entry.LONG else Placement.LOWEST,
        why=why,
    )
    layout.fill(KERNEL, kernel.image)


def place_initrd(base: Preparation, kernel: LinuxKernel) -> Range | None:
    """Place the initrd and return where it lies; None where there is none. Raises PlacementError."""
    end = kernel.initrd_window.end
    why = "anywhere; the kernel takes it above 4 GiB too" if end == 1 << 64 else f"below {end:#x}"
    return base.context.place_initrd(kernel.initrd_window, Placement.HIGHEST, why)

"""Plans for a bzImage: where kernel, initrd, parameters and purgatory go, and for a crash load the rest."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from pykexec import command_line, formats, purgatory
from pykexec import crash as generic_crash
from pykexec.arch.x86_64 import boot_params, bzimage, crash
from pykexec.arch.x86_64.boot_params import Handover
from pykexec.arch.x86_64.bzimage import BzImage
from pykexec.errors import ImageError, MachineError, UsageError
from pykexec.machine import Machine
from pykexec.machine.efi import EfiFacts
from pykexec.memory import KIB, MIB, Range, RangeSet, TypedRange
from pykexec.plan import KEXEC_ON_CRASH, Layout, LoadPlan, Purpose, Request

_KEXEC_ARCH_X86_64 = 62 << 16  # EM_X86_64 in the high half (include/uapi/linux/kexec.h)
_ABOVE_LOW_MEMORY = Range(MIB, 1 << 64)
_KERNEL, _INITRD, _PARAMETERS, _PURGATORY = "kernel", "initrd", "boot_params", "purgatory"
_BACKUP, _ELFCOREHDR = "backup", "elfcorehdr"


def plan(machine: Machine, request: Request) -> LoadPlan:
    """A plan for that request on that machine. Raises PykexecError."""
    if request.device_tree is not None:
        raise UsageError(
            "--dtb: a device tree is for architectures that boot with one, which x86_64 does not"
        )
    file, _ = formats.unwrap(request.kernel)
    kernel = bzimage.parse(file)
    _check_paging(machine, kernel)
    job = _Job(machine, request, kernel, boot_params.read_running(machine))
    return _plan_crash(job) if request.purpose is Purpose.CRASH else _plan_boot(job)


def _check_paging(machine: Machine, kernel: BzImage) -> None:
    """The page tables purgatory runs on stay active at the kernel's 64-bit entry."""
    if kernel.takes_5level_paging:
        return
    try:
        five_levels = machine.kcore.vmcoreinfo.get("NUMBER(pgtable_l5_enabled)") == "1"
    except MachineError:
        return  # a kernel need not show kcore, and a boot needs nothing else of it
    if five_levels:
        raise ImageError(
            f"{kernel.path}: cannot be started in 5-level paging mode (offset 0x236), which is on",
            hint="boot the running kernel with no5lvl, or take a kernel of Linux 4.14 or later",
        )


@dataclass(frozen=True, slots=True)
class _Job:
    machine: Machine
    request: Request
    kernel: BzImage
    running: boot_params.RunningBootParams

    @property
    def command_line(self) -> str:
        return command_line.for_request(self.request, self.machine.command_line)

    @property
    def efi(self) -> EfiFacts | None:
        return boot_params.efi_to_hand_over(self.machine, self.kernel, self.running)


def _plan_boot(job: _Job) -> LoadPlan:
    machine, request = job.machine, job.request
    memory_map = machine.boot_memory_map
    # The firmware's map may promise memory which the running kernel has since taken for itself
    # (efi_mem_reserve(): TPM event log, ESRT) or was told not to touch (mem=).
    free = memory_map.ram.intersect(machine.iomem.memory_map.ram)
    layout = Layout(
        free.intersect([_ABOVE_LOW_MEMORY]).intersect([request.within]), page_size=machine.page_size
    )
    return _finish(job, layout, memory_map.entries, job.command_line)


def _plan_crash(job: _Job) -> LoadPlan:
    machine, request = job.machine, job.request
    if not job.kernel.relocatable:
        raise ImageError(
            f"{job.kernel.path}: not relocatable (offset 0x234), so it cannot run in the crash region",
            hint="a capture kernel needs CONFIG_RELOCATABLE=y",
        )
    memory = crash.survey(machine)
    low = crash.low_memory(memory)
    layout = Layout(RangeSet([memory.load]).intersect([request.within]), page_size=machine.page_size)
    in_use = []
    backup = None
    if low:
        saved_at = layout.place(_BACKUP, low.size, why=f"purgatory saves low memory {low} here")
        layout.fill(_BACKUP, b"")
        in_use.append(layout.range(_BACKUP))
        backup = purgatory.Backup(low.start, saved_at, low.size)
    headers = crash.core_headers(machine, memory, backup.destination if backup else None)
    elfcorehdr = layout.place(_ELFCOREHDR, len(headers), why="describes the crashed kernel's memory")
    layout.fill(_ELFCOREHDR, headers)
    in_use.append(layout.range(_ELFCOREHDR))
    memory_map = crash.capture_memory_map(memory, machine.iomem, in_use)
    line = f"{job.command_line}{_acpi_parameter(job)} elfcorehdr={elfcorehdr // KIB}K".lstrip()
    return _finish(job, layout, memory_map.entries, line, backup=backup)


def _finish(
    job: _Job,
    layout: Layout,
    memory_map: Sequence[TypedRange],
    line: str,
    *,
    backup: purgatory.Backup | None = None,
) -> LoadPlan:
    """Place and fill what both kinds of load have."""
    request, kernel = job.request, job.kernel
    blob = purgatory.load_blob("x86_64")
    layout.place(
        _PURGATORY,
        blob.memsz,
        alignment=blob.alignment,
        why="runs first: verifies the rest, then jumps to it",
    )
    handover = _handover(job, memory_map, _checked(line, kernel))
    _place_parameters(layout, kernel, handover)
    entry = _place_kernel(layout, kernel)
    initrd = _place_initrd(layout, request)
    parameters = layout.range(_PARAMETERS).start
    layout.fill(_PARAMETERS, boot_params.build(parameters, kernel, handover.with_initrd(initrd)))
    layout.fill(_PURGATORY, _purgatory(job, layout, blob, line, entry, parameters, backup))
    crash_flag = KEXEC_ON_CRASH if request.purpose is Purpose.CRASH else 0
    purgatory_entry = layout.range(_PURGATORY).start + blob.entry_offset
    return LoadPlan(
        arch="x86_64",
        purpose=request.purpose,
        image=kernel.path,
        image_format=f"bzImage, boot protocol {kernel.protocol >> 8}.{kernel.protocol & 0xFF:02}",
        initrd=request.initrd.path if request.initrd else None,
        command_line=line,
        entry=purgatory_entry if request.entry is None else request.entry,
        flags=_KEXEC_ARCH_X86_64 | crash_flag,
        segments=layout.segments(),
        memory_map=tuple(memory_map),
        warnings=tuple(_warnings(job)),
    )


def _handover(job: _Job, memory_map: Sequence[TypedRange], line: bytes) -> Handover:
    return Handover(
        command_line=line,
        memory_map=memory_map,
        initrd=None,
        running=job.running,
        screen_info=boot_params.screen_info(job.running, job.machine.framebuffer_driver),
        efi=job.efi,
        rsdp=boot_params.rsdp_address(job.machine, job.running),
        seed=job.request.seed,
    )


def _place_parameters(layout: Layout, kernel: BzImage, handover: Handover) -> None:
    size = len(boot_params.build(0, kernel, handover))
    layout.place(_PARAMETERS, size, why="boot_params, command line and setup_data")


def _place_kernel(layout: Layout, kernel: BzImage) -> int:
    """Give the kernel its room and return its 64-bit entry point."""
    room = kernel.memory_size
    if kernel.relocatable:
        # Below its preferred address the decompressor would first move itself up, over whatever is there.
        within = Range(max(MIB, kernel.preferred_address), 1 << 64)
        why = f"init_size bytes, aligned to {kernel.alignment:#x}, not below {within.start:#x}"
    else:
        within = Range.sized(kernel.preferred_address, room)
        why = "not relocatable: its preferred address"
    address = layout.place(_KERNEL, room, alignment=kernel.alignment, within=within, why=why)
    layout.fill(_KERNEL, kernel.kernel)
    return address + kernel.entry_offset


def _place_initrd(layout: Layout, request: Request) -> Range | None:
    if request.initrd is None or request.initrd.size == 0:
        return None
    # No look at initrd_addr_max: it binds kernels without XLF_CAN_BE_LOADED_ABOVE_4G only, and those are
    # refused (boot.rst, ramdisk_image and ext_ramdisk_image).
    address = layout.place(_INITRD, request.initrd.size, why="anywhere; the kernel takes it above 4 GiB too")
    layout.fill(_INITRD, request.initrd.data)
    return Range.sized(address, request.initrd.size)


def _purgatory(
    job: _Job,
    layout: Layout,
    blob: purgatory.Blob,
    line: str,
    entry: int,
    parameters: int,
    backup: purgatory.Backup | None,
) -> bytes:
    regions = [
        purgatory.Region(name, layout.range(name).start, layout.data(name))
        for name in layout.names()
        if name != _PURGATORY and layout.data(name).nbytes
    ]
    return purgatory.build(
        blob,
        jump_to=entry,
        arguments=(parameters,),
        digests=() if job.request.skip_checks else purgatory.digest_regions(regions),
        console=purgatory.io_port_console(job.machine.console_for(line)),
        backup=backup,
    )


def _checked(line: str, kernel: BzImage) -> bytes:
    encoded = os.fsencode(line)
    if b"\0" in encoded:
        raise UsageError("the command line has a NUL character in it; the kernel would stop reading there")
    if len(encoded) > kernel.command_line_limit:
        raise ImageError(
            f"Command line overflow: {len(encoded)} bytes,"
            f" {kernel.path} takes {kernel.command_line_limit} at most",
            hint="shorten --append, or leave out --reuse-cmdline",
        )
    return encoded


def _acpi_parameter(job: _Job) -> str:
    """A capture kernel before 5.0 ignores acpi_rsdp_addr: without EFI's tables it would not find ACPI."""
    rsdp = boot_params.rsdp_address(job.machine, job.running)
    return f" acpi_rsdp={rsdp:#x}" if rsdp and job.efi is None else ""


def _warnings(job: _Job) -> list[str]:
    if job.request.purpose is Purpose.CRASH:
        return generic_crash.warnings(job.machine)
    if job.machine.efi is not None and job.efi is None:
        return ["the new kernel will have no EFI runtime services (no runtime map, or it cannot take it)"]
    return []

"""Which of the formats a kernel is in, and so who plans its load."""

from collections.abc import Callable, Mapping

from pykexec import formats
from pykexec.arch.x86_64 import ARCH, bzimage, linux
from pykexec.arch.x86_64.kernel import Entry
from pykexec.errors import ImageError, UsageError
from pykexec.files import FileData
from pykexec.machine import Machine
from pykexec.plan import LoadPlan, Request
from pykexec.values import dataclass


@dataclass(frozen=True, slots=True)
class _Format:
    matches: Callable[[memoryview], bool]
    plan: Callable[[Machine, Request, FileData], LoadPlan]


def plan(machine: Machine, request: Request) -> LoadPlan:
    """A plan for that request on that machine. Raises PykexecError."""
    if request.jump_back is not None:
        from pykexec.arch.x86_64 import jump

        return jump.plan_back(machine, request)
    if request.device_tree is not None:
        raise UsageError(
            "--dtb: a device tree is for architectures that boot with one, which x86_64 does not"
        )
    if request.force_dtb:
        raise UsageError(
            "--force-dtb: on x86_64 only kexec_file_load hands the running kernel's device tree on",
            hint="leave out -c and what needs it",
        )
    file, _ = formats.unwrap(request.kernel)
    found = _sniff(file.data)
    if request.format is not None:
        _require_format(file, request.format, found)
        found = request.format
    # A file of no known format is most likely meant to be a bzImage: let that say what it lacks.
    chosen = found or "bzImage64"
    for option, given in (("--entry-32bit", request.entry_32bit), ("--real-mode", request.real_mode)):
        if given and not chosen.startswith("bzImage"):
            raise UsageError(f"{option} is for bzImages; {file.path} is of type {chosen}")
    return FORMATS[chosen].plan(machine, request, file)


def _sniff(data: memoryview) -> str | None:
    return next((name for name, each in FORMATS.items() if each.matches(data)), None)


def _require_format(file: FileData, wanted: str, found: str | None) -> None:
    if wanted not in FORMATS:
        raise UsageError(
            f"Unsupported kernel type {wanted}",
            hint=f"the types that can be loaded: {', '.join(ARCH.formats)}",
        )
    if FORMATS[wanted].matches(file.data):
        return
    if found is None:
        raise ImageError(f"Cannot determine the file type of {file.path}; it is not of type {wanted}")
    raise ImageError(
        f"{file.path}: Wrong file type {wanted}, file matches type {found}", hint="leave out --type"
    )


def _bzimage(machine: Machine, request: Request, file: FileData) -> LoadPlan:
    if request.real_mode:
        from pykexec.arch.x86_64 import real_mode

        return real_mode.plan(machine, request, bzimage.parse(file, Entry.REAL))
    through_32bit = request.entry_32bit or request.format == "bzImage"
    return linux.plan(machine, request, bzimage.parse(file, Entry.PROTECTED if through_32bit else None))


def _has_64bit_entry(data: memoryview) -> bool:
    return bzimage.matches(data) and bzimage.has_64bit_entry(data)


# What only one format needs is imported when that format is met.


def _is_multiboot1(data: memoryview) -> bool:
    from pykexec.arch.x86_64 import multiboot_header

    return multiboot_header.is_multiboot1(data)


def _multiboot1(machine: Machine, request: Request, file: FileData) -> LoadPlan:
    from pykexec.arch.x86_64 import multiboot, multiboot_header

    return multiboot.plan(machine, request, multiboot_header.parse1(file))


def _is_multiboot2(data: memoryview) -> bool:
    from pykexec.arch.x86_64 import multiboot_header

    return multiboot_header.is_multiboot2(data)


def _multiboot2(machine: Machine, request: Request, file: FileData) -> LoadPlan:
    from pykexec.arch.x86_64 import multiboot, multiboot_header

    return multiboot.plan(machine, request, multiboot_header.parse2(file))


def _is_elf64(data: memoryview) -> bool:
    from pykexec.formats import elf

    return elf.is_elf(data, "EM_X86_64")


def _vmlinux64(machine: Machine, request: Request, file: FileData) -> LoadPlan:
    from pykexec.arch.x86_64 import vmlinux

    return linux.plan(machine, request, vmlinux.parse_64bit(file))


def _is_elf32(data: memoryview) -> bool:
    from pykexec.formats import elf

    return elf.is_elf(data, "EM_386")


def _vmlinux32(machine: Machine, request: Request, file: FileData) -> LoadPlan:
    from pykexec.arch.x86_64 import vmlinux

    return linux.plan(machine, request, vmlinux.parse_32bit(file))


FORMATS: Mapping[str, _Format] = {
    "bzImage64": _Format(_has_64bit_entry, _bzimage),
    "bzImage": _Format(bzimage.matches, _bzimage),
    # An ELF file with a Multiboot header in it is a Multiboot kernel, a Linux kernel has none.
    "multiboot2-x86": _Format(_is_multiboot2, _multiboot2),
    "multiboot-x86": _Format(_is_multiboot1, _multiboot1),
    "elf-x86_64": _Format(_is_elf64, _vmlinux64),
    "elf-x86": _Format(_is_elf32, _vmlinux32),
}
"""By kexec-tools' names (kexec -t), in the order in which they are tried."""

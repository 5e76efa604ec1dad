"""Find a kernel's format, and plan its load with that format's planner."""

from collections.abc import Callable, Mapping

from pykexec import formats
from pykexec.arch.x86 import bzimage, linux
from pykexec.arch.x86.kernel import Entry
from pykexec.arch.x86_64 import ARCH
from pykexec.booting.formats import require
from pykexec.booting.part import LoaderPart
from pykexec.errors import UsageError
from pykexec.files import FileData
from pykexec.machine import Machine
from pykexec.plan import LoadPlan, Request
from pykexec.values import dataclass


@dataclass(frozen=True, slots=True)
class _Format:
    matches: Callable[[memoryview], bool]
    plan: Callable[[Machine, Request, FileData], LoadPlan]


def plan(machine: Machine, request: Request) -> LoadPlan:
    """Return a plan for that request on that machine. Raises PykexecError."""
    if request.jump_back is not None:
        from pykexec.arch.x86 import jump

        return jump.plan_back(ARCH, machine, request)
    file, _ = formats.unwrap(request.kernel)
    found = _sniff(file.data)
    if request.format is not None:
        matches = FORMATS[request.format].matches(file.data) if request.format in FORMATS else False
        require(file.path, request.format, request.format if matches else found, ARCH.formats)
        found = request.format
    # A file of unknown format is most likely meant to be a bzImage; that parser says what is missing.
    chosen = found or "bzImage64"
    for option, given in (("--entry-32bit", request.entry_32bit), ("--real-mode", request.real_mode)):
        if given and not chosen.startswith("bzImage"):
            raise UsageError(f"{option} is for bzImages; {file.path} is of type {chosen}")
    return FORMATS[chosen].plan(machine, request, file)


def _sniff(data: memoryview) -> str | None:
    return next((name for name, each in FORMATS.items() if each.matches(data)), None)


def _bzimage(machine: Machine, request: Request, file: FileData) -> LoadPlan:
    if request.real_mode:
        from pykexec.arch.x86 import real_mode

        return real_mode.plan(ARCH, machine, request, bzimage.parse(file, Entry.REAL))
    entry = Entry.PROTECTED if request.entry_32bit or request.format == "bzImage" else None
    return linux.plan(ARCH, machine, request, bzimage.parse(file, entry))


def _has_64bit_entry(data: memoryview) -> bool:
    return bzimage.matches(data) and bzimage.has_64bit_entry(data)


# Each format's module is imported only when a file is checked for it.


def _is_multiboot1(data: memoryview) -> bool:
    from pykexec.arch.x86 import multiboot_header

    return multiboot_header.is_multiboot1(data)


def _multiboot1(machine: Machine, request: Request, file: FileData) -> LoadPlan:
    from pykexec.arch.x86 import multiboot, multiboot_header

    return multiboot.plan(ARCH, machine, request, multiboot_header.parse1(file))


def _is_multiboot2(data: memoryview) -> bool:
    from pykexec.arch.x86 import multiboot_header

    return multiboot_header.is_multiboot2(data)


def _multiboot2(machine: Machine, request: Request, file: FileData) -> LoadPlan:
    from pykexec.arch.x86 import multiboot, multiboot_header

    return multiboot.plan(ARCH, machine, request, multiboot_header.parse2(file))


def _is_elf64(data: memoryview) -> bool:
    return _is_for(data, "x86_64")


def _vmlinux64(machine: Machine, request: Request, file: FileData) -> LoadPlan:
    from pykexec.arch.x86 import vmlinux

    return linux.plan(ARCH, machine, request, vmlinux.parse_64bit(file))


def _is_elf32(data: memoryview) -> bool:
    return _is_for(data, "i386")


def _is_for(data: memoryview, name: str) -> bool:
    from pykexec.formats import elf

    row = elf.architecture(data)
    return row is not None and row.name == name


def _vmlinux32(machine: Machine, request: Request, file: FileData) -> LoadPlan:
    from pykexec.arch.x86 import vmlinux

    return linux.plan(ARCH, machine, request, vmlinux.parse_32bit(file))


FORMATS: Mapping[str, _Format] = {
    "bzImage64": _Format(_has_64bit_entry, _bzimage),
    "bzImage": _Format(bzimage.matches, _bzimage),
    # An ELF file with a Multiboot header is a Multiboot kernel; Linux kernels have none.
    "multiboot2-x86": _Format(_is_multiboot2, _multiboot2),
    "multiboot-x86": _Format(_is_multiboot1, _multiboot1),
    "elf-x86_64": _Format(_is_elf64, _vmlinux64),
    "elf-x86": _Format(_is_elf32, _vmlinux32),
}
"""The formats by kexec-tools' names (kexec -t), in the order in which they are tried."""

PART = LoaderPart(plan)

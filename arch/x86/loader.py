"""Find which of an architecture's formats a kernel has, and plan its load with that format's planner."""

from collections.abc import Callable, Mapping

from pykexec import formats
from pykexec.arch import Arch
from pykexec.arch.x86 import bzimage, linux
from pykexec.arch.x86.kernel import Entry
from pykexec.booting.formats import require
from pykexec.errors import ImageError, UsageError
from pykexec.files import FileData
from pykexec.machine import Machine
from pykexec.plan import LoadPlan, Request
from pykexec.values import dataclass


@dataclass(frozen=True, slots=True)
class _Format:
    matches: Callable[[memoryview], bool]
    plan: Callable[[Arch, Machine, Request, FileData], LoadPlan]


def plan(arch: Arch, machine: Machine, request: Request) -> LoadPlan:
    """Return a plan for that request on that machine. Raises PykexecError."""
    if request.jump_back is not None:
        from pykexec.arch.x86 import jump

        return jump.plan_back(arch, machine, request)
    file, _ = formats.unwrap(request.kernel)
    known = {name: _FORMATS[name] for name in arch.formats if name in _FORMATS}
    found = next((name for name, each in known.items() if each.matches(file.data)), None)
    if request.format is not None:
        matches = known[request.format].matches(file.data) if request.format in known else False
        require(file.path, request.format, request.format if matches else found, arch.formats)
        found = request.format
    if found is None and _is_elf64(file.data):
        raise ImageError(
            f"{file.path} is a vmlinux for x86_64, which only a 64-bit kernel can enter",
            hint="take the vmlinuz (bzImage) it was made into, which has a 32-bit entry",
        )
    # A file of unknown format is most likely meant to be a bzImage; that parser says what is missing.
    chosen = found or "bzImage"
    for option, given in (("--entry-32bit", request.entry_32bit), ("--real-mode", request.real_mode)):
        if given and not chosen.startswith("bzImage"):
            raise UsageError(f"{option} is for bzImages; {file.path} is of type {chosen}")
    return _FORMATS[chosen].plan(arch, machine, request, file)


def _bzimage(arch: Arch, machine: Machine, request: Request, file: FileData) -> LoadPlan:
    if request.real_mode:
        from pykexec.arch.x86 import real_mode

        return real_mode.plan(arch, machine, request, bzimage.parse(file, Entry.REAL, arch.name))
    through_32bit = request.entry_32bit or request.format == "bzImage" or arch.names.elf.bits == 32
    kernel = bzimage.parse(file, Entry.PROTECTED if through_32bit else None, arch.name)
    return linux.plan(arch, machine, request, kernel)


def _has_64bit_entry(data: memoryview) -> bool:
    return bzimage.matches(data) and bzimage.has_64bit_entry(data)


# Each format's module is imported only when a file is checked for it.


def _is_multiboot1(data: memoryview) -> bool:
    from pykexec.arch.x86 import multiboot_header

    return multiboot_header.is_multiboot1(data)


def _multiboot1(arch: Arch, machine: Machine, request: Request, file: FileData) -> LoadPlan:
    from pykexec.arch.x86 import multiboot, multiboot_header

    return multiboot.plan(arch, machine, request, multiboot_header.parse1(file))


def _is_multiboot2(data: memoryview) -> bool:
    from pykexec.arch.x86 import multiboot_header

    return multiboot_header.is_multiboot2(data)


def _multiboot2(arch: Arch, machine: Machine, request: Request, file: FileData) -> LoadPlan:
    from pykexec.arch.x86 import multiboot, multiboot_header

    return multiboot.plan(arch, machine, request, multiboot_header.parse2(file))


def _is_elf64(data: memoryview) -> bool:
    from pykexec.formats import elf

    return elf.is_for(data, "x86_64")


def _vmlinux64(arch: Arch, machine: Machine, request: Request, file: FileData) -> LoadPlan:
    from pykexec.arch.x86 import vmlinux

    return linux.plan(arch, machine, request, vmlinux.parse_64bit(file))


def _is_elf32(data: memoryview) -> bool:
    from pykexec.formats import elf

    return elf.is_for(data, "i386")


def _vmlinux32(arch: Arch, machine: Machine, request: Request, file: FileData) -> LoadPlan:
    from pykexec.arch.x86 import vmlinux

    return linux.plan(arch, machine, request, vmlinux.parse_32bit(file))


_FORMATS: Mapping[str, _Format] = {
    "bzImage64": _Format(_has_64bit_entry, _bzimage),
    "bzImage": _Format(bzimage.matches, _bzimage),
    # An ELF file with a Multiboot header is a Multiboot kernel; Linux kernels have none.
    "multiboot2-x86": _Format(_is_multiboot2, _multiboot2),
    "multiboot-x86": _Format(_is_multiboot1, _multiboot1),
    "elf-x86_64": _Format(_is_elf64, _vmlinux64),
    "elf-x86": _Format(_is_elf32, _vmlinux32),
}
"""The formats by kexec-tools' names (kexec -t); an architecture tries its own, in its own order."""

"""Read vmlinux: a Linux kernel as linked, entered without the decompressor of a bzImage.

It has no setup header. Its contents are known from the kernel's version, or from how such kernels are built.
Without the decompressor nothing is randomised (KASLR).
"""

import re

from pykexec.arch.x86 import layouts
from pykexec.arch.x86.kernel import Entry, LinuxKernel
from pykexec.errors import ImageError
from pykexec.files import FileData
from pykexec.formats import elf
from pykexec.memory import KIB, MIB, Range, align_up

_BANNER = re.compile(rb"Linux version ((\d{1,3})\.(\d{1,5})[!-~]{0,64}) ")
"""linux_banner, init/version.c"""
_PROTOCOL = 0x020F
COMMAND_LINE_LIMIT = 2047
"""COMMAND_LINE_SIZE in arch/x86/include/asm/setup.h, without the NUL."""
_LARGE_PAGE = 2 * MIB
"""__startup_64() in arch/x86/kernel/head64.c moves the kernel's page tables by whole PMDs."""
_WITH_EFI_SETUP_DATA = (3, 14)
_WITH_5_LEVELS_ALWAYS = (6, 17)
"""From this version on CONFIG_X86_5LEVEL is no longer an option."""
_SIZE_MAX = 1024 * MIB  # KERNEL_IMAGE_SIZE in arch/x86/include/asm/page_64_types.h
_LOW_MEMORY_32BIT = 896 * MIB
_INITRD_END_32BIT = 0x38000000


def parse_64bit(file: FileData) -> LinuxKernel:
    """Read and check an x86_64 vmlinux. Raises ImageError.

    All of them can be moved: startup_64 adjusts the page tables to where it runs, even without
    CONFIG_RELOCATABLE, which concerns the decompressor.
    """
    whole, program, release, version = _read(file)
    if whole.address % _LARGE_PAGE:
        raise ImageError(f"{file.path}: linked at {whole.address:#x}, which is no multiple of 2 MiB")
    takes_efi = version >= _WITH_EFI_SETUP_DATA
    alignment = max(_LARGE_PAGE, program.alignment)
    flags = layouts.XLF_KERNEL_64 | layouts.XLF_CAN_BE_LOADED_ABOVE_4G
    return LinuxKernel(
        path=file.path,
        description=f"vmlinux, Linux {release}",
        setup_header=_header(
            kernel_alignment=alignment,
            relocatable_kernel=1,
            xloadflags=flags | (layouts.XLF_EFI_KEXEC if takes_efi else 0),
            pref_address=whole.address,
            init_size=whole.memsz,
        ),
        protocol=_PROTOCOL,
        image=whole.data,
        memory_size=align_up(whole.memsz, 4 * KIB),
        alignment=alignment,
        window=Range(max(MIB, whole.address), 1 << 64),
        relocatable=True,
        entry=Entry.LONG,
        entry_offset=_entry_offset(file.path, whole, program),
        command_line_limit=COMMAND_LINE_LIMIT,
        initrd_window=Range(0, 1 << 64),
        takes_efi=takes_efi,
        takes_5level_paging=True if version >= _WITH_5_LEVELS_ALWAYS else None,
        bits=64,
        release=release,
    )


def parse_32bit(file: FileData) -> LinuxKernel:
    """Read and check an i386 vmlinux, which runs where it was linked to. Raises ImageError."""
    whole, program, release, _ = _read(file)
    size = align_up(whole.memsz, 4 * KIB)
    if whole.address < MIB or whole.address + size > _LOW_MEMORY_32BIT:
        raise ImageError(f"{file.path}: linked at {whole.range} (physical), where no 32-bit kernel can run")
    return LinuxKernel(
        path=file.path,
        description=f"vmlinux, Linux {release}, 32-bit entry",
        setup_header=_header(pref_address=whole.address, init_size=whole.memsz),
        protocol=_PROTOCOL,
        image=whole.data,
        memory_size=size,
        alignment=4 * KIB,
        window=Range.sized(whole.address, size),
        relocatable=False,
        entry=Entry.PROTECTED,
        entry_offset=_entry_offset(file.path, whole, program),
        command_line_limit=COMMAND_LINE_LIMIT,
        initrd_window=Range(0, _INITRD_END_32BIT),
        takes_efi=False,
        takes_5level_paging=None,
        bits=32,
        release=release,
    )


def _read(file: FileData) -> tuple[elf.Piece, elf.Program, str, tuple[int, int]]:
    program = elf.parse(file.path, file.data)
    found = _BANNER.search(file.data)
    if found is None:
        raise ImageError(
            f'{file.path}: an ELF file, but no Linux kernel: there is no "Linux version" in it',
            hint="of other kernels, those with a Multiboot header can be loaded",
        )
    whole = elf.flatten(file.path, program.pieces)
    if whole.memsz > _SIZE_MAX:
        raise ImageError(f"{file.path}: its segments lie {whole.memsz:#x} bytes apart, which no kernel's do")
    return whole, program, found[1].decode("ascii"), (int(found[2]), int(found[3]))


def _entry_offset(path: str, whole: elf.Piece, program: elf.Program) -> int:
    """Return the distance of e_entry from the first byte.

    e_entry is a physical address (phys_startup_64, phys_startup_32 in the linker script). Raises ImageError.
    """
    if program.entry not in whole.range:
        raise ImageError(f"{path}: its entry point {program.entry:#x} is outside of what is loaded")
    return program.entry - whole.address


def _header(**fields: int) -> bytes:
    header = layouts.SETUP_HEADER.parse(bytes(layouts.SETUP_HEADER.sizeof()))
    known = {
        "boot_flag": 0xAA55,
        "header": b"HdrS",
        "version": _PROTOCOL,
        "cmdline_size": COMMAND_LINE_LIMIT,
        "initrd_addr_max": 0x7FFFFFFF,
    }
    for name, value in {**known, **fields}.items():
        setattr(header, name, value)
    return bytes(layouts.SETUP_HEADER.build(header))

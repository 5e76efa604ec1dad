"""Describe a file that is not the kernel it should be."""

from __future__ import annotations

from collections.abc import Callable

from pykexec import names
from pykexec.errors import ImageError
from pykexec.formats import elfheader, magic, multiboot, pe
from pykexec.memory import KIB, MIB

_SAMPLE = 64 * KIB
_PIECES_MAX = 1 * MIB

_MAGICS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"hsqs", "a squashfs file system"),
    (0, b"\xe2\xe1\xf5\xe0", "an erofs file system"),
    (1024, b"\xe2\xe1\xf5\xe0", "an erofs file system"),
    (0x438, b"\x53\xef", "an ext2, ext3 or ext4 file system"),
    (0x8001, b"CD001", "an ISO 9660 image, of a CD or DVD"),
    (257, b"ustar", "a tar archive"),
    (0, b"!<arch>\n", "an ar archive, such as a Debian package"),
    (0, b"\xed\xab\xee\xdb", "an RPM package"),
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"070707", "a cpio archive of the old kind, which kernels do not unpack"),
    (0, b"\xc7\x71", "a cpio archive of the old kind, which kernels do not unpack"),
    (0, b"ANDROID!", "an Android boot image"),
    (0, b"KDUMP   ", "a crash dump that makedumpfile made"),
    (0, b"makedumpfile", "a crash dump that makedumpfile made"),
    (0, b"QFI\xfb", "a qcow2 disk image"),
    (0, b"XFSB", "an XFS file system"),
    (0x10040, b"_BHRfS_M", "a btrfs file system"),
    (0, b"LUKS\xba\xbe", "an encrypted volume (LUKS)"),
    (0, b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    (0, b"GIF8", "a GIF picture"),
    (0, b"\xff\xd8\xff", "a JPEG picture"),
    (0, b"%PDF-", "a PDF document"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (0, b"LZIP", "lzip data, which kernels do not know"),
    (0, b"\x1f\x9d", "data of compress(1), which kernels do not know"),
    (0, b"\x02\xb0\xad\x1b", "a Multiboot header without a kernel"),
)
"""Offset, bytes and meaning, from each format's own specification; file(1) has them, too."""

_ELF_TYPES = {1: "object file", 2: "executable", 3: "program or library", 4: "core dump"}
_IMAGES: tuple[tuple[int, bytes, str], ...] = (
    (0x38, b"ARM\x64", "an arm64 Image"),  # Documentation/arch/arm64/booting.rst
    (0x38, b"RSC\x05", "a riscv Image"),  # Documentation/arch/riscv/boot-image-header.rst
    (0x24, b"\x18\x28\x6f\x01", "an arm zImage"),  # arch/arm/boot/compressed/head.S
    (0x24, b"\x01\x6f\x28\x18", "a big-endian arm zImage"),
    (0x202, b"HdrS", "an sh zImage"),  # arch/sh/boot/compressed/head_32.S
    (0x10008, b"S390EP", "an s390x image"),  # arch/s390/boot/head.S
)


def unknown(path: str, data: memoryview, lack: str, machine: str = "") -> ImageError:
    """Return the error for a file that is no kernel, with the C tool's words, which users search for.

    `lack` is what a kernel of that machine would have; without `machine`, what any kernel would have.
    """
    what = describe(data)
    which = f", which is {what}" if what else ""
    usual = names.named(machine).file if machine else names.USUAL_FILE
    return ImageError(
        f"Cannot determine the file type of {path}{which}: {lack}",
        hint=f"{f'this machine is {machine}; its ' if machine else ''}kernels are usually called"
        f" /boot/{usual}-VERSION",
    )


def describe(data: memoryview) -> str | None:
    """Return a description such as "an EFI executable for arm64"; None for an unknown file."""
    return next((found for ask in _QUESTIONS if (found := ask(data))), None)


def _nothing(data: memoryview) -> str | None:
    if not data.nbytes:
        return "an empty file"
    return "nothing but zeros" if not any(data[:_SAMPLE]) else None


def _elf(data: memoryview) -> str | None:
    if bytes(data[:4]) != elfheader.MAGIC or data.nbytes < elfheader.IDENT_SIZE:
        return None
    encoding = elfheader.encoding(data)
    if encoding is None or data.nbytes < encoding.header_size:
        return "a damaged ELF file"
    header = encoding.header(data)
    kind, row = header.type, names.of_elf(header.machine, encoding.bits, encoding.order)
    what = _ELF_TYPES.get(kind, "ELF file")
    # Modules of both kinds are object files with a section of that name.
    if kind == 1 and _has_name(data, b"\0.modinfo\0"):
        what = "kernel module"
    elif kind == 1 and _has_name(data, b"\0.modname\0"):
        what = "GRUB module"
    elif kind != 4 and _multiboot(data):
        what = f"Multiboot {what}"
    bits = f"{encoding.bits}-bit"
    if encoding.order == "big" and row is not None and row.elf.order is None:
        bits = f"big-endian {bits}"
    prefix = "" if "ELF" in what else "ELF "
    return f"a {bits} {prefix}{what} for {row.name if row else _elf_name(header.machine)}"


def _elf_name(machine: int) -> str:
    """Return the name of an architecture that runs no Linux, or has neither kexec nor dumps."""
    from elftools.elf.enums import ENUM_E_MACHINE

    found = (name for name, number in ENUM_E_MACHINE.items() if number == machine)
    return next((name.removeprefix("EM_").lower() for name in found), f"machine {machine}")


def _has_name(data: memoryview, name: bytes) -> bool:
    """Return whether the table of section names, which is near the end, has that name."""
    return name in bytes(data[-_PIECES_MAX:])


def _bzimage(data: memoryview) -> str | None:
    if bytes(data[0x1FE:0x200]) != b"\x55\xaa" or bytes(data[0x202:0x206]) != b"HdrS":
        return None
    # Documentation/arch/x86/boot.rst: loadflags, LOADED_HIGH
    return "an x86 bzImage" if data.nbytes > 0x211 and data[0x211] & 1 else "an x86 zImage"


def _image(data: memoryview) -> str | None:
    found = (name for at, start, name in _IMAGES if bytes(data[at : at + len(start)]) == start)
    return next(found, None)


def _portable_executable(data: memoryview) -> str | None:
    try:
        found = pe.parse("", data)
    except ImageError:
        return "a truncated or damaged EFI executable"
    if found is None:
        return "a DOS program" if bytes(data[:2]) == b"MZ" and data.nbytes >= 0x40 else None
    names = {each.name for each in found.sections}
    if ".linux" in names:
        return f"a unified kernel image for {found.machine_name}"
    if names & {".cmdline", ".ucode", ".initrd"}:
        return f"an add-on of a unified kernel image for {found.machine_name}"
    kind = "an EFI executable" if found.is_efi else "a Windows program"
    return f"{kind} for {found.machine_name}"


def _uimage(data: memoryview) -> str | None:
    if bytes(data[:4]) != magic.UIMAGE or data.nbytes < 64:
        return None
    from pykexec.formats import uimage

    return uimage.describe(data)


def _tree(data: memoryview) -> str | None:
    if bytes(data[:4]) != magic.DEVICE_TREE:
        return None
    from pykexec.formats import fit

    return "a FIT image" if fit.matches(data) else "a device tree blob"


def _cpio(data: memoryview) -> str | None:
    return "a cpio archive, such as an initramfs" if bytes(data[:6]) in magic.CPIO else None


def _compressed(data: memoryview) -> str | None:
    """Describe compressed data and, as far as its beginning tells, what is inside."""
    name = magic.compression(data)
    if name is None:
        return None
    from pykexec.formats import compression

    head = bytearray()
    try:
        for piece in compression.pieces("", data, name):
            head += piece
            if len(head) >= _SAMPLE:
                break
    except ImageError:
        if not head:
            return f"damaged {name} data"
    inside = None if magic.compression(memoryview(head)) else describe(memoryview(head))
    return f"{name} data, in it {inside}" if inside else f"{name} data"


def _known_magic(data: memoryview) -> str | None:
    return next((name for at, start, name in _MAGICS if bytes(data[at : at + len(start)]) == start), None)


def _boot_sector(data: memoryview) -> str | None:
    is_disk = data.nbytes > 512 and bytes(data[510:512]) == b"\x55\xaa"
    return "a disk image, or a file system with a boot sector" if is_disk else None


def _multiboot_kernel(data: memoryview) -> str | None:
    return "a Multiboot kernel" if _multiboot(data) else None


def _multiboot(data: memoryview) -> bool:
    return multiboot.find1(data) is not None or multiboot.find2(data) is not None


def _text(data: memoryview) -> str | None:
    head = bytes(data[: 4 * KIB])
    if head[:2] == b"#!":
        line = head[2:].partition(b"\n")[0].decode("latin-1").strip()
        return f"a script ({line[:40]})" if line.isprintable() else "a script"
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # otherwise the sample cuts a character
            return None
        text = head[: error.start].decode()
    if not all(each.isprintable() or each.isspace() for each in text):
        return None
    is_page = text.lstrip()[:15].lower().startswith(("<!doctype html", "<html"))
    return "a web page" if is_page else "a text file"


_QUESTIONS: tuple[Callable[[memoryview], str | None], ...] = (
    _nothing,
    _elf,
    _bzimage,
    _image,
    _portable_executable,
    _uimage,
    _tree,
    _cpio,
    _compressed,
    _known_magic,
    _multiboot_kernel,
    _boot_sector,
    _text,
)
"""The most specific first: an arm64 Image may be an EFI executable, too, and a bzImage has a boot sector."""

"""What a file is said to be; real ones, made by the tools of their kind, are asked in tests/differential."""

import gzip
import io
import lzma
import struct
import tarfile
import zipfile
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec.formats import identify
from tests.arches.s390x import images as s390x_images
from tests.arches.sh import images as sh_images
from tests.support.arm64_image import FakeImage
from tests.support.bombs import gzip_of_zeros
from tests.support.bzimage import FakeBzImage
from tests.support.dtb import Blob
from tests.support.pe import portable_executable
from tests.support.stopwatch import Stopwatch
from tools.lab import cpio

ARCHIVE = cpio.archive([cpio.file("init", "#!/bin/sh\n")])
NAMES = b"\0.text\0.modinfo\0.shstrtab\0"


def elf(kind: int = 2, machine: int = 62, *, bits: int = 64, order: str = "<", rest: bytes = b"") -> bytes:
    """The file header of elf(5)."""
    ident = b"\x7fELF" + bytes([bits // 32, 1 if order == "<" else 2, 1]) + bytes(9)
    return (ident + struct.pack(f"{order}HHI", kind, machine, 1)).ljust(64, b"\0") + rest


def uimage(*, os: int = 5, arch: int = 22, kind: int = 3) -> bytes:
    return struct.pack(">IIIIIIIBBBB32s", 0x27051956, 0, 0, 0, 0, 0, 0, os, arch, kind, 0, b"name")


def tar() -> bytes:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo("file"))
    return output.getvalue()


def zipped() -> bytes:
    output = io.BytesIO()
    with zipfile.ZipFile(output, "w") as archive:
        archive.writestr("file", "data")
    return output.getvalue()


def at(offset: int, data: bytes, *, size: int = 0x9000) -> bytes:
    return (b"\xf4" * offset + data).ljust(size, b"\xf4")


MULTIBOOT = struct.pack("<III", 0x1BADB002, 3, -(0x1BADB002 + 3) % (1 << 32))
MULTIBOOT2 = struct.pack("<IIII", 0xE85250D6, 0, 16, -(0xE85250D6 + 16) % (1 << 32))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "an empty file"),
        (bytes(4096), "nothing but zeros"),
        (elf(), "a 64-bit ELF executable for x86_64"),
        (elf(machine=183), "a 64-bit ELF executable for arm64"),
        (elf(machine=22, order=">"), "a 64-bit ELF executable for s390x"),
        (elf(machine=183, order=">"), "a 64-bit ELF executable for arm64be"),
        (elf(machine=21), "a 64-bit ELF executable for ppc64le"),
        (elf(machine=8, bits=32, order=">"), "a big-endian 32-bit ELF executable for mips"),
        (elf(machine=8, bits=32), "a 32-bit ELF executable for mips"),
        (elf(machine=3, bits=32), "a 32-bit ELF executable for i386"),
        (elf(machine=83, bits=32), "a 32-bit ELF executable for avr"),
        (elf(machine=0xFFFE), "a 64-bit ELF executable for machine 65534"),
        (elf(1), "a 64-bit ELF object file for x86_64"),
        (elf(1, rest=NAMES), "a 64-bit ELF kernel module for x86_64"),
        (elf(1, 3, bits=32, rest=b"\0.modname\0"), "a 32-bit ELF GRUB module for i386"),
        (elf(3), "a 64-bit ELF program or library for x86_64"),
        (elf(4), "a 64-bit ELF core dump for x86_64"),
        (elf(7), "a 64-bit ELF file for x86_64"),
        (elf(2, 3, bits=32, rest=MULTIBOOT), "a 32-bit ELF Multiboot executable for i386"),
        (b"\x7fELF", None),
        (FakeBzImage().build(), "an x86 bzImage"),
        (FakeBzImage(loadflags=0).build(), "an x86 zImage"),
        (sh_images.FakeZImage().build(), "an sh zImage"),
        (s390x_images.FakeImage().build(), "an s390x image"),
        (FakeImage().build(), "an arm64 Image"),
        (b"MZ".ljust(0x38, b"\0") + b"RSC\x05" + bytes(64), "a riscv Image"),
        (bytes(0x24) + b"\x18\x28\x6f\x01" + b"x" * 64, "an arm zImage"),
        (portable_executable([(".text", b"x")], machine=0xAA64), "an EFI executable for arm64"),
        (portable_executable([(".text", b"x")], machine=0x6264), "an EFI executable for loongarch64"),
        (portable_executable([(".text", b"x")], subsystem=3), "a Windows program for x86_64"),
        (portable_executable([(".text", b"x")], machine=0x1234), "an EFI executable for machine 0x1234"),
        (portable_executable([(".linux", b"x")]), "a unified kernel image for x86_64"),
        (portable_executable([(".cmdline", b"x")]), "an add-on of a unified kernel image for x86_64"),
        (portable_executable([(".text", b"x")])[:0x60], "a truncated or damaged EFI executable"),
        (b"MZ" + bytes(58) + b"\xff\xff\xff\xff", "a truncated or damaged EFI executable"),
        (b"MZ" + bytes(100), "a DOS program"),
        (uimage(), "a uImage with a ramdisk of Linux for arm64"),
        (uimage(arch=7), "a uImage with a ramdisk of Linux for ppc64le or ppc64 or ppc"),
        (uimage(arch=8), "a uImage with a ramdisk of Linux for s390x"),
        (uimage(os=17, arch=99, kind=77), "a uImage with a content of type 77 of U-Boot for machine 99"),
        (Blob({"compatible": b"x\0"}).build(), "a device tree blob"),
        (Blob({"images": {}}).build(), "a FIT image"),
        (ARCHIVE, "a cpio archive, such as an initramfs"),
        (gzip.compress(ARCHIVE, mtime=0), "gzip data, in it a cpio archive, such as an initramfs"),
        (lzma.compress(elf()), "xz data, in it a 64-bit ELF executable for x86_64"),
        (gzip.compress(gzip.compress(ARCHIVE, mtime=0), mtime=0), "gzip data"),
        (gzip.compress(b"\xff" * 100, mtime=0)[:30], "gzip data"),
        (b"\x1f\x8b\x08" + b"\xff" * 30, "damaged gzip data"),
        (tar(), "a tar archive"),
        (zipped(), "a zip archive"),
        (b"hsqs" + b"\x01" * 100, "a squashfs file system"),
        (at(0x10040, b"_BHRfS_M", size=0x11000), "a btrfs file system"),
        (b"LUKS\xba\xbe\0\2".ljust(4096, b"\0"), "an encrypted volume (LUKS)"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "a PNG picture"),
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "a PDF document"),
        (at(0x8001, b"CD001"), "an ISO 9660 image, of a CD or DVD"),
        (at(0x438, b"\x53\xef"), "an ext2, ext3 or ext4 file system"),
        (at(510, b"\x55\xaa"), "a disk image, or a file system with a boot sector"),
        (at(0x1000, MULTIBOOT), "a Multiboot kernel"),
        (at(0x7000, MULTIBOOT2), "a Multiboot kernel"),
        (at(0x1002, MULTIBOOT), None),
        (at(0x2000, MULTIBOOT), None),
        (at(0x1000, MULTIBOOT[:8] + b"\0\0\0\0"), None),
        (b"#!/bin/sh\necho\n", "a script (/bin/sh)"),
        (b"title Debian\nlinux /vmlinuz\n", "a text file"),
        ("größer ".encode() * 1000, "a text file"),
        (b"<!DOCTYPE html><html>404 not found", "a web page"),
        (zlib.compress(b"x"), None),
        (b"\xf4" * 5000, None),
    ],
)
def test_describe(data: bytes, expected: str | None) -> None:
    """Where no library of the format wrote it, the magic number is that of its specification."""
    assert identify.describe(memoryview(data)) == expected


@pytest.mark.slow
def test_a_bomb_is_not_unpacked() -> None:
    bomb = gzip_of_zeros(256)
    stopwatch = Stopwatch()
    assert identify.describe(memoryview(bomb)) == "gzip data, in it nothing but zeros"
    assert stopwatch.seconds() < 0.5


@given(
    st.sampled_from(
        [b"", b"MZ", b"\x7fELF", b"\x1f\x8b\x08", b"\xd0\x0d\xfe\xed", b"070701", b"\x27\x05\x19\x56"]
    ),
    st.binary(max_size=600),
)
def test_anything_is_described(start: bytes, rest: bytes) -> None:
    found = identify.describe(memoryview(start + rest))
    assert found is None or "\n" not in found


@pytest.mark.parametrize(
    ("machine", "usual"), [("ppc64le", "vmlinux"), ("s390x", "vmlinuz"), ("", "vmlinuz")]
)
def test_what_kernels_are_called(machine: str, usual: str) -> None:
    error = identify.unknown("x", memoryview(b"x"), "no kernel", machine)
    assert error.hint is not None
    assert error.hint.endswith(f" usually called /boot/{usual}-VERSION")

"""Put kernels into containers, each packed by its own tool."""

import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.support import systemd
from tests.support.zboot import zboot

Pack = Callable[[Path, Path], None]
"""Makes, from a kernel, a file that contains it."""


def filtered(*command: str) -> Pack:
    """Return a packer for a compressor that reads standard input."""

    def pack(kernel: Path, packed: Path) -> None:
        with kernel.open("rb") as source, packed.open("wb") as target:
            subprocess.run(command, stdin=source, stdout=target, check=True)

    return pack


COMPRESSORS = {
    "gzip": filtered("gzip", "-1"),
    "xz": filtered("xz", "-0", "-T0"),
    "lzma": filtered("xz", "--format=lzma", "-0"),
    "bzip2": filtered("bzip2", "-1"),
    "zstd": filtered("zstd", "-1", "-q"),
    "lz4": filtered("lz4", "-1", "-q"),
    "lz4-legacy": filtered("lz4", "-1", "-l", "-q"),
}


def uimage(compression: str) -> Pack:
    def pack(kernel: Path, packed: Path) -> None:
        content = kernel
        if compression != "none":
            content = packed.with_suffix(".content")
            COMPRESSORS[compression](kernel, content)
        options = ["-A", "arm64", "-O", "linux", "-T", "kernel", "-C", compression, "-n", "Linux"]
        command = ["mkimage", *options, "-a", "0x80000", "-e", "0x80000", "-d", str(content), str(packed)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    return pack


def zboot_of(compression: str) -> Pack:
    def pack(kernel: Path, packed: Path) -> None:
        COMPRESSORS[compression](kernel, packed)
        packed.write_bytes(zboot(packed.read_bytes(), compression.encode()))

    return pack


def unified(efi: str) -> Pack:
    """Return a packer of unified kernel images with a kernel and nothing else."""

    def pack(kernel: Path, packed: Path) -> None:
        options = ("--efi-arch", efi, "--stub", systemd.stub(f"linux{efi}"), "--uname", "6.1")
        systemd.ukify("build", *options, "--linux", kernel, "--output", packed)

    return pack


_ITS = """/dts-v1/;
/ {{
    description = "one kernel";
    images {{
        kernel {{
            data = /incbin/("{data}");
            type = "kernel"; arch = "arm64"; os = "linux"; compression = "{compression}";
            load = <0x80000>; entry = <0x80000>;
            hash {{ algo = "sha256"; }};
        }};
    }};
    configurations {{ default = "one"; one {{ kernel = "kernel"; }}; }};
}};
"""


def fit(compression: str, *options: str) -> Pack:
    def pack(kernel: Path, packed: Path) -> None:
        content = packed.with_suffix(".content")
        COMPRESSORS.get(compression, filtered("cat"))(kernel, content)
        source = packed.with_suffix(".its")
        source.write_text(_ITS.format(data=content, compression=compression))
        subprocess.run(["mkimage", *options, "-f", source, packed], check=True, stdout=subprocess.DEVNULL)

    return pack


def vmlinux(kernel: Path, packed: Path) -> None:
    """Make what the linker would have made: the Image's bytes at a kernel's virtual address."""
    script = packed.with_suffix(".lds")
    script.write_text(
        "ENTRY(_start) SECTIONS { . = 0xffff800008000000; _start = .; .text : { *(.data) } }\n"
    )
    relocatable = packed.with_suffix(".o")
    objcopy = ["aarch64-linux-gnu-objcopy", "-I", "binary", "-O", "elf64-littleaarch64", "-B", "aarch64"]
    subprocess.run([*objcopy, str(kernel), str(relocatable)], check=True)
    linker = ["aarch64-linux-gnu-ld", "-T", str(script), "-o", str(packed), str(relocatable)]
    subprocess.run(linker, check=True)


def relocatable(kernel: Path, packed: Path) -> None:
    """Make a vmlinux as with CONFIG_RELOCATABLE: ET_DYN (elf(5), e_type), like all of Debian's."""
    vmlinux(kernel, packed)
    data = bytearray(packed.read_bytes())
    assert data[16] == 2
    data[16] = 3
    packed.write_bytes(data)


ARM64_CONTAINERS = {
    **COMPRESSORS,
    "zstd-in-pieces": filtered("pzstd", "-1", "-q", "-p", "2"),
    "uImage": uimage("none"),
    "uImage-gzip": uimage("gzip"),
    "zboot-gzip": zboot_of("gzip"),
    "zboot-zstd": zboot_of("zstd"),
    "zboot-xz": zboot_of("xz"),
    "zboot-lzma": zboot_of("lzma"),
    "zboot-lz4": zboot_of("lz4-legacy"),
    "vmlinux": vmlinux,
    "vmlinux-relocatable": relocatable,
    "unified": unified("aa64"),
    "FIT": fit("none"),
    "FIT-outside": fit("none", "-E"),
    "FIT-gzip": fit("gzip"),
    "FIT-lzma-outside": fit("lzma", "-E"),
}
X86_64_CONTAINERS = {**COMPRESSORS, "unified": unified("x64")}

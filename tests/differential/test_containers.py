"""A kernel in a container, packed by its own tool, is loaded as the bare kernel is."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pykexec import formats, kernelconfig, report
from pykexec.errors import ImageError
from pykexec.files import FileData
from pykexec.formats import identify
from pykexec.loader import plan_load
from pykexec.machine.root import Folder
from pykexec.plan import Purpose, Request
from tests.support import systemd
from tests.support.machines import snapshot
from tests.support.zboot import zboot
from tools.lab import ARM64, X86_64, Arch, Kernel
from tools.lab.debian import fetch

Pack = Callable[[Path, Path], None]
"""From a kernel to a file with it in it."""


def filtered(*command: str) -> Pack:
    """A compressor that reads standard input."""

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
    """With a kernel and nothing else."""

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
    """What the linker would have made: the Image's bytes at a kernel's virtual address."""
    script = packed.with_suffix(".lds")
    script.write_text(
        "ENTRY(_start) SECTIONS { . = 0xffff800008000000; _start = .; .text : { *(.data) } }\n"
    )
    relocatable = packed.with_suffix(".o")
    objcopy = ["aarch64-linux-gnu-objcopy", "-I", "binary", "-O", "elf64-littleaarch64", "-B", "aarch64"]
    subprocess.run([*objcopy, str(kernel), str(relocatable)], check=True)
    linker = ["aarch64-linux-gnu-ld", "-T", str(script), "-o", str(packed), str(relocatable)]
    subprocess.run(linker, check=True)


ARM64_CONTAINERS = {
    **COMPRESSORS,
    "uImage": uimage("none"),
    "uImage-gzip": uimage("gzip"),
    "zboot-gzip": zboot_of("gzip"),
    "zboot-zstd": zboot_of("zstd"),
    "zboot-xz": zboot_of("xz"),
    "vmlinux": vmlinux,
    "unified": unified("aa64"),
    "FIT": fit("none"),
    "FIT-outside": fit("none", "-E"),
    "FIT-gzip": fit("gzip"),
    "FIT-lzma-outside": fit("lzma", "-E"),
}
X86_64_CONTAINERS = {**COMPRESSORS, "unified": unified("x64")}


def plan(machine: str, kernel: Path) -> dict[str, object]:
    request = Request(FileData.open(kernel, "kernel"), purpose=Purpose.CRASH, append="quiet")
    loaded = json.loads(report.as_json(plan_load(snapshot(machine), request)))
    return {key: value for key, value in loaded.items() if key not in ("kernel", "kernel_format", "taken")}


@pytest.mark.parametrize("container", ARM64_CONTAINERS)
def test_arm64(container: str, tmp_path: Path) -> None:
    kernel = Kernel.get("6.1", ARM64).image
    ARM64_CONTAINERS[container](kernel, tmp_path / "packed")
    assert plan("qemu-arm64-6.1-1g", tmp_path / "packed") == plan("qemu-arm64-6.1-1g", kernel)


@pytest.mark.parametrize("container", X86_64_CONTAINERS)
def test_x86_64(container: str, tmp_path: Path) -> None:
    kernel = Kernel.get("6.1", X86_64).image
    X86_64_CONTAINERS[container](kernel, tmp_path / "packed")
    assert plan("qemu-6.1-1g", tmp_path / "packed") == plan("qemu-6.1-1g", kernel)


@pytest.mark.parametrize("name", COMPRESSORS)
def test_truncated(name: str, tmp_path: Path) -> None:
    """No compressor's file is taken for whole when it is not."""
    (tmp_path / "kernel").write_bytes(bytes(range(256)) * 20000)
    COMPRESSORS[name](tmp_path / "kernel", tmp_path / "packed")
    data = (tmp_path / "packed").read_bytes()
    with pytest.raises(ImageError, match=r"truncated|damaged"):
        formats.unwrap(FileData.from_bytes("kernel", data[: len(data) * 2 // 3]))


VERSIONS = pytest.mark.parametrize(
    ("arch", "version"), [(X86_64, "5.10"), (X86_64, "6.12"), (ARM64, "6.1"), (ARM64, "7.2")]
)


@VERSIONS
def test_real_kernels_tell_their_release(arch: Arch, version: str) -> None:
    kernel = Kernel.get(version, arch)
    file, _ = formats.unwrap(FileData.open(kernel.image, "kernel"))
    assert kernelconfig.release_of(file.data) == kernel.release


@pytest.mark.parametrize(
    ("arch", "version"), [(X86_64, "5.10"), (X86_64, "6.12"), (ARM64, "6.1"), (ARM64, "6.12")]
)
def test_real_configurations(arch: Arch, version: str) -> None:
    """That beside the image, found by what the image says; Debian builds none into it."""
    kernel = Kernel.get(version, arch)
    assert kernelconfig.from_image("kernel", FileData.open(kernel.image, "kernel").data) is None
    (config,) = (path for folder in kernel.folders for path in folder.glob("boot/config-*"))
    found = kernelconfig.beside_image(Folder(config.parents[1]), kernel.release)
    assert found is not None
    lines = config.read_text().splitlines()
    for name in ("CONFIG_CRASH_DUMP", "CONFIG_KEXEC_FILE", "CONFIG_IKCONFIG", "CONFIG_RELOCATABLE"):
        assert found.enabled(name) == (f"{name}=y" in lines or f"{name}=m" in lines)
        assert (found.get(name) == "n") == (f"# {name} is not set" in lines)


def grub_module() -> Path:
    return fetch("bookworm", "amd64", ["grub-pc-bin"])[0] / "usr/lib/grub/i386-pc/acpi.mod"


def ramdisk(folder: Path) -> Path:
    (folder / "data").write_bytes(b"data")
    command: list[str | Path] = [
        "mkimage",
        "-A",
        "arm64",
        "-O",
        "linux",
        "-T",
        "ramdisk",
        "-d",
        folder / "data",
        folder / "uImage",
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder / "uImage"


def packed_archive(folder: Path) -> Path:
    command = "echo init | cpio --quiet -o -H newc | zstd -q > initrd"
    (folder / "init").touch()
    subprocess.run(command, shell=True, cwd=folder, check=True)
    return folder / "initrd"


def module(folder: Path) -> Path:
    return next(path for each in Kernel.get("6.1", ARM64).folders for path in each.rglob("*.ko"))


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda folder: Kernel.get("6.1", X86_64).image, "an x86 bzImage"),
        (lambda folder: Kernel.get("6.1", ARM64).image, "an arm64 Image"),
        (lambda folder: systemd.stub("linuxaa64"), "an EFI executable for arm64"),
        (lambda folder: grub_module(), "a 32-bit ELF GRUB module for 386"),
        (module, "a 64-bit ELF kernel module for aarch64"),
        (ramdisk, "a uImage with a ramdisk of Linux for arm64"),
        (packed_archive, "zstd data, in it a cpio archive, such as an initramfs"),
        (lambda folder: Path("/bin/sh"), "a 64-bit ELF program or library for x86_64"),
    ],
)
def test_what_real_files_are(make: Callable[[Path], Path], expected: str, tmp_path: Path) -> None:
    assert identify.describe(FileData.open(make(tmp_path), "kernel").data) == expected

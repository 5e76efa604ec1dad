"""A kernel in a container, packed by its own tool, is loaded as the bare kernel is."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pykexec import report
from pykexec.files import FileData
from pykexec.loader import plan_load
from pykexec.plan import Purpose, Request
from tests.support.machines import snapshot
from tests.support.zboot import zboot
from tools.lab import ARM64, X86_64, Kernel

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
}


def plan(machine: str, kernel: Path) -> dict[str, object]:
    request = Request(FileData.open(kernel, "kernel"), purpose=Purpose.CRASH, append="quiet")
    loaded = json.loads(report.as_json(plan_load(snapshot(machine), request)))
    return {key: value for key, value in loaded.items() if not key.startswith("kernel")}


@pytest.mark.parametrize("container", ARM64_CONTAINERS)
def test_arm64(container: str, tmp_path: Path) -> None:
    kernel = Kernel.get("6.1", ARM64).image
    ARM64_CONTAINERS[container](kernel, tmp_path / "packed")
    assert plan("qemu-arm64-6.1-1g", tmp_path / "packed") == plan("qemu-arm64-6.1-1g", kernel)


@pytest.mark.parametrize("compressor", COMPRESSORS)
def test_x86_64(compressor: str, tmp_path: Path) -> None:
    kernel = Kernel.get("6.1", X86_64).image
    COMPRESSORS[compressor](kernel, tmp_path / "packed")
    assert plan("qemu-6.1-1g", tmp_path / "packed") == plan("qemu-6.1-1g", kernel)

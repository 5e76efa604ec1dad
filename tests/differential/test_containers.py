"""A kernel in a container, packed by its own tool, is loaded as the bare kernel is."""

import functools
import json
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from pykexec import formats, kernelconfig, report
from pykexec.booting.kernel import release_of
from pykexec.errors import ImageError
from pykexec.files import FileData
from pykexec.formats import identify
from pykexec.loader import plan_load
from pykexec.plan import Purpose, Request
from tests.support import systemd
from tests.support.containers import ARM64_CONTAINERS, COMPRESSORS, X86_64_CONTAINERS
from tests.support.machines import snapshot
from tools.lab import ARM64, X86_64, Arch, Kernel
from tools.lab.arches.riscv64 import ARCH as RISCV64
from tools.lab.debian import fetch


def plan(machine: str, kernel: Path) -> dict[str, object]:
    request = Request(FileData.open(kernel, "kernel"), purpose=Purpose.CRASH, append="quiet")
    loaded = json.loads(report.as_json(plan_load(snapshot(machine), request)))
    return {key: value for key, value in loaded.items() if key not in ("kernel", "kernel_format", "taken")}


@functools.cache
def of_the_bare_kernel(machine: str, kernel: Path) -> dict[str, object]:
    return plan(machine, kernel)


_REPEATED = ("zboot-lzma", "zboot-xz", "FIT-lzma-outside")
"""By an archive of that compression, and by others in such a container."""


def some(names: Iterable[str], further: Iterable[str]) -> list[Any]:
    """Parameters, some of which are for `tools/test --all`."""
    return [pytest.param(name, marks=pytest.mark.further if name in further else ()) for name in names]


@pytest.mark.parametrize("container", some(ARM64_CONTAINERS, _REPEATED))
def test_arm64(container: str, tmp_path: Path) -> None:
    kernel = Kernel.get("6.1", ARM64).image
    ARM64_CONTAINERS[container](kernel, tmp_path / "packed")
    assert plan("qemu-arm64-6.1-1g", tmp_path / "packed") == of_the_bare_kernel("qemu-arm64-6.1-1g", kernel)


# Unpacking is the same as with arm64's.
@pytest.mark.parametrize("container", some(X86_64_CONTAINERS, COMPRESSORS.keys() - {"gzip", "zstd"}))
def test_x86_64(container: str, tmp_path: Path) -> None:
    kernel = Kernel.get("6.1", X86_64).image
    X86_64_CONTAINERS[container](kernel, tmp_path / "packed")
    assert plan("qemu-6.1-1g", tmp_path / "packed") == of_the_bare_kernel("qemu-6.1-1g", kernel)


@pytest.mark.parametrize("name", COMPRESSORS)
def test_truncated(name: str, tmp_path: Path) -> None:
    """No compressor's file is taken for whole when it is not."""
    (tmp_path / "kernel").write_bytes(bytes(range(256)) * 20000)
    COMPRESSORS[name](tmp_path / "kernel", tmp_path / "packed")
    data = (tmp_path / "packed").read_bytes()
    with pytest.raises(ImageError, match=r"truncated|damaged"):
        formats.unwrap(FileData.from_bytes("kernel", data[: len(data) * 2 // 3]))


VERSIONS = pytest.mark.parametrize(
    ("arch", "version"),
    [(X86_64, "5.10"), (X86_64, "6.12"), (ARM64, "6.1"), (ARM64, "7.2"), (RISCV64, "7.2")],
)


@VERSIONS
def test_real_kernels_tell_their_release(arch: Arch, version: str) -> None:
    kernel = Kernel.get(version, arch)
    file, _ = formats.unwrap(FileData.open(kernel.image, "kernel"))
    assert release_of(file) == kernel.release


@VERSIONS
def test_real_configurations(arch: Arch, version: str) -> None:
    """That beside the image; Debian builds none into it."""
    kernel = Kernel.get(version, arch)
    file, _ = formats.unwrap(FileData.open(kernel.image, "kernel"))
    assert kernelconfig.embedded("kernel", file.data) is None
    # In /boot, and since Linux 7.x beside the modules.
    places = ("boot/config-*", "usr/lib/modules/*/config")
    (config,) = {path for folder in kernel.folders for place in places for path in folder.glob(place)}
    found = kernelconfig.from_file(str(config), FileData.open(config, "configuration").data)
    lines = config.read_text().splitlines()
    for name in ("CONFIG_CRASH_DUMP", "CONFIG_KEXEC_FILE", "CONFIG_IKCONFIG", "CONFIG_RELOCATABLE"):
        assert (found.get(name) == "n") == (f"# {name} is not set" in lines)
        assert (found.get(name) in ("y", "m")) == (f"{name}=y" in lines or f"{name}=m" in lines)


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
        (lambda folder: Kernel.get("7.2", RISCV64).image, "a riscv Image"),
        (lambda folder: systemd.stub("linuxaa64"), "an EFI executable for arm64"),
        (lambda folder: grub_module(), "a 32-bit ELF GRUB module for i386"),
        (module, "a 64-bit ELF kernel module for arm64"),
        (ramdisk, "a uImage with a ramdisk of Linux for arm64"),
        (packed_archive, "zstd data, in it a cpio archive, such as an initramfs"),
        (lambda folder: Path("/bin/sh"), "a 64-bit ELF program or library for x86_64"),
    ],
)
def test_what_real_files_are(make: Callable[[Path], Path], expected: str, tmp_path: Path) -> None:
    assert identify.describe(FileData.open(make(tmp_path), "kernel").data) == expected

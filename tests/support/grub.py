"""GRUB from Debian's packages, as the boot loader to compare with."""

import functools
import io
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tools.lab.debian import fetch

_LIBRARIES = ("libdevmapper1.02.1", "liblzma5", "libpcre2-8-0", "libselinux1", "libudev1")
_MODULES = ("biosdisk", "memdisk", "tar", "boot", "multiboot", "multiboot2", "gzio")


@functools.cache
def _packages() -> Sequence[Path]:
    return fetch("bookworm", "amd64", ["grub-common", "grub-pc-bin", *_LIBRARIES])


def _run(tool: str, *arguments: str | Path) -> int:
    libraries = {path.parent for folder in _packages()[2:] for path in folder.rglob("lib*.so.*")}
    environment = {**os.environ, "LD_LIBRARY_PATH": ":".join(sorted(map(str, libraries)))}
    command = [str(_packages()[0] / "usr/bin" / tool), *map(str, arguments)]
    return subprocess.run(command, env=environment, check=False).returncode


def is_multiboot(kernel: Path, version: int) -> bool:
    """Return whether grub-file takes a file for a Multiboot kernel of that version."""
    return _run("grub-file", f"--is-x86-multiboot{'2' if version == 2 else ''}", kernel) == 0


def is_script(text: str) -> bool:
    """Return whether grub-script-check accepts a script."""
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(f"true\n{text}")  # it takes a script without a command for a mistake
        file.flush()
        return _run("grub-script-check", file.name) == 0


def disk(folder: Path, files: Mapping[str, bytes], script: str) -> Path:
    """Return the image of a disk that boots GRUB and runs the script; the files are in GRUB's root."""
    modules = _packages()[1] / "usr/lib/grub/i386-pc"
    archive, config, core = folder / "memdisk.tar", folder / "early.cfg", folder / "core.img"
    with tarfile.open(archive, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    config.write_text(f"set root=(memdisk)\n{script}\nboot\n")
    arguments = ("-O", "i386-pc", "-d", modules, "-p", "(memdisk)/", "-m", archive, "-c", config, "-o", core)
    assert _run("grub-mkimage", *arguments, *_MODULES) == 0
    image = folder / "disk.img"
    # The master boot record loads what follows it. A disk has whole sectors, and some spare ones.
    content = (modules / "boot.img").read_bytes() + core.read_bytes()
    image.write_bytes(content.ljust(-(-len(content) // (1 << 20)) * (1 << 20) + (1 << 20), b"\0"))
    return image

"""systemd's own boot tools, from Debian's packages: ukify, bootctl, systemd-analyze and the stubs."""

import functools
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tools.lab.debian import fetch

_SUITE = "trixie"
_LIBRARIES = (
    *("libacl1", "libaudit1", "libblkid1", "libc6", "libcap-ng0", "libcap2", "libcrypt1", "libmount1"),
    *("libpam0g", "libpcre2-8-0", "libseccomp2", "libselinux1", "libssl3t64", "libsystemd-shared"),
    *("libzstd1", "zlib1g"),
)


def stub(name: str) -> Path:
    """Return an EFI stub: "linuxx64", "linuxaa64", "addonx64", "addonaa64"."""
    (package,) = fetch(_SUITE, "arm64" if name.endswith("aa64") else "amd64", ["systemd-boot-efi"])
    return package / f"usr/lib/systemd/boot/efi/{name}.efi.stub"


def ukify(*arguments: str | Path) -> str:
    """Run ukify, and return its output."""
    package, library = fetch(_SUITE, "amd64", ["systemd-ukify", "python3-pefile"])
    environment = {**os.environ, "PYTHONPATH": str(library / "usr/lib/python3/dist-packages")}
    command = [sys.executable, package / "usr/bin/ukify", *arguments]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout


def bootctl_list(esp: Path) -> list[dict[str, Any]]:
    """Return the output of ``bootctl list`` for an EFI system partition with these files."""
    mounted = 'mount --bind "$1" /mnt && shift && exec "$@"'  # it wants a mount point
    command = [
        *("unshare", "--mount", "--map-root-user", "sh", "-c", mounted, "sh", esp),
        *("env", "SYSTEMD_RELAX_ESP_CHECKS=1"),
        *_program("systemd-boot-tools", "usr/bin/bootctl"),
        *("--esp-path=/mnt", "--no-pager", "--json=short", "list"),
    ]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    found: list[dict[str, Any]] = json.loads(output)
    return found


def compare_versions(one: str, other: str) -> int:
    """Return -1, 0 or 1, by the exit status of ``systemd-analyze compare-versions``."""
    command = [*_program("systemd", "usr/bin/systemd-analyze"), "compare-versions", "--", one, other]
    return {0: 0, 11: 1, 12: -1}[subprocess.run(command, stdout=subprocess.DEVNULL).returncode]


def exposure(unit: Path) -> tuple[float, str]:
    """Return the exposure level (0 to 10) of a unit's file, and the text of ``systemd-analyze security``."""
    command = [*_program("systemd", "usr/bin/systemd-analyze"), "security", "--offline=yes", "--no-pager"]
    told = subprocess.run([*command, unit], check=True, stdout=subprocess.PIPE, text=True).stdout
    found = re.search(r"Overall exposure level for .*: ([\d.]+) ", told)
    assert found, told
    return float(found[1]), told


@functools.cache
def _program(package: str, path: str) -> Sequence[str | Path]:
    """Return a command that runs a program with the libraries it was linked with."""
    (found,) = fetch(_SUITE, "amd64", [package])
    folders = fetch(_SUITE, "amd64", _LIBRARIES)
    libraries = sorted({file.parent for folder in folders for file in folder.rglob("lib*.so*")})
    (loader,) = (file for folder in folders for file in folder.glob("usr/lib/x86_64-linux-gnu/ld-linux*"))
    return [loader, "--library-path", ":".join(map(str, libraries)), found / path]

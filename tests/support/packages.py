"""Roots in which packages are installed: layers over a system that stays as it is."""

import re
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path

# What is written stays in memory, and what is mounted in a namespace that ends with the script.
_LAYER = """
mount -t tmpfs layer /mnt
cd /mnt
mkdir upper work root
mount -t overlay layer -o lowerdir={lower},upperdir=upper,workdir=work root
mount -t proc proc root/proc
mkdir -p root/exchange root/changes
mount --bind {exchange} root/exchange
mount --bind upper root/changes
cd /
exec chroot /mnt/root env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C HOME=/ sh -e /exchange/script
"""


def run_in_layer(script: str, exchange: Path, *, lower: Path = Path("/")) -> None:
    """Run a script as root in a layer over a system, with /exchange, and with what it changes in /changes.

    Fails where the script does.
    """
    (exchange / "script").write_text(script)
    setup = _LAYER.format(lower=shlex.quote(str(lower)), exchange=shlex.quote(str(exchange)))
    command = ["unshare", "--mount", "--pid", "--fork", "sh", "-e", "-c", setup]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]


def fake_deb(folder: Path, name: str, version: str, programs: Mapping[str, str]) -> Path:
    """Make a package of scripts, by their paths; each prints that text."""
    root = folder / f"{name}-{version}"
    for path, text in programs.items():
        file = root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"#!/bin/sh\necho {shlex.quote(text)}\n")
        file.chmod(0o755)
    fields = {
        "Package": name,
        "Version": version,
        "Architecture": "all",
        "Maintainer": "Nobody <nobody@example.org>",
        "Description": "scripts",
    }
    (root / "DEBIAN").mkdir()
    (root / "DEBIAN/control").write_text("".join(f"{name}: {value}\n" for name, value in fields.items()))
    return _packed(root, folder / f"{name}-{version}.deb")


def later_deb(deb: Path, folder: Path) -> Path:
    """Make the same package of a later version."""
    root = folder / "later"
    subprocess.run(["dpkg-deb", "-R", deb, root], check=True)
    control = root / "DEBIAN/control"
    control.write_text(re.sub(r"(?m)^(Version: .*)$", r"\1+later", control.read_text()))
    return _packed(root, folder / "later.deb")


def _packed(root: Path, deb: Path) -> Path:
    options = ("--root-owner-group", "-Zgzip", "-z1")
    command: list[str | Path] = ["dpkg-deb", *options, "-b", root, deb]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return deb

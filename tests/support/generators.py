"""Make initramfs images with the distributions' own generators, with pykexec's module or hook in them."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from pykexec.integration import install

VERSION = "6.1.0-test"
"""The kernel that an image is made for; the generators need nothing else of it."""
Tree = Mapping[str, str | bytes]
"""The files of a folder by name."""


def dracut(
    folder: Path,
    modules: Mapping[str, Tree],
    with_modules: Sequence[str] = (),
    *,
    static: bool = False,
    **environment: str,
) -> Path:
    """Make an image with these modules of the caller's own, and with these of dracut's."""
    root, base = folder / "dracut-root", folder / "dracut"
    _install(install.Wanted(root, dracut=True, static=static))
    places = base / "modules.d"
    shutil.copytree("/usr/lib/dracut", base, symlinks=True, ignore=shutil.ignore_patterns("modules.d"))
    shutil.copytree(root / "usr/lib/dracut/modules.d", places)
    for name, files in modules.items():
        _write(places / name, files)
    for theirs in Path("/usr/lib/dracut/modules.d").iterdir():
        if theirs.name.lstrip("0123456789") in with_modules:
            (places / theirs.name).symlink_to(theirs)
    configuration = root / "etc/dracut.conf.d"
    added = " ".join((*with_modules, *(name.lstrip("0123456789") for name in modules)))
    _write(configuration, {"50-test.conf": f'add_dracutmodules+=" {added} "\n'})
    options: list[str | Path] = [
        "--no-kernel",
        "--no-hostonly",
        "--compress",
        "gzip -n -1",
        "--force",
        "--conf",
        "/dev/null",
    ]
    folders: list[str | Path] = ["--confdir", configuration, "--tmpdir", folder]
    _run(["dracut", *options, *folders, folder / "image", VERSION], dracutbasedir=str(base), **environment)
    return folder / "image"


def initramfs_tools(folder: Path, files: Tree, *, static: bool = False) -> Path:
    """Make an image with mkinitramfs, with these files in its configuration."""
    root, configuration = folder / "initramfs-tools-root", folder / "initramfs-tools"
    _install(install.Wanted(root, initramfs_tools=True, static=static))
    shutil.copytree("/etc/initramfs-tools", configuration)
    shutil.copytree(root / "etc/initramfs-tools", configuration, dirs_exist_ok=True)
    _write(configuration, files)
    # mkinitramfs looks in /boot for what the kernel can unpack.
    (folder / f"config-{VERSION}").write_text("CONFIG_RD_GZIP=y\n")
    script = f'mount --bind {folder} /boot && mkinitramfs -c gzip -l 1 -d "$0" -o "$1" {VERSION}'
    namespace = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    _run([*namespace, "sh", "-c", script, configuration, folder / "image"], TMPDIR=str(folder))
    return folder / "image"


def _install(wanted: install.Wanted) -> None:
    wanted.root.mkdir(parents=True)
    for step in install.installation(wanted):
        step.do()


def _write(folder: Path, files: Tree) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        # Texts are scripts. dracut strips executable files, which would leave little of a kernel.
        path.chmod(0o755 if isinstance(content, str) else 0o644)


def _run(command: Sequence[str | Path], **environment: str) -> None:
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **environment}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=300, env=environment, cwd="/"
    )
    assert done.returncode == 0, done.stdout + done.stderr

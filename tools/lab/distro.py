"""A whole Debian in a machine: systemd, initramfs-tools, kdump-tools and kexec-tools' scripts, on a disk.

pykexec is installed there in place of /sbin/kexec before anything asks for that; a bare one has none.
The disk is made once, of Debian's packages; each machine works on a copy.
"""

import inspect
import io
import os
import shutil
import tarfile
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pykexec.emulation.machine import SAID
from pykexec.emulation.process import Process

from . import ledger
from .arches.x86_64 import ARCH as X86_64
from .debian import INSTALLER, install_system
from .host import CACHE, PROJECT, LabError, build_once, digest, ensure_commands, run
from .images import copy_project
from .machine import emulator
from .qemu import Result
from .venv import pip_install

_BARE_PACKAGES = (
    "e2fsprogs", "grub2-common", "initramfs-tools", "kmod", "linux-image-cloud-amd64", "perl", "procps",
    "python3", "systemd-sysv", "udev",
)  # fmt: skip
_NEEDED = (
    # What pykexec needs, but for fdt, which Debian does not have; and what its capture image is made of.
    "python3-click", "python3-construct", "python3-pyelftools", "busybox", "makedumpfile",
    # What makedumpfile recommends.
    "kexec-tools",
)  # fmt: skip
_PACKAGES = (*_BARE_PACKAGES, *_NEEDED, "file", "kdump-tools", "strace")
ARCHIVE = "/lab/archive"
"""Where a bare system has the packages that it is going to need, as an archive for apt."""
_SITE = "usr/lib/python3/dist-packages"
_DISK_SIZE = "1400M"
_COMMANDS = {
    **X86_64.qemu.packages,
    **INSTALLER,
    "debugfs": "e2fsprogs",
    "dpkg-scanpackages": "dpkg-dev",
    "mkfs.ext4": "e2fsprogs",
}

_INSTALL_SERVICE = """
[Unit]
Description=Puts pykexec in the place of /sbin/kexec
DefaultDependencies=no
After=local-fs.target
Before=kdump-tools.service basic.target
ConditionPathExists=!/proc/vmcore

[Service]
Type=oneshot
ExecStart=/lab/install
"""
_RUN_SERVICE = """
[Unit]
Description=What the laboratory wants done
After=multi-user.target kdump-tools.service

[Service]
Type=oneshot
ExecStart=/lab/run
"""
# To be told from one that was killed, which a second kernel's disk would not show.
_STOPPED_SERVICE = """
[Unit]
Description=Tells which boot's services were stopped

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
ExecStop=/bin/cp /proc/sys/kernel/random/boot_id /var/lib/stopped
"""
# The jobs come on a second disk, as a tar archive.
_UNPACK = """#!/bin/sh -e
mkdir -p /run/lab/in
tar -xf /dev/vdb -C /run/lab/in
"""
_INSTALL = f"""{_UNPACK}
if [ ! -e /usr/bin/pykexec ]; then
    cp -a /run/lab/in/site/pykexec /{_SITE}/
    install -m 755 /run/lab/in/pykexec /run/lab/in/pykdump /usr/bin
    python3 -m pykexec.integration install --alternatives --program /usr/bin/pykexec
fi
"""
# Results leave through a virtio port, as tar archives.
_RUN = """#!/bin/sh
stage=$(sed -n 's/.*lab=\\([a-z-]*\\).*/\\1/p' /proc/cmdline)
stage=${stage:-first}
export OUT="/run/lab/out/$stage"
mkdir -p "$OUT"
cd "$OUT"
cp /proc/cmdline .
sh -e "/run/lab/in/$stage" > log 2>&1
echo $? > status
# After a failure there may be nothing to go on with.
[ "$(cat status)" = 0 ] || echo systemctl poweroff --force > "/run/lab/in/$stage.then"
tar -C /run/lab/out -cf /dev/virtio-ports/out "$stage"
exec sh "/run/lab/in/$stage.then"
"""
_COMMAND = """#!/usr/bin/python3
from {module} import main
main()
"""
_LOOKS_APART = 0.005
_IDLE = ("getty.target", "e2scrub_reap.service")
"""Units that systemd starts for nobody here."""


@dataclass(frozen=True, slots=True)
class Job:
    """What one boot of the machine is for."""

    script: str
    """Run as root at the end of the boot, in a folder that becomes the results."""
    then: str = "systemctl poweroff --force"
    """What ends the boot, if the script has succeeded."""


@dataclass(frozen=True, slots=True)
class Debian:
    """Which system a machine has."""

    suite: str = "bookworm"
    bare: bool = False
    """Whether it has neither pykexec nor anything else for kdump, but an `ARCHIVE`."""


_WHOLE = Debian()


@dataclass(frozen=True, slots=True)
class System:
    """What a machine is started from."""

    disk: Path
    kernel: Path
    initrd: Path


def system(debian: Debian = _WHOLE) -> System:
    """The system, built if need be, which takes root. Raises LabError."""
    ensure_commands(_COMMANDS)
    made_by = (inspect.getsource(each) for each in (_build, _complete, _make_archive, _configure))
    texts = (_INSTALL_SERVICE, _RUN_SERVICE, _STOPPED_SERVICE, _INSTALL, _RUN)
    key = digest(*made_by, *texts, repr(debian), *_PACKAGES, _requirement("fdt"))
    folder = build_once(CACHE / "images" / f"distro-{key}", lambda target: _build(target, debian))
    return System(folder / "disk.ext4", folder / "vmlinuz", folder / "initrd.img")


def boot(
    jobs: Mapping[str, Job],
    folder: Path,
    *,
    files: Mapping[str, bytes] | None = None,
    after: Path | None = None,
    masked: Sequence[str] = (),
    reservation: str = "crashkernel=256M",
    line: str = "",
    debian: Debian = _WHOLE,
    timeout: float = 1000,
    look: Callable[[], None] | None = None,
) -> Result:
    """Run a machine until it ends, or resets; its disk is then `folder`/disk. Raises LabError.

    The first job is called "first"; the others are those of kernels with lab=NAME on their command lines.
    They find `files` in /run/lab/in. `after` is the folder of another machine, whose disk this one goes on
    with. systemd starts none of the `masked` units. `reservation` is for the first boot's command line, and
    `line` instead of all of that. `look` is called again and again while it runs.
    """
    source = system(debian)
    folder.mkdir(parents=True, exist_ok=True)
    if after is None:
        run(["cp", "--sparse=always", source.disk, folder / "disk"], "copying the disk")
    else:
        (after / "disk").rename(folder / "disk")
    _write_jobs(jobs, files or {}, folder / "jobs.tar")
    started = time.monotonic()
    process = Process(
        _command(source, folder, line or _line(masked, reservation)),
        folder / SAID,
        timeout,
        ended=ledger.machine("booted"),
    )
    while look is not None and process.poll() is None:
        look()
        time.sleep(_LOOKS_APART)
    status = process.wait()
    result = Result(folder, time.monotonic() - started)
    if status != 0:
        said = (folder / SAID).read_text(errors="replace")
        raise LabError(f"the machine did not end by itself: {said}\n{result.tail()}")
    with tarfile.open(folder / "out.tar", ignore_zeros=True) as archive:
        archive.extractall(folder / "out")
    return result


def read_file(folder: Path, path: str, to: Path) -> None:
    """Copy a file out of the disk of a machine that has ended. Raises LabError."""
    # debugfs succeeds whatever happens.
    run(["debugfs", "-R", f"dump {path} {to}", folder / "disk"], f"reading {path} from the disk")
    if not to.exists():
        raise LabError(f"{path} is not on the disk {folder / 'disk'}")


def list_folder(folder: Path, path: str) -> list[str]:
    """The names in a folder of that disk."""
    lines = run(["debugfs", "-R", f"ls -p {path}", folder / "disk"], f"listing {path}").splitlines()
    names = [line.split("/")[5] for line in lines if line.startswith("/")]
    return [name for name in names if name not in (".", "..")]


def _requirement(name: str) -> str:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    requirements: list[str] = project["dependencies"]
    return next(each for each in requirements if each.startswith(name))


def _build(target: Path, debian: Debian) -> None:
    target.mkdir()
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        root, seed = Path(scratch, "root"), Path(scratch, "seed")
        _configure(seed, _UNPACK if debian.bare else _INSTALL)
        # Before the packages: the kernel's makes the initramfs, and no other one has to be made.
        install_system(debian.suite, _BARE_PACKAGES if debian.bare else _PACKAGES, root, seed=seed)
        (kernel,) = (root / "boot").glob("vmlinuz-*")
        release = kernel.name.removeprefix("vmlinuz-")
        if debian.bare:
            _make_archive(root)
        else:
            _complete(root, release)
        shutil.copy(kernel, target / "vmlinuz")
        shutil.copy(root / f"boot/initrd.img-{release}", target / "initrd.img")
        run(["mkfs.ext4", "-q", "-d", root, target / "disk.ext4", _DISK_SIZE], "making the disk")


def _complete(root: Path, release: str) -> None:
    """Install what Debian does not have, and make kdump-tools' initramfs."""
    pip_install([_requirement("fdt")], "--no-compile", "--no-deps", "--target", os.fspath(root / _SITE))
    run(["chroot", root, "/etc/kernel/postinst.d/kdump-tools", release], "building kdump-tools' initramfs")
    # Else kdump-config takes that for outdated, and a minute to make it again.
    shutil.copy(root / "etc/kdump/sysctl.conf", root / f"var/lib/kdump/latest_sysctls-{release}")


def _make_archive(root: Path) -> None:
    """Make the archive for apt, the only one that the system then knows."""
    archive = root / ARCHIVE.lstrip("/")
    (archive / "partial").mkdir(parents=True)
    apt: list[str | Path] = ["chroot", root, "apt-get", "-q"]
    run([*apt, "update"], "updating a system's package lists", retries=2)
    options = ["--yes", "--no-install-recommends", "--download-only", f"-oDir::Cache::archives={ARCHIVE}"]
    run([*apt, *options, "install", *_NEEDED], "fetching packages for a system", retries=2)
    listed = run(["dpkg-scanpackages", "."], "listing an archive's packages", cwd=archive)
    (archive / "Packages").write_text(listed)
    (root / "etc/apt/sources.list").write_text(f"deb [trusted=yes] file:{ARCHIVE} ./\n")


def _configure(root: Path, install: str) -> None:
    units = "etc/systemd/system"
    files = {
        "etc/fstab": "/dev/vda / ext4 defaults 0 1\n",
        "etc/hostname": "lab\n",
        "etc/initramfs-tools/modules": "virtio_pci\nvirtio_blk\next4\n",
        # Nothing of the machine that builds this may get in.
        "etc/initramfs-tools/conf.d/lab": "MODULES=list\nCOMPRESS=gzip\n",
        # dmesg has it, and each of its lines costs the journal 10 ms of an emulated processor.
        "etc/systemd/journald.conf.d/lab.conf": "[Journal]\nReadKMsg=no\n",
        f"{units}/lab-install.service": _INSTALL_SERVICE,
        f"{units}/lab-run.service": _RUN_SERVICE,
        f"{units}/lab-stopped.service": _STOPPED_SERVICE,
        "lab/install": install,
        "lab/run": _RUN,
    }
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    for name in ("install", "run"):
        (root / "lab" / name).chmod(0o755)
    wants = {"lab-install": "basic", "lab-run": "multi-user", "lab-stopped": "multi-user"}
    for unit, wanting in wants.items():
        link = root / units / f"{wanting}.target.wants/{unit}.service"
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(f"/{units}/{unit}.service")


def _write_jobs(jobs: Mapping[str, Job], files: Mapping[str, bytes], target: Path) -> None:
    modules = {"pykexec": "pykexec.cli", "pykdump": "pykexec.kdump.cli"}
    texts = {name: _COMMAND.format(module=module) for name, module in modules.items()}
    for name, job in jobs.items():
        texts |= {name: job.script, f"{name}.then": job.then}
    contents = {name: text.encode() for name, text in texts.items()} | dict(files)
    with tempfile.TemporaryDirectory() as folder, tarfile.open(target, "w") as archive:
        # As a package's installation does: what systemd confines could not keep its byte code.
        copy_project(X86_64, Path(folder, "pykexec"))
        for name, data in contents.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
        archive.add(Path(folder, "pykexec"), "site/pykexec")
    # A disk has whole sectors.
    os.truncate(target, -(-target.stat().st_size // 512) * 512)


def _line(masked: Iterable[str], reservation: str) -> str:
    line = f"root=/dev/vda rw {X86_64.line} audit=0 apparmor=0 {reservation}".rstrip()
    return " ".join([line, *(f"systemd.mask={unit}" for unit in (*_IDLE, *masked))])


def _command(source: System, folder: Path, line: str) -> Sequence[str]:
    return [
        *emulator(X86_64),
        *X86_64.emulation.machine,
        "-accel", X86_64.emulation.software(),
        "-m", "1G",
        "-smp", "2",
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
        "-display", "none",
        "-serial", f"file:{folder / 'console.log'}",
        "-device", "virtio-serial-pci",
        "-chardev", f"file,id=out,path={folder / 'out.tar'}",
        "-device", "virtserialport,chardev=out,name=out",
        "-drive", f"file={folder / 'disk'},if=virtio,format=raw,cache=unsafe",
        "-drive", f"file={folder / 'jobs.tar'},if=virtio,format=raw,readonly=on",
        "-kernel", os.fspath(source.kernel),
        "-initrd", os.fspath(source.initrd),
        "-append", line,
    ]  # fmt: skip

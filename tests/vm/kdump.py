"""Machines with disks that a crash leaves a dump on, and what their next boot finds."""

import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tools.lab import PANIC, X86_64, Arch, Guest, Kernel, Machine, Result, run
from tools.lab.debian import fetch

SECTOR = 512

TEST = "pykdump test --yes"
"""Crashes the machine, and leaves a note that the next boot proves the service by."""

# The keys that openEuler sets in the files it ships (kdump.conf, kdump.sysconfig.x86_64 and .aarch64).
OPENEULER_CONF = """
path /var/crash
keep_old_dumps -1
core_collector makedumpfile -l --message-level 7 -d 31
"""
_APPEND = {
    "x86_64": "mce=off numa=off acpi_no_memhotplug transparent_hugepage=never nokaslr hest_disable",
    "arm64": "swiotlb=noforce",
}
OPENEULER_SYSCONFIG = """
# Kernel Version string for the -kdump kernel, such as 2.6.13-1544.FC5kdump
KDUMP_KERNELVER=""
KDUMP_COMMANDLINE=""
KDUMP_COMMANDLINE_REMOVE="hugepages hugepagesz slub_debug quiet log_buf_len"
KDUMP_COMMANDLINE_APPEND="irqpoll nr_cpus=1 reset_devices cgroup_disable=memory panic=10 {append}"
KEXEC_ARGS="{arguments}"
#KDUMP_BOOTDIR="/boot"
KDUMP_IMG="vmlinuz"
KDUMP_IMG_EXT=""
"""

_DISKS = 3
_MODULES = ("virtio_blk", "ext4")
_HELPERS = ("crc32c_generic",)
"""Where it is a module, ext4 asks for it; but the kernel finds no /sbin/modprobe in the guests' systems."""
_MOUNT = """
set -e
modprobe virtio_blk
modprobe ext4
mkdir -p /var
mount -t ext4 /dev/vda /var
"""


@dataclass(frozen=True, slots=True)
class Kdump:
    """A machine with /var on a disk, and kdump configured."""

    folder: Path
    kernel: Kernel
    conf: str = OPENEULER_CONF
    """/etc/kdump.conf."""
    configuration: Mapping[str, str] = field(default_factory=dict)
    """Other files instead of that and /etc/sysconfig/kdump, by path."""
    disks: tuple[Path, ...] = ()
    """Besides the one with /var."""
    modules: tuple[str, ...] = ()
    """Besides what /var takes."""
    files: Mapping[str, bytes] = field(default_factory=dict)
    packages: tuple[str, ...] = ()
    """Debian packages whose programs and libraries are there, too."""
    devices: tuple[str, ...] = ()
    """Further QEMU options."""

    @property
    def arch(self) -> Arch:
        return self.kernel.arch

    @property
    def disk(self) -> Path:
        return self.folder / "var.ext4"

    def crash(
        self,
        prepare: str = "",
        *,
        armed: str = "",
        command: str = f"sync; {PANIC}",
        name: str = "crash",
    ) -> Result:
        """Arm, crash, and let the capture system run to its end. The job `armed` runs before the crash."""
        self.folder.mkdir(exist_ok=True)
        if not self.disk.exists():
            make_disk(self.disk, "mkfs.ext4", "300M")
        job = f"{_MOUNT}\nmkdir -p /var/crash /var/lib\n{prepare}\npykdump start 2>&1\n{armed}"
        result = self._run(name, job, then=command)
        result.stage("first")
        return result

    def dump(self) -> Path:
        """A copy of the folder of the only dump in /var/crash, on this machine."""
        (folder,) = copied(self.disk, "/crash", self.folder / "copy").glob("127.0.0.1-*")
        return folder

    def next_boot(self, job: str, name: str = "next") -> Result:
        """Run a job in the machine after that, with /var mounted."""
        return self._run(name, f"{_MOUNT}\n{job}")

    def _run(self, name: str, job: str, then: str | None = None) -> Result:
        fedora = {"/etc/kdump.conf": self.conf, "/etc/sysconfig/kdump": openeuler_sysconfig(self.arch)}
        helpers = [each for each in _HELPERS if self.kernel.has_module(each)]
        programs, libraries = _unpacked(self.arch, self.packages)
        # The initramfs makes what it is given no programs.
        load = "".join(f"modprobe {each}\n" for each in helpers)
        job = f"chmod 755 /init {' '.join(programs)}\n{load}{job}"
        files = {
            **programs,
            **libraries,
            **self.kernel.module_folder([self.arch.emulation.virtio[1], *_MODULES, *helpers, *self.modules]),
            **{path: text.encode() for path, text in (self.configuration or fedora).items()},
            **self.files,
        }
        machine = Machine(self.arch, disks=tuple(self._all_disks()), extra=self.devices)
        guest = Guest(self.kernel, job, then=then, files=files)
        return run(machine, guest, self.folder / name, timeout=800, saved=True)

    def _all_disks(self) -> Iterator[Path]:
        """As many for all, so that one saved machine does for all."""
        disks = (self.disk, *self.disks)
        yield from disks
        for number in range(len(disks), _DISKS):
            disk = self.folder / f"none-{number}"
            disk.write_bytes(bytes(SECTOR))
            yield disk


def _unpacked(arch: Arch, packages: Iterable[str]) -> tuple[Mapping[str, bytes], Mapping[str, bytes]]:
    """Programs and libraries, by path."""
    programs: dict[str, bytes] = {}
    libraries: dict[str, bytes] = {}
    for package in fetch("bookworm", arch.debian, packages):
        for path in (each for each in package.rglob("*") if each.is_file()):
            name = f"/{path.relative_to(package)}"
            if path.parent.name in ("bin", "sbin") or "libexec" in path.parts:
                programs[name] = path.read_bytes()
            elif ".so." in path.name:
                libraries[name] = path.read_bytes()
    return programs, libraries


def openeuler_sysconfig(arch: Arch) -> str:
    # Debian's kernels of the others have no kexec_file_load.
    arguments = "-s" if arch is X86_64 else ""
    append = _APPEND.get(arch.name, arch.capture)
    return OPENEULER_SYSCONFIG.format(append=append, arguments=arguments)


def make_disk(path: Path, mkfs: str, size: str, *options: str) -> Path:
    """A file with a file system on it."""
    subprocess.run(["truncate", "-s", size, path], check=True)
    subprocess.run([mkfs, "-q", *options, path], check=True)
    return path


def copied(disk: Path, folder: str, to: Path) -> Path:
    """A folder of an ext4 disk, as a folder of this machine. With ?offset=N behind the disk's name it
    begins at that byte."""
    to.mkdir()
    subprocess.run(["debugfs", "-R", f"rdump {folder} {to}", disk], check=True, capture_output=True)
    return to / folder.rpartition("/")[2]


def partitioned(path: Path, partition: int, sectors: int) -> int:
    """A disk with an MBR and one partition, as number 1 to 4; the offset of that in bytes.

    https://en.wikipedia.org/wiki/Master_boot_record: the table is at 446, the signature at 510.
    """
    first = 2048
    table = bytearray(512)
    entry = b"\0\0\0\0\x83\0\0\0" + first.to_bytes(4, "little") + sectors.to_bytes(4, "little")
    at = 446 + 16 * (partition - 1)
    table[at : at + 16] = entry
    table[510:] = b"\x55\xaa"
    with path.open("wb") as file:
        file.write(table)
        file.truncate((first + sectors) * SECTOR)
    return first * SECTOR


def script(text: str) -> bytes:
    return f"#!/bin/sh\n{text}\n".encode()

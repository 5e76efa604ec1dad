"""The system that a rehearsal begins with: the capture image's own programs, and another first process.

There is no Python in it: pykexec's static helper tells the machine's facts, and loads the plan that is made
of them outside.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pykexec.errors import FileError
from pykexec.files import FileData
from pykexec.initramfs import Addition, assemble, newc
from pykexec.integration import files
from pykexec.kdump.capture.modules import Index

INIT = Path(__file__).with_name("init")
RUNS = "/rehearsal/init"
"""What is to run first (the kernel's rdinit=)."""
_PORTS = "virtio_console"
# File systems ask for these modules by names that may be built into the kernel (request_module).
_OPTIONAL = ("crc32c", "libcrc32c", "crypto-crc32c")


@dataclass(frozen=True, slots=True)
class Job:
    """What the first system does."""

    name: str
    """A function of its first process."""
    settings: Mapping[str, str]
    modules: tuple[str, ...] = ()
    """What it takes besides the ports to the host."""

    def archive(self, arch: str, bus: str, index: Index) -> bytes:
        """Return what makes a capture image the system that does this.

        `bus` is the module for the bus of QEMU's own devices. Raises PykexecError.
        """
        modules = index.closure((bus, _PORTS, *self.modules), optional=_OPTIONAL)
        values = {"JOB": self.name, **self.settings}
        settings = "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())
        contents = {
            "init": INIT.read_bytes(),
            "kexec": _helper(arch),
            "settings": settings.encode(),
            "order": "".join(f"{module.name}.ko\n" for module in modules).encode(),
            **{f"modules/{module.name}.ko": module.read() for module in modules},
        }
        return newc(_additions(contents), alone=False)


def crash(marker: str) -> Job:
    """Return the job of having a capture kernel loaded, and crashing; the kernel's log has `marker`."""
    return Job("crash", {"MARKER": marker})


def bring(filesystem: str, folder: str, options: str, modules: tuple[str, ...]) -> Job:
    """Return the job of bringing out the folder of the dumps from the only disk, which takes the modules."""
    settings = {"FILESYSTEM": filesystem, "FOLDER": folder, "OPTIONS": options}
    return Job("bring", settings, (*modules, "ext4" if filesystem in ("ext2", "ext3") else filesystem))


def image(capture: FileData, job: bytes) -> memoryview:
    """Return the initramfs of a first system."""
    return assemble([capture.data, memoryview(job)])


def _additions(contents: Mapping[str, bytes]) -> Iterator[Addition]:
    for name, data in contents.items():
        mode = 0o755 if name in ("init", "kexec") else 0o644
        yield Addition(f"rehearsal/{name}", memoryview(data), mode)


def _helper(arch: str) -> bytes:
    try:
        return files.helper(arch).read_bytes()
    except OSError as error:
        raise FileError(f"there is no static kexec for {arch}: {error.strerror}") from error

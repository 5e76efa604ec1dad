"""Debian's C kexec, run on a tree of facts instead of this machine."""

import os
import re
import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pykexec.plan import LoadPlan


@dataclass(frozen=True)
class Loaded:
    """What kexec_load(2) was given, by either program."""

    entry: int
    flags: int
    segments: tuple[tuple[int, int, bytes], ...]
    """(physical address, bytes in memory, contents)"""

    @classmethod
    def of(cls, plan: LoadPlan) -> "Loaded":
        segments = tuple((s.address, s.memsz, bytes(s.data)) for s in plan.segments)
        return cls(plan.entry, plan.flags, segments)


@dataclass(frozen=True)
class CKexec:
    """The program, and the library that stands between it and this machine."""

    program: Path
    libraries: Sequence[Path]
    shim: Path

    def load(self, root: Path, arguments: Sequence[str]) -> Loaded:
        """Run it with these arguments; it must succeed."""
        out = root.parent / f"{root.name}.loaded"
        out.unlink(missing_ok=True)
        _complete(root)
        environment = {
            "PATH": os.defpath,
            "LD_PRELOAD": str(self.shim),
            "LD_LIBRARY_PATH": ":".join(map(str, self.libraries)),
            "KEXEC_ROOT": str(root),
            "KEXEC_OUT": str(out),
            "KEXEC_CPUS": str(len([*(root / "sys/devices/system/cpu").glob("cpu[0-9]*")])),
        }
        command = [str(self.program), "-c", *arguments]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return _parse(out.read_bytes())


def _complete(root: Path) -> None:
    """Files the C tool looks at and pykexec does not need."""
    (root / "proc/mounts").write_text("sysfs /sys sysfs rw 0 0\n")
    stext = re.search(rb"SYMBOL\(_stext\)=([0-9a-f]+)", (root / "proc/kcore").read_bytes())
    assert stext is not None
    (root / "proc/kallsyms").write_text(f"{stext[1].decode()} T _stext\n")


def _parse(data: bytes) -> Loaded:
    entry, count, flags = struct.unpack_from("<3Q", data)
    position = 24
    segments = []
    for _ in range(count):
        address, memsz, size = struct.unpack_from("<3Q", data, position)
        position += 24
        segments.append((address, memsz, data[position : position + size]))
        position += size
    return Loaded(entry, flags, tuple(segments))

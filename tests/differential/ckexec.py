"""Debian's C kexec, run on a tree of facts instead of this machine."""

import re
import struct
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pykexec import cli
from pykexec.loader import plan_load
from pykexec.optionparser import parse
from pykexec.plan import SEED_SIZE, LoadPlan, Purpose
from tests.support.machines import unpacked
from tools.lab import ARM64, X86_64
from tools.lab.debian import fetch


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
class Files:
    """What both programs load."""

    kernel: bytes
    initrd: bytes


@dataclass(frozen=True)
class CKexec:
    """The program, and the library that stands between it and this machine."""

    program: Path
    libraries: Sequence[Path]
    shim: Path

    def command(self, environment: Mapping[str, str], arguments: Sequence[str]) -> list[str]:
        """How to run it with these variables."""
        variables = [f"{name}={value}" for name, value in environment.items()]
        return ["env", "-i", *variables, str(self.program), *arguments]

    def load(self, root: Path, arguments: Sequence[str], *, symbols: str | None = None) -> Loaded:
        """Run it with these arguments; it must succeed. `symbols`: what /proc/kallsyms has, else _stext."""
        out = root.parent / f"{root.name}.loaded"
        out.unlink(missing_ok=True)
        _complete(root, symbols)
        environment = {
            "LD_PRELOAD": str(self.shim),
            "LD_LIBRARY_PATH": ":".join(map(str, self.libraries)),
            "KEXEC_ROOT": str(root),
            "KEXEC_OUT": str(out),
            "KEXEC_CPUS": str(len([*(root / "sys/devices/system/cpu").glob("cpu[0-9]*")])),
        }
        command = self.command(environment, ["-c", *arguments])
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return _parse(out.read_bytes())


@dataclass(frozen=True)
class NewestCKexec(CKexec):
    """The program with a C library of its own."""

    loader: Path
    emulator: Sequence[str] = ()
    """QEMU's user-mode emulation, for a program of another architecture."""

    def command(self, environment: Mapping[str, str], arguments: Sequence[str]) -> list[str]:
        # The libraries are for the program alone: what runs it has this machine's C library.
        variables = [f"{name}={value}" for name, value in environment.items() if not name.startswith("LD_")]
        run = ["env", "-i", *variables]
        if self.emulator:
            run = [*self.emulator, *(part for each in variables for part in ("-E", each))]
        names = {"--library-path": "LD_LIBRARY_PATH", "--preload": "LD_PRELOAD"}
        libraries = [part for option, name in names.items() for part in (option, environment[name])]
        return [*run, str(self.loader), *libraries, str(self.program), *arguments]


def both_loads(
    c_kexec: CKexec, name: str, purpose: Purpose, files: Files, folder: Path, options: Sequence[str]
) -> tuple[Loaded, Loaded]:
    """Return what the C tool loads on the machine of that snapshot, and what pykexec does."""
    root = folder / f"{name}-{purpose.value}"
    machine = unpacked(name, root)
    kernel, initrd = folder / "kernel", folder / "initrd"
    kernel.write_bytes(files.kernel)
    initrd.write_bytes(files.initrd)
    action = "-p" if purpose is Purpose.CRASH else "-l"
    arguments = [*options, action, str(kernel), f"--initrd={initrd}", "--append=quiet"]
    request = replace(cli.request_of(parse(arguments), purpose, machine), seed=bytes(SEED_SIZE))
    ours = Loaded.of(plan_load(machine, request))
    return c_kexec.load(root, arguments), ours


def compile_shim(debian: str, prefix: str, target: Path) -> None:
    """Make the library to preload into a program of the architecture that Debian and its tools call so."""
    cross = fetch("bookworm", X86_64.debian, [f"libc6-dev-{debian}-cross", f"linux-libc-dev-{debian}-cross"])
    headers = [f"-isystem{folder}/usr/{prefix}/include" for folder in cross]
    compiler = [f"{prefix}-gcc", "-shared", "-fPIC", "-nostdlib", *headers]
    subprocess.run([*compiler, "-o", target, Path(__file__).with_name("shim.c")], check=True)


def compile_for_arm64(source: Path, target: Path) -> None:
    """Make a library to preload into an arm64 program."""
    headers = [
        f"-isystem{folder / 'usr/include' / extra}"
        for folder in fetch("bookworm", ARM64.debian, ["libc6-dev", "linux-libc-dev"])
        for extra in ("", "aarch64-linux-gnu")
    ]
    compiler = ["aarch64-linux-gnu-gcc", "-shared", "-fPIC", "-nostdlib", *headers]
    subprocess.run([*compiler, "-o", str(target), str(source)], check=True)


def arm64_emulator() -> Path:
    """Runs arm64 programs on this machine."""
    (package,) = fetch("bookworm", X86_64.debian, ["qemu-user-static"])
    return package / "usr/bin/qemu-aarch64-static"


def _complete(root: Path, symbols: str | None) -> None:
    """Files the C tool looks at and pykexec does not need."""
    (root / "proc/mounts").write_text("sysfs /sys sysfs rw 0 0\n")
    kcore = root / "proc/kcore"
    if not kcore.exists() and symbols is None:
        return  # where kernels have none, snapshots have those symbols
    stext = re.search(rb"SYMBOL\(_stext\)=([0-9a-f]+)", kcore.read_bytes())
    assert stext is not None
    (root / "proc/kallsyms").write_text(symbols or f"{stext[1].decode()} T _stext\n")


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

"""What the scripts that build freestanding machine code have in common: compilers, and what is shipped."""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

FLAGS = (
    "-std=gnu11",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-ffreestanding",  # there is no C library
    "-nostdlib",
    "-fno-builtin",
    "-fno-tree-loop-distribute-patterns",  # no loop may become a call of memset or memcpy
    "-fno-stack-protector",  # it would need thread-local storage
    "-fno-asynchronous-unwind-tables",
    "-fno-common",
    "-fno-ident",
    "-mgeneral-regs-only",  # the state of the vector units may be unknown, and it is smaller
    "-ffile-prefix-map=.=",  # no path of the building machine
    "-Wl,--build-id=none",
    "-Wl,-z,noexecstack",
    "-Wl,--orphan-handling=warn",
    "-Wl,--fatal-warnings",
)

_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C", "SOURCE_DATE_EPOCH": "0"}


@dataclass(frozen=True)
class Target:
    """An architecture, and Debian's compiler for it."""

    name: str
    machine: str
    """As `uname -m` says it."""
    prefix: str
    package: str
    flags: Sequence[str]


X86_64 = Target(
    "x86_64", "x86_64", "x86_64-linux-gnu-", "gcc-x86-64-linux-gnu", ("-m64", "-fcf-protection=none")
)
ARM64 = Target(
    "arm64",
    "aarch64",
    "aarch64-linux-gnu-",
    "gcc-aarch64-linux-gnu",
    ("-march=armv8-a", "-mbranch-protection=none", "-mno-outline-atomics"),
)
TARGETS = (X86_64, ARM64)


class BuildError(Exception):
    """A tool failed, or what was built is not as it must be."""


def find_tool(target: Target, tool: str) -> str:
    """The cross tool, or the native one where that is the same. Raises BuildError without either."""
    for name in (target.prefix + tool, tool if target.machine == os.uname().machine else ""):
        if name and shutil.which(name):
            return name
    raise BuildError(f"{target.prefix}{tool} is missing: apt-get install {target.package}")


def run(command: Sequence[str], folder: Path) -> str:
    """All that it prints, run in that folder. Raises BuildError when it fails."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=_ENVIRONMENT)
    if done.returncode:
        raise BuildError(f"{command[0]} failed:\n{done.stderr}")
    return done.stdout + done.stderr


def require_no_relocations(target: Target, program: Path) -> None:
    """Nobody would apply them. Raises BuildError when some are left."""
    if "no relocations" not in run([find_tool(target, "readelf"), "-r", str(program)], program.parent):
        raise BuildError(f"{target.name}: relocations are left; see readelf -r")


def main(description: str, prebuilt: Path, build: Callable[[Target, Path], bytes], mode: int) -> int:
    """Build for all targets, and write what is shipped or (--check) compare with it; an exit status."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="compare with what is shipped, write nothing")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        try:
            built = {f"{target.name}.elf": build(target, Path(folder)) for target in TARGETS}
        except BuildError as error:
            print(f"{parser.prog}: {error}", file=sys.stderr)
            return 1
    built["SHA256SUMS"] = "".join(
        f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(built.items())
    ).encode()
    if arguments.check:
        return _compare(parser.prog, prebuilt, built)
    _write(prebuilt, built, mode)
    return 0


def _compare(prog: str, prebuilt: Path, built: Mapping[str, bytes]) -> int:
    different = [
        name
        for name, data in built.items()
        if not (prebuilt / name).is_file() or (prebuilt / name).read_bytes() != data
    ]
    for name in different:
        print(f"{prog}: {name} is not what the sources give; run tools/{prog}", file=sys.stderr)
    return 1 if different else 0


def _write(prebuilt: Path, built: Mapping[str, bytes], mode: int) -> None:
    prebuilt.mkdir(exist_ok=True)
    for name, data in built.items():
        (prebuilt / name).write_bytes(data)
        (prebuilt / name).chmod(mode if name.endswith(".elf") else 0o644)
        print(f"{name}: {len(data)} bytes")

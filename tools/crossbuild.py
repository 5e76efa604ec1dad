"""What the scripts that build freestanding machine code have in common: compilers, and what is shipped."""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
PURGATORY = PROJECT / "pykexec/purgatory"
"""All sources: a folder for each architecture, and folders that they share."""
HELPER_SOURCE = "exec.S"
"""The only file in an architecture's folder that belongs to the helper, not to purgatory."""

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
    "-ffile-prefix-map=.=",  # no path of the building machine
    "-Wl,--build-id=none",
    "-Wl,-z,noexecstack",
    "-Wl,--orphan-handling=warn",
    "-Wl,--fatal-warnings",
)

PURGATORY_FLAGS = (
    "-O2",
    "-fpie",  # it runs wherever it was placed
    "-ffunction-sections",
    "-Wl,--gc-sections",  # what of common/ an architecture does not call
    "-fvisibility=hidden",  # so that no symbol goes through a global offset table
    "-Icommon",
    "-static-pie",
    "-Wl,--no-dynamic-linker",
    "-Wl,-z,norelro",
    "-Wl,-z,max-page-size=4096",
    "-Wl,--no-warn-rwx-segments",
    "-Wl,-T,common/purgatory.lds",
)
"""For purgatory, besides; run in `PURGATORY`. The tests build parts of it so for further CPUs."""

_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C", "SOURCE_DATE_EPOCH": "0"}


@dataclass(frozen=True)
class Target:
    """An architecture as its folder's build.toml describes it."""

    name: str
    """The folder's."""
    prefix: str
    """Of the cross tools' names."""
    package: str
    """Debian's package that has them."""
    suite: str
    """The Debian release whose tools give what is shipped, byte for byte."""
    flags: Sequence[str]
    """For the compiler, besides `FLAGS`."""
    purgatory_flags: Sequence[str] = ()
    """Further ones for purgatory."""
    forbidden: Mapping[str, str] = field(default_factory=dict)
    """Patterns that may not occur in an instruction of purgatory, and what they stand for."""
    compiler: str = "gcc"
    """The compiler's name behind the prefix."""
    unpacked: Sequence[str] = ()
    """All packages of the suite that the tools take, where they cannot be installed on the release that the
    laboratory runs on: then they are unpacked into the cache."""
    vector_registers: str | None = None
    """A pattern of vector registers, where there are some."""
    vector_users: Collection[str] = ()
    """The only functions that may use them: they are called when that is possible."""
    relocated_at_entry: str = ""
    """The only type of relocation that purgatory's entry code carries out; "": it carries out none."""


class BuildError(Exception):
    """A tool failed, or what was built is not as it must be."""


def targets() -> list[Target]:
    """Return all architectures that have a build.toml. Raises BuildError where one cannot be used."""
    return [_target(path) for path in sorted(PURGATORY.glob("*/build.toml"))]


def _target(path: Path) -> Target:
    try:
        return Target(path.parent.name, **tomllib.loads(path.read_text()))
    except TypeError as error:
        raise BuildError(f"{path}: an entry is missing, or not known: {error}") from error


def find_tool(target: Target, tool: str) -> str:
    """The cross tool, or the native one where that is the same. Raises BuildError without either."""
    is_native = target.prefix.partition("-")[0] == os.uname().machine
    name = target.prefix + (target.compiler if tool == "gcc" else tool)
    for each in (name, tool if is_native else ""):
        if each and shutil.which(each):
            return each
    if target.unpacked:
        return _unpacked(target, name)
    raise BuildError(f"{name} is missing: apt-get install {target.package} (of Debian {target.suite})")


def _unpacked(target: Target, name: str) -> str:
    # Not at the head: who has the tools needs no laboratory. The scripts see only their own folder.
    sys.path.append(str(PROJECT))
    from tools.lab import debian, host

    try:
        return str(debian.programs(target.suite, debian.architecture(), target.unpacked) / name)
    except host.LabError as error:
        raise BuildError(str(error)) from error


def run(command: Sequence[str], folder: Path) -> str:
    """All that it prints, run in that folder. Raises BuildError when it fails."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=_ENVIRONMENT)
    if done.returncode:
        raise BuildError(f"{command[0]} failed:\n{done.stderr}")
    return done.stdout + done.stderr


def require_no_relocations(target: Target, program: Path, but: str = "") -> None:
    """Nobody would apply them, except those of type `but`. Raises BuildError when others are left."""
    told = run([find_tool(target, "readelf"), "-rW", str(program)], program.parent)
    types = set(re.findall(r"\bR_[A-Z0-9_]+", told))
    if "no relocations" not in told and types != {but}:
        raise BuildError(f"{target.name}: relocations are left: {' '.join(sorted(types))}; see readelf -r")


def main(description: str, prebuilt: Path, build: Callable[[Target, Path], bytes], mode: int) -> int:
    """Build for all targets, and write what is shipped or (--check) compare with it; an exit status."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="compare with what is shipped, write nothing")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        try:
            built = {f"{target.name}.elf": build(target, Path(folder)) for target in targets()}
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

"""Debian packages of any suite and architecture, unpacked into the cache without touching the system's apt.

What is in the cache is used as it is, for good: only what is missing asks the network.
"""

import functools
import os
import platform
import re
import shlex
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from .host import CACHE, LabError, build_once, digest, locked, run

_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_STORE = CACHE / "debian"
INSTALLER = {"mmdebstrap": "mmdebstrap"}
"""What `install_system` runs, by its Debian package: a third of debootstrap's time."""


def fetch(suite: str, architecture: str, packages: Iterable[str]) -> list[Path]:
    """The folders into which these packages (of a suite such as "bookworm") are unpacked; no dependencies.

    Raises LabError when a package cannot be had.
    """
    return [_unpack(_download(suite, architecture, package)) for package in packages]


def fetch_file(suite: str, architecture: str, package: str, name: str) -> Path:
    """One file of a package, for packages that are too large to be unpacked whole. Raises LabError."""
    deb = _download(suite, architecture, package)

    def unpack(target: Path) -> None:
        command = 'dpkg-deb --fsys-tarfile "$1" | tar -xOf - "./$2" > "$3"'
        run(["sh", "-c", command, "sh", deb, name, target], f"unpacking {name} of {deb.name}")

    return build_once(deb.with_name(f"{package}.files") / name, unpack)


def fetch_kernel(suite: str, architecture: str, metapackage: str) -> list[Path]:
    """The folders of the kernel to which a suite's metapackage points: the newest at the first call."""
    found: list[Path] = []
    wanted = [metapackage]
    while wanted:
        deb = _download(suite, architecture, wanted.pop())
        found.append(_unpack(deb))
        # Since Linux 7.x the image package is split: linux-binary-*, linux-modules-* and linux-base-*.
        depends = run(["dpkg-deb", "-f", deb, "Depends"], "reading a package's dependencies")
        wanted += re.findall(r"\blinux-(?:image|binary|modules|base)-\d[^\s,]*", depends)
    return found


def _download(suite: str, architecture: str, package: str) -> Path:
    """The package's file; its name in the cache has no version, so that what was fetched once is kept."""

    def download(target: Path) -> None:
        apt = _apt(suite, architecture)
        folder = target.parent
        run([*apt, "download", package], f"fetching {package} of {suite}", cwd=folder, retries=2)
        (found,) = folder.glob("*.deb")
        found.rename(target)

    return build_once(_STORE / f"{suite}-{architecture}" / f"{package}.deb", download)


def _unpack(deb: Path) -> Path:
    def unpack(target: Path) -> None:
        run(["dpkg-deb", "-x", deb, target], f"unpacking {deb.name}")

    return build_once(deb.with_name(deb.name.removesuffix(".deb")), unpack)


_FOR_PYTHON = (
    *("libc6", "libbz2-1.0", "libexpat1", "libffi8", "liblzma5", "libssl3t64", "libsqlite3-0", "libzstd1"),
    *("zlib1g", "libuuid1"),
)
"""What the modules of Python's own library are linked to."""
_WRAPPER = """#!/bin/sh
exec {linker} --argv0 "$0" --library-path {libraries} {program} "$@"
"""


def interpreter(suite: str, architecture: str) -> Path:
    """A suite's Python (of trixie and later) as a program for this system: with its own C library.

    It takes packages from ../lib/python3/dist-packages, seen from its folder. Raises LabError.
    """
    (default,) = fetch(suite, architecture, ["python3-minimal"])
    name = (default / "usr/bin/python3").readlink().name

    def build(target: Path) -> None:
        packages = (f"{name}-minimal", f"lib{name}-minimal", f"lib{name}-stdlib")
        found = fetch(suite, architecture, (*packages, *_FOR_PYTHON))
        minimal, *libraries = (each.resolve() for each in (found[0], *found[len(packages) :]))
        for package in found[1 : len(packages)]:
            shutil.copytree(
                package / "usr/lib" / name, target / "lib" / name, dirs_exist_ok=True, symlinks=True
            )
        wrapper = target / "bin/python3"
        wrapper.parent.mkdir()
        wrapper.write_text(
            _WRAPPER.format(
                linker=next(libraries[0].glob("usr/lib*/**/ld-linux*.so.*")),
                libraries=":".join(
                    str(place) for each in libraries for place in each.glob("usr/lib/*-linux-gnu")
                ),
                program=minimal / "usr/bin" / name,
            )
        )
        wrapper.chmod(0o755)

    return build_once(CACHE / "pythons" / f"{suite}-{architecture}", build) / "bin/python3"


def programs(suite: str, architecture: str, packages: Iterable[str]) -> Path:
    """The folder with what these packages of a suite have in /usr/bin, as programs for this system.

    Among the packages is all that the programs are linked to, also the suite's C library. Raises LabError.
    """
    names = sorted(packages)
    key = f"{suite}-{architecture}-{digest(*names)}"

    def build(target: Path) -> None:
        for package in fetch(suite, architecture, names):
            shutil.copytree(package / "usr", target / "usr", dirs_exist_ok=True, symlinks=True)
        (linker,) = target.glob("usr/lib/*-linux-gnu/ld-linux*.so.*")
        final = (CACHE / "programs").resolve() / key
        for path in [each for each in target.glob("usr/**/*") if _is_program(each)]:
            real = path.rename(path.with_name(f"{path.name}.real"))
            here, its = (final / each.relative_to(target) for each in (real, linker))
            path.write_text(_WRAPPER.format(linker=its, libraries=its.parent, program=here))
            path.chmod(0o755)

    return build_once(CACHE / "programs" / key, build) / "usr/bin"


def _is_program(path: Path) -> bool:
    """Whether it is a program in machine code, and no link to one, and no library."""
    if path.is_symlink() or not path.is_file() or ".so" in path.name or not path.stat().st_mode & 0o100:
        return False
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


@functools.cache
def architecture() -> str:
    """Debian's name for this machine's architecture."""
    return run(["dpkg", "--print-architecture"], "asking dpkg for its architecture").strip()


@functools.cache
def _apt(suite: str, architecture: str) -> Sequence[str]:
    """An apt-get command with state of its own for that suite, its lists brought up to date."""
    state = _STORE / "apt" / f"{suite}-{architecture}"
    for folder in ("lists/partial", "cache"):
        (state / folder).mkdir(parents=True, exist_ok=True)
    (state / "sources.list").write_text(f"deb [signed-by={_KEYRING}] {mirror()} {suite} main\n")
    (state / "status").touch()
    options = {
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Sandbox::User": "root",
        "Acquire::Retries": "3",
        # Parsed lists are kept there: sources of images for containers switch that off.
        "Dir::Cache": state / "cache",
        "Dir::Cache::pkgcache": "pkgcache.bin",
        "Dir::Cache::srcpkgcache": "srcpkgcache.bin",
        "Dir::Etc::sourcelist": state / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::Etc::preferences": "-",
        "Dir::Etc::preferencesparts": "-",
        "Dir::State::lists": state / "lists",
        # Without this, what is installed here would count as a candidate there.
        "Dir::State::status": state / "status",
    }
    command = ["apt-get", "-q", *(f"-o{name}={value}" for name, value in options.items())]
    with locked(state):
        run([*command, "update"], f"updating the package lists of {suite}", retries=2)
    return command


def install_system(suite: str, packages: Iterable[str], target: Path, *, seed: Path | None = None) -> None:
    """Install a small Debian with these packages into a folder, which takes root. Raises LabError.

    What is in the folder `seed` is there before any package that is not essential.
    """
    hooks = [] if seed is None else [f"--essential-hook=sync-in {shlex.quote(os.fspath(seed))} /"]
    options = ["--mode=root", "--variant=minbase", f"--include={','.join(packages)}", *hooks]
    run(["mmdebstrap", *options, suite, target, mirror()], f"installing {suite}'s Debian into a folder")


def mirror() -> str:
    """The archive from which this machine has its own Debian, whatever form its apt sources have."""
    codename = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    fields = "$(REPO_URI) $(RELEASE) $(COMPONENT)"
    command = ["apt-get", "indextargets", "--no-release-info", "--format", fields, "Created-By: Packages"]
    for line in run(command, "reading apt's sources").splitlines():
        uri, release, component = line.split()
        if release == codename and component == "main":
            return uri
    raise LabError(
        f"apt's sources name no archive of {codename or 'this system'}/main\nThe lab runs on Debian."
    )

"""What tools/build-packages does: an sdist, and of it packages for Debian and for distributions with rpm.

The same sources and the same SOURCE_DATE_EPOCH make the same bytes. By default it is the last commit's time.
"""

import argparse
import gzip
import os
import re
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

from tools.lab.host import PROJECT, LabError, ensure_commands, run
from tools.lab.venv import python

DEB, RPM = "deb", "rpm"
COMMANDS: Mapping[str, Mapping[str, str]] = {
    DEB: {"dh": "debhelper", "dh_python3": "dh-python", "dpkg-buildpackage": "dpkg-dev"},
    RPM: {"rpmbuild": "rpm"},
}
"""The commands of each format's build, with the Debian packages that have them."""
_HERE = Path(__file__).parent
_VENDORED = ("fdt",)
"""The libraries that distributions lack."""
_VENDOR = "vendor"
"""The folder of these in the sources of a package, as debian/rules and pykexec.spec have it, too."""
_NOT_SOURCE = (
    ".git",
    ".cache",
    "crash",
    "build",
    "dist",
    "*.egg-info",
    "__pycache__",
    ".*_cache",
    ".hypothesis",
)
_SDIST = "from setuptools import build_meta; print(build_meta.build_sdist({!r}))"
_WHERE = (
    "from importlib import metadata as m; print(m.distribution({0!r}).locate_file(''), m.version({0!r}))"
)
_CHANGELOG = """\
pykexec ({version}) unstable; urgency=medium

  * Release {version}.

 -- {maintainer}  {date}
"""


def build(formats: Sequence[str], folder: Path, *, sdist: Path | None = None) -> Sequence[Path]:
    """Build these packages of an sdist, by default of one of this tree, and return their files.

    Raises LabError.
    """
    for name in formats:
        ensure_commands(COMMANDS[name])
    builders = {DEB: _deb, RPM: _rpm}
    epoch = _epoch()
    found = []
    with _scratch() as scratch:
        sdist = sdist or make_sdist(scratch)
        for name in formats:
            place = scratch / name
            place.mkdir()
            made = builders[name](_unpack(sdist, place, epoch), epoch)
            found.append(folder / made.name)
            shutil.copyfile(made, found[-1])
    return found


def make_sdist(folder: Path) -> Path:
    """Make an sdist of this tree in a folder. Raises LabError."""
    # setuptools leaves files in the tree.
    with _scratch() as scratch:
        copy = scratch / "source"
        shutil.copytree(PROJECT, copy, symlinks=True, ignore=shutil.ignore_patterns(*_NOT_SOURCE))
        run([python(), "-c", _SDIST.format(os.fspath(folder))], "making the sdist", cwd=copy)
    (made,) = folder.glob("*.tar.gz")
    return made


def _unpack(sdist: Path, folder: Path, epoch: int) -> Path:
    """Unpack an sdist, with the vendored libraries, and return its folder."""
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (source,) = folder.iterdir()
    for name in _VENDORED:
        _vendor(name, source / _VENDOR / name)
    for path in source.rglob("*"):
        os.utime(path, (epoch, epoch), follow_symlinks=False)
    return source


def _vendor(name: str, target: Path) -> None:
    """Copy a library from the environment of the tests, with its licence."""
    site, version = _installed(name)
    shutil.copytree(Path(site, name), target, ignore=shutil.ignore_patterns("__pycache__", "__main__.py"))
    shutil.copy(Path(site, f"{name}-{version}.dist-info/LICENSE"), target)


def _installed(name: str) -> tuple[str, str]:
    """Return the folder of a library in that environment, and its version."""
    folder, version = run([python(), "-c", _WHERE.format(name)], f"looking for {name}").split()
    return folder, version


def _deb(source: Path, epoch: int) -> Path:
    shutil.copytree(_HERE / "debian", source / "debian")
    control = (source / "debian/control").read_text()
    changelog = _CHANGELOG.format(
        version=_version(source),
        maintainer=_field("Maintainer", control),
        date=format_datetime(_time(epoch)),
    )
    (source / "debian/changelog").write_text(changelog)
    # What the build depends on is in the environment whose Python is given.
    command = ["dpkg-buildpackage", "--build=binary", "--no-sign", "--no-check-builddeps"]
    _run(command, source, epoch, PYTHON=os.fspath(python()))
    (made,) = source.parent.glob("*.deb")
    return made


def _rpm(source: Path, epoch: int) -> Path:
    place = source.parent
    _pack(source, place / f"{source.name}.tar.gz", epoch)
    (place / "pykexec.spec").write_text(spec(_version(source), epoch))
    defined = {
        "_topdir": place / "build",
        "_sourcedir": place,
        "python": python(),
        "_buildhost": "localhost",
        "use_source_date_epoch_as_buildtime": 1,
        "clamp_mtime_to_source_date_epoch": 1,
    }
    options = [word for name, value in defined.items() for word in ("--define", f"{name} {value}")]
    _run(["rpmbuild", "-bb", *options, "pykexec.spec"], place, epoch)
    (made,) = place.glob("build/RPMS/*/*.rpm")
    return made


def spec(version: str, epoch: int) -> str:
    """Return the spec file of a version, whose sources have that time."""
    values = {
        "@VERSION@": version,
        "@FDT@": _installed("fdt")[1],
        "@DATE@": _time(epoch).strftime("%a %b %d %Y"),
        "@MAINTAINER@": _field("Maintainer", (_HERE / "debian/control").read_text()),
    }
    text = (_HERE / "pykexec.spec").read_text()
    for name, value in values.items():
        text = text.replace(name, value)
    return text


def _pack(folder: Path, target: Path, epoch: int) -> None:
    def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = "root"
        entry.mtime = epoch
        return entry

    with (
        target.open("wb") as file,
        gzip.GzipFile("", "wb", fileobj=file, compresslevel=1, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        archive.add(folder, folder.name, filter=plain)


def _run(command: Sequence[str], folder: Path, epoch: int, **variables: str) -> None:
    # A build is the same whatever language, folder and file modes its caller has.
    environment = {"SOURCE_DATE_EPOCH": str(epoch), "LC_ALL": "C.UTF-8", "TZ": "UTC", **variables}
    words = [f"{name}={value}" for name, value in environment.items()]
    run(["sh", "-c", 'umask 022; exec env "$@"', "sh", *words, *command], "building the package", cwd=folder)


def _version(source: Path) -> str:
    return _field("Version", (source / "PKG-INFO").read_text())


def _field(name: str, text: str) -> str:
    found = re.search(rf"^{name}: (.*)$", text, re.MULTILINE)
    assert found is not None
    return found[1]


def _epoch() -> int:
    """Return the time of the sources, in seconds since 1970. Raises LabError."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    try:
        return int(given or run(["git", "log", "-1", "--format=%ct"], "asking git", cwd=PROJECT))
    except (LabError, ValueError, OSError):
        raise LabError("there is no time for the packages: set SOURCE_DATE_EPOCH to a number") from None


def _time(epoch: int) -> datetime:
    return datetime.fromtimestamp(epoch, UTC)


@contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="pykexec-packages-") as folder:
        yield Path(folder)


def main() -> int:
    """The command line. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="tools/build-packages", description="Build a .deb and an .rpm, the same bytes each time."
    )
    parser.add_argument("folder", type=Path, help="where the packages go")
    parser.add_argument("--only", choices=tuple(COMMANDS), help="this format alone")
    parser.add_argument("--sdist", type=Path, help="the sources; without it, this tree's")
    arguments = parser.parse_args()
    formats = [arguments.only] if arguments.only else list(COMMANDS)
    try:
        arguments.folder.mkdir(parents=True, exist_ok=True)
        for made in build(formats, arguments.folder.resolve(), sdist=arguments.sdist):
            print(made)
    except (LabError, OSError) as error:
        print(f"tools/build-packages: {error}", file=sys.stderr)
        return 1
    return 0

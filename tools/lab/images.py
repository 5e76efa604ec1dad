"""The initramfs images of the guests.

An image is a concatenation of archives: a large one that is cached, the modules of the kernel at hand, and
this run's job, with the project's own code as it is in the working tree.
"""

import functools
import os
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from . import cpio
from .arches import Arch
from .debian import architecture, fetch, interpreter
from .host import CACHE, PROJECT, build_once, digest, run
from .kernels import Kernel
from .machine import Guest
from .packages import Package
from .venv import pip_install

_DIST_PACKAGES = "usr/lib/python3/dist-packages"
_USELESS = (
    "etc", "lib/systemd", "usr/lib/*/gconv", "usr/lib/python3.*/distutils", "usr/lib/python3.*/lib2to3",
    "usr/lib/python3.*/pydoc_data", "usr/lib/python3.*/unittest", "usr/lib/systemd", "usr/lib/xen-*",
    "usr/share", "var",
)  # fmt: skip
_OUTSIDE_USR = ("usr/bin/busybox", "usr/lib*/ld[-6]*.so*", "usr/lib/*-linux-*/ld-*.so*")
"""What programs name without /usr; since trixie, packages have nothing there themselves."""

# What is compressed here boots once, and levels beyond the first take seconds each time when emulated.
_QUICK_ZLIB = """
import zlib

compressobj = zlib.compressobj
zlib.compressobj = lambda level=-1, *others, **named: compressobj(1 if level else 0, *others, **named)
"""


def full(arch: Arch) -> bytes:
    """A system with Python, what pykexec needs, and the C kexec: for the kernel that loads another one."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    requirements: list[str] = project["dependencies"]

    def build(target: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            pip_install(requirements, "--no-compile", "--target", f"{folder}/{_DIST_PACKAGES}")
            _install(arch, (*arch.userland.small, *arch.userland.full), Path(folder))
            Path(folder, "usr/bin/python3").symlink_to(f"python{arch.userland.python}")
            Path(folder, _DIST_PACKAGES, "sitecustomize.py").write_text(_QUICK_ZLIB)
            _compile(Path(folder), arch)
            target.write_bytes(cpio.archive(cpio.tree(Path(folder))))

    return _cached(f"full-{arch.name}", build, repr(arch.userland), *requirements)


def kexec_tools(arch: Arch) -> tuple[Path, list[Path]]:
    """The C kexec for a comparison on this machine: the program, and the folders of its libraries."""
    wanted = [each for each in arch.userland.full if each.name.startswith("libxen")]
    tool = next(each for each in arch.userland.small if each.name == "kexec-tools")
    packages = _fetch(arch, (tool, *wanted))
    libraries = sorted({path.parent for package in packages for path in package.rglob("lib*.so.*")})
    return packages[0] / "sbin/kexec", libraries


def newest_kexec_tools(arch: Arch) -> tuple[Path, list[Path], Path]:
    """The same of the newest version that Debian has, with the C library's program loader: it needs a newer
    C library than this machine's."""
    linked = (each.name for each in arch.userland.full if each.name.startswith("libxen"))
    xen = (name.replace("4.17", "4.20") for name in linked)
    names = ("kexec-tools", "libc6", "liblzma5", "libzstd1", "zlib1g", *xen)
    packages = fetch("sid", arch.debian, names)
    libraries = sorted({path.parent for package in packages for path in package.rglob("lib*.so.*")})
    loader = next(packages[1].rglob("lib/*/ld-linux-*.so.*"))
    return packages[0] / "usr/sbin/kexec", libraries, loader


def small(arch: Arch) -> bytes:
    """A system with busybox and makedumpfile: for the kernel that is loaded."""

    def build(target: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            _install(arch, arch.userland.small, Path(folder))
            target.write_bytes(cpio.archive(cpio.tree(Path(folder))))

    return _cached(f"small-{arch.name}", build, repr(arch.userland.small))


def first_system(kernel: Kernel, second: bytes) -> Sequence[bytes]:
    """The archives of the system that loads another kernel, which waits for a job: see `job`.

    With the kernel's own file, and `second`, which the job completes.
    """
    files = {f"/boot/vmlinuz-{kernel.release}": kernel.image.read_bytes(), "/boot/second.base": second}
    return full(kernel.arch), kernel.modules(), cpio.archive([*_system("first"), *_files(files)])


def second_system(kernel: Kernel, *, with_pykexec: bool) -> bytes:
    """The system of the kernel that is loaded: as small as what it has to do allows."""
    system = full(kernel.arch) + cpio.archive(_project(kernel.arch)) if with_pykexec else small(kernel.arch)
    return system + kernel.modules()


def job(guest: Guest) -> bytes:
    """The archive that gives a first system its job, with the project's code and the second's job."""
    second = overlay("second", guest.second_job, guest.second_files, then=guest.second_then)
    environment = f"export KERNEL=/boot/vmlinuz-{guest.kernel.release} SECOND_IMAGE={guest.second_image}\n"
    files = {**guest.files, "/lab/second": second, "/lab/environment": environment.encode()}
    return cpio.archive([*_project(guest.kernel.arch), *_files(files), *_job(guest.job, guest.then)])


def overlay(stage: str, job: str, files: Mapping[str, bytes], *, then: str | None = None) -> bytes:
    """The archive that makes a system do something: `files` are by absolute path."""
    return cpio.archive([*_system(stage), *_files(files), *_job(job, then)])


def _system(stage: str) -> Iterable[cpio.Entry]:
    yield from cpio.folders(["lab"])
    yield cpio.file("init", Path(__file__).with_name("init").read_bytes(), executable=True)
    yield cpio.file("lab/stage", stage)


def _files(files: Mapping[str, bytes]) -> Iterable[cpio.Entry]:
    yield from cpio.folders(str(Path(name.strip("/")).parent) for name in files)
    yield from (cpio.file(name, data) for name, data in files.items())


def _job(job: str, then: str | None) -> Iterable[cpio.Entry]:
    yield cpio.file("lab/job", f"#!/bin/sh\n{job}\n", executable=True)
    if then is not None:
        yield cpio.file("lab/then", f"#!/bin/sh\n{then}\n", executable=True)


def copy_project(arch: Arch, target: Path) -> None:
    """Copy the project's code there, with byte code for that architecture's Python."""
    # The links to arch/ and purgatory/ become folders.
    shutil.copytree(PROJECT / "pykexec", target, ignore=shutil.ignore_patterns("__pycache__"))
    _compile(target, arch)


@functools.cache
def _project(arch: Arch) -> Sequence[cpio.Entry]:
    """The project's code as it was at the first call, and the commands `pykexec` and `pykdump`."""
    with tempfile.TemporaryDirectory() as folder:
        copy_project(arch, Path(folder, "pykexec"))
        commands = {"pykexec": "pykexec", "pykdump": "pykexec.kdump"}
        return [
            *cpio.folders([_DIST_PACKAGES, "usr/bin"]),
            *cpio.tree(Path(folder), _DIST_PACKAGES),
            *(
                cpio.file(f"usr/bin/{name}", f'#!/bin/sh\nexec python3 -m {module} "$@"\n', executable=True)
                for name, module in commands.items()
            ),
        ]


def _cached(name: str, build: Callable[[Path], None], *parts: str) -> bytes:
    """What `build` writes, cached until one of the parts or this file changes."""
    key = digest(Path(__file__).read_bytes(), Path(cpio.__file__).read_bytes(), *parts)
    return build_once(CACHE / "images" / f"{name}-{key}.cpio", build).read_bytes()


def _fetch(arch: Arch, packages: Iterable[Package]) -> list[Path]:
    return [path for each in packages for path in fetch(each.suite, arch.debian, [each.name])]


def _install(arch: Arch, packages: Iterable[Package], folder: Path) -> None:
    for package in _fetch(arch, packages):
        shutil.copytree(package, folder, symlinks=True, dirs_exist_ok=True)
    for path in [found for pattern in _USELESS for found in folder.glob(pattern)]:
        shutil.rmtree(path)
    for path in [found for pattern in _OUTSIDE_USR for found in folder.glob(pattern)]:
        link = folder / path.relative_to(folder / "usr")
        if not os.path.lexists(link):
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(Path("/", path.relative_to(folder)))


def _compile(folder: Path, arch: Arch) -> None:
    """Byte code that is not compared with its source's time: the guest starts seconds earlier."""
    options = ("-m", "compileall", "-qq", "--invalidation-mode", "unchecked-hash", "-s", folder, folder)
    run([_python_like(arch), *options], "compiling the guest's Python code")


def _python_like(arch: Arch) -> Path:
    """A Python of this machine's own that makes byte code for the guest's. Raises LabError."""
    version = arch.userland.python
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        return Path(sys.executable)
    (package,) = (each for each in arch.userland.full if each.name == f"python{version}-minimal")
    return interpreter(package.suite, architecture())

"""Where things of the lab come from: packages of Debian's suites, files in them, whole systems of them."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Package:
    """A package of one of Debian's suites, such as "bookworm" or "bookworm-backports"."""

    suite: str
    name: str


@dataclass(frozen=True, slots=True)
class File:
    """A file in a package of one of Debian's suites."""

    package: Package
    path: str
    """Without the slash at its front."""


@dataclass(frozen=True, slots=True)
class Build:
    """A kernel built of Debian's sources, for what no kernel of Debian's can; `--all` alone runs it."""

    version: str
    """Of the package linux-source-VERSION."""
    suite: str
    """Where that package is, and the compiler if that is `unpacked` and of no other suite."""
    make: str
    """What the kernel's Makefile calls the architecture."""
    configs: tuple[str, ...]
    """Files of kernelconfigs/: what is wanted, over the base."""
    image: str
    """What is built: a path below the sources, whose last part is the Makefile's target."""
    base: str = "allnoconfig"
    """The Makefile's target that configures it."""
    prefix: str = ""
    """Of the cross tools' names."""
    compiler: str = "gcc"
    """Its name behind the prefix."""
    unpacked: tuple[str, ...] = ()
    """All packages that the cross tools take, where they cannot be installed on the lab's own release."""
    cross_suite: str = ""
    """Where these packages are, if in another suite than the sources."""


@dataclass(frozen=True, slots=True)
class Userland:
    """The packages of the guests' systems: all of them, as nothing looks for what they depend on."""

    python: str
    """The version in the names of Python's packages, such as "3.11"."""
    small: tuple[Package, ...]
    """Of a second kernel's system: busybox, makedumpfile and vmcore-dmesg."""
    full: tuple[Package, ...]
    """What a first kernel's system has besides: Python, and the C kexec to compare with."""


def of_suite(suite: str, *names: str) -> tuple[Package, ...]:
    """These packages of that suite."""
    return tuple(Package(suite, name) for name in names)


_SUITES = {"5.10": "bullseye", "6.1": "bookworm", "6.12": "trixie", "7.2": "sid"}


def kernels(package: str, *versions: str) -> Mapping[str, Package]:
    """Debian's kernels of these versions, or of each: in their suites the package of that name needs them.

    Sid moves on: what it had when first asked is kept.
    """
    return {version: Package(_SUITES[version], package) for version in versions or _SUITES}


BOOKWORM = Userland(
    python="3.11",
    small=of_suite(
        "bookworm",
        *(
            "busybox-static",
            "libbz2-1.0",
            "libc6",
            "libdw1",
            "libelf1",
            "liblzma5",
            "liblzo2-2",
            "libgcc-s1",
        ),
        *("libsnappy1v5", "libstdc++6", "libzstd1", "makedumpfile", "zlib1g"),
        "kexec-tools",  # vmcore-dmesg
    ),
    full=of_suite(
        "bookworm",
        # What the C kexec is linked to.
        *("libxencall1", "libxendevicemodel1", "libxenevtchn1", "libxenforeignmemory1", "libxengnttab1"),
        *("libxenmisc4.17", "libxentoolcore1", "libxentoollog1"),
        *("libexpat1", "libffi8", "libpython3.11-minimal", "libpython3.11-stdlib", "libssl3"),
        "python3.11-minimal",
    ),
)

"""What kdump asks of an architecture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pykexec import arch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pykexec.kdump.reservation.support import CrashkernelSupport
    from pykexec.machine import Machine

NEVER_LOGGED = r"(?!)"
"""A regular expression for what no kernel logs."""


@dataclass(frozen=True, slots=True)
class Fedora:
    """What Fedora and RHEL set on an architecture by themselves (kdump-utils)."""

    append: str
    """KDUMP_COMMANDLINE_APPEND (gen-kdump-sysconfig.sh), without what it has on all."""
    crashkernel: str | None = None
    """The parameter's value (kdump-lib.sh, kdump_get_arch_recommend_crashkernel())."""
    more_for_large_pages: int = 0
    """Bytes that are added to it where pages have 64 KiB."""
    more_for_encryption: int = 0
    """Bytes that are added to it where memory is encrypted."""


@dataclass(frozen=True, slots=True)
class KdumpPart:
    """What kdump knows of an architecture (arch/<name>/kdump.py). None: that is not known."""

    crashkernel: Callable[[str, str], CrashkernelSupport] | None = None
    """Returns what a kernel supports by `uname -r` ("": a new kernel) and its command line."""
    has_low_memory: bool | None = None
    """Whether devices of such machines may need memory below 4 GiB for DMA."""
    fedora: Fedora | None = None
    fedora_removes: Callable[[Machine], tuple[str, ...]] | None = None
    """Returns names of parameters that Fedora takes away on such a machine, besides those on all."""
    suse_removes: tuple[str, ...] = ()
    """Parameters that openSUSE takes away besides those on all: NAME with any value, NAME=VALUE alone."""
    suse_adds: str = ""
    """Parameters that openSUSE adds besides those on all."""
    boot_cpu: Callable[[Machine, str], str] | None = None
    """Returns the parameter with which a capture kernel of that release starts no boot CPU; "" for none."""
    encryption: str | None = None
    """A regular expression for what kernels log where memory is encrypted."""
    cma: int | None = None
    """Bytes that distributions' kernels set aside for devices without being told to."""
    section_size: int | None = None
    """Bytes of memory for which struct pages are made at once (SECTION_SIZE_BITS, asm/sparsemem.h)."""


UNKNOWN = KdumpPart()


def part_of(name: str) -> KdumpPart:
    """Return what is known of that architecture; `name` may be what an unknown machine's uname says."""
    return arch.part_of(name, "kdump", UNKNOWN)

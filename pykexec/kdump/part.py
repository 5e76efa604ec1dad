"""The part of an architecture that kdump uses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pykexec import arch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pykexec.kdump.reservation.support import CrashkernelSupport
    from pykexec.machine import Machine

NEVER_LOGGED = r"(?!)"
"""A regular expression that never matches: no kernel logs it."""


@dataclass(frozen=True, slots=True)
class Fedora:
    """The defaults of Fedora and RHEL on an architecture (kdump-utils)."""

    append: str
    """KDUMP_COMMANDLINE_APPEND (gen-kdump-sysconfig.sh), without the words that are the same on all."""
    crashkernel: str | None = None
    """The value of crashkernel= (kdump-lib.sh, kdump_get_arch_recommend_crashkernel())."""
    more_for_large_pages: int = 0
    """Bytes that are added to it with pages of 64 KiB."""
    more_for_encryption: int = 0
    """Bytes that are added to it with encrypted memory."""


@dataclass(frozen=True, slots=True)
class KdumpPart:
    """What kdump knows about an architecture (arch/<name>/kdump.py). None: that is not known."""

    crashkernel: Callable[[str, str], CrashkernelSupport] | None = None
    """Return what a kernel supports, from its `uname -r` ("": a new kernel) and its command line."""
    has_low_memory: bool | None = None
    """Whether devices of such machines may need memory below 4 GiB for DMA."""
    fedora: Fedora | None = None
    fedora_removes: Callable[[Machine], tuple[str, ...]] | None = None
    """Return names of parameters that Fedora removes on such a machine, in addition to those on all."""
    suse_removes: tuple[str, ...] = ()
    """Further parameters that openSUSE removes here: NAME with any value, or exactly NAME=VALUE."""
    suse_adds: str = ""
    """Further parameters that openSUSE adds here."""
    boot_cpu: Callable[[Machine, str], str] | None = None
    """Return the parameter that keeps a capture kernel of that release off the boot CPU; "" for none."""
    encryption: str | None = None
    """A regular expression for what kernels log when memory is encrypted."""
    section_size: Callable[[int], int] | None = None
    """Return the bytes of memory that get struct pages together, from those of a page (SECTION_SIZE_BITS,
    asm/sparsemem.h)."""


UNKNOWN = KdumpPart()


def part_of(name: str) -> KdumpPart:
    """Return what is known about that architecture; `name` may be an unknown machine's uname."""
    return arch.part_of(name, "kdump", UNKNOWN)

"""What a kernel's file tells of it: one answer for loads, warnings, sizing and doctor."""

from __future__ import annotations

from pykexec.arch import Arch, part
from pykexec.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pykexec.files import FileData


@dataclass(frozen=True, slots=True)
class KernelFacts:
    """A kernel out of all containers and compression. None: the file does not tell."""

    arch: str
    """Our name for what it runs on."""
    format: str
    """kexec-tools' name for the file's type (-t)."""
    memory: int | None = None
    """Bytes from its first one on that must be free when it starts."""
    line_limit: int | None = None
    """Bytes of the longest command line it takes, without the NUL."""
    release: str | None = None
    """As `uname -r` will say it."""
    is_for_file_load: bool = False
    """Whether a running kernel of this architecture loads such a file with kexec_file_load(2)."""


@dataclass(frozen=True, slots=True)
class ImagePart:
    """An architecture's kernels (arch/<name>/image.py)."""

    inspect: Callable[[FileData], KernelFacts | None]
    """Return what a file tells that is a kernel for this architecture; None for another file.

    Raises ImageError for a damaged one.
    """


def _cannot_tell(_: FileData) -> KernelFacts | None:
    return None


UNKNOWN = ImagePart(_cannot_tell)


def inspect(kernel: FileData, arch: Arch) -> KernelFacts | None:
    """Return what a kernel for that architecture tells; None where it is none, or cannot be understood.

    `kernel` is out of its containers (`formats.unwrap`). Raises ImageError for a damaged one.
    """
    return part(arch, "image", UNKNOWN).inspect(kernel)

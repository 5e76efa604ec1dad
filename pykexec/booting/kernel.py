"""What a kernel's file says about it: one answer for loads, warnings, sizing and the doctor."""

from __future__ import annotations

from pykexec.arch import Arch, all_architectures, part
from pykexec.errors import ImageError
from pykexec.values import dataclass, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pykexec.files import FileData


@dataclass(frozen=True, slots=True)
class KernelFacts:
    """The facts in the file of a kernel without container and compression. None: the file does not tell."""

    arch: str
    """Our name for the architecture it runs on."""
    format: str
    """kexec-tools' name for the file's type (-t)."""
    memory: int | None = None
    """The bytes, from its first one on, that must be free memory when it starts."""
    line_limit: int | None = None
    """The length in bytes of the longest command line it takes, without the NUL."""
    is_for_file_load: bool = False
    """Whether a running kernel of this architecture loads such a file with kexec_file_load(2)."""
    file_load_adds: int | None = None
    """The bytes that kexec_file_load(2) adds to the command line's length before it compares it with
    `line_limit`; None where it does not compare."""
    file_load_adds_for_keys: int = 0
    """The bytes that it adds besides where keys of encrypted volumes are handed over."""
    version: str | None = None
    """The release, where a header has it."""
    program: memoryview | None = field(default=None, repr=False)
    """The bytes in which to search for texts of the kernel; None where it is compressed, as in a bzImage."""

    @property
    def release(self) -> str | None:
        """The release that `uname -r` will show. Reads `program`, which takes some milliseconds."""
        return self.version or (None if self.program is None else _banner(self.program))


def _banner(program: memoryview) -> str | None:
    import re

    found = re.search(rb"Linux version ([^\s\0]{1,64}) ", program)  # init/version.c, linux_banner
    return None if found is None else found[1].decode("latin-1")


@dataclass(frozen=True, slots=True)
class ImagePart:
    """An architecture's kernels (arch/<name>/image.py)."""

    inspect: Callable[[FileData], KernelFacts | None]
    """Return the facts of a kernel for this architecture; None for another file.

    Raises ImageError for a damaged one.
    """


def _cannot_tell(_: FileData) -> KernelFacts | None:
    return None


UNKNOWN = ImagePart(_cannot_tell)


def inspect(kernel: FileData, arch: Arch) -> KernelFacts | None:
    """Return the facts of a kernel for that architecture; None where it is none, or is not understood.

    `kernel` is out of its containers (`formats.unwrap`). Raises ImageError for a damaged one.
    """
    return part(arch, "image", UNKNOWN).inspect(kernel)


def identify(kernel: FileData, first: Arch | None = None) -> KernelFacts | None:
    """Return the facts of a kernel for any architecture; None for a file that is not known as a kernel.

    `first` is tried before all others, because some kernels run on several architectures. Of an architecture
    without a loader only the name, the format and an ELF file's contents are known. Raises ImageError for a
    damaged kernel.
    """
    found = None if first is None else inspect(kernel, first)
    return found or _of_another(kernel, first)


def _of_another(kernel: FileData, first: Arch | None) -> KernelFacts | None:
    known = all_architectures()
    for arch in known:
        if arch != first and (found := inspect(kernel, arch)):
            return found
    found = _by_header(kernel)
    # An architecture with a loader has refused it above: so it is some other kind of program.
    return None if found is None or found.arch in [arch.name for arch in known] else found


def _by_header(kernel: FileData) -> KernelFacts | None:
    from pykexec import names
    from pykexec.formats import elf, pe

    if row := elf.architecture(kernel.data):
        return KernelFacts(row.name, "vmlinux", program=kernel.data)
    program = pe.parse(kernel.path, kernel.data)
    row = None if program is None else names.of_pe(program.machine)
    return None if row is None else KernelFacts(row.name, "Image")


def told(kernel: FileData, first: Arch | None = None) -> KernelFacts | None:
    """Return what `identify` does; None for a damaged kernel, about which the loader complains."""
    try:
        return identify(kernel, first)
    except ImageError:
        return None


def release_of(kernel: FileData, first: Arch | None = None) -> str | None:
    """Return what `uname -r` will show under that kernel; None where the file does not tell."""
    facts = told(kernel, first)
    return None if facts is None else facts.release


def memory_of(kernel: FileData, facts: KernelFacts | None) -> int:
    """Return the bytes of memory the kernel takes where it runs; the file's size where it does not tell."""
    return kernel.size if facts is None or facts.memory is None else facts.memory

"""A Linux kernel as the x86 loader needs it, whatever file it came in."""

import enum

from pykexec.memory import Range
from pykexec.values import dataclass


class Entry(enum.Enum):
    """The entry points of a kernel (boot.rst), by processor mode."""

    LONG = "64-bit"
    """Long mode, paging on."""
    PROTECTED = "32-bit"
    """Protected mode, paging off; everything for the kernel lies below 4 GiB."""
    REAL = "16-bit"
    """Real mode, with a BIOS; the kernel's own setup code runs first."""


@dataclass(frozen=True, slots=True)
class LinuxKernel:
    """A kernel that has been checked; sizes are in bytes, addresses physical."""

    path: str
    description: str
    """The format, for people."""
    setup_header: bytes
    """struct setup_header, zero-padded to the length of the newest one."""
    protocol: int
    """The version of the boot protocol, such as 0x020f: it tells which fields of boot_params it knows."""
    image: memoryview
    """The kernel proper, which is loaded."""
    memory_size: int
    """The memory it needs from its first byte on until it manages memory itself; whole pages."""
    alignment: int
    window: Range
    """Where it may lie; of its own size for a kernel that can lie nowhere else."""
    relocatable: bool
    entry: Entry
    entry_offset: int
    """The distance of the entry point from the first byte."""
    command_line_limit: int
    """The longest command line it takes, without the terminating NUL."""
    initrd_window: Range
    takes_efi: bool
    """Whether it can take over EFI runtime services from the running kernel."""
    takes_5level_paging: bool | None
    """Whether it can be entered with five-level page tables active; None where that is not known."""
    bits: int | None
    """The width of its words: 64 or 32; None where the file does not tell."""
    release: str | None = None
    """What ``uname -r`` will show; None where the file does not tell."""
    setup: memoryview = memoryview(b"")
    """A bzImage's setup part, which is entered in real mode."""

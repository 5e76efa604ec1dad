"""A Linux kernel as the loader sees it, whatever file it came in."""

import enum

from pykexec.memory import Range
from pykexec.values import dataclass


class Entry(enum.Enum):
    """The ways into a kernel (boot.rst): the processor mode in which it is entered."""

    LONG = "64-bit"
    """Long mode, paging on."""
    PROTECTED = "32-bit"
    """Protected mode, paging off; everything the kernel is told of lies below 4 GiB."""
    REAL = "16-bit"
    """Real mode, with a BIOS to ask; the kernel's own setup code runs first."""


@dataclass(frozen=True, slots=True)
class LinuxKernel:
    """A kernel checked to be loadable; sizes in bytes, addresses physical."""

    path: str
    description: str
    """Its format, for people."""
    setup_header: bytes
    """struct setup_header, zero-padded to the length of the newest one."""
    protocol: int
    """Version of the boot protocol, such as 0x020f: which fields of boot_params it knows."""
    image: memoryview
    """The kernel proper: what is loaded."""
    memory_size: int
    """What it needs from its first byte on until it manages memory itself; whole pages."""
    alignment: int
    window: Range
    """Where it may lie; as large as the kernel itself for one that must lie there and nowhere else."""
    relocatable: bool
    entry: Entry
    entry_offset: int
    """Distance of its entry point from its first byte."""
    command_line_limit: int
    """The longest command line it takes, without the terminating NUL."""
    initrd_window: Range
    takes_efi: bool
    """Whether it can take over EFI runtime services from a kexec'ing kernel."""
    takes_5level_paging: bool | None
    """Whether it can be entered with five-level page tables active; None where there is no telling."""
    bits: int | None
    """Of its words: 64 or 32; None where the file does not tell."""
    release: str | None = None
    """What ``uname -r`` will say, where the file tells."""
    setup: memoryview = memoryview(b"")
    """A bzImage's setup part, which is entered in real mode."""

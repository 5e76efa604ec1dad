"""What differs between the architectures that the lab can emulate: a file each, with its `ARCH`."""

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, field

from pykexec.emulation import Emulation

from ..packages import BOOKWORM, Build, File, Package, Userland

# The tests of ciphers (crypto/algapi.c, crypto/kdf_sp800108.c), the keys of built-in certificates
# (certs/system_keyring.c), and the files of kprobe events (kernel/trace/trace_kprobe.c). Then what hardens a
# kernel: each system call and each page of memory pays for it, several times as much under emulation.
_LEFT_OUT = (
    "cryptomgr.notests initcall_blacklist=crypto_kdf108_init,init_kprobe_trace,load_system_certificate_list"
    " mitigations=off init_on_alloc=0 hardened_usercopy=off randomize_kstack_offset=off"
)


@dataclass(frozen=True, slots=True)
class Qemu:
    """Where Debian has an emulator."""

    packages: Mapping[str, str] = field(hash=False)
    """The packages that it takes, by commands or files of them."""
    suite: str | None = None
    """Where they are taken from and unpacked into the cache; None: they are installed on this machine."""


@dataclass(frozen=True, slots=True)
class Arch:
    """One architecture: its emulator and its Debian packages."""

    name: str
    """The name of its folder in arch/."""
    debian: str
    """Debian's name for the architecture."""
    emulation: Emulation
    """What QEMU has to be told."""
    qemu: Qemu
    kernels: Mapping[str, Package] = field(hash=False)
    """The packages that depend on the newest kernel of a suite, by version, such as "6.1"."""
    built: Mapping[str, Build] = field(default_factory=dict, hash=False)
    """The kernels that are built here, by a version of their own, such as "6.12-jump"."""
    parameters: str = ""
    """What else its kernels need here, in their command lines."""
    left_out: str = _LEFT_OUT
    """What makes kernels leave out what is of no concern to a loader, and is a third of an emulated boot."""
    userland: Userland = BOOKWORM
    memory: str | None = None
    """What its machines without a userland have, where that is not what QEMU gives them."""
    bios: File | None = None
    """Firmware that each machine starts with, where that is not QEMU's own."""
    uefi: File | None = None
    """UEFI firmware, for machines that are to have it."""
    reservation: str = "256M"
    """How much a machine reserves for a capture kernel, unless it is told otherwise."""
    capture: str = ""
    """What a capture kernel has in its command line besides, to do with the memory that it gets here."""
    told_by_line: tuple[str, ...] = ()
    """The parameters by which a loader tells a kernel what others are told in other ways."""
    can_be_saved: bool = True
    """Whether the emulator goes on with a saved machine."""
    no_dump: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Why makedumpfile reads no dump of a kernel, by version."""
    programs: Mapping[str, str] = field(default_factory=dict, hash=False)
    """What tests of this architecture run, or take, by commands or files, with their Debian packages."""

    @property
    def line(self) -> str:
        """The beginning of each kernel's command line: it writes to the console, and a panic ends QEMU."""
        beginning = f"console={self.emulation.console} panic=-1"
        parts = (beginning, self.emulation.parameters, self.parameters, self.left_out)
        return " ".join(filter(None, parts))


def find(name: str) -> Arch:
    """The architecture of that name, which must have a file here."""
    arch = importlib.import_module(f"{__name__}.{name}").ARCH
    assert isinstance(arch, Arch)
    return arch


ARCHES = {name: find(name) for name in sorted(module.name for module in pkgutil.iter_modules(__path__))}
"""All there are, by name."""

"""Facts about a machine: the running one, or another one from a snapshot of the same files.

Each fact's reader is imported when the fact is first asked for.
"""

from __future__ import annotations

import os

from pykexec.errors import MachineError
from pykexec.machine import sysfs
from pykexec.machine.kexec_state import KexecState
from pykexec.machine.root import Folder, Root
from pykexec.parameters import name_of, parameters, value_of
from pykexec.remembered import remembered

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pykexec.machine.cpus import CpuNotes, NoteArea
    from pykexec.machine.efi import EfiFacts
    from pykexec.machine.iomem import Iomem
    from pykexec.machine.kcore import Kcore
    from pykexec.machine.serial import SerialPort
    from pykexec.memory import MemoryMap

IDENTITY = "pykexec-snapshot.json"
"""What a snapshot says of the machine that no file below /proc or /sys does."""

_SECURE_BOOT = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
FACTS = (
    "proc/cmdline",
    "proc/iomem",
    "proc/sys/kernel/arch",
    "proc/sys/kernel/kexec_load_disabled",
    "proc/sys/kernel/kexec_load_limit_panic",
    "proc/sys/kernel/kexec_load_limit_reboot",
    "proc/sys/kernel/osrelease",
    "sys/class/graphics/fb0/name",
    "sys/class/misc/liveupdate/dev",
    "sys/class/tty/*/io_type",
    "sys/class/tty/*/iomem_base",
    "sys/class/tty/*/iomem_reg_shift",
    "sys/class/tty/*/port",
    "sys/class/tty/*/type",
    "sys/class/tty/console/active",
    "sys/devices/system/cpu/cpu*/crash_notes",
    "sys/devices/system/cpu/cpu*/crash_notes_size",
    "sys/firmware/efi/config_table",
    _SECURE_BOOT,
    "sys/firmware/efi/fw_platform_size",
    "sys/firmware/efi/fw_vendor",
    "sys/firmware/efi/runtime",
    "sys/firmware/efi/runtime-map/*/*",
    "sys/firmware/efi/systab",
    "sys/firmware/memmap/*/*",
    "sys/kernel/crash_elfcorehdr_size",
    "sys/kernel/debug/kho/out/scratch_len",
    "sys/kernel/kexec/*",
    "sys/kernel/kexec_crash_cma_ranges",
    "sys/kernel/kexec_crash_loaded",
    "sys/kernel/kexec_crash_size",
    "sys/kernel/kexec_loaded",
    "sys/kernel/security/ima/runtime_measurements_count",
    "sys/kernel/security/lockdown",
    "sys/kernel/vmcoreinfo",
)
"""Glob patterns of the files `Machine` reads; besides these, headers and a note of /proc/kcore."""

_COMMAND_LINE_MAX = 128 << 10
"""COMMAND_LINE_SIZE, 8192 at most, and what bootconfig adds (include/linux/bootconfig.h: XBC_DATA_MAX)."""
_PAGE_SIZES = ("4096", "16384", "65536")  # arch/arm64/Kconfig
BOOT_FRAMEBUFFER_DRIVERS = frozenset(
    {"EFI VGA", "VESA VGA", "simple", "simpledrm", "simpledrmdrmfb", "efidrmdrmfb", "vesadrmdrmfb"}
)
"""fbdev names of the drivers that use the firmware's framebuffer as they found it."""


class Machine:
    """Facts, each read when first asked for and then kept.

    All methods and properties raise MachineError, with the path concerned, when a fact that must be there is
    missing, cannot be read, or makes no sense.
    """

    def __init__(self, root: Root, *, is_live: bool = False) -> None:
        self.root = root
        self.is_live = is_live

    @classmethod
    def live(cls) -> Machine:
        """The running system."""
        return cls(Folder("/"), is_live=True)

    @classmethod
    def from_snapshot(cls, path: str | os.PathLike[str]) -> Machine:
        """A machine from a .tar that `pykexec --snapshot` wrote, or a folder with the same paths in it."""
        from pathlib import Path

        from pykexec.machine.archive import Archive

        place = Path(path)
        if place.is_dir() and os.fspath(path):  # an empty name is not the current folder
            return cls(Folder(place))
        if not place.is_file():
            raise MachineError(f"cannot read the snapshot {path}: there is no such file or folder")
        return cls(Archive(place))

    def anew(self) -> Machine:
        """The same one, of which nothing has been read yet."""
        return Machine(self.root, is_live=self.is_live)

    def read(self, path: str) -> bytes | None:
        """A file below the root ("sys/kernel/boot_params/data"), or None where there is none."""
        return sysfs.read(self.root, path)

    @remembered
    def uname_machine(self) -> str:
        """What ``uname -m`` says there."""
        if self.is_live:
            return os.uname().machine
        told = self._identity.get("machine") or sysfs.read_text(self.root, "proc/sys/kernel/arch")
        if told:
            return str(told)
        from pykexec import names

        kcore = self.kcore
        row = names.of_elf(kcore.machine, kcore.bits, kcore.byte_order)
        return f"ELF machine {kcore.machine}" if row is None else row.usual_uname

    @remembered
    def kernel_release(self) -> str:
        """What ``uname -r`` says there; empty when the snapshot does not tell."""
        return sysfs.read_text(self.root, "proc/sys/kernel/osrelease") or ""

    @remembered
    def page_size(self) -> int:
        """Bytes in a page of the running kernel."""
        if self.is_live:
            return os.sysconf("SC_PAGE_SIZE")
        told = self._identity.get("page_size") or self.kcore.vmcoreinfo.get("PAGESIZE")
        if told is None:
            raise MachineError(f"the snapshot does not tell the page size: no {IDENTITY}, no VMCOREINFO")
        if str(told) not in _PAGE_SIZES:
            raise MachineError(f"the snapshot tells of pages of {str(told)[:40]} bytes, which no kernel has")
        return int(str(told))

    @remembered
    def command_line(self) -> str:
        """The running kernel's."""
        line = sysfs.read(self.root, "proc/cmdline", _COMMAND_LINE_MAX)
        if line is None:
            raise MachineError("/proc/cmdline is missing")
        return os.fsdecode(line).rstrip("\n")

    @remembered
    def iomem(self) -> Iomem:
        """What lies where in physical memory."""
        from pykexec.machine import iomem

        data = sysfs.read(self.root, "proc/iomem")
        if data is None:
            raise MachineError("/proc/iomem is missing")
        return iomem.parse(data.decode("utf-8", "replace"))

    @remembered
    def firmware_map(self) -> MemoryMap | None:
        """The map the firmware gave, where the kernel shows it."""
        from pykexec.machine import firmware_map

        return firmware_map.read(self.root)

    @remembered
    def boot_memory_map(self) -> MemoryMap:
        """The memory map to tell a kernel that replaces this one.

        The firmware's own, which mem= has not cut; but with add_efi_memmap that is not all there is, and
        /proc/iomem knows better.
        """
        if "add_efi_memmap" in map(name_of, parameters(self.command_line)) or self.firmware_map is None:
            return self.iomem.memory_map
        return self.firmware_map

    @remembered
    def kcore(self) -> Kcore:
        """The running kernel's virtual layout."""
        from pykexec.machine import kcore

        return kcore.read(self.root)

    @remembered
    def cpu_notes(self) -> tuple[CpuNotes, ...]:
        """Where each CPU leaves its registers in a crash."""
        from pykexec.machine import cpus

        return cpus.read_cpu_notes(self.root)

    @remembered
    def vmcoreinfo(self) -> NoteArea | None:
        """Where the kernel keeps the note that tells makedumpfile and crash about it."""
        from pykexec.machine import cpus

        return cpus.read_vmcoreinfo(self.root)

    @remembered
    def efi(self) -> EfiFacts | None:
        """EFI's tables and runtime services; None on a machine without EFI."""
        from pykexec.machine import efi

        return efi.read_efi(self.root)

    @property
    def has_secure_boot(self) -> bool:
        """Whether firmware starts signed kernels only. Looked at anew each time: a call of firmware."""
        variable = sysfs.read(self.root, _SECURE_BOOT) or b""
        return variable[4:5] == b"\1"  # behind the attributes (Documentation/filesystems/efivarfs.rst)

    @remembered
    def framebuffer_driver(self) -> str | None:
        """Name of the driver of the first framebuffer."""
        return sysfs.read_text(self.root, "sys/class/graphics/fb0/name")

    @property
    def hands_over(self) -> bool:
        """Whether the running kernel preserves state for the next one (KHO, Linux 6.16), as it was told."""
        if self.has_live_update:
            return True
        value = (value_of("kho", self.command_line) or "").strip('"')
        return value.lower().startswith(("1", "y", "t", "on"))  # lib/kstrtox.c kstrtobool

    @property
    def has_live_update(self) -> bool:
        """Whether live update is on, which keeps sessions by KHO whatever kho= says (Linux 6.19).

        kernel/liveupdate/luo_core.c: the device is there only then.
        """
        return bool(self.root.names("sys/class/misc/liveupdate"))

    @property
    def can_hand_over(self) -> bool:
        """Whether it shows that it could, be it that it was built so (KEXEC_HANDOVER_ENABLE_DEFAULT)."""
        return bool(self.root.names("sys/kernel/debug/kho/out"))

    @property
    def has_measured(self) -> bool:
        """Whether IMA keeps a list of measurements, with more in it than its first entry, of the boot."""
        count = sysfs.read_number(self.root, "sys/kernel/security/ima/runtime_measurements_count", 10)
        return count is not None and count > 1

    @property
    def kexec_state(self) -> KexecState:
        """What is loaded, and what the kernel would refuse: asked anew each time."""
        return KexecState(self.root)

    def console_for(self, command_line: str, port: str | None = None) -> SerialPort | None:
        """The serial console a kernel with that command line will use, if this machine has it.

        `port`, a terminal's name or an I/O port as a hexadecimal number, is taken instead; raises UsageError
        for one that this machine does not have.
        """
        from pykexec.machine import serial

        if port is not None:
            return serial.named(self.root, port)
        return serial.console_for(self.root, command_line)

    @remembered
    def _identity(self) -> dict[str, object]:
        return sysfs.read_object(self.root, IDENTITY) or {}

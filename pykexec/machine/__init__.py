"""Facts about a machine: the running one, or another one from a snapshot of the same files.

The reader of a fact is imported when the fact is first needed.
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
    from pykexec.memory import MemoryMap, Range

IDENTITY = "pykexec-snapshot.json"
"""The file of a snapshot with facts that no file below /proc or /sys has."""

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
"""Glob patterns of the files that `Machine` reads; it also reads headers and a note of /proc/kcore."""

_COMMAND_LINE_MAX = 128 << 10
"""COMMAND_LINE_SIZE, 8192 at most, and bootconfig's additions (include/linux/bootconfig.h: XBC_DATA_MAX)."""
PAGE_SIZES = tuple(1 << shift for shift in range(12, 19))
"""What Linux has, in bytes: arch/Kconfig, PAGE_SHIFT."""
BOOT_FRAMEBUFFER_DRIVERS = frozenset(
    {"EFI VGA", "VESA VGA", "simple", "simpledrm", "simpledrmdrmfb", "efidrmdrmfb", "vesadrmdrmfb"}
)
"""The fbdev names of drivers that use the firmware's framebuffer as they found it."""


class Machine:
    """Facts about a machine. Each is read when first needed and then kept.

    All methods and properties raise MachineError, which names the path, when a necessary fact is missing,
    cannot be read, or makes no sense.
    """

    def __init__(self, root: Root, *, is_live: bool = False) -> None:
        self.root = root
        self.is_live = is_live

    @classmethod
    def live(cls) -> Machine:
        """Return the running system."""
        return cls(Folder("/"), is_live=True)

    @classmethod
    def from_snapshot(cls, path: str | os.PathLike[str]) -> Machine:
        """Return a machine from a .tar of `pykexec --snapshot`, or from a folder with the same paths."""
        from pathlib import Path

        from pykexec.machine.archive import Archive

        place = Path(path)
        if place.is_dir() and os.fspath(path):  # an empty name is not the current folder
            return cls(Folder(place))
        if not place.is_file():
            raise MachineError(f"cannot read the snapshot {path}: there is no such file or folder")
        return cls(Archive(place))

    def require_facts(self, path: str) -> None:
        """Raise MachineError where `path`, from which this machine was read, holds nothing of one."""
        if not (self.root.names("proc") or self.root.names("sys")):
            raise MachineError(
                f"{path} is no snapshot of a machine: there is nothing below proc and sys",
                hint="pykexec --snapshot makes one; a folder has the same paths: proc/iomem, ...",
            )

    def anew(self) -> Machine:
        """Return the same machine with nothing read yet."""
        return Machine(self.root, is_live=self.is_live)

    def read(self, path: str) -> bytes | None:
        """Return a file below the root ("sys/kernel/boot_params/data"); None where there is none."""
        return sysfs.read(self.root, path)

    @remembered
    def uname_machine(self) -> str:
        """The machine as ``uname -m`` prints it there, without what a personality (setarch) changes."""
        if self.is_live:
            return self._without_personality(os.uname().machine)
        told = self._identity.get("machine") or self._named_machine
        return str(told) if told else self._machine_of_kcore

    def _without_personality(self, said: str) -> str:
        """Return what uname would say without one.

        A kernel of 64 bits is believed only where it runs programs of what uname says itself: an emulator
        (qemu-user) shows the files of the kernel below it.
        """
        from pykexec import names

        row = names.of_uname(said)
        if row is None or row.elf.bits == 64:
            return said
        try:
            kernel = self._named_machine or self._machine_of_kcore
        except MachineError:  # arm's kernels have no /proc/kcore
            return said
        behind = names.of_uname(kernel)
        return kernel if behind is not None and behind.compat == row.name else said

    @property
    def _named_machine(self) -> str | None:
        return sysfs.read_text(self.root, "proc/sys/kernel/arch")  # since Linux 6.1

    @property
    def _machine_of_kcore(self) -> str:
        from pykexec import names

        kcore = self.kcore
        row = names.of_elf(kcore.machine, kcore.bits, kcore.byte_order)
        return f"ELF machine {kcore.machine}" if row is None else row.usual_uname

    @remembered
    def kernel_release(self) -> str:
        """The release as ``uname -r`` prints it there; empty when the snapshot does not tell."""
        return sysfs.read_text(self.root, "proc/sys/kernel/osrelease") or ""

    @remembered
    def page_size(self) -> int:
        """The size in bytes of the running kernel's pages."""
        if self.is_live:
            return os.sysconf("SC_PAGE_SIZE")
        told = self._identity.get("page_size") or self.kcore.vmcoreinfo.get("PAGESIZE")
        if told is None:
            raise MachineError(f"the snapshot does not tell the page size: no {IDENTITY}, no VMCOREINFO")
        if str(told) not in map(str, PAGE_SIZES):
            raise MachineError(f"the snapshot tells of pages of {str(told)[:40]} bytes, which no kernel has")
        return int(str(told))

    @remembered
    def command_line(self) -> str:
        """The running kernel's command line."""
        line = sysfs.read(self.root, "proc/cmdline", _COMMAND_LINE_MAX)
        if line is None:
            raise MachineError("/proc/cmdline is missing")
        return os.fsdecode(line).rstrip("\n")

    @remembered
    def iomem(self) -> Iomem:
        """The use of physical memory, from /proc/iomem."""
        from pykexec.machine import iomem

        data = sysfs.read(self.root, "proc/iomem")
        if data is None:
            raise MachineError("/proc/iomem is missing")
        return iomem.parse(data.decode("utf-8", "replace"))

    @remembered
    def crash_regions(self) -> tuple[Range, ...]:
        """The ranges (physical) that crashkernel= reserved, ascending.

        Where /proc/iomem does not show them, the device tree may.
        """
        shown = self.iomem.crash_regions
        if shown:
            return shown
        from pykexec.machine import chosen

        told = chosen.crash_region(self.root, self.kexec_state.crash_size)
        return () if told is None else (told,)

    @remembered
    def firmware_map(self) -> MemoryMap | None:
        """The firmware's memory map; None where the kernel does not show it."""
        from pykexec.machine import firmware_map

        return firmware_map.read(self.root)

    @remembered
    def boot_memory_map(self) -> MemoryMap:
        """The memory map to give to a kernel that replaces this one.

        It is the firmware's own, which mem= has not cut. But with add_efi_memmap that map is not complete,
        and /proc/iomem is taken.
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
        """The memory in which each CPU leaves its registers in a crash."""
        from pykexec.machine import cpus

        return cpus.read_cpu_notes(self.root)

    @remembered
    def vmcoreinfo(self) -> NoteArea | None:
        """The memory with the note that describes the kernel to makedumpfile and crash."""
        from pykexec.machine import cpus

        return cpus.read_vmcoreinfo(self.root)

    @remembered
    def efi(self) -> EfiFacts | None:
        """EFI's tables and runtime services; None on a machine without EFI."""
        from pykexec.machine import efi

        return efi.read_efi(self.root)

    @property
    def has_secure_boot(self) -> bool:
        """Whether firmware starts signed kernels only. Read anew each time: this calls firmware."""
        variable = sysfs.read(self.root, _SECURE_BOOT) or b""
        return variable[4:5] == b"\1"  # after the attributes (Documentation/filesystems/efivarfs.rst)

    @remembered
    def framebuffer_driver(self) -> str | None:
        """The name of the first framebuffer's driver."""
        return sysfs.read_text(self.root, "sys/class/graphics/fb0/name")

    @property
    def keeps_state(self) -> bool:
        """Whether kho= or live update makes this kernel keep state for the next one (KHO, Linux 6.16)."""
        if self.has_live_update:
            return True
        value = (value_of("kho", self.command_line) or "").strip('"')
        return value.lower().startswith(("1", "y", "t", "on"))  # lib/kstrtox.c kstrtobool

    @property
    def has_live_update(self) -> bool:
        """Whether live update is on, which keeps sessions by KHO whatever kho= says (Linux 6.19).

        Its device exists only then (kernel/liveupdate/luo_core.c).
        """
        return bool(self.root.names("sys/class/misc/liveupdate"))

    @property
    def has_handover(self) -> bool:
        """Whether the kernel shows that KHO is on, perhaps by default (KEXEC_HANDOVER_ENABLE_DEFAULT)."""
        return bool(self.root.names("sys/kernel/debug/kho/out"))

    @property
    def has_measured(self) -> bool:
        """Whether IMA's list of measurements has more than its first entry, which is that of the boot."""
        count = sysfs.read_number(self.root, "sys/kernel/security/ima/runtime_measurements_count", 10)
        return count is not None and count > 1

    @property
    def kexec_state(self) -> KexecState:
        """What is loaded, and what the kernel would refuse; read anew each time."""
        return KexecState(self.root)

    def console_for(self, command_line: str, port: str | None = None) -> SerialPort | None:
        """Return the serial console that a kernel with that command line will use, if this machine has it.

        `port`, a terminal's name or an I/O port as a hexadecimal number, takes its place. Raises UsageError
        for a port that this machine does not have.
        """
        from pykexec.machine import serial

        if port is not None:
            return serial.named(self.root, port)
        return serial.console_for(self.root, command_line)

    @remembered
    def _identity(self) -> dict[str, object]:
        return sysfs.read_object(self.root, IDENTITY) or {}

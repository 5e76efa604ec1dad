"""The facts that doctor looks at: a machine, its configuration, and the logs of a capture that failed."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pykexec import names, optionparser
from pykexec.arch import Arch, find
from pykexec.booting.kernel import release_of
from pykexec.bootpaths import GRUB_CONFIGS
from pykexec.errors import MachineError, PykexecError
from pykexec.files import FileData
from pykexec.kdump import config
from pykexec.kdump.config import capture_line
from pykexec.kdump.config.capture_line import CaptureLine
from pykexec.kdump.config.settings import KernelChoice, Settings
from pykexec.kdump.console.diagnosis import ConsoleLog, Ending, diagnose
from pykexec.kdump.doctor.hostfiles import HostFiles
from pykexec.kdump.files import image_path, kernel_candidates
from pykexec.kdump.kernel_log import read_kernel_log
from pykexec.kdump.mounts import below_overlays, innermost, is_seen_through, unescaped
from pykexec.kdump.part import KdumpPart, part_of
from pykexec.kdump.rehearsal import receipt as rehearsals
from pykexec.kdump.rehearsal.receipt import Review
from pykexec.kdump.reservation import crashkernel, running, sizing
from pykexec.kdump.reservation.estimate import Estimate, estimate
from pykexec.kdump.reservation.support import CrashkernelSupport
from pykexec.kdump.service import own
from pykexec.kdump.service import receipt as receipts
from pykexec.kdump.service.receipt import Receipt
from pykexec.machine import Machine
from pykexec.machine.sysfs import FILE_MAX, JSON_MAX, LOG_MAX, read_end, read_number, read_text
from pykexec.parameters import parameters
from pykexec.remembered import remembered
from pykexec.versions import of_release

LOG = "var/log/dmesg"
"""The file in a snapshot with the kernel's log, as `read_kernel_log` returns it."""

FACTS = (
    *config.FACTS,
    *capture_line.FACTS,
    *sizing.FACTS,
    LOG,
    "boot/config-*",
    *GRUB_CONFIGS,
    "boot/loader/entries/*.conf",
    "etc/default/grub",
    "etc/default/grub.d/*.cfg",
    "etc/kernel/cmdline",
    "etc/udev/rules.d/*",
    "lib/udev/rules.d/*k*dump*.rules",
    "lib/udev/rules.d/*kexec*.rules",
    "proc/config.gz",
    "proc/meminfo",
    "proc/self/mounts",
    "proc/sys/kernel/random/boot_id",
    "proc/sys/kernel/hardlockup_panic",
    "proc/sys/kernel/hung_task_panic",
    "proc/sys/kernel/kptr_restrict",
    "proc/sys/kernel/panic_on_oops",
    "proc/sys/kernel/softlockup_panic",
    "proc/sys/kernel/sysrq",
    "proc/sys/kernel/unknown_nmi_panic",
    "proc/xen/capabilities",
    str(receipts.LOADED).lstrip("/"),
    "sys/block/dm-*/dm/name",
    "sys/block/dm-*/dm/uuid",
    "sys/block/dm-*/slaves/*/dm/uuid",
    "sys/class/iscsi_session/*/targetname",
    "sys/class/watchdog/*/identity",
    "sys/class/watchdog/*/state",
    "sys/class/watchdog/*/timeout",
    "sys/devices/system/cpu/crash_hotplug",
    "proc/device-tree/cpus/*/enable-method",
    "sys/hypervisor/guest_type",
    "sys/hypervisor/type",
    "sys/kernel/config/crash_dm_crypt_keys/count",
    "sys/module/kernel/parameters/crash_kexec_post_notifiers",
    "usr/lib/udev/rules.d/*k*dump*.rules",
    "usr/lib/udev/rules.d/*kexec*.rules",
    "var/lib/dpkg/status",
    "var/lib/kdump/vmcore-creation.status",
    *rehearsals.FACTS,
    str(receipts.PROVEN).lstrip("/"),
    "var/log/audit/audit.log",
)
"""The files read in addition to those of `Machine`, for snapshots."""

_CONFIG_MAX = 2 << 20
"""Bytes. A configuration with all options has a fifth of that."""
_TEXT_MAX = 2 << 20
_LARGE = ("var/lib/dpkg/status",)
_LIST_MAX = 1 << 20
"""Bytes of the lists of modules and of mounts."""
_LINE_MAX = 1024  # kernel/printk/internal.h: PRINTKRB_RECORD_MAX
_RELEASE = re.compile(r"[\w.+~-]{1,100}")


@dataclass(frozen=True, slots=True)
class Mount:
    """A line of /proc/self/mounts, which snapshots have; they do not have mountinfo."""

    source: str
    point: str
    type: str
    options: str = ""
    top: str = "/"
    """The folder of the file system that is mounted, which this file does not tell."""


class Facts:
    """Everything that checks look at. Each fact is read when it is first needed.

    Properties raise MachineError (or another PykexecError) for a fact that must be there and is not, or
    makes no sense. A check that meets such an error cannot tell.
    """

    def __init__(
        self,
        machine: Machine,
        *,
        places: HostFiles | None = None,
        console: ConsoleLog | None = None,
        log: str | None = None,
    ) -> None:
        """`console` is the log of a crash; `log` is the running kernel's, where the snapshot has none."""
        self.machine = machine
        self.places = places or HostFiles("/" if machine.is_live else None)
        self.console = console
        self._log = log

    # The machine

    @remembered
    def arch(self) -> str:
        """Our name of the architecture; uname's word where we have none."""
        return names.name_of_uname(self.machine.uname_machine)

    @property
    def loads_for(self) -> Arch | None:
        """The architecture, if it has a loader."""
        return find(self.machine.uname_machine)

    @remembered
    def part(self) -> KdumpPart:
        """What kdump knows about the architecture."""
        return part_of(self.arch)

    @property
    def release(self) -> str:
        """The running kernel's release; "" where it is not known, or cannot be part of a file's name."""
        found = self.machine.kernel_release
        return found if _RELEASE.fullmatch(found) else ""

    @remembered
    def version(self) -> tuple[int, int] | None:
        """The running kernel's version."""
        return of_release(self.release)

    @remembered
    def words(self) -> tuple[str, ...]:
        """The words of the running kernel's command line."""
        return tuple(parameters(self.machine.command_line))

    @remembered
    def log(self) -> str | None:
        """The running kernel's log, as much as is known; None where there is none."""
        if self._log is not None:
            return self._log
        # On a running system the file may be from an earlier boot.
        live = read_kernel_log() if self.machine.is_live else None
        return self.end_of(LOG) if live is None else live

    def log_line(self, pattern: str) -> str | None:
        """Return the first line of the log that matches a regular expression: at most 300 characters."""
        log = self.log or ""
        found = re.search(pattern, log)
        if found is None:
            return None
        end = log.find("\n", found.start())
        return log[log.rfind("\n", 0, found.start()) + 1 : end if end >= 0 else len(log)][:300]

    def text(self, path: str) -> str | None:
        """Return a file's text; None without the file. Raises MachineError for a file that is too large."""
        return read_text(self.machine.root, path, FILE_MAX if path in _LARGE else _TEXT_MAX)

    def end_of(self, path: str) -> str | None:
        """Return the end of a log, as long as in snapshots; lines are cut to the length of a kernel's."""
        data = read_end(self.machine.root, path, LOG_MAX)
        if data is None:
            return None
        lines = data.decode("utf-8", "surrogateescape").splitlines()
        return "\n".join(line[:_LINE_MAX] for line in lines)

    def number(self, path: str) -> int | None:
        return read_number(self.machine.root, path)

    def sysctl(self, name: str) -> int | None:
        """Return a number in /proc/sys/kernel."""
        return read_number(self.machine.root, f"proc/sys/kernel/{name}", 10)

    @remembered
    def modules(self) -> frozenset[str] | None:
        """The names of the loaded modules; None where they are not known."""
        text = read_text(self.machine.root, "proc/modules", _LIST_MAX)
        return None if text is None else frozenset(re.findall(r"^(\S+) ", text, re.M))

    @remembered
    def kernel_config(self) -> Mapping[str, str] | None:
        """The running kernel's CONFIG_... = value, without what is off; None where it is not known."""
        path = f"boot/config-{self.release}"
        text = read_text(self.machine.root, path, _CONFIG_MAX) if self.release else None
        if text is None:
            data = self.machine.read("proc/config.gz")
            if data is None:
                return None
            try:
                text = (
                    zlib.decompressobj(zlib.MAX_WBITS | 16)
                    .decompress(data, _CONFIG_MAX)
                    .decode("ascii", "replace")
                )
            except zlib.error as error:
                raise MachineError(f"/proc/config.gz: {error}") from error
        return dict(re.findall(r"^(CONFIG_\w+)=(.*)$", text, re.M))

    @remembered
    def mounts(self) -> tuple[Mount, ...] | None:
        text = read_text(self.machine.root, "proc/self/mounts", _LIST_MAX)
        if text is None:
            return None
        found = (line.split(" ") for line in text.split("\n"))
        return tuple(Mount(parts[0], unescaped(parts[1]), *parts[2:4]) for parts in found if len(parts) >= 3)

    def mount_of(self, path: str) -> Mount | None:
        """Return the mount that holds a path; None where it is not known."""
        return innermost(path, self.mounts or ())

    def mount_below_overlays(self, path: str) -> Mount | None:
        """Return the mount that gets what is written to a path; None where it is not known."""
        is_upper = is_seen_through if self.machine.is_live else lambda point, upper: True
        return below_overlays(path, self.mounts or (), is_upper)[0]

    # The reservation

    @property
    def no_low_memory(self) -> str:
        """The reason for a check that cannot tell, where the need of memory below 4 GiB is not known."""
        return f"what memory devices of {self.arch} need for DMA is not known"

    @remembered
    def total_memory(self) -> int:
        return self.machine.iomem.system_ram.size

    @remembered
    def support(self) -> CrashkernelSupport:
        """The forms of crashkernel= that the running kernel supports."""
        return running.support_of(self.machine)

    @remembered
    def expected(self) -> crashkernel.Reservation:
        """The reservation that the command line asks for."""
        return crashkernel.reservation(self.machine.command_line, self.total_memory, self.support)

    @property
    def crash_size(self) -> int:
        """The reserved bytes, as the kernel counts them."""
        size = self.machine.kexec_state.crash_size
        if size is None:
            raise MachineError("/sys/kernel/kexec_crash_size is missing")
        return size

    # The configuration

    @remembered
    def _configuration(self) -> tuple[Settings | None, PykexecError | None]:
        try:
            return config.read(self.machine.root), None
        except PykexecError as error:
            return None, error

    @property
    def settings(self) -> Settings | None:
        """The settings; None where kdump is not configured, or its configuration cannot be understood."""
        return self._configuration[0]

    @property
    def config_error(self) -> PykexecError | None:
        """Why the configuration cannot be understood; None where it can be, or there is none."""
        return self._configuration[1]

    @property
    def unconfigured(self) -> str:
        """The reason why there are no settings."""
        if self.config_error is not None:
            return "this needs the configuration, which cannot be understood (V1)"
        return config.UNCONFIGURED

    @remembered
    def system_call(self) -> str | None:
        """The system call that the arguments ask for ("auto" without any); None without a configuration.

        Raises UsageError.
        """
        if self.settings is None:
            return None
        return optionparser.parse(self.settings.kexec_arguments).system_call

    @remembered
    def capture_line(self) -> CaptureLine | None:
        """The capture kernel's command line by the configuration; None without a configuration."""
        if self.settings is None:
            return None
        return capture_line.build(
            self.settings,
            capture_line.read_facts(self.machine, self.kernel_path or "", self.capture_release),
        )

    @remembered
    def capture_text(self) -> str | None:
        """The text of that line; without a configuration, of the loaded one."""
        if self.capture_line is not None:
            return self.capture_line.text
        return None if self.loaded is None else self.loaded.command_line

    @remembered
    def capture_words(self) -> tuple[str, ...] | None:
        return None if self.capture_text is None else tuple(parameters(self.capture_text))

    @remembered
    def kernel_path(self) -> str | None:
        """The path of the kernel that will be loaded; None where it cannot be found."""
        if self.settings is None and self.loaded is not None:
            return self.loaded.kernel
        return self._first(self._kernel_candidates())

    @remembered
    def capture_release(self) -> str:
        """The release of the kernel that will be loaded; the running kernel's where that is not known."""
        choice = self.settings.kernel if self.settings else KernelChoice()
        if choice.version:
            return choice.version
        file = self.kernel_file if choice.path else None
        return (release_of(file, self.loads_for) if file else None) or self.release

    @remembered
    def initrd_path(self) -> str | None:
        """The path of the initramfs that will be loaded; None where it cannot be found."""
        if self.settings is None and self.loaded is not None:
            return self.loaded.initrd
        return self._first(self._initrd_candidates())

    def _first(self, candidates: list[str]) -> str | None:
        if not self.places.are_known:
            return candidates[0] if len(candidates) == 1 else None
        return next((path for path in candidates if self.places.size(path) is not None), None)

    def _kernel_candidates(self) -> list[str]:
        choice = self.settings.kernel if self.settings else KernelChoice()
        own = [] if choice.path else ["/var/lib/kdump/kernel"]  # openSUSE's
        return [*own, *kernel_candidates(choice, self.release)]

    def _initrd_candidates(self) -> list[str]:
        if self.settings and self.settings.initrd:
            return [self.settings.initrd]
        version = (self.settings.kernel.version if self.settings else "") or self.release
        return [
            str(image_path(version)),
            f"/boot/initramfs-{version}kdump.img",
            f"/var/lib/kdump/initramfs-{version}kdump.img",
            f"/var/lib/kdump/initrd.img-{version}",
            "/var/lib/kdump/initrd",
        ]

    @remembered
    def kernel_file(self) -> FileData | None:
        """The kernel that will be loaded; None where it is not known or not there. Raises FileError."""
        if (
            self.kernel_path is None
            or not self.places.can_be_read
            or self.places.size(self.kernel_path) is None
        ):
            return None
        return self.places.open(self.kernel_path, "kernel")

    @remembered
    def initrd_file(self) -> FileData | None:
        if (
            self.initrd_path is None
            or not self.places.can_be_read
            or self.places.size(self.initrd_path) is None
        ):
            return None
        return self.places.open(self.initrd_path, "initrd")

    @remembered
    def estimate(self) -> Estimate | None:
        """The memory that the capture kernel will need; None where kernel or initramfs are not known."""
        if self.kernel_file is None or self.initrd_file is None:
            return None
        network = self.settings is not None and self.settings.uses_network
        line = self.capture_text or ""
        inputs = sizing.read_inputs(
            self.machine,
            self.kernel_file,
            self.initrd_file,
            line,
            network=network,
            kernel_log=self.log or "",
        )
        threads = self.settings.collector.threads if self.settings else 0
        inputs = replace(inputs, threads=threads)
        return estimate(own.learned(inputs, self.machine, self.kernel_file, self.initrd_file, line))

    # What is loaded

    @remembered
    def boot(self) -> str:
        """The id of this boot; "" where it is not known."""
        return (self.text("proc/sys/kernel/random/boot_id") or "").strip()

    @remembered
    def loaded(self) -> Receipt | None:
        """The receipt of what is loaded; None where nothing is loaded, or not by pykdump."""
        receipt = self._receipt(receipts.LOADED)
        if not self.machine.kexec_state.crash_loaded or receipt is None or receipt.boot != self.boot:
            return None
        return receipt

    @remembered
    def proven(self) -> Receipt | None:
        """The receipt of what was loaded when a test last passed."""
        return self._receipt(receipts.PROVEN)

    @remembered
    def rehearsals(self) -> Review:
        """What rehearsals tell of the running kernel, and of newer ones."""
        now = rehearsals.now(self.loaded, self.settings, self.machine.kexec_state.crash_size)
        return rehearsals.review(self.machine.root, self.release, now)

    def _receipt(self, path: Path) -> Receipt | None:
        text = read_text(self.machine.root, str(path).lstrip("/"), JSON_MAX)
        return None if text is None else receipts.parse(text)

    # A capture that failed

    @remembered
    def ending(self) -> Ending | None:
        """Where the capture in the console's log stopped; None without such a log."""
        return None if self.console is None else diagnose(self.console)

"""The capture kernel's command line, made of the running kernel's as each distribution makes it.

Unlike the shell scripts this keeps words as they stand, quotes and empty values included, and takes ``-``
and ``_`` in names for the same character, as the kernel does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pykexec import names
from pykexec.errors import UsageError
from pykexec.kdump.config.errors import shown
from pykexec.kdump.config.settings import Dialect, Settings
from pykexec.kdump.part import part_of
from pykexec.machine import Machine
from pykexec.machine.sysfs import read_text
from pykexec.parameters import name_of, parameters

FACTS = (
    "proc/cpuinfo",
    "sys/class/dmi/id/bios_vendor",
    "sys/class/dmi/id/sys_vendor",
    "sys/class/watchdog/*/device/uevent",
)
"""The files `read_facts` reads besides those of `Machine`, for snapshots."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the rules look at."""

    running: str
    """The running kernel's command line."""
    arch: str
    """Our name."""
    boot_cpu: str = ""
    """The parameter with which the capture kernel starts no boot CPU; "" where it takes none, or that is
    not known."""
    fedora_removes: tuple[str, ...] = ()
    """Names of parameters that Fedora takes away on this machine, besides those on all."""
    watchdog_drivers: tuple[str, ...] = ()
    uki: bool = False
    """The kernel to load is a unified kernel image."""


@dataclass(frozen=True, slots=True)
class CaptureLine:
    """The command line."""

    text: str
    notes: tuple[str, ...] = ()
    """What the configuration may have meant otherwise."""


# The capture kernel lives in the reservation, and makes none of its own.
_OWN_RESERVATION = "crashkernel"
_FEDORA_REMOVES = (
    _OWN_RESERVATION,
    "panic_on_warn",  # a warning must not end the capture kernel
    # The capture system mounts its target itself, and would wait for these.
    *("root", "rd.lvm.lv", "rd.luks.uuid", "rd.dm.uuid", "rd.md.uuid", "fcoe"),
    *("netroot", "rd.iscsi.initiator", "iscsi_initiator"),  # the capture initrd brings its own
)
_SUSE_REMOVES = (
    _OWN_RESERVATION,
    "root",  # the capture system has its own
    "resume",  # nothing is resumed from in the capture system
    "mem",  # the capture kernel's memory is what was reserved
    "hugepages",  # they would take the capture kernel's little memory
    "unknown_nmi_panic",  # an NMI must not end the capture kernel
    *("splash", "showopts", "BOOT_IMAGE"),  # meant for the boot loader or a normal boot
    # set anew below
    *("zfcp.allow_lun_scan", "acpi_no_memhotplug", "cgroup_disable", "rd.udev.children-max"),
)

_REMOVE = "KDUMP_COMMANDLINE_REMOVE"
# What kdump-utils (gen-kdump-sysconfig.sh) and kexec-tools before it ship in it, wherever it may stand.
_FEDORA_SHIPPED = frozenset(
    {
        *("cma", "hugepages", "hugepagesz", "hugetlb_cma", "ignition.firstboot", "log_buf_len", "prot_virt"),
        *("quiet", "slub_debug", "swiotlb", "vmcp_cma", "zfcp.allow_lun_scan"),
    }
)
_NOTES_MAX = 8

_FEDORA_COMMON = "novmcoredd hugetlb_cma=0 kfence.sample_interval=0 initramfs_options=size=90%"
# kdump-utils, gen-kdump-sysconfig.sh
_FEDORA_APPEND_ELSEWHERE = "irqpoll maxcpus=1 reset_devices cma=0"


def build(settings: Settings, facts: Facts) -> CaptureLine:
    """The command line for those settings on that machine. Raises UsageError for one with a NUL in it."""
    editor = _Editor()
    {Dialect.FEDORA: _fedora, Dialect.DEBIAN: _debian, Dialect.SUSE: _suse}[settings.dialect](
        editor, settings, facts
    )
    line = editor.line()
    if "\0" in line.text:
        raise UsageError("the command line has a NUL character in it; the kernel would stop reading there")
    return line


def default_append(arch: str) -> str:
    """Return what Fedora ships in KDUMP_COMMANDLINE_APPEND, by our name of the architecture."""
    fedora = part_of(arch).fedora
    return f"{_FEDORA_APPEND_ELSEWHERE if fedora is None else fedora.append} {_FEDORA_COMMON}"


def read_facts(machine: Machine, kernel: str = "", release: str = "") -> Facts:
    """The facts of a machine. Raises MachineError.

    `kernel` is the path of the kernel to load, `release` its `uname -r`; by default the running one's.
    """
    arch = names.name_of_uname(machine.uname_machine)
    part = part_of(arch)
    return Facts(
        running=machine.command_line,
        arch=arch,
        boot_cpu=part.boot_cpu(machine, release or machine.kernel_release) if part.boot_cpu else "",
        fedora_removes=part.fedora_removes(machine) if part.fedora_removes else (),
        watchdog_drivers=_watchdog_drivers(machine),
        uki=kernel.endswith(".efi"),
    )


def _watchdog_drivers(machine: Machine) -> tuple[str, ...]:
    drivers: list[str] = []
    for name in machine.root.names("sys/class/watchdog"):
        uevent = read_text(machine.root, f"sys/class/watchdog/{name}/device/uevent") or ""
        drivers += re.findall(r"^DRIVER=([\w-]+)$", uevent, re.M)
    return tuple(dict.fromkeys(drivers))


def _fedora(editor: _Editor, settings: Settings, facts: Facts) -> None:
    """prepare_cmdline() of kdumpctl."""
    policy = settings.command_line
    editor.begin(policy.given or facts.running)
    asked = list(parameters(" ".join(policy.remove)))
    editor.note(_notes_on_removing(asked, editor.words))
    editor.remove([*map(name_of, filter(_takes_away, asked)), *_FEDORA_REMOVES])
    editor.add(default_append(facts.arch) if policy.append is None else policy.append)
    editor.add(facts.boot_cpu)
    for driver in facts.watchdog_drivers:
        # The watchdog shall reset, not panic, a capture kernel that hangs.
        editor.add(f"{driver}.pretimeout=0")
        if driver == "hpwdt":
            editor.add("hpwdt.kdumptimeout=0")  # else this watchdog would not reset it
    editor.remove(facts.fedora_removes)
    if facts.uki:
        editor.add("rd.systemd.gpt_auto=no")  # the generator hangs in a capture system


def _takes_away(word: str) -> bool:
    # kdump-lib.sh, _cmdline_parse(): NAME=VALUE goes by the name alone, and NAME= is passed over.
    return not word.endswith("=")


def _notes_on_removing(asked: Sequence[str], words: Sequence[str]) -> Iterator[str]:
    """Tell which words of KDUMP_COMMANDLINE_REMOVE take nothing away, and which more than they say."""
    there = {_canonical(name_of(word)) for word in words}
    for word in dict.fromkeys(asked):
        name = name_of(word)
        if not _takes_away(word):
            yield f"{_REMOVE}: {shown(word)} takes nothing away: write {shown(name)}, without ="
        elif _canonical(name) not in there and word not in _FEDORA_SHIPPED:
            yield f"{_REMOVE}: {shown(word)} takes nothing away: the command line has no {shown(name)}"
    asked = [*filter(_takes_away, asked)]
    whole = {_canonical(name_of(word)) for word in asked if "=" not in word}
    named = {_canonical(name_of(word)): word for word in asked}
    for word in dict.fromkeys(words):
        name = _canonical(name_of(word))
        if name in named and name not in whole and word not in asked:
            yield f"{_REMOVE}: {shown(named[name])} takes {shown(word)} away, too: it goes by the name alone"


def _debian(editor: _Editor, settings: Settings, facts: Facts) -> None:
    """kdump_load() of kdump-config: nothing is taken away from a line that was given."""
    policy = settings.command_line
    editor.begin(policy.given or facts.running)
    if policy.given is None:
        editor.remove([*policy.remove, _OWN_RESERVATION])
    editor.add(policy.append or "")


def _suse(editor: _Editor, settings: Settings, facts: Facts) -> None:
    """build_kdump_commandline() of openSUSE's load.sh."""
    policy, part = settings.command_line, part_of(facts.arch)
    editor.begin(policy.given or facts.running)
    if policy.given is None:
        editor.remove([*_SUSE_REMOVES, *part.suse_removes])
        editor.add(
            "sysrq=yes reset_devices acpi_no_memhotplug cgroup_disable=memory nokaslr numa=off irqpoll"
        )
        if policy.cpus:
            editor.add(f"nr_cpus={policy.cpus}")
        editor.add("root=kdump rootflags=bind rd.udev.children-max=8")
        editor.add(facts.boot_cpu)
        editor.add(part.suse_adds)
    editor.add(policy.append or "")
    if not editor.has("panic"):
        editor.add("panic=1")  # a capture kernel that panics shall not hang forever


class _Editor:
    """Words of a command line under change."""

    def __init__(self) -> None:
        self._words: list[str] = []
        self._notes: list[str] = []

    @property
    def words(self) -> Sequence[str]:
        return tuple(self._words)

    def begin(self, line: str) -> None:
        self._words = list(parameters(line))

    def note(self, notes: Iterable[str]) -> None:
        self._notes += notes

    def remove(self, unwanted: Iterable[str]) -> None:
        """Take away every parameter of a name, whatever its value; of a NAME=VALUE only those like it."""
        exact = frozenset(unwanted)
        by_name = frozenset(map(_canonical, exact))
        self._words = [
            word for word in self._words if word not in exact and _canonical(name_of(word)) not in by_name
        ]

    def add(self, words: str) -> None:
        self._words += parameters(words)

    def has(self, name: str) -> bool:
        return any(name_of(word) == name for word in self._words)

    def line(self) -> CaptureLine:
        return CaptureLine(" ".join(self._words), tuple(self._notes[:_NOTES_MAX]))


def _canonical(name: str) -> str:
    # parameq() in kernel/params.c: dashes and underscores are the same
    return name.replace("-", "_")

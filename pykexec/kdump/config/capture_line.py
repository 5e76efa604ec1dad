"""The capture kernel's command line, made of the running kernel's as each distribution makes it.

Unlike the shell scripts this keeps words as they stand, quotes and empty values included, and takes ``-``
and ``_`` in names for the same character, as the kernel does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pykexec.errors import UsageError
from pykexec.kdump.config.errors import shown
from pykexec.kdump.config.settings import Dialect, Settings
from pykexec.machine import Machine
from pykexec.machine.sysfs import read_text
from pykexec.parameters import name_of, parameters
from pykexec.versions import of_release

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
    """As `uname -m` says it."""
    boot_apic_id: int | None = None
    """The initial APIC id of CPU 0; None where the capture kernel finds it out itself, or it is unknown."""
    watchdog_drivers: tuple[str, ...] = ()
    graviton: bool = False
    """AWS on arm64."""
    uki: bool = False
    """The kernel to load is a unified kernel image."""


@dataclass(frozen=True, slots=True)
class Edit:
    """A word that was taken away or put there."""

    word: str
    added: bool
    why: str


@dataclass(frozen=True, slots=True)
class CaptureLine:
    """The command line, and what was done to get it; words in no edit were kept."""

    text: str
    edits: tuple[Edit, ...] = ()
    notes: tuple[str, ...] = ()
    """What the configuration may have meant otherwise."""


_OWN_RESERVATION = "the capture kernel lives in the reservation and makes none of its own"
_ROOT = "the capture system mounts its target itself, and would wait for this"

_FEDORA_REMOVED: Mapping[str, str] = {
    "crashkernel": _OWN_RESERVATION,
    "panic_on_warn": "a warning must not end the capture kernel",
    **dict.fromkeys(("root", "rd.lvm.lv", "rd.luks.uuid", "rd.dm.uuid", "rd.md.uuid", "fcoe"), _ROOT),
    **dict.fromkeys(
        ("netroot", "rd.iscsi.initiator", "iscsi_initiator"), "the capture initrd brings its own"
    ),
}
_SUSE_REMOVED: Mapping[str, str] = {
    "crashkernel": _OWN_RESERVATION,
    "root": "the capture system has its own root",
    "resume": "nothing is resumed from in the capture system",
    "mem": "the capture kernel's memory is what was reserved",
    "hugepages": "they would take the capture kernel's little memory",
    "unknown_nmi_panic": "an NMI must not end the capture kernel",
    **dict.fromkeys(("splash", "showopts", "BOOT_IMAGE"), "meant for the boot loader or a normal boot"),
    **dict.fromkeys(
        ("zfcp.allow_lun_scan", "acpi_no_memhotplug", "cgroup_disable", "rd.udev.children-max"),
        "set anew below",
    ),
}

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
# kdump-utils, gen-kdump-sysconfig.sh, by `uname -m`
_FEDORA_APPEND: Mapping[str, str] = {
    "x86_64": "irqpoll nr_cpus=1 reset_devices cgroup_disable=memory mce=off numa=off udev.children-max=2"
    " panic=10 acpi_no_memhotplug transparent_hugepage=never nokaslr hest_disable cma=0 pcie_ports=compat",
    "aarch64": "irqpoll nr_cpus=1 reset_devices cgroup_disable=memory udev.children-max=2 panic=10"
    " swiotlb=noforce cma=0",
    "ppc64le": "irqpoll nr_cpus=16 noirqdistrib reset_devices cgroup_disable=memory numa=off"
    " udev.children-max=2 ehea.use_mcs=0 panic=10 kvm_cma_resv_ratio=0 transparent_hugepage=never",
    "s390x": "nr_cpus=1 cgroup_disable=memory numa=off udev.children-max=2 panic=10"
    " transparent_hugepage=never vmcp_cma=0 cma=0",
    "i686": "irqpoll nr_cpus=1 reset_devices numa=off udev.children-max=2 panic=10"
    " transparent_hugepage=never cma=0",
}
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
    """What Fedora ships in KDUMP_COMMANDLINE_APPEND, by `uname -m`."""
    return f"{_FEDORA_APPEND.get(arch, _FEDORA_APPEND_ELSEWHERE)} {_FEDORA_COMMON}"


def read_facts(machine: Machine, kernel: str = "", release: str = "") -> Facts:
    """The facts of a machine. Raises MachineError.

    `kernel` is the path of the kernel to load, `release` its `uname -r`; by default the running one's.
    """
    arch = machine.uname_machine
    vendors = [read_text(machine.root, f"sys/class/dmi/id/{name}_vendor") or "" for name in ("sys", "bios")]
    return Facts(
        running=machine.command_line,
        arch=arch,
        boot_apic_id=None
        if finds_boot_cpu(release or machine.kernel_release)
        else _boot_apic_id(machine, arch),
        watchdog_drivers=_watchdog_drivers(machine),
        graviton=arch == "aarch64" and any("Amazon" in vendor for vendor in vendors),
        uki=kernel.endswith(".efi"),
    )


_FINDS_BOOT_CPU = (6, 9)  # commit 5c5682b9f87a


def finds_boot_cpu(release: str) -> bool:
    """Whether a capture kernel of that release finds the boot CPU out by itself."""
    return (of_release(release) or (0, 0)) >= _FINDS_BOOT_CPU


def _boot_apic_id(machine: Machine, arch: str) -> int | None:
    if arch not in ("x86_64", "i686"):
        return None
    found = re.search(
        r"^initial apicid[ \t]*: *(\d{1,10})$", read_text(machine.root, "proc/cpuinfo") or "", re.M
    )
    return int(found[1]) if found else None


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
    names = map(name_of, filter(_takes_away, asked))
    editor.remove({**dict.fromkeys(names, _REMOVE), **_FEDORA_REMOVED})
    if policy.append is None:
        editor.add(default_append(facts.arch), "Fedora's default for this architecture")
    else:
        editor.add(policy.append, "KDUMP_COMMANDLINE_APPEND")
    _add_boot_cpu(editor, facts)
    for driver in facts.watchdog_drivers:
        editor.add(
            f"{driver}.pretimeout=0", "the watchdog shall reset, not panic, a capture kernel that hangs"
        )
        if driver == "hpwdt":
            editor.add(
                "hpwdt.kdumptimeout=0", "else this watchdog would not reset a capture kernel that hangs"
            )
    if facts.graviton:
        editor.remove({"irqpoll": "on AWS Graviton it keeps PCI devices from being plugged out"})
    if facts.uki:
        editor.add("rd.systemd.gpt_auto=no", "the generator hangs in a capture system")


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
        reasons = dict.fromkeys(policy.remove, "kdump-config takes it away")
        editor.remove({**reasons, "crashkernel": _OWN_RESERVATION})
    editor.add(policy.append or "", "KDUMP_CMDLINE_APPEND")


def _suse(editor: _Editor, settings: Settings, facts: Facts) -> None:
    """build_kdump_commandline() of openSUSE's load.sh."""
    policy = settings.command_line
    editor.begin(policy.given or facts.running)
    if policy.given is None:
        editor.remove(_SUSE_REMOVED)
        if facts.arch in ("x86_64", "i686"):
            editor.remove({"notsc": "the capture kernel needs a clock"})
            editor.remove_word("console=hvc0", "Xen's console is gone with the hypervisor")
        usual = "kdump's usual parameters"
        editor.add(
            "sysrq=yes reset_devices acpi_no_memhotplug cgroup_disable=memory nokaslr numa=off irqpoll",
            usual,
        )
        if policy.cpus:
            editor.add(f"nr_cpus={policy.cpus}", "KDUMP_CPUS")
        editor.add("root=kdump rootflags=bind rd.udev.children-max=8", usual)
        _add_boot_cpu(editor, facts)
        if facts.arch == "s390x":
            editor.add("zfcp.allow_lun_scan=0", usual)
    editor.add(policy.append or "", "KDUMP_COMMANDLINE_APPEND")
    if not editor.has("panic"):
        editor.add("panic=1", "a capture kernel that panics shall not hang forever")


def _add_boot_cpu(editor: _Editor, facts: Facts) -> None:
    if facts.boot_apic_id is not None:
        why = "starting the boot CPU from another one would reset the machine"
        editor.add(f"disable_cpu_apicid={facts.boot_apic_id}", why)


class _Editor:
    """Words of a command line under change, and the changes."""

    def __init__(self) -> None:
        self._words: list[str] = []
        self._edits: list[Edit] = []
        self._notes: list[str] = []

    @property
    def words(self) -> Sequence[str]:
        return tuple(self._words)

    def begin(self, line: str) -> None:
        self._words = list(parameters(line))

    def note(self, notes: Iterable[str]) -> None:
        self._notes += notes

    def remove(self, reasons: Mapping[str, str]) -> None:
        """Take away every parameter of these names; each name with the reason."""
        by_name = {_canonical(name): why for name, why in reasons.items()}
        kept = []
        for word in self._words:
            why = by_name.get(_canonical(name_of(word)))
            if why is None:
                kept.append(word)
            else:
                self._edits.append(Edit(word, added=False, why=why))
        self._words = kept

    def remove_word(self, word: str, why: str) -> None:
        if word in self._words:
            self._words = [each for each in self._words if each != word]
            self._edits.append(Edit(word, added=False, why=why))

    def add(self, words: str, why: str) -> None:
        for word in parameters(words):
            self._words.append(word)
            self._edits.append(Edit(word, added=True, why=why))

    def has(self, name: str) -> bool:
        return any(name_of(word) == name for word in self._words)

    def line(self) -> CaptureLine:
        return CaptureLine(" ".join(self._words), tuple(self._edits), tuple(self._notes[:_NOTES_MAX]))


def _canonical(name: str) -> str:
    # parameq() in kernel/params.c: dashes and underscores are the same
    return name.replace("-", "_")

"""Make the capture kernel's command line from the running kernel's, as each distribution does.

Unlike the shell scripts this keeps words as they are, with quotes and empty values, and treats ``-`` and
``_`` in names as the same character, as the kernel does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pykexec import names
from pykexec.errors import UsageError
from pykexec.kdump.config.errors import shown
from pykexec.kdump.config.settings import CommandLinePolicy, Dialect, Settings
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
"""The files that `read_facts` reads in addition to those of `Machine`, for snapshots."""


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts that the rules depend on."""

    running: str
    """The running kernel's command line."""
    arch: str
    """Our name of the architecture."""
    boot_cpu: str = ""
    """The parameter that keeps the capture kernel off the boot CPU; "" where none is needed or known."""
    fedora_removes: tuple[str, ...] = ()
    """Names of parameters that Fedora removes on this machine, in addition to those on all."""
    watchdog_drivers: tuple[str, ...] = ()
    uki: bool = False
    """Whether the kernel to load is a unified kernel image."""


@dataclass(frozen=True, slots=True)
class CaptureLine:
    """The command line, with notes."""

    text: str
    notes: tuple[str, ...] = ()
    """Notes on settings that may have been meant otherwise."""


# The capture kernel lives in the reservation and makes none of its own.
_OWN_RESERVATION = "crashkernel"
_FEDORA_REMOVES = (
    _OWN_RESERVATION,
    "panic_on_warn",  # a warning must not end the capture kernel
    # The capture system mounts its target by itself and would wait for these.
    *("root", "rd.lvm.lv", "rd.luks.uuid", "rd.dm.uuid", "rd.md.uuid", "fcoe"),
    *("netroot", "rd.iscsi.initiator", "iscsi_initiator"),  # the capture initrd brings its own
)
_SUSE_REMOVES = (
    _OWN_RESERVATION,
    "root",  # the capture system has its own
    "resume",  # the capture system does not resume
    "mem",  # the capture kernel's memory is what was reserved
    "hugepages",  # they would take up the little memory
    "unknown_nmi_panic",  # an NMI must not end the capture kernel
    *("splash", "showopts", "BOOT_IMAGE"),  # for the boot loader or a normal boot
    # set again below
    *("zfcp.allow_lun_scan", "acpi_no_memhotplug", "cgroup_disable", "rd.udev.children-max"),
)

_REMOVE = "KDUMP_COMMANDLINE_REMOVE"
# The words that kdump-utils (gen-kdump-sysconfig.sh), and kexec-tools before it, ship in
# KDUMP_COMMANDLINE_REMOVE on any architecture.
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

# The inodes and dentries of tracefs take 8 MiB. An initcall that a kernel does not have is ignored, and
# of several such lists all count (initcall_blacklist() in init/main.c).
NO_TRACEFS = "initcall_blacklist=tracer_init_tracefs"
_NO_CIPHER_TESTS = "cryptomgr.notests"  # each cipher is tested when it is registered (crypto/testmgr.c)
_NO_CMA = "cma=0"  # memory for devices alone, 64 MiB in Debian's arm64 kernels


def build(settings: Settings, facts: Facts) -> CaptureLine:
    """Return the command line for those settings on that machine.

    Raises UsageError where it contains a NUL.
    """
    editor = _Editor()
    {Dialect.FEDORA: _fedora, Dialect.DEBIAN: _debian, Dialect.SUSE: _suse}[settings.dialect](
        editor, settings, facts
    )
    editor.note(_note_on_threads(settings.collector.threads, limit_of_cpus(editor.words)))
    line = editor.line()
    if "\0" in line.text:
        raise UsageError("the command line has a NUL character in it; the kernel would stop reading there")
    return line


def for_own_image(text: str, policy: CommandLinePolicy) -> str:
    """Return the line with words by which a kernel leaves out what our own capture system does not use.

    A line that the configuration gives as a whole stays as it is, and what it removes is not added.
    """
    words = tuple(parameters(text))
    # kdump-utils ships cma there, to take away what the running kernel has.
    unwanted = {_canonical(name_of(word)) for word in policy.remove} - {"cma"}
    added = [
        word
        for word in _left_out(words)
        if policy.given is None and word not in words and _canonical(name_of(word)) not in unwanted
    ]
    return " ".join((text, *added))


def _left_out(words: Sequence[str]) -> Iterator[str]:
    """Yield these words. What is configured counts, and FIPS 140 asks for tests of ciphers."""
    there = {name_of(word) for word in words if word != "fips=0"}
    yield NO_TRACEFS
    if there.isdisjoint(("fips", _NO_CIPHER_TESTS)):
        yield _NO_CIPHER_TESTS
    if "cma" not in there:
        yield _NO_CMA


def default_append(arch: str, threads: int = 0) -> str:
    """Return what Fedora ships in KDUMP_COMMANDLINE_APPEND, by our name of the architecture.

    With as many CPUs as makedumpfile's threads take (--num-threads).
    """
    fedora = part_of(arch).fedora
    text = f"{_FEDORA_APPEND_ELSEWHERE if fedora is None else fedora.append} {_FEDORA_COMMON}"
    return _CPUS.sub(lambda found: f"{found[1]}={max(int(found[2]), _cpus_for(threads))}", text)


_CPUS = re.compile(r"(?<!\S)(nr_cpus|maxcpus)=(\d{1,6})(?!\S)")


def limit_of_cpus(words: Sequence[str]) -> int | None:
    """Return how many CPUs a kernel with those words uses at most; None: all that there are."""
    found = [match for word in words if (match := _CPUS.fullmatch(word))]
    last = {match[1]: max(int(match[2]), 1) for match in found}  # maxcpus=0 means one, too
    return min(last.values(), default=None)


def _cpus_for(threads: int) -> int:
    """Return how many CPUs makedumpfile takes: its threads read and compress, and one CPU writes."""
    return threads + 1 if threads else 1


def _note_on_threads(threads: int, cpus: int | None) -> Iterator[str]:
    if cpus is not None and threads > 1 and cpus < _cpus_for(threads):
        yield (
            f"--num-threads {threads}: on the capture kernel's CPUs ({cpus}) they only take memory;"
            f" write nr_cpus={_cpus_for(threads)}"
        )


def read_facts(machine: Machine, kernel: str = "", release: str = "") -> Facts:
    """Return the facts of a machine. Raises MachineError.

    `kernel` is the path of the kernel to load, `release` its `uname -r`; default: the running kernel's.
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
    """Build the line as prepare_cmdline() of kdumpctl does."""
    policy = settings.command_line
    editor.begin(policy.given or facts.running)
    asked = list(parameters(" ".join(policy.remove)))
    editor.note(_notes_on_removing(asked, editor.words))
    editor.remove([*map(name_of, filter(_takes_away, asked)), *_FEDORA_REMOVES])
    threads = settings.collector.threads
    editor.add(default_append(facts.arch, threads) if policy.append is None else policy.append)
    editor.add(facts.boot_cpu)
    for driver in facts.watchdog_drivers:
        # The watchdog must reset, not panic, a capture kernel that hangs.
        editor.add(f"{driver}.pretimeout=0")
        if driver == "hpwdt":
            editor.add("hpwdt.kdumptimeout=0")  # else this watchdog would not reset it
    editor.remove(facts.fedora_removes)
    if facts.uki:
        editor.add("rd.systemd.gpt_auto=no")  # the generator hangs in a capture system


def _takes_away(word: str) -> bool:
    # kdump-lib.sh, _cmdline_parse(): NAME=VALUE removes by the name alone, and NAME= is ignored.
    return not word.endswith("=")


def _notes_on_removing(asked: Sequence[str], words: Sequence[str]) -> Iterator[str]:
    """Yield notes on words of KDUMP_COMMANDLINE_REMOVE that remove nothing, or more than they say."""
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
    """Build the line as kdump_load() of kdump-config does: nothing is removed from a line that was given."""
    policy = settings.command_line
    editor.begin(policy.given or facts.running)
    if policy.given is None:
        editor.remove([*policy.remove, _OWN_RESERVATION])
    editor.add(policy.append or "")
    if policy.given is None and limit_of_cpus(editor.words) != 1 and not editor.has("disable_cpu_apicid"):
        editor.add(facts.boot_cpu)  # kdump-config leaves that to whoever raises nr_cpus=1


def _suse(editor: _Editor, settings: Settings, facts: Facts) -> None:
    """Build the line as build_kdump_commandline() of openSUSE's load.sh does."""
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
        editor.add("panic=1")  # a capture kernel that panics must not hang forever


class _Editor:
    """The words of a command line, which change."""

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
        """Remove parameters: NAME whatever its value, NAME=VALUE only if it is exactly that."""
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

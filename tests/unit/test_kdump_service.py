"""The service's decisions: what to load, what has changed, what has been proven."""

import errno
import hashlib
import io
import json
import os
import re
import shlex
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec import loader, streams, syscalls, writing
from pykexec.errors import FileError, PykexecError
from pykexec.kdump import config, files, makedumpfile
from pykexec.kdump.capture import handover, keys
from pykexec.kdump.capture.handover import HasKey
from pykexec.kdump.capture.keys import Key
from pykexec.kdump.cli import exit_code
from pykexec.kdump.config import debian, fedora, suse
from pykexec.kdump.config.errors import ConfigError
from pykexec.kdump.config.settings import Collector, Dialect, KernelChoice, Settings
from pykexec.kdump.dumpsize import expected_size
from pykexec.kdump.makedumpfile import Kernel
from pykexec.kdump.service import actions, cli, dumps, installation, lock, plan, receipt, status, trial
from pykexec.kdump.service.readiness import Judgement, Readiness
from pykexec.kdump.service.receipt import Receipt
from pykexec.kdump.service.state import State
from pykexec.kdump.service.trial import Outcome, Trial
from pykexec.machine import Machine
from pykexec.memory import KIB, MIB
from pykexec.plan import FileLoadPlan, Request, Segment
from pykexec.purpose import Purpose
from tests.support import faults, vmcore, volume_keys
from tests.support.bzimage import FakeBzImage
from tests.support.machines import unpacked, write
from tests.support.vmcore_log import Lockless, Memory

X86_64 = "qemu-6.1-1g"

# What to load


def machine_with(tmp_path: Path, sysconfig: str = "", conf: str = "path /var/crash\n") -> Machine:
    """A guest's snapshot with a configuration; kernels are looked for in a folder of our own."""
    boot = tmp_path / "boot"
    boot.mkdir(exist_ok=True)
    for version in ("6.0-other", "6.1-running"):
        (boot / f"vmlinuz-{version}").write_bytes(b"kernel")
    changes = {
        "etc/kdump.conf": conf,
        "etc/sysconfig/kdump": f"KDUMP_BOOTDIR={boot}\n{sysconfig}\n",
        "proc/sys/kernel/osrelease": "6.1-running\n",
    }
    return unpacked(X86_64, tmp_path / "machine", changes)


def test_the_running_kernel_by_default(tmp_path: Path) -> None:
    machine = machine_with(tmp_path, "KDUMP_COMMANDLINE_APPEND='nr_cpus=1 irqpoll'")
    made = plan.make(machine)
    assert made.kernel == str(tmp_path / "boot/vmlinuz-6.1-running")
    assert (made.initrd, made.own_image) == ("/var/lib/pykdump/initrd-6.1-running.img", True)
    own = " initcall_blacklist=tracer_init_tracefs cryptomgr.notests cma=0"
    assert made.command_line.endswith(f"nr_cpus=1 irqpoll{own}")
    assert plan.make(machine, initrd="/boot/other.img").command_line == made.command_line.removesuffix(own)
    assert "crashkernel=" not in made.command_line
    assert made.release == "6.1-running"


def test_another_kernel_and_another_image(tmp_path: Path) -> None:
    machine = machine_with(tmp_path, "KDUMP_KERNELVER=6.0-other")
    assert plan.make(machine).kernel == str(tmp_path / "boot/vmlinuz-6.0-other")
    assert plan.make(machine).initrd.endswith("initrd-6.0-other.img")
    given = plan.make(machine, initrd="/boot/initramfs-6.0kdump.img")
    assert (given.initrd, given.own_image) == ("/boot/initramfs-6.0kdump.img", False)


def test_the_capture_kernel_says_what_its_command_line_needs(tmp_path: Path) -> None:
    """Not the running one: before 6.9 it must be told which CPU is the boot CPU."""
    for running, loaded in (("6.12-new", "6.1-old"), ("6.1-old", "6.12-new")):
        machine = machine_with(tmp_path, f"KDUMP_KERNELVER={loaded}")
        (tmp_path / f"boot/vmlinuz-{loaded}").write_bytes(b"kernel")
        write(tmp_path / "machine", "proc/sys/kernel/osrelease", f"{running}\n")
        write(tmp_path / "machine", "proc/cpuinfo", "processor\t: 0\ninitial apicid\t: 4\n")
        line = plan.make(machine).command_line
        assert ("disable_cpu_apicid=4" in line) == (loaded == "6.1-old")


def test_where_a_kernel_may_be() -> None:
    assert next(files.kernel_candidates(KernelChoice(), "6.1")) == "/boot/vmlinuz-6.1"
    choice = KernelChoice(version="5.10", folder="/b", image="Image", extension=".gz")
    assert list(files.kernel_candidates(choice, "6.1")) == ["/b/Image-5.10.gz"]
    assert list(files.kernel_candidates(KernelChoice(path="/x"), "6.1")) == ["/x"]


@pytest.mark.parametrize(
    ("sysconfig", "error", "what"),
    [
        ("KDUMP_KERNELVER=9.9", FileError, r"the capture kernel is not there: .*/boot/vmlinuz-9\.9"),
        ("KDUMP_KERNELVER=..", ConfigError, r"/etc/sysconfig/kdump:2: KDUMP_KERNELVER"),
    ],
)
def test_what_cannot_be_planned(
    sysconfig: str, error: type[PykexecError], what: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=what):
        plan.make(machine_with(tmp_path, sysconfig))


@pytest.mark.parametrize(
    ("settings", "hint"),
    [
        (fedora.read("", "KDUMP_BOOTDIR=/no\n"), "KDUMP_KERNELVER, KDUMP_BOOTDIR, "),
        (debian.read("USE_KDUMP=1\nKDUMP_KERNEL=/no\n"), "KDUMP_KERNEL says"),
        (suse.read("KDUMP_KERNELVER=no\n"), "KDUMP_KERNELVER says"),
        (config.assumed(), "install the package of the kernel that runs"),
    ],
)
def test_a_missing_kernel_is_told_with_what_names_it(settings: Settings, hint: str, tmp_path: Path) -> None:
    changes = {"proc/sys/kernel/osrelease": "6.1-without-a-file\n"}
    machine = unpacked(X86_64, tmp_path / "machine", changes)
    files = () if settings == config.assumed() else ("/etc/x",)
    with pytest.raises(FileError, match="the capture kernel is not there") as raised:
        plan.of_settings(replace(settings, files=files), machine)
    assert str(raised.value.hint).startswith(hint)


def test_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"kdump is not configured here: no /etc/kdump\.conf"):
        plan.make(unpacked(X86_64, tmp_path / "machine"))


@pytest.mark.parametrize("arguments", ["", "-s", "-c", "-a", "-d", "--kexec-syscall-auto"])
def test_arguments_of_kexec(arguments: str, tmp_path: Path) -> None:
    made = plan.make(machine_with(tmp_path, f"KEXEC_ARGS='{arguments}'"))
    options = made.options(hotplug=False)
    assert (options.initrd, options.append, options.kernel) == (made.initrd, made.command_line, made.kernel)
    assert options.system_call == {"-s": "file", "-c": "load"}.get(arguments, "auto")
    # kexec_file_load does that by itself.
    assert made.options(hotplug=True).hotplug == (arguments != "-s")


@pytest.mark.parametrize(
    "arguments",
    ["-u", "-l", "-e", "-S", "--frobnicate", "--initrd", "--reuse-cmdline", "-f", "another-kernel"],
)
def test_arguments_that_are_not_for_this(arguments: str, tmp_path: Path) -> None:
    made = plan.make(machine_with(tmp_path, f"KEXEC_ARGS='{arguments}'"))
    with pytest.raises(ConfigError, match=r"^/etc/sysconfig/kdump: KEXEC_ARGS \(KEXEC_OPTIONS\) '.*': "):
        made.options(hotplug=False)


def test_what_is_not_done_is_said(tmp_path: Path) -> None:
    arguments = '--omit-drivers "x" -o "plymouth resume" --no-compress --add-drivers "=drivers/net y"'
    machine = machine_with(tmp_path, conf=f"dracut_args {arguments}\n")
    (told,) = plan.make(machine).warnings
    assert told.endswith(": -o plymouth resume, --no-compress, --add-drivers =drivers/net")
    assert plan.make(machine, initrd="/x").warnings == ()


_CIB = """
<cib><configuration><nodes><node id="1" uname="here"/><node id="2" uname="two"/></nodes>
<resources><primitive id="f" class="stonith" type="fence_kdump"/></resources></configuration>
<status><node_state id="2" uname="two"/></status></cib>
"""


@pytest.mark.parametrize(
    ("cib", "conf", "told"),
    [
        (_CIB, "path /x\n", ["fence_kdump_nodes two"]),
        (_CIB, "fence_kdump_nodes two\n", []),
        (_CIB.replace("fence_kdump", "fence_ipmilan"), "path /x\n", []),
        ("no cluster", "path /x\n", []),
        ("\xff" * 100, "path /x\n", []),
    ],
)
def test_a_cluster_that_nobody_tells(cib: str, conf: str, told: list[str], tmp_path: Path) -> None:
    """kdump-utils takes the nodes from the cluster's configuration, where kdump.conf has none."""
    machine = machine_with(tmp_path, conf=conf)
    write(tmp_path / "machine", "var/lib/pacemaker/cib/cib.xml", cib)
    write(tmp_path / "machine", "proc/sys/kernel/hostname", "here\n")
    warnings = plan.make(machine).warnings
    assert [each.rpartition(": ")[2] for each in warnings] == told


def test_levels_of_messages_are_not_kept_silent_about(tmp_path: Path) -> None:
    shipped = "KDUMP_STDLOGLVL=3\nKDUMP_SYSLOGLVL=0\nKDUMP_KMSGLOGLVL=0"
    assert not plan.make(machine_with(tmp_path, shipped)).warnings
    (told,) = plan.make(machine_with(tmp_path, "KDUMP_SYSLOGLVL=4")).warnings
    assert "have no effect" in told


def test_the_reservation_is_not_reset(tmp_path: Path) -> None:
    (told,) = plan.make(machine_with(tmp_path, conf="auto_reset_crashkernel yes\n")).warnings
    assert "auto_reset_crashkernel" in told
    assert not plan.make(machine_with(tmp_path, conf="auto_reset_crashkernel no\n")).warnings


@pytest.mark.parametrize("target", ["ssh root@192.0.2.1", "raw /dev/vdb3"])
def test_old_dumps_that_are_not_removed(target: str, tmp_path: Path) -> None:
    conf = f"{target}\ncore_collector makedumpfile -F\nkeep_old_dumps 3\n"
    (told,) = plan.make(machine_with(tmp_path, conf=conf)).warnings
    assert told == f"the number of old dumps to keep: on {target} all dumps stay as they are"
    assert not plan.make(machine_with(tmp_path, conf=conf), initrd="/x").warnings
    assert not plan.make(machine_with(tmp_path, conf="keep_old_dumps 3\n")).warnings


# Receipts

RECEIPT = Receipt(
    "boot", "/k", "11", "/i", "22", "line", "there", "hw", "in", "kexec_load", "2026-01-01T00:00:00Z"
)


def test_receipts_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "a/b/receipt.json"
    receipt.save(RECEIPT, path)
    assert receipt.load(path) == RECEIPT
    assert receipt.load(tmp_path / "none") is None


def test_receipts_from_before_keys_were_handed_over(tmp_path: Path) -> None:
    receipt.save(RECEIPT, tmp_path / "receipt.json")
    content = json.loads((tmp_path / "receipt.json").read_text())
    del content["keys"]
    assert receipt.parse(json.dumps(content)) == RECEIPT
    del content["target"]
    assert receipt.parse(json.dumps(content)) is None


@given(st.binary(max_size=200))
def test_no_receipt_in_anything_else(content: bytes) -> None:
    path = Path("/dev/shm/pykexec-test-receipt")
    path.write_bytes(content)
    try:
        assert receipt.load(path) is None
    finally:
        path.unlink()


@pytest.mark.parametrize("content", ["[]", "{}", '{"boot": 1}', json.dumps({"boot": "x"}), "{" * 10000])
def test_damaged_receipts(content: str, tmp_path: Path) -> None:
    path = tmp_path / "receipt"
    path.write_text(content)
    assert receipt.load(path) is None


def test_what_a_test_proves() -> None:
    assert RECEIPT.proves(replace(RECEIPT, boot="later", time="later", target="elsewhere", kernel="/moved"))
    for change in ("kernel_sha256", "initrd_sha256", "command_line"):
        assert not RECEIPT.proves(replace(RECEIPT, **{change: "other"}))


def test_hardware_is_memory_and_cpus(tmp_path: Path) -> None:
    machine = unpacked(X86_64, tmp_path / "one")
    iomem = (machine.read("proc/iomem") or b"").decode()
    grown = unpacked(X86_64, tmp_path / "two", {"proc/iomem": iomem + "200000000-23fffffff : System RAM\n"})
    assert receipt.hardware(machine) != receipt.hardware(grown)


@pytest.mark.parametrize("umask", [0, 0o022, 0o777])
def test_receipts_are_for_root_alone(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        receipt.save(RECEIPT, tmp_path / "a/receipt.json")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a/receipt.json").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700
    (tmp_path / "a").chmod(0o777)
    receipt.save(RECEIPT, tmp_path / "a/receipt.json")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700


# Dumps


def make_dump(folder: Path, name: str, file: str, size: int) -> None:
    (folder / name).mkdir()
    (folder / name / file).write_bytes(b"x" * size)


def test_dumps_are_listed_newest_first(tmp_path: Path) -> None:
    make_dump(tmp_path, "127.0.0.1-2026-01-02-03:04:05", "vmcore", 7)
    make_dump(tmp_path, "host.example-2026-03-01-00:00:00", "vmcore.flat", 9)
    make_dump(tmp_path, "202602010000", "dump.202602010000", 2)
    make_dump(tmp_path, "10.0.0.1-2025-01-01-00:00:00", "vmcore-incomplete", 3)
    (tmp_path / "10.0.0.1-2025-01-01-00:00:00/vmcore-dmesg.txt").write_bytes(b"the log")
    (tmp_path / "notes").mkdir()
    (tmp_path / "127.0.0.1-2026-05-05-00:00:00").write_text("a file")
    found = dumps.in_folder(tmp_path)
    assert [dump.folder.name for dump in found] == [
        "host.example-2026-03-01-00:00:00",
        "202602010000",
        "127.0.0.1-2026-01-02-03:04:05",
        "10.0.0.1-2025-01-01-00:00:00",
    ]
    assert [(dump.size, dump.is_whole) for dump in found] == [(9, True), (2, True), (7, True), (3, False)]
    assert "INCOMPLETE" in str(found[3])
    assert found[3].log_holds("the log")
    assert not found[2].log_holds("the log")
    assert dumps.in_folder(tmp_path / "none") == ()


@pytest.mark.parametrize(
    ("name", "file", "log"),
    [
        ("2026-11-30-04-47", "vmcore", "dmesg"),  # openSUSE's kdump-save
        ("host.example-2026-11-30-04-47", "vmcore", "dmesg"),
        ("2026-11-30-04:47", "vmcore", "dmesg.txt"),  # its kdumptool; kdumpctl's for a raw target
        ("kdump-test-1796000000-123456789", "vmcore", "vmcore-dmesg.txt"),  # kdumpctl test
        ("202611300447", "dump.202611300447", "dmesg.202611300447"),
        ("127.0.0.1-2026-11-30-04:47:01.2", "vmcore", "vmcore-dmesg.txt"),
    ],
)
def test_names_that_others_give(name: str, file: str, log: str, tmp_path: Path) -> None:
    make_dump(tmp_path, name, file, 7)
    make_dump(tmp_path, "127.0.0.1-2026-11-28-00:00:00", "vmcore", 1)
    make_dump(tmp_path, "127.0.0.1-2026-12-02-00:00:00", "vmcore", 3)
    (tmp_path / name / log).write_text("the log")
    newer, found, older = dumps.in_folder(tmp_path)
    assert (newer.size, found.size, older.size) == (3, 7, 1)
    assert (found.folder.name, found.is_whole, found.has_log) == (name, True, True)
    assert found.log_holds("the log")


def test_half_a_log_is_no_dump(tmp_path: Path) -> None:
    make_dump(tmp_path, "127.0.0.1-2026-01-02-03:04:05", "vmcore-dmesg-incomplete.txt", 9)
    (found,) = dumps.in_folder(tmp_path)
    assert (found.size, found.is_whole, found.has_log) == (0, False, False)


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another user")
_NOBODY = 65534


def _give_away(path: Path) -> None:
    for each in (path, *path.rglob("*")):
        os.lchown(each, _NOBODY, _NOBODY)


@needs_root
def test_a_dump_that_somebody_else_has_made_proves_nothing(tmp_path: Path) -> None:
    test = Trial("abc", "boot-1", "now")
    tmp_path.chmod(0o1777)
    make_dump(tmp_path, "202611300000", "dump.202611300000", 7)
    folder = tmp_path / "202611300000"
    (folder / "dmesg.202611300000").write_text(test.marker)
    (found,) = dumps.in_folder(tmp_path)
    assert test.judge("boot-2", [found]) is Outcome.PASSED
    assert dumps.count_of_others(tmp_path) == 0
    _give_away(folder / "dmesg.202611300000")
    assert test.judge("boot-2", dumps.in_folder(tmp_path)) is Outcome.FAILED, "a file"
    assert not found.log_holds(test.marker)
    os.chown(folder / "dmesg.202611300000", 0, 0)
    for mode in (0o777, 0o1777, 0o775):
        folder.chmod(mode)
        assert dumps.in_folder(tmp_path) == [], "others can put files into it"
        assert not found.log_holds(test.marker)
    folder.chmod(0o755)
    _give_away(folder)
    assert dumps.in_folder(tmp_path) == [], "a folder"
    assert dumps.count_of_others(tmp_path) == 1
    os.lchown(folder, 0, 0)
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to("elsewhere")
    assert dumps.in_folder(tmp_path) == [], "a link"


def test_a_folder_where_others_can_exchange_dumps_is_not_looked_at(tmp_path: Path) -> None:
    make_dump(tmp_path, "202611300000", "dump.202611300000", 7)
    tmp_path.chmod(0o777)
    with pytest.raises(FileError, match="others than root can change what is in"):
        dumps.in_folder(tmp_path)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_only_regular_files_are_read(make: Callable[[Path], None], tmp_path: Path) -> None:
    make_dump(tmp_path, "202611300000", "dump.202611300000", 0)
    make(tmp_path / "202611300000/dmesg.202611300000")
    (found,) = dumps.in_folder(tmp_path)
    assert not found.has_log
    assert not found.log_holds("x")


def test_what_becomes_something_else_while_it_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_dump(tmp_path, "202611300000", "dump.202611300000", 7)
    log = tmp_path / "202611300000/dmesg.202611300000"
    log.write_text("x")
    (found,) = dumps.in_folder(tmp_path)
    files = dumps._files

    def exchange(folder: int) -> dict[str, os.stat_result]:
        seen = files(folder)
        log.unlink()
        os.mkfifo(log)
        return seen

    monkeypatch.setattr(dumps, "_files", exchange)
    assert not found.log_holds("x")


@given(st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1, max_size=20))
def test_status_does_nothing_to_a_terminal(text: str) -> None:
    found = dumps.Dump(Path("/c") / text, 1, True, True)
    assert str(found).isprintable()
    lines = shown(judgement=Judgement(Readiness.PROVEN, text), dumps=(found,), problem=text, unseen=text)
    assert len(lines) <= 10
    assert all(line.isprintable() for line in lines)


# Tests


def test_how_a_test_is_judged(tmp_path: Path) -> None:
    test = Trial("abc", "boot-1", "now")
    folder = tmp_path / "127.0.0.1-2026-01-02-03:04:05"
    folder.mkdir()
    (folder / "vmcore-dmesg.txt").write_text(f"[ 1.0] {test.marker}\n[ 2.0] panic\n")
    assert test.judge("boot-1", ()) is Outcome.RUNNING
    assert test.judge("boot-2", None) is Outcome.UNSEEN
    assert test.judge("boot-2", dumps.in_folder(tmp_path)) is Outcome.FAILED, "there is a log, but no dump"
    (folder / "vmcore").write_text("dump")
    assert test.judge("boot-2", dumps.in_folder(tmp_path)) is Outcome.PASSED
    assert Trial("other", "boot-1", "now").judge("boot-2", dumps.in_folder(tmp_path)) is Outcome.FAILED


def test_a_test_is_judged_by_what_is_to_be_saved(tmp_path: Path) -> None:
    """KDUMP_DUMPFORMAT=none leaves no dump, KDUMP_DUMP_DMESG=0 no log beside it."""
    test = Trial("abc", "boot-1", "now")
    folder = tmp_path / "127.0.0.1-2026-01-02-03:04:05"
    folder.mkdir()
    (folder / "vmcore-dmesg.txt").write_text(f"[ 1.0] {test.marker}\n")
    (failed,) = dumps.in_folder(tmp_path)
    assert str(failed) == f"{folder}  INCOMPLETE, 0.0 MiB, with the log"
    (found,) = dumps.in_folder(tmp_path, log_alone=True)
    assert test.judge("boot-2", [found]) is Outcome.PASSED
    assert Trial("other", "boot-1", "now").judge("boot-2", [found]) is Outcome.FAILED
    assert str(found) == f"{folder}  the kernel's log alone"

    (folder / "vmcore-dmesg.txt").unlink()
    ring, memory = Lockless(4, 10), Memory()
    ring.write(10**9, test.marker.encode())
    lines = {"OSRELEASE": "6.1.0", "PAGESIZE": 4096, **ring.place(memory)}
    whole = vmcore.elf(memory.parts(), notes=vmcore.vmcoreinfo_note(lines))
    (folder / "dump.202601020304").write_bytes(whole)
    assert test.judge("boot-2", dumps.in_folder(tmp_path)) is Outcome.PASSED
    assert Trial("other", "boot-1", "now").judge("boot-2", dumps.in_folder(tmp_path)) is Outcome.FAILED
    (folder / "dump.202601020304").write_bytes(whole[:1000])
    assert test.judge("boot-2", dumps.in_folder(tmp_path)) is Outcome.FAILED


def test_a_test_leaves_its_marker_and_is_settled_once(tmp_path: Path) -> None:
    path, proven = tmp_path / "test.json", tmp_path / "proven.json"
    assert trial.pending(path) is None
    begun = trial.prepare(RECEIPT, "now", path)
    assert trial.pending(path) == (begun, RECEIPT)
    trial.settle(RECEIPT, proven, path)
    assert trial.pending(path) is None
    assert receipt.load(proven) == RECEIPT


def test_no_crash_without_being_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["test"]) == 1
    assert "pykdump has loaded no capture kernel" in capsys.readouterr().err


@pytest.mark.parametrize("stdin", [io.StringIO("y\n"), None], ids=["no terminal", "closed"])
def test_no_crash_where_nobody_can_be_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stdin: io.StringIO | None
) -> None:
    monkeypatch.setattr(actions, "loaded_now", lambda machine: RECEIPT)
    monkeypatch.setattr("sys.stdin", stdin)
    assert exit_code(["test"]) == 1
    assert "say --yes where nobody can be asked" in capsys.readouterr().err


# Status


def shown(**changes: object) -> list[str]:
    proven = Judgement(Readiness.PROVEN, "why")
    default = State(proven, RECEIPT, 256 * MIB, Path("/c"), 5 * MIB, 3 * MIB, (), Outcome.NONE)
    return status.as_text(replace(default, **changes)).splitlines()  # type: ignore[arg-type]


def test_status_fits_on_ten_lines() -> None:
    many = tuple(dumps.Dump(Path(f"/c/{number}"), number, True, True) for number in range(20))
    lines = shown(dumps=many, problem="x")
    assert len(lines) == 10
    assert lines[0] == "armed:    yes, and proven: why"
    assert "dumps:    20 in /c" in lines


@given(
    st.sampled_from(Readiness),
    st.one_of(st.none(), st.just(RECEIPT)),
    st.one_of(st.none(), st.integers(0, 1 << 50)),
    st.one_of(st.none(), st.just(Path("/c"))),
)
def test_status_always_says_whether(
    readiness: Readiness, loaded: Receipt | None, number: int | None, folder: Path | None
) -> None:
    judgement = Judgement(readiness, "why")
    lines = shown(
        judgement=judgement, receipt=loaded, reserved=number, folder=folder, free=number, size=number
    )
    assert len(lines) <= 10
    assert lines[0].startswith(f"armed:    {readiness.value}")
    assert any(line.startswith("dumps:") for line in lines)


_MEMINFO = """\
MemTotal:        1000000 kB
MemFree:          600000 kB
Buffers:           10000 kB
Cached:           100000 kB
AnonPages:        200000 kB
Slab:              50000 kB
"""


_FITS = makedumpfile.fit(makedumpfile.packaged("1.7.2-1"), Kernel("x86_64", "6.1.0"))


@pytest.mark.parametrize(
    ("words", "save", "size"),
    [
        (("makedumpfile", "-d", "31"), True, 90000),
        (("makedumpfile", "-d", "1"), True, 1000000),
        (("makedumpfile", "-d", "17"), True, 1000000 - 600000),
        (("cp",), True, 1000000),
        (("makedumpfile", "-d", "31"), False, 0),
    ],
)
def test_the_size_to_expect(words: tuple[str, ...], save: bool, size: int) -> None:
    settings = Settings(Dialect.FEDORA, collector=Collector(words), save_dump=save)
    assert expected_size(settings, _MEMINFO, _FITS) == size * KIB
    assert expected_size(settings, "", _FITS) is None


@pytest.mark.parametrize(
    ("free", "size", "kept", "warns"),
    [
        (100, 99, 1, False),
        (100, 100, 1, True),
        (0, 1, 0, True),
        (None, 1, 0, False),
        (1, None, 0, False),
    ],
)
def test_what_start_says_of_the_room(free: int | None, size: int | None, kept: int, warns: bool) -> None:
    there, needed = (None if each is None else each * MIB for each in (free, size))
    proven = Judgement(Readiness.PROVEN, "why")
    found = State(proven, RECEIPT, 256 * MIB, Path("/c"), there, needed, (), Outcome.NONE)
    said = cli.room_warning(found, kept * MIB)
    assert (said is not None) == warns
    assert said is None or f"/c: {free}M free, a dump may take {(size or 0) + kept}M" in said


@pytest.mark.parametrize(
    ("kernel", "version", "size"),
    [
        ("6.12.1", "1.7.8", 90000),
        ("6.12.1", "1.7.6", 90000 + 600000),
        ("6.12.1", "1.7.2", 1000000),
        ("7.2.13", "1.7.9", 1000000),
    ],
)
def test_the_size_where_makedumpfile_does_not_know_the_kernel(kernel: str, version: str, size: int) -> None:
    """As large as seen: Debian 13's 1.7.6 leaves the free pages of its own 6.12 in."""
    settings = Settings(Dialect.FEDORA, collector=Collector(("makedumpfile", "-d", "31")))
    found = makedumpfile.fit(makedumpfile.packaged(version), Kernel("x86_64", kernel))
    assert expected_size(settings, _MEMINFO, found) == size * KIB


# Whether makedumpfile knows the kernel


def _with_makedumpfile(folder: Path, version: str) -> str:
    path = folder / "makedumpfile"
    path.write_bytes(f"\0makedumpfile: version {version} (released on 1 Jan 2026)\0".encode())
    path.chmod(0o755)
    return str(path)


def test_start_loads_what_loses_nothing(tmp_path: Path) -> None:
    """The level of a program that does not know the kernel is lowered, until there is another program."""
    for version, level in (("1.7.9", "1"), ("1.8.0", "31")):
        program = _with_makedumpfile(tmp_path, version)
        conf = f"path /x\ncore_collector {program} -l -d 31\n"
        machine = unpacked("qemu-7.2-1g", tmp_path / version, {"etc/kdump.conf": conf})
        settings = config.read(machine.root)
        assert settings is not None
        fitting, said = plan.fitting(settings, machine)
        assert fitting.collector.words == (program, "-l", "-d", level)
        assert fitting.collector.is_known_to_fit
        assert ["too old" in each and "-d 1" in each for each in said] == [True] * (level == "1")
        same, said = plan.fitting(settings, machine, own_image=False)
        assert same == settings
        assert ["too old" in each and "-d 1" not in each for each in said] == [True] * (level == "1")


_READ_STATUS = """
import sys
from pathlib import Path
from pykexec.kdump.cli import exit_code
from pykexec.kdump.service import receipt, trial
from pykexec.machine import Folder, Machine
top = Path(sys.argv[1])
receipt.LOADED, receipt.PROVEN = top / "run/loaded.json", top / "lib/proven.json"
trial.pending.__defaults__ = (top / "lib/test.json",)
Machine.live = lambda: Machine(Folder(top / "machine"))
sys.exit(exit_code(["status"]))
"""


def _status(top: Path, user: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", _READ_STATUS, str(top)]
    return subprocess.run(command, capture_output=True, text=True, check=False, user=user)


def test_status_says_how_to_begin(tmp_path: Path) -> None:
    unpacked(X86_64, tmp_path / "machine")
    done = _status(tmp_path, os.geteuid())
    told = done.stdout.splitlines()
    assert (done.returncode, done.stderr, told[0][:12]) == (3, "", "armed:    no")
    assert told[1].startswith("next:     pykdump setup")
    assert "problem:  kdump is not configured here" in told
    assert told[-1] == "dumps:    where they go is not known"


@needs_root
def test_who_is_not_root_is_told_nothing_false() -> None:
    with tempfile.TemporaryDirectory() as folder:  # pytest's own is root's
        top = Path(folder)
        top.chmod(0o755)
        machine_with(top, conf=f"path {top}/crash\n")
        write(top / "machine", "sys/kernel/kexec_crash_loaded", "1\n")
        loaded = replace(RECEIPT, boot=receipt.boot_id())
        receipt.save(loaded, top / "run/loaded.json")
        receipt.save(loaded, top / "lib/proven.json")
        (top / "crash").mkdir()
        make_dump(top / "crash", "127.0.0.1-2026-01-02-03:04:05", "vmcore", 7)
        (top / "crash/127.0.0.1-2026-01-02-03:04:05").chmod(0o700)
        root, other = _status(top, 0), _status(top, _NOBODY)
        assert root.stdout.startswith("armed:    yes, and proven: ")
        assert f"dumps:    1 in {top}/crash\n" in root.stdout
        assert other.stdout.startswith("armed:    yes, but cannot tell what: cannot read ")
        words = " ".join(other.stdout.split())
        assert "(run as root) next: sudo pykdump status: " in words
        assert "loaded by" not in other.stdout
        assert re.search(r"dumps: cannot read [^ ]*/127[^ ]*: Permission denied \(run as root\)", words)
        assert (root.returncode, other.returncode, other.stderr) == (0, 0, "")
        write(top / "machine", "sys/kernel/kexec_crash_loaded", "0\n")
        assert _status(top, _NOBODY).returncode == 3


# Installation


@needs_root
def test_who_is_not_root_is_told_to_be() -> None:
    with tempfile.TemporaryDirectory() as folder:  # pytest's own is root's
        Path(folder).chmod(0o755)
        command = [sys.executable, "-m", "pykexec.kdump", "install", "--root", folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False, user=_NOBODY)
        what, hint = done.stderr.splitlines()
        assert (done.returncode, what.endswith(f"pykdump.service: {os.strerror(errno.EACCES)}")) == (1, True)
        assert hint.split("; ")[0].strip() == "run as root"


def test_installation_into_another_root(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["install", "--root", str(tmp_path), "--dry-run"]) == 0
    assert not list(tmp_path.iterdir())
    assert exit_code(["install", "--root", str(tmp_path)]) == 0
    assert "systemctl enable --now pykdump.service" in capsys.readouterr().out
    unit = (tmp_path / "etc/systemd/system/pykdump.service").read_text()
    assert "@PYKDUMP@" not in unit
    settings = [line.partition("=") for line in unit.splitlines()]
    values = {
        wanted: [word for name, _, text in settings if name == wanted for word in text.split()]
        for wanted in ("After", "Conflicts")
    }
    assert values["Conflicts"]
    assert set(values["Conflicts"]) <= set(values["After"]), "their stop would unload what we have loaded"
    (command,) = (line for line in unit.splitlines() if line.startswith("ExecStart="))
    words = shlex.split(command.partition("=")[2].replace("start $PYKDUMP_ARGS", "--version"))
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("pykdump ")
    assert list(installation.steps(tmp_path))[1].describe().endswith("etc/udev/rules.d/98-pykdump.rules")


def test_removal_from_another_root(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "etc/systemd/system").mkdir(parents=True)
    (tmp_path / "etc/systemd/system/other.service").touch()
    assert exit_code(["install", "--root", str(tmp_path)]) == 0
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert exit_code(["remove", "--root", str(tmp_path), "--dry-run"]) == 0
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == written
    assert exit_code(["remove", "--root", str(tmp_path)]) == 0
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["other.service"]
    capsys.readouterr()
    assert exit_code(["remove", "--root", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"the service is not installed below {tmp_path}\n"


def test_the_commands_are_there() -> None:
    command = [sys.executable, "-m", "pykexec.kdump", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for name in ("start", "stop", "restart", "reload", "status", "test", "mkinitrd", "install", "remove"):
        assert f"\n  {name} " in done.stdout


# Loading


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The hardware that each load describes; nothing is loaded."""
    found: list[str] = []

    def load(
        machine: Machine, request: Request, system_call: str, announce: Callable[[FileLoadPlan], None]
    ) -> None:
        announce(FileLoadPlan("x86_64", Purpose.CRASH, request.kernel, request.initrd, "line", 0))
        found.append(receipt.hardware(machine))

    monkeypatch.setattr(loader, "load_request", load)
    monkeypatch.setattr(actions, "_require_possible", lambda machine: None)
    monkeypatch.setattr(lock, "LOCK", tmp_path / "run/lock")
    monkeypatch.setattr(receipt, "LOADED", tmp_path / "run/loaded")
    monkeypatch.setattr(receipt, "PLAN", tmp_path / "run/plan")
    return found


def _grow(machine: Machine, root: Path) -> None:
    """A bank of memory is plugged in, behind all others."""
    end = max(each.end for each in machine.anew().iomem.system_ram)
    start = (end + (1 << 27)) & -(1 << 27)
    iomem = (machine.read("proc/iomem") or b"").decode()
    write(root, "proc/iomem", f"{iomem}{start:x}-{start + (1 << 27) - 1:x} : System RAM\n")


@pytest.mark.parametrize(("banks", "told"), [(0, 1), (1, 2), (2, 3), (99, 5)])
def test_memory_that_comes_meanwhile(
    banks: int, told: int, tmp_path: Path, loads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the image is made, and while it is loaded: events of neither reach the service."""
    (tmp_path / "initrd").touch()
    machine = machine_with(tmp_path)
    prepare, load = actions._prepare_image, actions._load

    def prepare_longer(facts: Machine, plan: plan.ServicePlan, tell: actions.Tell) -> actions._Image:
        _grow(machine, tmp_path / "machine")
        return prepare(facts, plan, tell)

    def load_longer(machine: Machine, plan: plan.ServicePlan, image: actions._Image) -> object:
        done = load(machine, plan, image)
        if len(loads) <= banks:
            _grow(machine, tmp_path / "machine")
        return done

    monkeypatch.setattr(actions, "_prepare_image", prepare_longer)
    monkeypatch.setattr(actions, "_load", load_longer)
    before = receipt.hardware(machine)
    warnings: list[str] = []
    started = actions.start(machine, lambda line: None, warnings.append, initrd=str(tmp_path / "initrd"))
    assert len(set(loads)) == len(loads) == told
    assert before not in loads
    assert started.hardware == loads[-1]
    assert (started.hardware == receipt.hardware(machine.anew())) == (banks < 5) == (not warnings)


@pytest.mark.parametrize("command", [["start"], ["stop"], ["reload"], ["status"], ["test"], ["mkinitrd"]])
def test_what_the_system_refuses_is_one_line_and_exit_1(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> Machine:
        raise OSError(errno.EROFS, "Read-only file system", "/a/file\x1b[2J")

    monkeypatch.setattr(Machine, "live", refuse)
    assert exit_code(command) == 1
    assert capsys.readouterr().err == "pykdump: /a/file\\x1b[2J: Read-only file system\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_who_is_told_to_end_leaves_nothing_half_done(number: signal.Signals, tmp_path: Path) -> None:
    def end() -> int:
        # What is started in the background of a script ignores an interrupt, and with nohup a hang-up.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        with cli.failing(), writing.new_file(tmp_path / "file", mode=0o600):
            os.kill(os.getpid(), number)
            time.sleep(60)
        return 0

    ended = faults.run(lambda: streams.exit_code("pykdump", end))
    assert ended.status != 0
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


# What has changed


def test_changes_that_the_kernel_follows_itself(tmp_path: Path) -> None:
    machine = machine_with(tmp_path)
    initrd = tmp_path / "initrd"
    initrd.write_bytes(b"initrd")
    made = plan.make(machine, initrd=str(initrd))
    loaded = replace(
        RECEIPT,
        kernel_sha256=hashlib.sha256(b"kernel").hexdigest(),
        initrd_sha256=hashlib.sha256(b"initrd").hexdigest(),
        command_line=made.command_line,
        hardware=receipt.hardware(machine),
    )
    assert actions.changes(loaded, machine, made) == []
    assert actions.changes(replace(loaded, hardware="before"), machine, made) == ["memory or CPUs"]
    for name in ("cpu", "memory"):
        write(tmp_path / "machine", f"sys/devices/system/{name}/crash_hotplug", "1\n")
    assert actions.changes(replace(loaded, hardware="before"), machine, made) == []
    initrd.write_bytes(b"another")
    changed = replace(loaded, kernel_sha256="x", command_line="x")
    assert actions.changes(changed, machine, made) == ["the kernel", "the initrd", "the command line"]


# What a load leaves


@dataclass
class Loading:
    """A machine where system calls do what `answer` says, with what was loaded before."""

    machine: Machine
    initrd: str
    answer: Callable[[], None] = lambda: None
    seen: list[Receipt | None] = field(default_factory=list)
    """What there was of a receipt during each system call."""

    def start(self) -> Receipt:
        return actions.start(self.machine, lambda text: None, lambda text: None, initrd=self.initrd)


@pytest.fixture
def loading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Loading:
    machine = machine_with(tmp_path, "KEXEC_ARGS=-c")
    (tmp_path / "boot/vmlinuz-6.1-running").write_bytes(FakeBzImage().build())
    write(tmp_path / "machine", "sys/kernel/kexec_crash_loaded", "1\n")
    for name in ("LOADED", "PLAN"):
        monkeypatch.setattr(receipt, name, tmp_path / "run" / name)
    monkeypatch.setattr(lock, "LOCK", tmp_path / "run/lock")
    monkeypatch.setattr(actions, "may_boot", lambda machine: True)
    initrd = tmp_path / "initrd"
    initrd.write_bytes(b"initrd")
    made = Loading(machine, str(initrd))

    def load(*_: object, **__: object) -> None:
        made.seen.append(receipt.load(receipt.LOADED))
        made.answer()

    monkeypatch.setattr(syscalls, "kexec_load", load)
    receipt.save(replace(RECEIPT, boot=receipt.boot_id()), receipt.LOADED)
    return made


def test_no_receipt_of_the_kernel_before_while_another_is_loaded(loading: Loading) -> None:
    loaded = loading.start()
    assert loading.seen == [None]
    assert actions.loaded_now(loading.machine) == loaded != RECEIPT


def test_a_key_is_in_memory_alone(loading: Loading, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an encrypted volume: it is loaded, and in nothing that the load leaves."""
    secret = b"0 8 crypt aes 0123456789abcdef"
    loaded: list[bytes] = []
    _with_volume(monkeypatch, lambda has_key: Key("x", secret.decode()))

    def load(entry: int, segments: Sequence[Segment], flags: int) -> None:
        loaded.extend(bytes(each.data) for each in segments)

    monkeypatch.setattr(syscalls, "kexec_load", load)
    made = loading.start()
    assert (made.target, made.keys) == ("there, with its key in the image in memory", "")
    assert any(each.startswith(b"initrd") and secret in each for each in loaded)
    assert made.initrd_sha256 == hashlib.sha256(b"initrd").hexdigest()
    left = [each.read_bytes() for each in tmp_path.rglob("*") if each.is_file()]
    assert any(b"etc/pykdump.tables/x" in each for each in left)
    assert not any(b"0123456789abcdef" in each for each in left)


def _with_volume(monkeypatch: pytest.MonkeyPatch, find: Callable[[HasKey | None], Key]) -> None:
    """Have the target on an encrypted volume, and its key found so."""
    monkeypatch.setattr(actions, "_prepare_image", lambda *_: actions._Image("there", "inputs", ("x",)))
    monkeypatch.setattr(
        keys, "find", lambda volumes, allowed, has_key: [find(has_key)] if volumes == ("x",) else []
    )


@pytest.fixture
def key_kernel(
    loading: Loading, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[volume_keys.FakeKernel]:
    """A kernel that hands over keys, and takes files."""
    write(tmp_path / "machine", "etc/sysconfig/kdump", f"KDUMP_BOOTDIR={tmp_path / 'boot'}\n")

    def find(has_key: HasKey | None) -> Key:
        if has_key is None or not has_key("cryptsetup:x"):
            raise PykexecError("no key")
        return Key("CRYPT-LUKS2-0-x", ":64:user:cryptsetup:x", "cryptsetup:x")

    _with_volume(monkeypatch, find)
    with volume_keys.running_kernel() as kernel:

        def load(*_: object) -> None:
            kernel.load()
            loading.answer()

        monkeypatch.setattr(syscalls, "kexec_file_load", load)
        monkeypatch.setattr(syscalls, "kexec_file_unload", lambda flags: None)
        monkeypatch.setattr(handover, "FOLDER", kernel.folder)
        yield kernel


def test_a_key_that_the_kernel_hands_over(loading: Loading, key_kernel: volume_keys.FakeKernel) -> None:
    """Once it has left the keyring it is handed on from the loaded kernel, until that is unloaded."""
    key_kernel.keyring = {"cryptsetup:x"}
    made = loading.start()
    assert made.system_call == "kexec_file_load"
    assert made.target == "there, with its key handed over by the kernel"
    assert key_kernel.loaded == ("cryptsetup:x",)
    key_kernel.keyring = set()
    again = loading.start()
    assert (again.keys, again.target) == (made.keys, made.target) != ("", "")
    assert (key_kernel.loaded, key_kernel.is_reusing) == (("cryptsetup:x",), False)
    actions.stop(loading.machine)
    assert key_kernel.named == {}
    with pytest.raises(PykexecError, match="no key"):
        loading.start()
    assert loading.seen == []


@pytest.mark.parametrize(
    ("config", "takes"),
    [
        (None, False),
        ("CONFIG_CRASH_DM_CRYPT_X=y\n# CONFIG_CRASH_DM_CRYPT is not set\n", False),
        ("CONFIG_A=y\nCONFIG_CRASH_DM_CRYPT=y\n", True),
    ],
)
def test_another_kernel_may_not_take_keys(
    config: str | None,
    takes: bool,
    loading: Loading,
    key_kernel: volume_keys.FakeKernel,
    tmp_path: Path,
) -> None:
    key_kernel.keyring = {"cryptsetup:x"}
    sysconfig = f"KDUMP_BOOTDIR={tmp_path / 'boot'}\nKDUMP_KERNELVER=6.0-other\n"
    write(tmp_path / "machine", "etc/sysconfig/kdump", sysconfig)
    (tmp_path / "boot/vmlinuz-6.0-other").write_bytes(FakeBzImage().build())
    if config:
        write(tmp_path / "machine", "boot/config-6.0-other", config)
    if takes:
        assert loading.start().keys
    else:
        with pytest.raises(PykexecError, match="no key"):
            loading.start()


def test_no_key_gets_lost_by_another_system_call(
    loading: Loading, key_kernel: volume_keys.FakeKernel, tmp_path: Path
) -> None:
    """Neither where the kernel refuses the files, nor where the configuration wants segments loaded."""
    key_kernel.keyring = {"cryptsetup:x"}

    def refuse() -> None:
        raise OSError(errno.ENOEXEC, "Exec format error")

    loading.answer = refuse
    with pytest.raises(PykexecError, match="kexec_file_load not available"):
        loading.start()
    assert key_kernel.named == {}
    write(tmp_path / "machine", "etc/sysconfig/kdump", f"KDUMP_BOOTDIR={tmp_path / 'boot'}\nKEXEC_ARGS=-c\n")
    with pytest.raises(PykexecError, match="no key"):
        loading.start()
    assert loading.seen == []


def test_the_receipt_of_a_kernel_that_stays_loaded_stays(loading: Loading, tmp_path: Path) -> None:
    before = actions.loaded_now(loading.machine)
    assert before is not None

    def refuse() -> None:
        raise OSError(errno.EBUSY, "Device or resource busy")

    loading.answer = refuse
    with pytest.raises(PykexecError):
        loading.start()
    assert receipt.load(receipt.LOADED) == before

    def lose() -> None:
        write(tmp_path / "machine", "sys/kernel/kexec_crash_loaded", "0\n")
        refuse()

    loading.answer = lose
    with pytest.raises(PykexecError):
        loading.start()
    assert receipt.load(receipt.LOADED) is None


def test_a_start_that_is_ended_in_the_middle(loading: Loading) -> None:
    def end() -> None:
        raise KeyboardInterrupt

    loading.answer = end
    with pytest.raises(KeyboardInterrupt):
        loading.start()
    assert actions.loaded_now(loading.machine) is None


def test_nothing_is_loaded_where_there_is_no_room_for_a_receipt(
    loading: Loading, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever cannot say what is loaded loads nothing; what was loaded before stays, and is known."""
    before = actions.loaded_now(loading.machine)

    class Full(io.BytesIO):
        def write(self, _: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    @contextmanager
    def full_file(path: Path, **_: object) -> Iterator[BinaryIO]:
        try:
            yield Full()
        except OSError as error:
            raise FileError(f"cannot write {path}: {error.strerror}") from error

    monkeypatch.setattr(writing, "new_file", full_file)
    with pytest.raises(FileError, match="No space left on device"):
        loading.start()
    assert loading.seen == []
    assert actions.loaded_now(loading.machine) == before


def test_a_receipt_that_gets_no_name_is_said_to_be_of_a_loaded_kernel(
    loading: Loading, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose() -> None:
        monkeypatch.setattr(os, "replace", lambda *_, **__: (_ for _ in ()).throw(OSError(errno.EIO, "I/O")))

    loading.answer = lose
    with pytest.raises(PykexecError, match=r"^the capture kernel is loaded, but .*: I/O\n"):
        loading.start()
    assert actions.loaded_now(loading.machine) is None


def test_what_a_killed_start_left_is_not_said_of_another_kernel(loading: Loading) -> None:
    receipt.set_aside()  # and another kernel was loaded, before the start was killed

    def refuse() -> None:
        raise OSError(errno.EBUSY, "Device or resource busy")

    loading.answer = refuse
    with pytest.raises(PykexecError):
        loading.start()
    assert actions.loaded_now(loading.machine) is None


def test_a_kernel_that_changed_while_it_was_loaded_gets_no_receipt(
    loading: Loading, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays loaded, damaged, where it cannot be unloaded."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy")

    def change() -> None:
        (tmp_path / "initrd").write_bytes(b"another")

    loading.answer = change
    monkeypatch.setattr(syscalls, "kexec_unload", fail)
    monkeypatch.setattr(syscalls, "kexec_file_unload", fail)
    with pytest.raises(PykexecError, match="stays loaded, damaged"):
        loading.start()
    assert actions.loaded_now(loading.machine) is None


def test_a_stop_that_fails_leaves_what_is_said(loading: Loading, monkeypatch: pytest.MonkeyPatch) -> None:
    before = actions.loaded_now(loading.machine)

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy")

    monkeypatch.setattr(syscalls, "kexec_file_unload", fail)
    with pytest.raises(PykexecError):
        actions.stop(loading.machine)
    assert actions.loaded_now(loading.machine) == before
    monkeypatch.setattr(syscalls, "kexec_file_unload", lambda *_: None)
    actions.stop(loading.machine)
    assert [path.name for path in receipt.LOADED.parent.iterdir()] == ["lock"]


# Who else can change what is loaded


@needs_root
@pytest.mark.parametrize("name", ["initrd", "boot/vmlinuz-6.1-running"])
def test_what_others_can_change_is_not_loaded(name: str, loading: Loading, tmp_path: Path) -> None:
    file = tmp_path / name
    for path, mode in ((file, 0o666), (file, 0o620), (file.parent, 0o777)):
        before = stat.S_IMODE(path.stat().st_mode)
        path.chmod(mode)
        with pytest.raises(FileError, match=f"is not loaded: others than root can change {path}\n"):
            loading.start()
        path.chmod(before)
    os.chown(file, _NOBODY, 0)
    with pytest.raises(FileError, match="others than root can change"):
        loading.start()
    os.chown(file, 0, 0)
    assert loading.seen == []
    file.parent.chmod(0o1777)  # its own files stay there
    assert loading.start()


@needs_root
def test_links_to_what_is_loaded(loading: Loading, tmp_path: Path) -> None:
    shared, link = tmp_path / "shared", tmp_path / "shared/link"
    shared.mkdir()
    shared.chmod(0o1777)
    link.symlink_to("../initrd")
    loading.initrd = str(link)
    assert loading.start()
    os.lchown(link, _NOBODY, 0)
    with pytest.raises(FileError, match=f"others than root can change {link}"):
        loading.start()
    link.unlink()
    link.symlink_to("link")
    with pytest.raises(FileError):
        loading.start()


# KDUMP_SYSCTL


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("kernel.panic", ("kernel", "panic")),
        ("kernel/panic", ("kernel", "panic")),
        ("net.ipv4.conf.eth0/1.forwarding", ("net", "ipv4", "conf", "eth0.1", "forwarding")),
        ("net/ipv4/conf/eth0.1/forwarding", ("net", "ipv4", "conf", "eth0.1", "forwarding")),
        *((name, ()) for name in ("", "/etc/motd", "../etc/motd", "kernel/../x", "...x", "a.//.b", "a\0b")),
    ],
)
def test_names_of_sysctl(name: str, parts: tuple[str, ...]) -> None:
    assert actions.sysctl_path(name) == parts


@pytest.mark.programs
@hypothesis.settings(max_examples=30)
@given(st.lists(st.sampled_from("abc./"), max_size=8).map("".join))
def test_names_mean_what_sysctl_takes_them_for(name: str) -> None:
    """sysctl(8) names the file that is not there."""
    parts = actions.sysctl_path(name)
    hypothesis.assume(parts)
    done = subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, check=False)
    assert f"cannot stat /proc/sys/{'/'.join(parts)}: " in done.stderr


def test_nothing_outside_of_proc_sys_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, victim = tmp_path / "sys", tmp_path / "victim"
    (root / "kernel").mkdir(parents=True)
    (root / "kernel/panic").write_text("0\n")
    (root / "out").symlink_to(tmp_path)
    victim.write_text("important")
    monkeypatch.setattr(actions, "_SYSCTL", root)
    told: list[str] = []
    words = (
        f"kernel.panic=7 {victim}=1 ../victim=1 out/victim=1 .../victim=1 kernel.panic kernel.none=\x1b[2J"
    )
    actions._set_sysctl(words, told.append)
    assert (root / "kernel/panic").read_text() == "7\n"
    assert victim.read_text() == "important"
    assert sorted(each.name for each in root.rglob("*")) == ["kernel", "out", "panic"]
    assert len(told) == 6
    assert all(PykexecError(text).what.isprintable() for text in told)

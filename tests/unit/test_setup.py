"""``pykdump setup``: what it plans, does, does not do again, and takes back."""

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pykexec.errors import PykexecError
from pykexec.kdump import packages
from pykexec.kdump.cli import exit_code
from pykexec.kdump.reservation.support import support
from pykexec.kdump.service import installation
from pykexec.kdump.setup import bootloader, cli, plan, receipt, sizes, steps, undo
from pykexec.kdump.setup.change import is_read_only
from pykexec.kdump.setup.need import Need
from pykexec.machine import Machine
from pykexec.machine.root import Folder
from pykexec.memory import MIB
from tests.support import faults, machines
from tests.support.boot_layouts import LAYOUTS
from tests.support.effort import examples
from tests.support.machines import write
from tests.support.schemas import require_valid

SNAPSHOT = "qemu-6.1-1g"
NEED = Need("256M", 200 * MIB, 1024 * MIB, support("x86_64", "6.1.0"))
EDITED = [name for name in LAYOUTS if LAYOUTS[name].edited]
PROGRAMS = ("usr/bin/systemctl", "usr/bin/apt-get", "usr/bin/busybox", "usr/bin/makedumpfile")
MENUS = ("boot/grub/grub.cfg", "boot/grub2/grub.cfg")


class System:
    """A system in a folder, on which commands have the effects that setup counts on."""

    def __init__(self, root: Path, name: str) -> None:
        self.root = root
        self.ran: list[list[str]] = []
        self.failing: list[str] = []
        self.machine = machines.unpacked(SNAPSHOT, root, {"sys/kernel/kexec_crash_size": "0\n"})
        LAYOUTS[name].build(root)
        for path in PROGRAMS:
            write(root, path, "")
        write(root, "etc/os-release", "ID=debian\n")

    def run(self, command: Sequence[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        self.ran.append(list(command))
        if command[0] in self.failing:
            return subprocess.CompletedProcess(command, 1, b"", b"it is broken\n")
        if command[0] == "systemctl":
            link = self.root / "etc/systemd/system/multi-user.target.wants" / command[-1]
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            if "enable" in command:
                link.symlink_to("x")
        if command[0] == "grubby":
            self.grubby(command[1:])
        if "--yes" in command:
            for each in command[command.index("--yes") + 1 :]:
                write(self.root, f"usr/bin/{each}", "")
        return subprocess.CompletedProcess(command, 0, b"", b"")

    def grubby(self, options: Sequence[str]) -> None:
        """Do to all entries what grubby(8) does."""
        given = dict(each.removeprefix("--").split("=", 1) for each in options)
        for file in (self.root / "boot/loader/entries").glob("*.conf"):
            kernel = re.search(r"(?m)^linux\s+(\S+)", file.read_text())
            if kernel and given["update-kernel"] in ("ALL", f"/boot{kernel[1]}"):
                lines = [grubby_line(line, given) for line in file.read_text().split("\n")]
                file.write_text("\n".join(lines))

    def setup(self, *options: str) -> int:
        return exit_code(["setup", *options])

    def contents(self) -> dict[str, bytes]:
        """All files but the receipt, and what is enabled."""
        return {
            str(path.relative_to(self.root)): path.read_bytes() if path.is_file() else b""
            for path in self.root.rglob("*")
            if path.is_symlink() or path.is_file()
        }

    @property
    def receipt(self) -> Path:
        return receipt.path_in(self.root)


def grubby_line(line: str, given: dict[str, str]) -> str:
    """Return a line of an entry with arguments removed and added."""
    if not line.startswith("options"):
        return line
    gone = given.get("remove-args", "?")
    kept = [word for word in re.split(r"( +)", line) if word != gone and word.partition("=")[0] != gone]
    return " ".join(["".join(kept).rstrip(), *given.get("args", "").split()])


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], System]:
    """A maker of systems, which are then what the command changes."""

    def make(name: str, need: Need = NEED) -> System:
        return prepare(System(tmp_path / "root", name), monkeypatch, need)

    return make


def prepare(found: System, monkeypatch: pytest.MonkeyPatch, need: Need = NEED) -> System:
    monkeypatch.setattr(cli, "_ROOT", found.root)
    monkeypatch.setattr(cli, "require_root", lambda: None)
    monkeypatch.setattr(steps, "children", SimpleNamespace(run=found.run))
    monkeypatch.setattr(Machine, "live", lambda: Machine.from_snapshot(found.root))
    monkeypatch.setattr(installation, "command_of", lambda module: ("python3", "-m", module))
    monkeypatch.setattr(sizes, "need", lambda *_, **__: need)
    return found


def test_the_plan_and_the_screen(
    system: Callable[[str], System], capsys: pytest.CaptureFixture[str]
) -> None:
    found = system("debian-12-grub")
    (found.root / "usr/bin/busybox").unlink()
    before = found.contents()
    assert found.setup("--dry-run") == 0
    assert (found.contents(), found.ran) == (before, [])
    screen = capsys.readouterr().out
    assert all(len(line) <= 80 for line in screen.splitlines())
    wanted = (
        "crashkernel=256M has room for the capture kernel: pykdump estimate says why",
        "run env DEBIAN_FRONTEND=noninteractive apt-get install --no-install-recommends",
        "--yes busybox",
        "write /etc/default/grub.d/pykdump.cfg",
        '    + GRUB_CMDLINE_LINUX_DEFAULT="$GRUB_CMDLINE_LINUX_DEFAULT crashkernel=256M"',
        "run update-grub",
        "write /etc/kdump.conf",
        "    + path /var/crash",
        "run systemctl enable pykdump.service",
        "next: reboot, then pykdump status",
    )
    lines = iter(screen.splitlines())
    for each in wanted:
        assert each in lines, f"{each} is not there, or not in its place"


def test_a_reboot_that_would_keep_the_command_line(
    system: Callable[[str], System], capsys: pytest.CaptureFixture[str]
) -> None:
    """The kexec-tools of Debian 12.0, installed without questions."""
    found = system("debian-12-grub")
    write(found.root, "etc/default/kexec", "LOAD_KEXEC=true\nUSE_GRUB_CONFIG=false\n")
    for name in ("kexec", "kexec-load"):
        write(found.root, f"etc/init.d/{name}", "#! /bin/sh\n")
    assert found.setup("--yes") == 0
    screen = capsys.readouterr().out
    assert "kexec-tools has reboot keep the kernel's command line: coldreboot" in screen
    assert screen.splitlines()[-1] == "next: coldreboot, then pykdump status"


@pytest.mark.parametrize("name", LAYOUTS)
def test_it_is_done_once(
    system: Callable[[str], System], capsys: pytest.CaptureFixture[str], name: str
) -> None:
    found = system(name)
    assert found.setup("--yes") == 0
    for path in MENUS:  # what update-grub does
        file = found.root / path
        if file.exists():
            file.write_text(file.read_text().replace("quiet", "quiet crashkernel=256M"))
    after, ran = found.contents(), list(found.ran)
    capsys.readouterr()
    assert found.setup("--yes") == 0
    assert (found.contents(), found.ran) == (after, ran)
    assert "there is nothing to do" in capsys.readouterr().out


@pytest.mark.parametrize("name", LAYOUTS)
def test_it_is_taken_back(system: Callable[[str], System], name: str) -> None:
    found = system(name)
    (found.root / "usr/bin/busybox").unlink()
    before = found.contents()
    assert found.setup("--yes") == 0
    assert found.contents() != before
    found.ran.clear()
    assert found.setup("--undo", "--yes") == 0
    (found.root / "usr/bin/busybox").unlink()
    assert found.contents() == before
    assert ["dpkg", "--remove", "busybox"] in found.ran
    assert found.setup("--undo", "--yes") == 0


def test_what_was_done_twice_is_taken_back(
    system: Callable[[str], System], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = system("extlinux")
    before = found.contents()
    found.setup("--yes")
    more = replace(NEED, value="384M", least=300 * MIB)
    monkeypatch.setattr(sizes, "need", lambda *_, **__: more)
    config = found.root / "boot/extlinux/extlinux.conf"
    config.write_text(f"# mine\n{config.read_text()}")
    found.setup("--yes")
    assert config.read_text().count("crashkernel=384M") == 2
    assert found.setup("--undo", "--yes") == 0
    assert config.read_text().startswith("# mine\n")
    config.write_text(config.read_text().removeprefix("# mine\n"))
    assert found.contents() == before


@pytest.mark.parametrize("options", [["--dry-run"], ["--yes"], ["--undo", "--dry-run"], ["--undo", "--yes"]])
@pytest.mark.parametrize("name", ["debian-12-grub", "entries-of-a-vendor"])
def test_json(
    system: Callable[[str], System], capsys: pytest.CaptureFixture[str], name: str, options: list[str]
) -> None:
    found = system(name)
    if "--undo" in options:
        found.setup("--yes")
        capsys.readouterr()
    assert found.setup("--json", *options) == 0
    told = require_valid("setup", capsys.readouterr().out)
    assert told["done"] is ("--yes" in options)
    steps = {each["does"]: each["lines"] for each in told["steps"]}
    if "--undo" in options:
        assert steps["remove /etc/kdump.conf"] == ["- path /var/crash"]
        assert told["next"] is None
    else:
        assert steps["write /etc/kdump.conf"] == ["+ path /var/crash"]
        assert told["next"] == "reboot, then pykdump status"


def test_json_asks_nobody(system: Callable[[str], System], capsys: pytest.CaptureFixture[str]) -> None:
    found = system("extlinux")
    before = found.contents()
    assert found.setup("--json") == 1
    assert found.contents() == before
    assert capsys.readouterr().out == ""


def test_it_tells_that_there_is_nothing_to_take_back(
    system: Callable[[str], System], capsys: pytest.CaptureFixture[str]
) -> None:
    assert system("extlinux").setup("--undo", "--yes") == 0
    assert "nothing to take back" in capsys.readouterr().out


def test_what_grubby_has_replaced_comes_back(system: Callable[[str], System]) -> None:
    found = system("fedora-grubby")
    write(found.root, "boot/loader/entries/b.conf", "linux /b\noptions a crashkernel=64M\n")
    before = found.contents()
    found.setup("--yes")
    entries = [path.read_text() for path in (found.root / "boot/loader/entries").iterdir()]
    assert [re.findall("crashkernel=.*", text) for text in entries] == [["crashkernel=256M"]] * 2
    found.setup("--undo", "--yes")
    assert found.contents() == before


def test_menus_are_made_anew_once_files_are_back(
    system: Callable[[str], System], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = system("debian-12-grub")
    found.setup("--yes")
    own = found.root / "etc/default/grub.d/pykdump.cfg"
    seen = []

    def run(command: Sequence[str], **given: object) -> subprocess.CompletedProcess[bytes]:
        seen.append((command[0], own.exists()))
        return found.run(command, **given)

    monkeypatch.setattr(steps, "children", SimpleNamespace(run=run))
    found.setup("--undo", "--yes")
    assert seen[-1] == ("update-grub", False)


def test_what_an_administrator_has_changed_stays(
    system: Callable[[str], System], capsys: pytest.CaptureFixture[str]
) -> None:
    found = system("extlinux")
    found.setup("--yes")
    config, conf = found.root / "boot/extlinux/extlinux.conf", found.root / "etc/kdump.conf"
    conf.write_text("path /srv\n")
    config.write_text(config.read_text().replace("quiet single crash", "loud single crash"))
    capsys.readouterr()
    assert found.setup("--undo", "--yes") == 0
    assert conf.read_text() == "path /srv\n"
    assert config.read_text().count("crashkernel=") == 1
    assert "loud single crashkernel=256M" in config.read_text()
    screen = " ".join(capsys.readouterr().out.split())
    assert "/etc/kdump.conf stays: it has been changed since" in screen
    assert "/boot/extlinux/extlinux.conf keeps lines that have been changed since: append" in screen


def test_what_is_no_text_any_more_stays(
    system: Callable[[str], System], capsys: pytest.CaptureFixture[str]
) -> None:
    found = system("extlinux")
    found.setup("--yes")
    config = found.root / "boot/extlinux/extlinux.conf"
    config.write_bytes(config.read_bytes() + b"\xff")
    before = config.read_bytes()
    assert found.setup("--undo", "--yes") == 0
    assert config.read_bytes() == before
    assert "extlinux.conf stays: it is no text any more" in capsys.readouterr().out


def test_nothing_is_done_where_a_step_cannot_be(
    system: Callable[[str], System], capsys: pytest.CaptureFixture[str]
) -> None:
    found = system("opensuse-grub2")
    real = found.root / "etc/default/grub"
    real.rename(real.with_name("real"))
    real.symlink_to("real")
    before = found.contents()
    assert found.setup("--yes") == 1
    assert (found.contents(), found.ran) == (before, [])
    assert "it is a link to real" in capsys.readouterr().err


def test_nothing_is_done_where_a_file_cannot_be_read(
    system: Callable[[str], System], capsys: pytest.CaptureFixture[str]
) -> None:
    found = system("opensuse-grub2")
    write(found.root, "etc/default/grub", "A=1\nGRUB_CMDLINE_LINUX_DEFAULT=`x`\n")
    before = found.contents()
    assert found.setup("--yes") == 1
    assert (found.contents(), found.ran) == (before, [])
    told = capsys.readouterr().err
    assert "/etc/default/grub:2: " in told
    assert "put crashkernel=256M on the kernel's command line there by hand" in told


def test_what_cannot_be_read_is_no_matter_where_memory_is_reserved(
    system: Callable[[str], System], capsys: pytest.CaptureFixture[str]
) -> None:
    found = system("opensuse-grub2")
    write(found.root, "etc/default/grub", "GRUB_CMDLINE_LINUX_DEFAULT=`x`\n")
    write(found.root, "sys/kernel/kexec_crash_size", f"{256 * MIB}\n")
    assert found.setup("--yes") == 0
    screen = " ".join(capsys.readouterr().out.split())
    assert "/etc/default/grub:1: " in screen
    assert "next: systemctl start pykdump.service" in screen


def test_a_failure_can_be_taken_back(
    system: Callable[[str], System], capsys: pytest.CaptureFixture[str]
) -> None:
    found = system("debian-12-grub")
    before = found.contents()
    found.failing = ["update-grub"]
    assert found.setup("--yes") == 1
    told = capsys.readouterr().err
    assert "update-grub failed: it is broken" in told
    assert "pykdump setup --undo" in told
    assert found.setup("--undo", "--yes") == 1, "the menu could not be made anew"
    assert [each["kind"] for each in json.loads(found.receipt.read_text())["steps"]] == ["command"]
    found.failing = []
    assert found.setup("--undo", "--yes") == 0
    assert found.contents() == before


def test_a_file_that_changes_meanwhile_is_left(system: Callable[[str], System]) -> None:
    found = system("extlinux")
    made = plan.make(found.machine, lambda *_: NEED, found.root)
    write(found.root, "boot/extlinux/extlinux.conf", "label a\nlinux b\nappend c\n")
    before = found.contents()
    with pytest.raises(PykexecError, match="has changed meanwhile"):
        cli.perform(made.steps, found.receipt, lambda _: None)
    assert found.contents() == before


@pytest.mark.parametrize("enough", [True, False])
@pytest.mark.parametrize("name", EDITED)
def test_a_boot_folder_that_is_read_only(
    name: str, enough: bool, system: Callable[[str], System], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a file below it nor what a command makes there is changed; that is left to people."""
    found = system(name)
    monkeypatch.setattr(plan, "is_read_only", lambda path: path == found.root / "boot")
    reserved = str(256 * MIB if enough else 0)
    write(found.root, "sys/kernel/kexec_crash_size", f"{reserved}\n")
    made = plan.make(found.machine.anew(), lambda *_: NEED, found.root)
    touched = [each for step in made.steps for each in step.describe()]
    assert not any("/boot" in each or "grub" in each for each in touched)
    change = bootloader.change(Folder(found.root), found.machine.uname_machine, NEED)
    changes_it = bool(change.commands) or any(each.path.startswith("/boot") for each in change.edits)
    (by_hand,) = made.by_hand or ("",)
    assert by_hand.startswith("/boot is mounted read only: mount -o remount,rw /boot") == (
        changes_it and not enough
    )


def test_a_configuration_that_cannot_be_written(
    system: Callable[[str], System], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then nothing is done at all."""
    found = system("extlinux")
    made = plan.make(found.machine, lambda *_: NEED, found.root)
    before = found.contents()
    monkeypatch.setattr(steps, "is_read_only", lambda path: path.name == "kdump.conf")
    with pytest.raises(
        PykexecError, match=r"/etc/kdump\.conf is on a file system that is mounted read only"
    ):
        cli.perform(made.steps, found.receipt, lambda _: None)
    assert found.contents() == before


def test_what_is_read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is not there yet goes by the folder that is; statvfs(3) has the flag ST_RDONLY, 1."""
    assert not is_read_only(tmp_path / "not/there")
    real = os.statvfs

    def fixed(path: Path) -> SimpleNamespace:
        return SimpleNamespace(f_flag=real(path).f_flag | 1)

    monkeypatch.setattr(os, "statvfs", fixed)
    assert is_read_only(tmp_path / "not/there")


def test_other_services_are_switched_off(system: Callable[[str], System]) -> None:
    found = system("debian-12-grub")
    found.run(["systemctl", "enable", "kdump-tools.service"])
    before = found.contents()
    found.setup("--yes")
    assert [words for words in found.ran if words[0] == "systemctl"][1:] == [
        ["systemctl", "disable", "kdump-tools.service"],
        ["systemctl", "enable", "pykdump.service"],
    ]
    found.setup("--undo", "--yes")
    assert found.contents() == before


def test_the_unit_of_a_package_is_enough(system: Callable[[str], System]) -> None:
    found = system("debian-12-grub")
    write(found.root, "usr/lib/systemd/system/pykdump.service", "")
    found.setup("--yes")
    assert not (found.root / "etc/systemd/system/pykdump.service").exists()
    found.setup("--undo", "--yes")
    assert (found.root / "usr/lib/systemd/system/pykdump.service").exists()


def test_what_is_off_stays_off(system: Callable[[str], System], capsys: pytest.CaptureFixture[str]) -> None:
    found = system("debian-12-grub")
    write(found.root, "etc/default/kdump-tools", "USE_KDUMP=0\n")
    before = found.contents()
    assert found.setup("--yes") == 1
    assert (found.contents(), found.ran) == (before, [])
    assert "turns kdump off" in capsys.readouterr().err


def test_a_configuration_that_is_there_stays(system: Callable[[str], System]) -> None:
    found = system("debian-12-grub")
    write(found.root, "etc/default/kdump-tools", "USE_KDUMP=1\n")
    found.setup("--yes")
    assert not (found.root / "etc/kdump.conf").exists()


@pytest.mark.parametrize("name", ["systemd-", "libc6=1", "a.*", "foo+", "*"])
def test_only_names_are_given_to_a_package_manager(
    system: Callable[[str], System], capsys: pytest.CaptureFixture[str], name: str
) -> None:
    found = system("debian-12-grub")
    write(found.root, "etc/kdump.conf", f"core_collector {name} -x\n")
    assert found.setup("--yes") == 3
    assert not [words for words in found.ran if name in words]
    assert f"by hand: install {name}" in capsys.readouterr().out


@pytest.mark.parametrize("stdin", [StringIO(), None], ids=["no terminal", "closed"])
def test_without_a_terminal_it_does_not_ask(
    system: Callable[[str], System],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    stdin: StringIO | None,
) -> None:
    monkeypatch.setattr("sys.stdin", stdin)
    found = system("debian-12-grub")
    before = found.contents()
    assert found.setup() == 1
    assert (found.contents(), found.ran) == (before, [])
    assert "--yes" in capsys.readouterr().err


def test_who_is_not_root_changes_nothing(
    system: Callable[[str], System], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = system("debian-12-grub")
    monkeypatch.setattr(cli, "require_root", steps.require_root)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert found.setup("--yes") == 1
    assert not found.ran
    assert "run as root" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "x" * 100,
        '{"schema": 2, "steps": []}',
        '{"schema": 1}',
        '{"schema": 1, "steps": [1]}',
        '{"schema": 1, "steps": [{}]}',
        '{"schema": 1, "steps": [{"kind": "file", "path": 1, "before": null, "after": ""}]}',
        '{"schema": 1, "steps": [{"kind": "file", "path": "/a", "before": "b"}]}',
        '{"schema": 1, "steps": [{"kind": "command", "undo": [[]], "refreshes": true}]}',
        '{"schema": 1, "steps": [{"kind": "command", "undo": "rm", "refreshes": true}]}',
        '{"schema": 1, "steps": [{"kind": "rm -rf"}]}',
    ],
)
@pytest.mark.parametrize("option", ["--undo", "--yes"])
def test_a_damaged_receipt(
    system: Callable[[str], System], capsys: pytest.CaptureFixture[str], text: str, option: str
) -> None:
    found = system("debian-12-grub")
    write(found.root, "var/lib/pykdump/setup.json", text)
    before = found.contents()
    assert found.setup(option, "--yes") == 1
    assert (found.contents(), found.ran) == (before, [])
    assert "setup.json is damaged" in capsys.readouterr().err


def test_what_no_receipt_could_take_back_is_not_done(
    system: Callable[[str], System], capsys: pytest.CaptureFixture[str]
) -> None:
    found = system("extlinux")
    config = found.root / "boot/extlinux/extlinux.conf"
    path = str(config.relative_to(found.root))
    write(found.root, path, f"{config.read_text()}# {chr(0x1F600) * 15000}\n")
    before = found.contents()
    many = [receipt.Wrote(f"/boot/{number}", "x" * 60000, "y" * 60000) for number in range(7)]
    receipt.save(many, found.receipt)
    assert found.setup("--yes") == 1
    assert "too long" in capsys.readouterr().err
    assert receipt.load(found.receipt) == many
    assert {**found.contents(), "var/lib/pykdump/setup.json": b""} == {
        **before,
        "var/lib/pykdump/setup.json": b"",
    }


def test_a_receipt_that_others_can_write_is_not_believed(
    system: Callable[[str], System], capsys: pytest.CaptureFixture[str]
) -> None:
    found = system("debian-12-grub")
    found.setup("--yes")
    found.receipt.chmod(0o666)
    found.ran.clear()
    assert found.setup("--undo", "--yes") == 1
    assert not found.ran
    assert "others than root can change" in capsys.readouterr().err


LINE = st.sampled_from(["a", "b", "append x", "append y", "append x crashkernel=256M", "", "é"])


@settings(max_examples=examples(300))
@given(st.lists(LINE, max_size=8), st.lists(st.tuples(st.integers(0, 8), st.just("# mine")), max_size=3))
def test_lines_of_others_stay(lines: list[str], others: list[tuple[int, str]]) -> None:
    """Taking back gives what there would be if setup had never been run, wherever others wrote lines."""
    changed = [f"{line} crashkernel=256M" if line.startswith("append") else line for line in lines]

    def mixed(texts: list[str]) -> str:
        found = list(texts)
        for at, other in others:
            found.insert(at, other)
        return "".join(f"{line}\n" for line in found)

    before, after = ("".join(f"{line}\n" for line in each) for each in (lines, changed))
    restored, lost = undo.restore(before, after, mixed(changed))
    assert (restored, lost) == (mixed(lines), [])


def test_lines_that_could_come_from_several_stay() -> None:
    before = "append a crashkernel=1M\nappend a\n"
    line = "append a crashkernel=256M"
    assert undo.restore(before, f"{line}\n" * 2, f"# mine\n{line}\n") == (f"# mine\n{line}\n", [line])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["debian-12-grub", "systemd-boot"])
def test_whatever_fails_can_be_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A full disk, a damaged one, one that may not be written, and kill -9, at each point of a setup."""
    found = prepare(System(tmp_path / "system", name), monkeypatch)
    monkeypatch.setattr(steps, "children", SimpleNamespace(run=no_effect))
    before = found.contents()

    def setup(root: Path, *options: str) -> int:
        monkeypatch.setattr(cli, "_ROOT", root)
        monkeypatch.setattr(Machine, "live", lambda: Machine.from_snapshot(root))
        return exit_code(["setup", "--yes", *options])

    def copied(number: int) -> System:
        found.root = tmp_path / str(number)
        shutil.copytree(tmp_path / "system", found.root)
        return found

    whole = partial(setup, copied(0).root)
    for number, fault in enumerate(faults.spread(faults.possible(whole), 40), 1):
        ended = faults.run(partial(setup, copied(number).root), fault)
        assert "Traceback" not in ended.stderr, f"{fault}: {ended.stderr}"
        assert len(ended.stderr.splitlines()) <= 2, f"{fault}: {ended.stderr}"
        assert setup(found.root, "--undo") == 0, fault
        left = {path: text for path, text in found.contents().items() if before.get(path) != text}
        assert all(Path(path).name.startswith(".") for path in left), f"{fault}: {left}"
        assert before.keys() <= found.contents().keys(), fault


def no_effect(command: Sequence[str], **_: object) -> subprocess.CompletedProcess[bytes]:
    """Run nothing."""
    return subprocess.CompletedProcess(command, 0, b"", b"")


RELEASES = {
    "ID=debian": ("busybox", "makedumpfile", "openssh-client"),
    "ID=ubuntu\nID_LIKE=debian": ("busybox", "makedumpfile", "openssh-client"),
    "ID=fedora\nVERSION_ID=41": ("busybox", "makedumpfile", "openssh-clients"),
    'ID="rhel"\nVERSION_ID="9.4"\nID_LIKE="fedora"': ("busybox", "kexec-tools", "openssh-clients"),
    'ID="openEuler"\nVERSION_ID="24.03"': ("busybox", "kexec-tools", "openssh-clients"),
    'ID="opensuse-leap"\nID_LIKE="suse opensuse"': ("busybox", "makedumpfile", "openssh-clients"),
}


@pytest.mark.parametrize("release", RELEASES)
def test_packages_have_the_distribution_s_names(release: str) -> None:
    from pykexec.formats.uki import properties

    own = "apt-get" if "debian" in release else "zypper" if "suse" in release else "dnf"
    found = packages.manager(properties(release), lambda name: name == own)
    assert found is not None
    assert own in found.install
    assert tuple(map(found.package, ("busybox", "makedumpfile", "ssh"))) == RELEASES[release]


def test_an_unknown_distribution_is_told_what_to_install(
    system: Callable[[str], System], capsys: pytest.CaptureFixture[str]
) -> None:
    found = system("extlinux")
    write(found.root, "etc/os-release", "ID=alpine\n")
    (found.root / "usr/bin/makedumpfile").unlink()
    assert found.setup("--yes") == 3
    assert "by hand: install makedumpfile" in capsys.readouterr().out


HOSTILE = ("$(touch owned)", "`id`", "';id;'", "\n- x", "\x1b[2J", "-rf", "é\u202e")


@pytest.mark.parametrize("text", HOSTILE)
def test_words_of_files_stay_words(
    system: Callable[[str], System], capsys: pytest.CaptureFixture[str], text: str
) -> None:
    found = system("fedora-grubby")
    write(found.root, "boot/loader/entries/b.conf", f"linux /b{text}\noptions crashkernel={text} {text}\n")
    found.setup("--yes")
    found.setup("--undo", "--yes")
    screen = capsys.readouterr().out
    assert screen.replace("\n", "").isprintable()
    for line in screen.splitlines():
        if line.startswith("run "):
            assert shlex.split(line)
    assert {words[0] for words in found.ran} <= {"grubby", "systemctl"}

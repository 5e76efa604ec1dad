"""The capture system's /init, its functions run by the shell they are written for, below another root.

What would end the machine, reach a server or mount something is replaced; makedumpfile is a script that, as
the real one, writes to its output with -F and to a file without.
"""

import gzip
import os
import re
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pykexec.kdump.capture import Destination, Transport, image, init_settings
from pykexec.kdump.capture.blockdevice import BlockDevice, Superblock
from pykexec.kdump.capture.fencing import Notice
from pykexec.kdump.capture.image import INIT, MORE_OF_INIT, more_of_init
from pykexec.kdump.capture.layers import Layer, Stack
from pykexec.kdump.capture.links import Card, Links, Vlan
from pykexec.kdump.capture.network import Network
from pykexec.kdump.capture.share import Share
from pykexec.kdump.config.settings import Action, Collector, Dialect, Hooks, Settings
from pykexec.kdump.console import diagnosis

pytestmark = pytest.mark.programs

_DISK = Destination(
    Transport.DISK, "/crash", BlockDevice("vda", "/devices/x", 0, 5, ()), Superblock("ext4", "1234-5678", "")
)
_SETTINGS = Settings(Dialect.FEDORA, collector=Collector(("makedumpfile", "-l")))
_MEMORY = b"all of memory\n"

_REPLACED = """
for each in reboot halt poweroff; do eval "$each() { echo ends: $each; exit; }"; done
setsid() { echo a shell; }
mount() { echo mounted: "$@"; }
umount() { :; }
find_by_uuid() { device=/dev/x; }
bring_up_network() { :; }
watch_server() { :; }
timeout() { shift 3; "$@"; }
ssh() {
    for command in "$@"; do :; done
    sh -c "$command"
}
makedumpfile() { sh ROOT/makedumpfile "$@"; }
"""
_MAKEDUMPFILE = """
stream= output= option=
for each in "$@"; do
    if [ -n "$option" ]; then eval "$option=\\$each"; option=; continue; fi
    case $each in
        -L) option=limit ;;
        -d) option=level ;;
        --dump-dmesg) dmesg=1 ;;
        -F) stream=1 ;;
        -*) ;;
        *) input=$output output=$each ;;
    esac
done
case ${stream:-file}-${input:+two} in
    1- | file-two) ;;
    *) echo "invalid parameters"; exit 11 ;;
esac
[ -z "$stream" ] || output=/dev/stdout
if [ -n "$dmesg" ]; then echo the log > "$output"; exit; fi
echo the first half > "$output"
HOW
echo the second half >> "$output"
"""


@dataclass(frozen=True)
class Capture:
    """A capture system below a folder."""

    root: Path
    settings: Settings = _SETTINGS
    to: Destination = _DISK
    rescue: Destination | None = None
    """The root file system."""
    dies: str = ""
    """What makedumpfile does when it is half through."""
    replaced: str = ""
    modules: str = ""
    """The list of them."""
    command_line: str = "root=/dev/vda1 panic=10"
    notices: Sequence[Notice] = ()

    @property
    def dumps(self) -> Path:
        return self.root / "mnt/crash"

    def run(self, call: str) -> Sequence[str]:
        """What it says, line by line."""
        for folder in ("run", "mnt", "proc", "etc/kdump", "dev", "sys", "lib/modules"):
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        (self.root / "lib/modules/order").write_text(self.modules)
        (self.root / "proc/vmcore").write_bytes(_MEMORY)
        (self.root / "proc/uptime").write_text("100.00 90.00\n")
        (self.root / "proc/cmdline").write_text(f"{self.command_line}\n")
        conf = init_settings.render(self.settings, "6.1", self.to, self.rescue, "host", notices=self.notices)
        (self.root / "etc/pykdump.conf").write_text(conf)
        (self.root / "makedumpfile").write_text(_MAKEDUMPFILE.replace("HOW", self.dies))
        text = INIT.read_text()
        text = text[text.index("umask 077") : text.rindex("\nmain\n")]
        text += "".join(part.read_text() for part in more_of_init([self.to], self.notices))
        script = self._below_root(f"{text}\n{_REPLACED}\n{self.replaced}").replace("ROOT", str(self.root))
        done = subprocess.run(
            ["busybox", "sh", "-c", f"{script}\n{call.replace('ROOT', str(self.root))}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        return [line.removeprefix("pykdump: ") for line in done.stdout.splitlines()]

    def _below_root(self, text: str) -> str:
        # Processes are this machine's.
        places = r"(?<![\w}.])/(run|mnt|proc|etc|sys|dev|lib)(?!/null|/stdout|/\[0-9|/self|/\$1)(?=[/\"\s$])"
        return re.sub(places, rf"{self.root}/\1", text)

    def names(self) -> Sequence[str]:
        """Of the files of all dumps."""
        return sorted(each.name for each in self.dumps.glob("host-*/*"))


def diagnosed(said: Sequence[str]) -> str:
    """What doctor makes of it, on the console of a machine that crashed."""
    lines = "".join(f"pykdump: {line}\n" for line in said)
    crash = "Kernel panic - not syncing: x\nLinux version 6.1\nCommand line: elfcorehdr=0x1\n"
    return diagnosis.diagnose(diagnosis.parse(crash + lines)).cause


def test_a_dump(tmp_path: Path) -> None:
    """What memory held is for root alone; that there was a crash, everybody may see."""
    capture = Capture(tmp_path)
    assert capture.run("main")[-1] == "ends: reboot"
    assert capture.names() == ["kexec-dmesg.log", "vmcore", "vmcore-dmesg.txt"]
    (folder,) = capture.dumps.iterdir()
    assert (folder / "vmcore").read_text() == "the first half\nthe second half\n"
    assert (folder / "vmcore-dmesg.txt").read_text() == "the log\n"
    assert {each.stat().st_mode & 0o777 for each in folder.iterdir()} == {0o600}
    assert folder.stat().st_mode & 0o777 == folder.parent.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("console", [True, False])
def test_a_machine_without_a_console(console: bool, tmp_path: Path) -> None:
    """The first process then has no open files: what a program opens first, its messages would go to."""
    (lines,) = re.findall(r"^# Without a console.*?^mkdir", INIT.read_text(), re.M | re.S)
    (tmp_path / "script").write_text(
        f"{lines.removesuffix('mkdir')}\n"
        f"open=$(for each in 0 1 2; do readlink /proc/$$/fd/$each; done)\necho $open > {tmp_path}/found\n"
    )
    (tmp_path / "console").touch()
    opened = f"<> {tmp_path}/console >&0 2>&0" if console else "<&- >&- 2>&-"
    subprocess.run(["sh", "-c", f"exec busybox sh {tmp_path}/script {opened}"], check=True)
    expected = f"{tmp_path}/console" if console else "/dev/null"
    assert (tmp_path / "found").read_text().split() == [expected] * 3


# kernel-parameters.rst: "modprobe looks through the kernel command line (/proc/cmdline) and collects module
# parameters when it loads a module"; the words are those of the kernel's own next_arg() (lib/cmdline.c).
@pytest.mark.parametrize(
    ("command_line", "told"),
    [
        ("quiet nvme.x=1 panic=10", ""),
        ("nvme_core.default_ps_max_latency_us=0 quiet", "default_ps_max_latency_us=0"),
        ("nvme-core.a-b=1 nvme_core.c nvme_core.a-b=2", "a-b=1 c a-b=2"),
        ('nvme_core.x="a b" y="nvme_core.z=1 nvme_core.w=2"', 'x="a b"'),
        ('"nvme_core.x=a b" quiet', '"x=a b"'),
        ("nvme_core.host=/a.b/* my.nvme_core.x=1 nvme_core", "host=/a.b/*"),
    ],
)
def test_parameters_of_modules(command_line: str, told: str, tmp_path: Path) -> None:
    insmod = "insmod() { echo ${1##*/} $2; }"
    capture = Capture(tmp_path, replaced=insmod, modules="nvme_core.ko\n", command_line=command_line)
    assert capture.run("set -f; load_modules") == [f"nvme_core.ko {told}".strip()]


def test_parameters_on_the_list(tmp_path: Path) -> None:
    """Of one that is there twice the last counts."""
    insmod = 'insmod() { echo "${1##*/}:$2"; }'
    modules = 'one.ko\ntwo.ko a=1 b="c  d*" e=\\\n'
    capture = Capture(tmp_path, replaced=insmod, modules=modules, command_line="two.a=2")
    assert capture.run("load_modules") == ["one.ko:", 'two.ko:a=1 b="c  d*" e=\\ a=2']


def test_what_many_modules_take(tmp_path: Path) -> None:
    """One look at the command line; and of their files nothing stays in memory."""
    names = [f"module{number}.ko" for number in range(40)]
    capture = Capture(
        tmp_path,
        replaced='insmod() { echo "${1##*/}"; }\nawk() { echo awk >> ROOT/started; busybox awk "$@"; }',
        modules="".join(f"{name}\n" for name in names),
    )
    (tmp_path / "lib/modules").mkdir(parents=True)
    for name in names:
        (tmp_path / "lib/modules" / name).touch()
    assert capture.run("load_modules") == names
    assert (tmp_path / "started").read_text() == "awk\n"
    assert [each.name for each in (tmp_path / "lib/modules").iterdir()] == ["order"]


_SSH = replace(
    _DISK,
    way=Transport.SSH,
    network=Network("192.0.2.1", Links((Card("52:54:00:00:00:01", "/devices/x"),)), "192.0.2.7/24"),
    remote="u",
)
_GZIP = replace(_SETTINGS, collector=Collector(("makedumpfile",), compress_with="gzip"))
_XZ = replace(_SETTINGS, collector=Collector(("makedumpfile",), compress_with="failing"))
_FAILING = "failing() { head -c 5; return 1; }"
_NO_COPY = "free_kib() { echo 9999; }\nmemory_kib() { echo 99999; }\n"
"""There is room for a dump, but not for a copy of all of memory."""


def test_a_stream(tmp_path: Path) -> None:
    capture = Capture(tmp_path, _GZIP)
    capture.run("main")
    (dump,) = capture.dumps.glob("*/vmcore.flat.gz")
    assert gzip.decompress(dump.read_bytes()).decode() == "the first half\nthe second half\n"


@pytest.mark.parametrize("dies", ["exit 1", "kill -9 $$", "kill -9 $PPID", ""])
@pytest.mark.parametrize("way", [Transport.DISK, Transport.SSH])
def test_half_a_stream_has_no_name(dies: str, way: Transport, tmp_path: Path) -> None:
    """Neither the end of a pipe nor the death of what writes to it says that all of it is there."""
    to = _DISK if way is Transport.DISK else replace(_SSH, folder=f"{tmp_path}/mnt/crash")
    settings, replaced = (_GZIP, "") if dies else (_XZ, _FAILING)
    capture = Capture(tmp_path, settings, to, dies=dies, replaced=f"{replaced}\n{_NO_COPY}")
    said = capture.run("main")
    assert "saving vmcore failed" in said
    assert said[-3:] == ["the dump was not saved: reboot", "rebooting", "ends: reboot"]
    (partial,) = (name for name in capture.names() if name.startswith("vmcore.flat"))
    assert partial.endswith("-incomplete")
    assert "vmcore-dmesg.txt" in capture.names()


def test_all_of_memory_instead(tmp_path: Path) -> None:
    capture = Capture(tmp_path, _GZIP, dies="exit 1", replaced="df() { echo x 1 1 999999 1% /mnt; }")
    assert "copying all of memory instead" in capture.run("main")
    assert capture.names() == ["kexec-dmesg.log", "vmcore", "vmcore-dmesg.txt"]
    (dump,) = capture.dumps.glob("*/vmcore")
    assert dump.read_bytes() == _MEMORY


def test_a_disk_that_does_not_take_it(tmp_path: Path) -> None:
    """It may say so only when what was written has to be there: a file that may be lost has no name."""
    capture = Capture(tmp_path, replaced='sync() { [ -z "$1" ]; }')
    assert "saving vmcore failed" in capture.run("main")
    assert capture.names()
    assert all(name.endswith(("-incomplete", "-copy")) for name in capture.names())


@pytest.mark.parametrize("collector", ["makedumpfile -F", "makedumpfile -l", "scp", "cat", "dd", "cp"])
def test_a_server_that_is_gone(collector: str, tmp_path: Path) -> None:
    """The root file system takes the dump as a file, however it would have gone to the server."""
    settings = replace(
        _SETTINGS,
        collector=Collector(tuple(collector.split())),
        failure_action=Action.DUMP_TO_ROOTFS,
        final_action=Action.POWEROFF,
    )
    gone = "reach_server() { return 1; }"
    capture = Capture(tmp_path, settings, _SSH, rescue=_DISK, replaced=gone)
    assert capture.run("main")[-1] == "ends: poweroff"
    assert capture.names() == ["kexec-dmesg.log", "vmcore", "vmcore-dmesg.txt"]
    (dump,) = capture.dumps.glob("*/vmcore")
    whole = "the first half\nthe second half\n" if "make" in collector else _MEMORY.decode()
    assert dump.read_text() == whole


def test_the_capture_system_s_own_log(tmp_path: Path) -> None:
    """It is there before the dump is begun, which may not come to its end, and complete in the end."""
    look = f"cp {tmp_path}/mnt/crash/*/kexec-dmesg.log-incomplete {tmp_path}/early\n"
    capture = Capture(tmp_path, dies=look, replaced="dmesg() { echo the kernel; }\n")
    capture.run("main")
    early = (tmp_path / "early").read_text()
    assert early.startswith("the kernel\npykdump: capture system of")
    assert "saving vmcore-dmesg.txt complete" in early
    assert capture.names() == ["kexec-dmesg.log", "vmcore", "vmcore-dmesg.txt"]
    (own,) = capture.dumps.glob("*/kexec-dmesg.log")
    assert own.read_text().startswith(early)
    assert "saving vmcore complete" in own.read_text()


def test_two_crashes_in_a_second(tmp_path: Path) -> None:
    """A machine without a clock begins each time in 1970."""
    clock = "date() { cat ROOT/date; }\nsleep() { echo 1970-01-01-00:00:07 > ROOT/date; }"
    (tmp_path / "date").write_text("1970-01-01-00:00:06\n")
    before = tmp_path / "mnt/crash/host-1970-01-01-00:00:06"
    before.mkdir(parents=True)
    (before / "vmcore").write_text("the first crash")
    for to in (_DISK, replace(_SSH, folder=f"{tmp_path}/mnt/crash")):
        (tmp_path / "date").write_text("1970-01-01-00:00:06\n")
        capture = Capture(tmp_path, to=to, replaced=clock)
        assert capture.run("main")[-1] == "ends: reboot"
        assert (before / "vmcore").read_text() == "the first crash"
        after = tmp_path / "mnt/crash/host-1970-01-01-00:00:07"
        assert len(list(after.glob("vmcore*"))) == 2
        for each in after.iterdir():
            each.unlink()
        after.rmdir()


# kdump.conf(5): final_action is for success, and for what "shell" and "dump_to_rootfs" leave to it
@pytest.mark.parametrize(
    ("failure", "final", "ends"),
    [
        (Action.REBOOT, Action.POWEROFF, ["rebooting", "ends: reboot"]),
        (Action.HALT, Action.REBOOT, ["halting", "ends: halt"]),
        (Action.POWEROFF, Action.HALT, ["powering off", "ends: poweroff"]),
        (Action.SHELL, Action.HALT, ["exit leaves this shell", "a shell", "halting", "ends: halt"]),
        (
            Action.DUMP_TO_ROOTFS,
            Action.HALT,
            ["saving to the root file system failed, too", "halting", "ends: halt"],
        ),
        (Action.SHELL, Action.SHELL, ["a shell", "rebooting", "ends: reboot"]),
    ],
)
def test_how_it_ends_without_a_dump(
    failure: Action, final: Action, ends: Sequence[str], tmp_path: Path
) -> None:
    settings = replace(_SETTINGS, failure_action=failure, final_action=final)
    capture = Capture(tmp_path, settings, dies="exit 1", replaced=_NO_COPY, rescue=_DISK)
    said = capture.run("main")
    assert f"the dump was not saved: {failure.value}" in said
    assert said[-len(ends) :] == ends


@pytest.mark.parametrize(
    ("failure", "ends"), [(Action.HALT, "ends: halt"), (Action.DUMP_TO_ROOTFS, "ends: poweroff")]
)
def test_how_it_ends_without_anything_to_save(failure: Action, ends: str, tmp_path: Path) -> None:
    """That is a failure as any other; on the root file system is what the capture kernel says of it."""
    settings = replace(
        _SETTINGS,
        failure_action=failure,
        failure_command="echo to the console",
        final_action=Action.POWEROFF,
    )
    capture = Capture(tmp_path, settings, dies="exit 1", rescue=_DISK)
    said = capture.run("rm ROOT/proc/vmcore; main")
    assert "to the console" in said
    assert said[-1] == ends
    assert ("kexec-dmesg.log" in capture.names()) == (failure is Action.DUMP_TO_ROOTFS)
    assert diagnosed(said) == "the capture kernel shows no /proc/vmcore"


@pytest.mark.parametrize("final", [Action.REBOOT, Action.HALT, Action.POWEROFF, Action.SHELL])
def test_how_it_ends_with_a_dump(final: Action, tmp_path: Path) -> None:
    said = Capture(tmp_path, replace(_SETTINGS, final_action=final)).run("main")
    assert said[-1] == f"ends: {'reboot' if final is Action.SHELL else final.value}"
    assert ("a shell" in said) == (final is Action.SHELL)


def _hook(root: Path, name: str, status: int) -> str:
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f'#!/bin/sh\necho "{file.name} $*"\nexit {status}\n')
    file.chmod(0o755)
    return str(file)


@pytest.mark.parametrize(
    ("dialect", "hook", "folder", "dump"),
    [
        (Dialect.FEDORA, 1, 0, False),
        (Dialect.FEDORA, 0, 1, True),
        (Dialect.SUSE, 1, 0, True),
    ],
)
def test_who_may_say_no_to_a_dump(
    dialect: Dialect, hook: int, folder: int, dump: bool, tmp_path: Path
) -> None:
    """kdump.conf(5): kdump_pre may; what is in pre.d may not. openSUSE asks nobody."""
    before = _hook(tmp_path, "before", hook)
    for name in ("10-one", "20-two"):
        _hook(tmp_path, f"etc/kdump/pre.d/{name}", folder)
    hooks = Hooks(before=before, are_lines=dialect is Dialect.SUSE)
    settings = replace(_SETTINGS, dialect=dialect, hooks=hooks, final_action=Action.HALT)
    capture = Capture(tmp_path, settings)
    said = capture.run("main")
    assert said[-1] == "ends: halt"
    assert ("vmcore" in capture.names()) == dump
    assert ("no dump is wanted" in said) != dump
    assert ("kdump_pre ended with an error, which says" in diagnosed(said)) != dump
    if dump:
        assert said.index("before ") < said.index("10-one ") < said.index("20-two ")


def test_a_log_without_a_dump_is_what_was_asked_for(tmp_path: Path) -> None:
    said = Capture(tmp_path, replace(_SETTINGS, save_dump=False)).run("main")
    assert diagnosed(said) == "the log was saved; a dump was not asked for"
    assert diagnosed(said[: said.index("saving vmcore-dmesg.txt complete") + 1]) != diagnosed(said)
    full = replace(_SETTINGS, free_space=1 << 40)
    said = Capture(tmp_path, full, replaced="free_kib() { echo 0; }").run("main")
    assert diagnosed(said) == "the target has no space left for the dump"


@pytest.mark.parametrize(("dies", "status"), [("", 0), ("exit 1", 1)])
def test_hooks_afterwards(dies: str, status: int, tmp_path: Path) -> None:
    """They learn how the dump went; the folder's come before kdump_post."""
    after = _hook(tmp_path, "after", 1)
    _hook(tmp_path, "etc/kdump/post.d/one", 1)
    settings = replace(_SETTINGS, hooks=Hooks(after=after))
    capture = Capture(tmp_path, settings, dies=dies, replaced=_NO_COPY)
    said = capture.run("main")
    assert said.index(f"one {status}") < said.index(f"after {status}")
    assert said[-1] == "ends: reboot"


@pytest.mark.parametrize("dies", ["", "exit 1"])
def test_hooks_for_an_emergency(dies: str, tmp_path: Path) -> None:
    """kdump.conf(5): the folder's come first, and all of them before failure_action."""
    last = _hook(tmp_path, "last", 1)
    for name in ("20-two", "10-one"):
        _hook(tmp_path, f"etc/kdump/emergency.d/{name}", 1)
    settings = replace(_SETTINGS, hooks=Hooks(emergency=last), failure_action=Action.POWEROFF)
    no_copy = "memory_kib() { echo 999999; }\nfree_kib() { echo 9999; }"
    said = Capture(tmp_path, settings, dies=dies, replaced=no_copy).run("main")
    assert [each for each in said if each in ("10-one ", "20-two ", "last ")] == (
        ["10-one ", "20-two ", "last "] if dies else []
    )
    assert said[-1] == ("ends: poweroff" if dies else "ends: reboot")


def test_lines_of_a_shell(tmp_path: Path) -> None:
    """openSUSE's kdump-save gives them to eval; here they may also ask how the dump went."""
    hooks = Hooks("[ 1 = 2 ] || echo 'a  b'", 'case $1 in 0) echo "all is well" ;; esac', are_lines=True)
    said = Capture(tmp_path, replace(_SETTINGS, hooks=hooks)).run("main")
    assert said.index("a  b") < said.index("saving vmcore complete") < said.index("all is well")
    assert not any(each.endswith(" failed") for each in said)


def test_programs_of_lines() -> None:
    """Others belong into KDUMP_REQUIRED_PROGRAMS, as kdump(5) says."""
    lines = Hooks("/usr/bin/one -x 'a b'", "echo $(two)", are_lines=True)
    assert lines.programs == ("/usr/bin/one",)
    assert Hooks("'/usr/bin/one' $x", are_lines=True).programs == ("/usr/bin/one",)
    assert Hooks("/usr/bin/one more").programs == ("/usr/bin/one more",), "a path may have a blank in it"


def test_hooks_are_in_the_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As kdump-utils has them: what is executable in its folders, and what the configuration names."""
    folders = [str(tmp_path / each) for each in ("pre.d", "post.d", "emergency.d")]
    monkeypatch.setattr(image, "_HOOK_FOLDERS", folders)
    there = [_hook(tmp_path, f"{each.rpartition('/')[2]}/one", 0) for each in folders]
    (tmp_path / "pre.d/README").write_text("no program")
    settings = replace(_SETTINGS, hooks=Hooks("/a", "/b", "/c"))
    assert sorted(image._hooks(settings)) == sorted([*there, "/a", "/b", "/c"])


_CLOCK = (
    'sleep() { read -r now rest < ROOT/proc/uptime; echo "$((${now%.*} + 20)).00 1" > ROOT/proc/uptime; }\n'
)


def test_a_look_that_takes_its_time(tmp_path: Path) -> None:
    """How long is waited for a device does not depend on how long it takes to look for it."""
    looks = "look() { echo looked; sleep 20; return 1; }"
    said = Capture(tmp_path, replaced=_CLOCK + looks).run("wait_until look || echo gave up")
    assert said == ["looked", "looked", "gave up"]


# A makedumpfile that does not come to its end, or does not know the kernel

# Faster than ours, and how much so depends on what is waited for.
_FAST_CLOCK = """
told_within() {
    read -r -t 0.1 status || { pass 100; return 1; }
}
sleep() {
    command sleep 0.1
    pass 10
}
pass() {
    read -r now rest < ROOT/proc/uptime
    echo "$((${now%.*} + $1)).00 1" > ROOT/run/uptime
    mv ROOT/run/uptime ROOT/proc/uptime
}
"""
_ROOM = "df() { echo x 1 1 999999 1% /mnt; }\n"
_SPIN = "while :; do :; done"
_SLEEP, _CHILD = "sleep 1000", f"sh -c '{_SPIN}; :'"


def still_running(root: Path) -> list[int]:
    """Processes whose command line has that folder in it."""
    found = subprocess.run(["pgrep", "-f", str(root)], capture_output=True, text=True, check=False)
    return [int(each) for each in found.stdout.split()]


@pytest.mark.parametrize(
    ("settings", "hangs"),
    [
        pytest.param(_SETTINGS, _SLEEP, id="file-sleeps"),
        pytest.param(_SETTINGS, _SPIN, id="file-spins"),
        pytest.param(_SETTINGS, _CHILD, id="file-child", marks=pytest.mark.further),
        pytest.param(_GZIP, _SLEEP, id="stream-sleeps", marks=pytest.mark.further),
        pytest.param(_GZIP, _SPIN, id="stream-spins", marks=pytest.mark.further),
        pytest.param(_GZIP, _CHILD, id="stream-child"),
    ],
)
def test_a_makedumpfile_that_does_not_end(hangs: str, settings: Settings, tmp_path: Path) -> None:
    """It is ended, with all that it started; then memory is copied."""
    capture = Capture(tmp_path, settings, dies=hangs, replaced=_FAST_CLOCK + _ROOM)
    said = capture.run("main")
    assert "copying all of memory instead" in said
    assert said[-3:] == ["saving vmcore complete", "rebooting", "ends: reboot"]
    assert capture.names() == ["kexec-dmesg.log", "vmcore", "vmcore-dmesg.txt"]
    (dump,) = capture.dumps.glob("*/vmcore")
    assert dump.read_bytes() == _MEMORY
    (own,) = capture.dumps.glob("*/kexec-dmesg.log")
    assert re.search(r"^pykdump: no progress for \d+ seconds: ending it$", own.read_text(), re.M)
    assert still_running(tmp_path) == []


@pytest.mark.parametrize("way", [Transport.DISK, pytest.param(Transport.SSH, marks=pytest.mark.further)])
def test_nothing_comes_to_its_end(way: Transport, tmp_path: Path) -> None:
    """Then there is the failure action; what was written until then stays."""
    to = _DISK if way is Transport.DISK else replace(_SSH, folder=f"{tmp_path}/mnt/crash")
    hangs = f"cp() {{ {_SPIN}; }}\n"
    settings = replace(_SETTINGS, failure_action=Action.POWEROFF)
    capture = Capture(tmp_path, settings, to, dies=_SPIN, replaced=_FAST_CLOCK + _ROOM + hangs)
    said = capture.run("main")
    assert said[-3:] == ["the dump was not saved: poweroff", "powering off", "ends: poweroff"]
    assert "saving vmcore failed" in said
    assert diagnosed(said) == "saving made no progress for minutes, and was ended"
    assert any(name.startswith("vmcore") and name.endswith("-incomplete") for name in capture.names())
    assert still_running(tmp_path) == []


def test_what_comes_to_its_end_in_time_is_let_alone(tmp_path: Path) -> None:
    """Also where whoever watches over it is woken too early, as by the end of what it waits with."""
    woken = "told_within() { read -r -t 0.1 status; }\n"
    said = Capture(tmp_path, dies="sleep 2", replaced=woken).run("main")
    assert "saving vmcore complete" in said
    assert not any("no progress" in line for line in said)


# As print_progress() of makedumpfile writes it.
_COPYING = r"printf '\rCopying data%38s: [%3u.%u %%] %c  %16s' '' $i 5 / 'eta: 1m12s' >&2"
_GROWS = 'echo "$i" >> "$output"'


@pytest.mark.parametrize(
    ("sign", "line"),
    [(_COPYING, r"Copying data: \d+\.5 %, 1m12s left, 0 MiB, 0 MiB/s"), (_GROWS, "0 MiB, 0 MiB/s")],
    ids=["tells", "grows"],
)
def test_a_dump_that_goes_on_is_not_ended(sign: str, line: str, tmp_path: Path) -> None:
    """However long it takes; the console has a line of it now and then."""
    slow = f"for i in $(seq 40); do {sign}; sleep 0.1; done"
    said = Capture(tmp_path, dies=slow, replaced=_FAST_CLOCK).run("main")
    assert "saving vmcore complete" in said
    told = [each for each in said if re.fullmatch(line, each)]
    assert len(set(told)) > (1 if sign == _COPYING else 0)
    assert float((tmp_path / "proc/uptime").read_text().split()[0]) > 1000
    assert not any("no progress" in each for each in said)


def test_a_file_server_is_not_asked_how_far_it_is(tmp_path: Path) -> None:
    slow = f"for i in $(seq 10); do {_COPYING}; sleep 0.1; done"
    hangs = "stat() { case $* in */proc/vmcore) echo 0 ;; *) echo asked > ROOT/asked ;; esac; }\n"
    to = replace(_SSH, way=Transport.NFS, folder="/crash", remote="/x")
    said = Capture(tmp_path, to=to, dies=slow, replaced=_FAST_CLOCK + hangs).run("main")
    assert any(re.fullmatch(r"Copying data: \d+\.5 %, 1m12s left", each) for each in said)
    assert "saving vmcore complete" in said
    assert not (tmp_path / "asked").exists()


@pytest.mark.parametrize("way", [Transport.DISK, pytest.param(Transport.SSH, marks=pytest.mark.further)])
def test_a_stop_is_noticed_whatever_size_memory_has(way: Transport, tmp_path: Path) -> None:
    to = _DISK if way is Transport.DISK else replace(_SSH, folder=f"{tmp_path}/mnt/crash")
    large = "memory_kib() { echo 2147483648; }\ndf() { echo x 1 1 9999999999 1% /mnt; }\n"
    stops = f"i=1; {_COPYING}; {_SLEEP}"
    said = Capture(tmp_path, to=to, dies=stops, replaced=_FAST_CLOCK + large).run("main")
    assert "no progress for 600 seconds: ending it" in said
    assert float((tmp_path / "proc/uptime").read_text().split()[0]) < 3600
    assert still_running(tmp_path) == []


def test_a_log_that_does_not_come(tmp_path: Path) -> None:
    spins = f'makedumpfile() {{ [ "$1" != --dump-dmesg ] || {_SPIN}; sh ROOT/makedumpfile "$@"; }}\n'
    capture = Capture(tmp_path, replaced=_FAST_CLOCK + spins)
    said = capture.run("main")
    assert "saving vmcore-dmesg.txt failed" in said
    assert "saving vmcore complete" in said
    assert capture.names() == ["kexec-dmesg.log", "vmcore"]
    assert still_running(tmp_path) == []


@pytest.mark.parametrize("gib", [1, 64, 1024, 8 * 1024])
def test_a_slow_target_has_the_time_it_takes(gib: int, tmp_path: Path) -> None:
    """10 MB in a second, of which nothing is left out; but not many times as much."""
    capture = Capture(tmp_path, replaced='limited() { echo "$1"; }')
    (limit,) = capture.run(f"truncate -s {gib}G ROOT/proc/vmcore; find_room; save_with true")
    needed = gib * (1 << 30) / 10_000_000
    assert needed < int(limit) < 3 * needed + 1000


def _read_all(descriptor: int, into: bytearray) -> None:
    with suppress(OSError):  # nobody has the other end any more
        while piece := os.read(descriptor, 1 << 16):
            into += piece
    os.close(descriptor)


@pytest.mark.parametrize("stuck", [False, True])
def test_a_watchdog_ends_what_nothing_else_can(stuck: bool, tmp_path: Path) -> None:
    """It is kept quiet as long as something may come of that, and stopped in the end. Where a program cannot
    even be killed (it waits for a device that does not answer) it is left alone, and resets."""
    (tmp_path / "dev").mkdir()
    ours, its = os.openpty()
    (tmp_path / "dev/watchdog0").symlink_to(os.ttyname(its))
    unending = f'{_FAST_CLOCK}end() {{ echo "$1"; }}\n' if stuck else ""
    capture = Capture(tmp_path, dies="sleep 5" if stuck else "", replaced=unending)
    fed = bytearray()
    reader = threading.Thread(target=_read_all, args=(ours, fed))
    reader.start()
    said = capture.run("WATCHDOG=1; main")
    os.close(its)
    reader.join()
    assert b"\n" in fed
    assert (b"V" in fed) != stuck
    assert ("it cannot be ended" in said) == stuck
    assert "ends: reboot" in said


_UNKNOWN = "The kernel version is not supported."
_SAYS_SO = f"echo '{_UNKNOWN}' >&2"


@pytest.mark.parametrize("settings", [_SETTINGS, _GZIP], ids=["file", "stream"])
@pytest.mark.parametrize(
    ("fits", "room", "names", "last"),
    [
        (False, True, ["vmcore"], "saving vmcore complete"),
        (False, False, ["vmcore{}-incomplete"], "saving vmcore failed"),
        (True, False, ["vmcore{}"], "saving vmcore complete"),
    ],
    ids=["room", "no room", "known"],
)
def test_a_makedumpfile_that_does_not_know_the_kernel(
    settings: Settings, fits: bool, room: bool, names: Sequence[str], last: str, tmp_path: Path
) -> None:
    """It goes on; that is no success unless the pair was known to fit when the image was made."""
    settings = replace(settings, collector=replace(settings.collector, is_known_to_fit=fits))
    room_is = _ROOM if room else _NO_COPY
    capture = Capture(tmp_path, settings, dies=_SAYS_SO, replaced=room_is)
    said = capture.run("main")
    suffix = ".flat.gz" if settings is not None and settings.collector.compress_with else ""
    expected = ["kexec-dmesg.log", *(name.format(suffix) for name in names), "vmcore-dmesg.txt"]
    assert sorted(capture.names()) == sorted(expected)
    assert [line for line in said if line.startswith("saving vmcore ")] == [last]
    assert any(line.startswith("makedumpfile does not know this kernel") for line in said) != fits
    (own,) = capture.dumps.glob("*/kexec-dmesg.log")
    assert _UNKNOWN in own.read_text()
    if room:
        (dump,) = capture.dumps.glob("*/vmcore")
        assert dump.read_bytes() == _MEMORY


def test_what_makedumpfile_says_is_kept(tmp_path: Path) -> None:
    """On the console, too; of its progress the last state."""
    capture = Capture(
        tmp_path, dies=r"printf 'Copying data : [ 1 %%]\rCopying data : [99 %%]\nwhy it fails\n' >&2; exit 1"
    )
    said = capture.run("main")
    assert "why it fails" in said
    (own,) = capture.dumps.glob("*/kexec-dmesg.log")
    assert "\nCopying data : [99 %]\nwhy it fails\n" in own.read_text()


# Room

# It takes 300000 KiB with less than -d 31, and 100000 with that.
_NEEDS = r"""
needed=300000
[ "$level" != 31 ] || needed=100000
echo "-d $level -L $limit" >> ROOT/asked
if [ -n "$limit" ] && [ "${limit%K}" -lt "$needed" ]; then
    printf '\rCopying data : [%3u.0 %%] /' $((${limit%K} * 100 / needed)) >&2
    printf "\nCan't write the dump file(x). Size limit($limit) reached.\n"
    exit 1
fi
"""
_LARGE = "memory_kib() { echo 999999; }\ndf() { echo a name x 1 1 FREE 1% /m n t; }\n"
_LEVEL_1 = Collector(("makedumpfile", "-l", "-d", "1"), has_limit=True, has_smaller=True)
_NOT_KNOWN = replace(_LEVEL_1, has_smaller=False)


@pytest.mark.parametrize(
    ("collector", "free", "asked", "last"),
    [
        (_LEVEL_1, 1999999, ["-d 1 -L"], "saving vmcore complete"),
        (_LEVEL_1, 302048 + 4, ["-d 1 -L 300000K"], "saving vmcore complete"),
        (_LEVEL_1, 202048 + 4, ["-d 1 -L 200000K", "-d 31 -L 200000K"], "saving vmcore complete"),
        (_LEVEL_1, 52048 + 4, ["-d 1 -L 50000K", "-d 31 -L 50000K"], "saving vmcore failed"),
        (_NOT_KNOWN, 202048 + 4, ["-d 1 -L 200000K"], "saving vmcore failed"),
    ],
)
def test_a_dump_that_may_not_fit(
    collector: Collector, free: int, asked: Sequence[str], last: str, tmp_path: Path
) -> None:
    """It never takes what shall stay free, nor what the log takes; with fewer pages it may fit."""
    settings = replace(_SETTINGS, collector=collector, free_space=4 << 10)
    large = _LARGE.replace("FREE", str(free))
    capture = Capture(tmp_path, settings, dies=_NEEDS.replace("ROOT", str(tmp_path)), replaced=large)
    said = capture.run("main")
    assert (tmp_path / "asked").read_text().split("\n")[:-1] == [
        each.ljust(len("-d 1 -L ")) for each in asked
    ]
    assert last in said
    assert {"kexec-dmesg.log", "vmcore-dmesg.txt"} < set(capture.names())
    assert ("vmcore" in capture.names()) == ("complete" in last)
    needs = [each for each in said if each.startswith("No space left on device")]
    assert len(needs) == len(asked) - ("complete" in last)
    for line, kib in zip(needs, (300000, 100000), strict=False):
        told = re.fullmatch(r".*: there are (\d+) KiB for the dump, which takes about (\d+) KiB", line)
        assert told
        assert int(told[1]) == free - 2048 - 4
        assert 0.9 < int(told[2]) / kib < 1.1
    if "failed" in last:
        assert diagnosed(said) == "the target has no space left for the dump"


@pytest.mark.parametrize("way", [Transport.DISK, Transport.SSH])
def test_threads_that_end_makedumpfile_do_not_cost_the_dump(way: Transport, tmp_path: Path) -> None:
    to = _DISK if way is Transport.DISK else replace(_SSH, folder=f"{tmp_path}/mnt/crash")
    settings = replace(_SETTINGS, collector=Collector(("makedumpfile", "-l", "--num-threads=2", "-d", "31")))
    aborts = 'case "$*" in *--num-threads=0*) ;; *) kill -ABRT $$ ;; esac'
    said = Capture(tmp_path, settings, to, dies=aborts).run("main")
    assert said.index("trying again without threads") < said.index("saving vmcore complete")
    (dump,) = (each for each in tmp_path.glob("mnt/crash/*/vmcore*") if each.name != "vmcore-dmesg.txt")
    assert dump.read_text() == "the first half\nthe second half\n"


@pytest.mark.parametrize("way", [Transport.DISK, Transport.SSH])
def test_a_copy_that_does_not_fit_is_not_begun(way: Transport, tmp_path: Path) -> None:
    to = _DISK if way is Transport.DISK else replace(_SSH, folder=f"{tmp_path}/mnt/crash")
    settings = replace(_SETTINGS, collector=Collector(("cp",)))
    full = "memory_kib() { echo 999999; }\nfree_kib() { echo 900000; }\n"
    said = Capture(tmp_path, settings, to, replaced=full).run("main")
    assert "No space left on device: there are 897952 KiB for the dump, which takes 999999 KiB" in said
    assert not list(tmp_path.glob("mnt/crash/*/vmcore[!-]*"))
    assert list(tmp_path.glob("mnt/crash/*/vmcore-dmesg.txt"))


def test_a_compressed_stream_ends_where_the_room_does(tmp_path: Path) -> None:
    """How large it will be nobody knows; what shall stay free does."""
    settings = replace(_GZIP, free_space=1 << 20)
    full = "memory_kib() { echo 999999; }\nfree_kib() { echo $((1024 + 2048 + 64)); }\n"
    much = f"head -c {1 << 20} /dev/urandom >> $output"
    capture = Capture(tmp_path, settings, dies=much, replaced=full)
    said = capture.run("main")
    assert "saving vmcore failed" in said
    assert diagnosed(said) == "the target has no space left for the dump"
    (partial,) = capture.dumps.glob("*/vmcore.flat.gz-incomplete")
    assert partial.stat().st_size <= 64 << 10


@pytest.mark.parametrize(
    ("answer", "free"),
    [
        ("Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/x 10 3 7 30% /", ["7"]),
        ("Filesystem 1024-blocks Used Available Capacity Mounted on\n/a b 5 10 3 7 30% /c d 8 9", ["7"]),
        ("Filesystem 1024-blocks Used Available Capacity Mounted on\nx 10 0 -10 100% /", ["-10"]),
        ("df: not found", []),
        ("", []),
    ],
)
def test_what_the_server_says_of_its_room(answer: str, free: Sequence[str], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/server.df").write_text(answer)
    assert Capture(tmp_path, to=_SSH).run("free_kib") == free


def test_a_server_that_does_not_tell_its_room(tmp_path: Path) -> None:
    to = replace(_SSH, folder=f"{tmp_path}/mnt/crash")
    large = "memory_kib() { echo 999999; }\nfree_kib() { :; }\n"
    said = Capture(tmp_path, to=to, replaced=large).run("main")
    assert "how much room there is cannot be told" in said
    assert "saving vmcore complete" in said


_LATE = "ssh() { echo >> ROOT/tries; [ $(wc -l < ROOT/tries) -gt 3 ] || return 255; }"
_NEVER = "ssh() { echo >> ROOT/tries; return 255; }"
_DENIED = "ssh() { echo >> ROOT/tries; echo 'Permission denied (publickey).' >&2; return 255; }"


@pytest.mark.parametrize(("server", "tries"), [(_LATE, 4), (_NEVER, 4), (_DENIED, 1)])
def test_a_server_that_takes_its_time(server: str, tries: int, tmp_path: Path) -> None:
    """A switch may begin to forward when the capture system has long been up; a wrong key stays wrong."""
    capture = Capture(tmp_path, to=_SSH, replaced=_CLOCK + server)
    said = capture.run("reach_server && echo reached")
    assert (tmp_path / "tries").read_text().count("\n") == tries
    assert ("reached" in said) == (server is _LATE)
    assert ("Permission denied (publickey)." in said) == (server is _DENIED)


@pytest.mark.parametrize(
    ("told", "cause"),
    [
        ("ssh: connect to host 192.0.2.1 port 22: No route to host", "the ssh server cannot be reached"),
        ("ssh: connect to host 192.0.2.1 port 22: Connection refused", "the ssh server cannot be reached"),
        ("u@192.0.2.1: Permission denied (publickey).", "the ssh server does not let the capture system in"),
        ("mkdir: cannot create directory 'x': Permission denied", "the ssh server does not make the folder"),
        ("kex_exchange_identification: Connection closed by remote host", "the ssh server does not make"),
    ],
)
def test_why_no_server_was_reached_is_understood(told: str, cause: str, tmp_path: Path) -> None:
    server = f'ssh() {{ echo "{told}" >&2; return 255; }}'
    said = Capture(tmp_path, to=_SSH, replaced=_CLOCK + server).run("main")
    assert diagnosed(said).startswith(cause)


# The way to the server

# What the kernel does with a card, a bond and a VLAN, as far as it is asked here.
_LINKS = """
made() { mkdir -p ROOT/sys/class/net/$1/bonding; echo 1 > ROOT/sys/class/net/$1/carrier; }
ip() {
    echo "ip $*" >> ROOT/asked
    case "$*" in
        "link add kbond"*) made kbond ;;
        "link add link"*) made "$6" ;;
        "address show"*) cat ROOT/has ;;
        "-4 route add default"*) grep -q "^ip -4 route add 198" ROOT/asked ;;
    esac
}
"""


def _cards(root: Path, cards: dict[str, tuple[str, str]]) -> None:
    """Network cards by name, each with its address and its place below /sys."""
    for name, (mac, place) in cards.items():
        folder = root / f"sys{place}/net/{name}"
        (folder / "device").mkdir(parents=True)
        (folder / "address").write_text(f"{mac}\n")
        (folder / "carrier").write_text("1\n")
        (root / "sys/class/net").mkdir(parents=True, exist_ok=True)
        (root / "sys/class/net" / name).symlink_to(folder)
    (root / "has").touch()


_FIRST, _SECOND = "52:54:00:00:00:01", "52:54:00:00:00:02"
_BUS = "/devices/pci0000:00/0000:00:0{}.0"


def _brought_up(
    root: Path, network: Network, call: str = "bring_up_network && echo up $top"
) -> Sequence[str]:
    own = re.search(r"^bring_up_network\(\) \{.*?^\}$", (MORE_OF_INIT / "network").read_text(), re.M | re.S)
    assert own is not None
    return Capture(root, to=replace(_SSH, network=network), replaced=f"{_CLOCK}{own[0]}\n{_LINKS}").run(call)


def _asked(root: Path) -> Sequence[str]:
    return (root / "asked").read_text().splitlines()


@pytest.mark.parametrize(
    ("cards", "wanted", "taken"),
    [
        ({"eth0": (_SECOND, _BUS.format(4)), "eth1": (_FIRST, _BUS.format(3))}, _FIRST, "eth1"),
        # The same in another slot; a virtual function's stand-in has its address.
        ({"eth0": (_FIRST, _BUS.format(5))}, _FIRST, "eth0"),
        ({"eth0": (_FIRST, _BUS.format(4)), "eth1": (_FIRST, _BUS.format(3))}, _FIRST, "eth1"),
        # Without an address that lasts, or with another one now.
        ({"eth0": (_FIRST, _BUS.format(4)), "eth1": (_SECOND, _BUS.format(3))}, "", "eth1"),
        ({"eth0": (_SECOND, _BUS.format(3))}, _FIRST, "eth0"),
        ({"eth0": (_SECOND, _BUS.format(4))}, _FIRST, ""),
    ],
    ids=["by address", "moved", "two with one", "by place", "another address", "none"],
)
def test_which_card_it_is(
    cards: dict[str, tuple[str, str]], wanted: str, taken: str, tmp_path: Path
) -> None:
    _cards(tmp_path, cards)
    network = Network("192.0.2.1", Links((Card(wanted, _BUS.format(3)),)), "192.0.2.7/24")
    said = _brought_up(tmp_path, network)
    assert said[-1] == (
        f"up {taken}" if taken else f"no network card has the address {_FIRST}, or is at its place"
    )


def test_a_card_that_is_part_of_another(tmp_path: Path) -> None:
    """A cloud's card, and the function of the host's card that it sends through: both have one address."""
    _cards(tmp_path, {"enP1": (_FIRST, _BUS.format(3)), "eth0": (_FIRST, _BUS.format(4))})
    (tmp_path / f"sys{_BUS.format(3)}/net/enP1/master").mkdir()
    network = Network("192.0.2.1", Links((Card(_FIRST, _BUS.format(3)),)), "192.0.2.7/24")
    assert _brought_up(tmp_path, network) == ["up eth0"]


def test_a_gateway_outside_of_the_network(tmp_path: Path) -> None:
    """Where the address is set already, from another target, it is not set again."""
    _cards(tmp_path, {"eth0": (_FIRST, _BUS.format(3))})
    (tmp_path / "has").write_text("    inet 192.0.2.7/32 scope global eth0")
    links = Links((Card(_FIRST, _BUS.format(3)),))
    network = Network("203.0.113.1", links, "192.0.2.7/32", "198.51.100.1", 1400)
    assert _brought_up(tmp_path, network) == ["up eth0"]
    assert [each for each in _asked(tmp_path) if " route add " in each] == [
        "ip -4 route add 198.51.100.1 dev eth0",
        "ip -4 route add default via 198.51.100.1 dev eth0 mtu 1400",
    ]
    assert not any(each.startswith("ip address add") for each in _asked(tmp_path))


def test_vlans_on_a_bond_are_made_again(tmp_path: Path) -> None:
    """The bond's mode comes first, then its address, then its slaves: the others take neither afterwards.

    Of the VLANs, one in the other, both have the same number.
    """
    _cards(tmp_path, {"eth0": (_SECOND, _BUS.format(4)), "eth1": (_FIRST, _BUS.format(3))})
    cards = (Card(_FIRST, _BUS.format(3)), Card(_SECOND, _BUS.format(4)))
    bond = (("mode", "802.3ad"), ("lacp_rate", "fast"), ("miimon", "100"))
    links = Links(cards, bond, (Vlan(5, "802.1ad"), Vlan(5)), mac=_SECOND, base_mtu=9000, mtu=1500)
    network = Network("fd77::1", links, "fd77::2/64", "fe80::1")
    assert _brought_up(tmp_path, network) == ["up kvlan2.5"]
    asked = _asked(tmp_path)
    order = [
        "ip link add kbond type bond",
        f"ip link set dev kbond address {_SECOND}",
        "ip link set dev eth1 down",
        "ip link set dev eth0 down",
        "ip link set dev kbond mtu 9000",
        "ip link set dev kbond up",
        "ip link add link kbond name kvlan1.5 type vlan protocol 802.1ad id 5",
        "ip link add link kvlan1.5 name kvlan2.5 type vlan protocol 802.1q id 5",
        "ip link set dev kvlan2.5 mtu 1500",
        "ip address add fd77::2/64 dev kvlan2.5",
        "ip -6 route add default via fe80::1 dev kvlan2.5",
    ]
    assert [each for each in asked if each in order] == order
    folder = tmp_path / "sys/class/net/kbond/bonding"
    assert {each.name: each.read_text().strip() for each in folder.iterdir()} == {
        **dict(bond),
        "slaves": "+eth0",
    }


def test_a_bond_without_one_of_its_cards(tmp_path: Path) -> None:
    """It is waited for, and not longer than for any."""
    _cards(tmp_path, {"eth0": (_SECOND, _BUS.format(4))})
    cards = (Card(_FIRST, _BUS.format(3)), Card(_SECOND, _BUS.format(4)))
    links = Links(cards, (("mode", "active-backup"),), mac=_FIRST)
    said = _brought_up(tmp_path, Network("192.0.2.1", links, "192.0.2.7/24"))
    assert said[0].startswith("not all network cards are there")
    assert said[1:] == ["up kbond"]
    assert (tmp_path / "sys/class/net/kbond/bonding/slaves").read_text() == "+eth0\n"


def test_a_link_that_takes_long(tmp_path: Path) -> None:
    _cards(tmp_path, {"eth0": (_FIRST, _BUS.format(3))})
    (tmp_path / "sys/class/net/eth0/carrier").write_text("0\n")
    network = Network("fe80::1", Links((Card(_FIRST, _BUS.format(3)),)), "fe80::2/64")
    said = _brought_up(tmp_path, network, 'bring_up_network && echo "to $SERVER"')
    assert said == [
        "waiting for the link of eth0, up to 60 seconds",
        "eth0 has no carrier; trying all the same",
        "to fe80::1%eth0",
    ]


@pytest.mark.parametrize(
    ("way", "client", "wrong"),
    [
        (Transport.SMB, "mount", "dmesg() { echo 'CIFS: Status code 0xc000006d STATUS_LOGON_FAILURE'; }"),
        (
            Transport.SFTP,
            "sshfs",
            "sshfs() { echo 'failed: Permission denied (publickey).'; return 1; }",
        ),
    ],
)
def test_a_share_that_takes_its_time(way: Transport, client: str, wrong: str, tmp_path: Path) -> None:
    """As long as may be; but what time does not change is no reason to wait."""
    share = replace(_SSH, way=way, remote="/share" if way is Transport.SMB else "u")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/pykdump.credentials").write_text("username=u,password=a  b$(id)")
    tries = f'{client}() {{ echo "$*" >> ROOT/tries; [ $(wc -l < ROOT/tries) -gt 2 ]; }}'
    quiet = "dmesg() { :; }\n"
    call = f"mount_{way.value} && echo mounted"
    assert Capture(tmp_path, to=share, replaced=f"{_CLOCK}{quiet}{tries}").run(call) == ["mounted"]
    told = (tmp_path / "tries").read_text().splitlines()
    assert len(told) == 3
    assert way is not Transport.SMB or told[0] == (
        f"-t cifs -o ip=192.0.2.1,username=u,password=a  b$(id) -- //192.0.2.1/share {tmp_path}/mnt"
    )
    fails = f"{client}() {{ echo failed; return 1; }}\n{quiet}"
    said = Capture(tmp_path, to=share, replaced=f"{_CLOCK}{fails}{wrong}").run("main")
    assert len([line for line in said if line.startswith("failed")]) == 1
    smb, ssh = "the SMB share cannot be mounted", "the ssh server does not let the capture system in"
    assert diagnosed(said).startswith(smb if way is Transport.SMB else ssh)


def test_a_file_server_that_takes_its_time(tmp_path: Path) -> None:
    nfs = replace(_SSH, way=Transport.NFS, remote="/export", options="timeo=600,retrans=5")
    mount = 'mount() { echo "$4" >> ROOT/tries; [ $(wc -l < ROOT/tries) -gt 5 ]; }'
    capture = Capture(tmp_path, to=nfs, replaced=_CLOCK + mount)
    assert "mounted" in capture.run("mount_nfs && echo mounted")
    tried = (tmp_path / "tries").read_text().splitlines()
    versions = [re.findall(r"vers=([\d.]+),nolock,soft,timeo=600,retrans=5$", each)[0] for each in tried]
    assert versions == ["4.2", "4.1", "4", "3", "4.2", "4.1"]


@pytest.mark.parametrize("way", [Transport.NFS, Transport.SMB])
def test_a_file_server_that_says_nothing(way: Transport, tmp_path: Path) -> None:
    """Of itself the kernel would wait for it again and again, and with each version of NFS."""
    to = replace(_SSH, way=way, remote="/export")
    silent = 'timeout() { echo "$*" >> ROOT/tries; [ "$1 $2" = "-s KILL" ] && sleep "$3"; return 137; }\n'
    waits = _CLOCK.replace("+ 20", "+ ${1%.*}")
    settings = replace(_SETTINGS, failure_action=Action.POWEROFF)
    capture = Capture(tmp_path, settings, to, replaced=f"{waits}{silent}")
    said = capture.run("main")
    assert said[-2:] == ["powering off", "ends: poweroff"]
    assert any(line.startswith(f"mount.{way.value.replace('smb', 'cifs')}: cannot mount") for line in said)
    tried = (tmp_path / "tries").read_text().splitlines()
    assert all(" mount -t " in each for each in tried)
    assert 2 <= len(tried) <= 3
    assert float((tmp_path / "proc/uptime").read_text().split()[0]) < 100 + 120


_OWN_WATCH = re.search(r"^watch_server\(\) \{.*?^\}$", (MORE_OF_INIT / "network").read_text(), re.M | re.S)


@pytest.mark.parametrize("ends", [True, False])
def test_a_file_server_that_is_gone(ends: bool, tmp_path: Path) -> None:
    """What waits for it is ended, and where nothing can be ended the machine goes on all the same."""
    assert _OWN_WATCH is not None
    gone = """
    df() { echo df >> ROOT/asked; case $(wc -l < ROOT/asked) in 1 | 2 | 4 | 6) ;; *) false ;; esac; }
    umount() { echo "umount $*" >> ROOT/asked; ENDS || : > ROOT/proc/mounts; }
    """.replace("ENDS", "false" if ends else "true")
    to = replace(_SSH, way=Transport.NFS, remote="/export")
    settings = replace(_SETTINGS, failure_action=Action.POWEROFF)
    capture = Capture(tmp_path, settings, to, replaced=f"{_CLOCK}{_OWN_WATCH[0]}\n{gone}")
    said = capture.run("echo '192.0.2.1:/export ROOT/mnt nfs4 rw 0 0' > ROOT/proc/mounts; watch_server")
    assert said[0] == "192.0.2.1 does not answer any more: ending what waits for it"
    assert said[1:] == ([] if ends else ["it cannot be ended", "ends: poweroff"])
    asked = (tmp_path / "asked").read_text().splitlines()
    # A df that fails at once may have had no memory.
    assert asked[:12] == ["df"] * 12
    assert set(asked[12:]) == {f"umount -f {tmp_path}/mnt"}
    # Another file system there, for failure_action dump_to_rootfs, is left alone.
    said = capture.run("echo '/dev/vda1 ROOT/mnt ext4 rw 0 0' > ROOT/proc/mounts; watch_server")
    assert said[1:] == []


@pytest.mark.parametrize(
    ("held", "place", "found"),
    [
        ({"vda": "pci0/a", "vdb": "pci0/b"}, "/devices/pci0/b", "vdb"),
        ({"vda": "pci0/a", "vdb": "pci0/b"}, "/devices/pci0/a", "vda"),
        ({"vda": "pci0/a", "md0": "virtual"}, "", "md0"),
        ({"dm-0": "virtual/x", "dm-1": "virtual/y"}, "", "dm-0"),
        ({"vdb": "pci0/c"}, "/devices/pci0/gone", "vdb"),
    ],
    ids=["second", "first", "array", "volume", "moved"],
)
def test_several_with_one_uuid(held: dict[str, str], place: str, found: str, tmp_path: Path) -> None:
    """A file system and its clone; an array and the disk that it lies on."""
    for name, where in held.items():
        folder = tmp_path / "sys/devices" / where / name
        (folder / "holders").mkdir(parents=True)
        (tmp_path / "sys/class/block").mkdir(parents=True, exist_ok=True)
        (tmp_path / "sys/class/block" / name).symlink_to(folder)
    if "md0" in held:
        (tmp_path / "sys/devices/pci0/a/vda/holders/md0").touch()
    uuid = "00ff2030-4050-6070-8090-a0b0c0d0e0f0"
    superblock = bytearray(2048)  # ext4's begins at 1024, and has its UUID at 0x68
    superblock[1024 + 0x68 : 1024 + 0x78] = bytes.fromhex(uuid.replace("-", ""))
    (tmp_path / "dev").mkdir()
    for name in held:
        (tmp_path / "dev" / name).write_bytes(superblock)
    (tmp_path / "sys/class/block/vdz").mkdir()
    (tmp_path / "dev/vdz").write_bytes(superblock[1:])
    device = BlockDevice("vda", place, 0, 5, ())
    own = re.search(r"^find_by_uuid\(\) \{.*?^\}$", INIT.read_text(), re.M | re.S)
    assert own is not None
    capture = Capture(
        tmp_path,
        to=replace(_DISK, device=device, superblock=Superblock("ext4", uuid, "")),
        replaced=own[0],
    )
    assert capture.run('find_by_uuid; echo "$device"')[-1].endswith(f"/dev/{found}")


@pytest.mark.parametrize(("there", "options"), [(2, ""), (1, ",degraded")])
def test_a_file_system_on_two_devices(there: int, options: str, tmp_path: Path) -> None:
    """The kernel is told of both; one is better than none. A device in an array is none of them."""
    uuid = "00ff2030-4050-6070-8090-a0b0c0d0e0f0"
    superblock = bytearray(66 << 10)  # btrfs's begins at 64 KiB, and has its UUID at 0x20
    superblock[(64 << 10) + 0x20 : (64 << 10) + 0x30] = bytes.fromhex(uuid.replace("-", ""))
    names = ["sda", "sdb"][:there]
    for name in (*names, "sdc"):
        (tmp_path / "sys/class/block" / name / "holders").mkdir(parents=True)
        (tmp_path / "dev").mkdir(exist_ok=True)
        (tmp_path / "dev" / name).write_bytes(superblock)
    (tmp_path / "sys/class/block/sdc/holders/md0").touch()
    to = replace(_DISK, superblock=Superblock("btrfs", uuid, "", devices=2), options="subvolid=5")
    said = Capture(tmp_path, to=to, replaced=_CLOCK).run("mount_disk")
    named = "".join(f",device={tmp_path}/dev/{name}" for name in names)
    assert (
        said[-1] == f"mounted: -t btrfs -o rw,subvolid=5{options}{named} -- {tmp_path}/dev/x {tmp_path}/mnt"
    )
    assert ("1 of 2 devices are there: mounting what there is" in said) == (there == 1)


@pytest.mark.parametrize("tries", [1, 3, 99])
def test_a_folder_that_the_host_shares(tries: int, tmp_path: Path) -> None:
    """Its device may come late, or never."""
    to = Destination(
        Transport.SHARE,
        "/crash",
        options="a=b",
        remote="tag",
        share=Share("virtiofs", "tag", (), ()),
    )
    mount = f'mount() {{ echo "$*" >> ROOT/tries; [ $(wc -l < ROOT/tries) -ge {tries} ]; }}'
    capture = Capture(tmp_path, to=to, replaced=_CLOCK + mount)
    said = capture.run("main")
    first = (tmp_path / "tries").read_text().splitlines()[0]
    assert first == f"-t virtiofs -o rw,a=b -- tag {tmp_path}/mnt"
    assert ("vmcore" in capture.names()) == (tries < 99)
    assert ("cannot mount tag (virtiofs)" in said) == (tries == 99)


# What mdadm does with the disks of a container that are there, and with the array in it.
_CONTAINER = """
mdadm() {
    echo "$*" >> ROOT/asked
    case "$*" in
        "--assemble --scan --uuid=c") mkdir -p ROOT/sys/block/md127/md; echo c > ROOT/sys/block/md127/uuid ;;
        "--incremental "*)
            mkdir -p ROOT/sys/block/md126/md
            echo a > ROOT/sys/block/md126/uuid
            state=inactive
            case DISKS"$*" in 2* | *--run*) state=read-auto ;; esac
            echo $state > ROOT/sys/block/md126/md/array_state
            ;;
        "--stop "*) rm -r "ROOT/sys/block/${2##*/}" ;;
        "--detail --export "*) sed s/^/MD_UUID=/ "ROOT/sys/block/${3##*/}/uuid" ;;
    esac
}
"""


@pytest.mark.parametrize("disks", [1, 2])
def test_an_array_in_a_container(disks: int, tmp_path: Path) -> None:
    """With a disk less it is started when that has been waited for; until then nothing holds the other."""
    (tmp_path / "sys/block/md3").mkdir(parents=True)
    (tmp_path / "sys/block/md3/uuid").write_text("another\n")
    assert _DISK.device is not None
    stack = Stack((Layer("container", "c,a"),))
    to = replace(_DISK, device=replace(_DISK.device, stack=stack))
    told = _CLOCK + _CONTAINER.replace("DISKS", str(disks))
    said = Capture(tmp_path, to=to, replaced=told).run("assemble && echo done")
    assert said == ["putting together container:c,a", "done"]
    lines = (tmp_path / "asked").read_text().replace(str(tmp_path), "").splitlines()
    asked = [line for line in lines if "--detail" not in line]
    again = [
        "--assemble --scan --uuid=c",
        "--incremental /dev/md127",
        "--stop /dev/md126",
        "--stop /dev/md127",
    ]
    assert asked[-2:] == ["--assemble --scan --uuid=c", f"--incremental {'--run ' * (disks == 1)}/dev/md127"]
    assert asked[:-2] == again * ((len(asked) - 2) // 4)
    assert (len(asked) > 2) == (disks == 1)


def test_a_layer_that_is_not_there(tmp_path: Path) -> None:
    """It is named, whatever was done to reach it: the network has a bond to make, and options to set."""
    assert _DISK.device is not None
    stack = Stack((Layer("nvme", "nqn.2026-01.lab:dump,192.0.2.1,4420,a,b"),))
    to = replace(_DISK, device=replace(_DISK.device, stack=stack), network=_SSH.network)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/pykdump.login").touch()
    refuses = "ip() { :; }\nbring_up_network() { top=eth0; set_up eth0 ''; }\nconnect_nvme() { return 1; }\n"
    said = Capture(tmp_path, to=to, replaced=f"{_CLOCK}{refuses}").run("assemble")
    assert said[-1].startswith("the dump target's nqn.2026-01.lab:dump,192.0.2.1,4420,a,b does not exist")

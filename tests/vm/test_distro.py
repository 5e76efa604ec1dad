"""Debian 12 with pykexec as its /sbin/kexec: kdump-tools, systemd and kexec-tools' scripts run on it.

Machines are shared by cases: one goes to a second kernel, and crashes there; others show further ways.
"""

import itertools
import os
import re
import secrets
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import generators, strace
from tests.vm import jobs
from tools.lab import PANIC, LabError, Result, Stage, distro
from tools.lab.distro import Job
from tools.lab.host import locked

_KDUMP = """
step() {{
    name=$1; shift
    "$@" > "$name.out" 2> "$name.err" || {{ echo "$name: $?"; cat "$name.err"; return 1; }}
    cat /sys/kernel/kexec_crash_loaded > "$name.loaded"
}}
kexec --version > version
step service systemctl is-active kdump-tools
step show kdump-config show
sed -i 's/^#*KDUMP_KEXEC_ARGS=.*/KDUMP_KEXEC_ARGS="{options}"/' /etc/default/kdump-tools
step unload kdump-config unload
step unload-again kdump-config unload
step status-unloaded kdump-config status
step dry-run kdump-config test
step load kdump-config load
step status-loaded kdump-config status
cp /var/crash/kexec_cmd reported-command

# The command of the udev rule. (udev itself may make no such system call in Debian 12.)
mv /var/crash/kexec_cmd first-command
step try-reload kdump-config try-reload
cp /var/crash/kexec_cmd second-command
echo "{marker}" > /dev/kmsg
sync
"""

_TRACE = """
cp /proc/sys/kernel/random/boot_id .
trace() {
    name=$1; shift
    strace --seccomp-bpf -f -y -s 300 -e trace=kexec_file_load,kexec_load -o "$name.calls" \\
        kexec "$@" > "$name.out" 2> "$name.err"
    cat /sys/kernel/kexec_loaded > "$name.loaded"
}
"""
_LOADS = f"""{_TRACE}
trace plain -l /vmlinuz --initrd=/initrd.img --append="one two"
trace segments -c -l /vmlinuz --initrd=/initrd.img --append="one two"
trace unload -u
kexec -l /vmlinuz --initrd=/initrd.img --reuse-cmdline --append=lab=systemctl
"""
_FURTHER_LOADS = f"""{_TRACE}
gzip -1 < /vmlinuz > /tmp/vmlinuz.gz
trace file -s -l /vmlinuz --initrd=/initrd.img --append="one two"
trace no-initrd -s -l /vmlinuz --append="one two"
trace compressed -s -l /tmp/vmlinuz.gz --append="one two"
trace crash -s -p /vmlinuz --initrd=/initrd.img --append="one two"
"""
_LOOK = """
cp /proc/sys/kernel/random/boot_id .
cp /var/lib/stopped . || true
dmesg > dmesg
kdump-config status > kdump
cat /sys/kernel/kexec_loaded > loaded
"""
# Debian 12 masks kexec.service, which is for sysvinit; its first releases did not.
_INIT_SCRIPTS = """
echo "APPEND=\\"$(cat /proc/cmdline) lab=init-scripts\\"" > /etc/default/kexec.d/lab
sed -i 's/^LOAD_KEXEC=.*/LOAD_KEXEC=true/' /etc/default/kexec
rm /lib/systemd/system/kexec.service
systemctl daemon-reload
systemctl restart kexec.service kexec-load.service
"""
_FURTHER_JOBS = {
    # Without an action: loads, and has the system shut down.
    "first": Job(
        _FURTHER_LOADS,
        "kexec /vmlinuz --initrd=/initrd.img --reuse-cmdline --append=lab=no-action",
    ),
    "no-action": Job(_LOOK + _INIT_SCRIPTS, "systemctl reboot"),
    "init-scripts": Job(_LOOK),
}


# As dracut-shutdown.service does it: the initramfs is unpacked, and systemd makes it the root at the end.
_EXITRD = """
cp /proc/sys/kernel/random/boot_id .
mount -o remount,exec,size=75% /run
rm -rf /run/initramfs
mkdir /run/initramfs
cd /run/initramfs
gunzip < /run/lab/in/{image} | cpio -idm
kexec -l /vmlinuz --initrd=/initrd.img --reuse-cmdline --append=lab={after}
"""
_EXITRD_JOBS = {
    "first": Job(_EXITRD.format(image="static", after="after-static"), "systemctl kexec"),
    "after-static": Job(_LOOK + _EXITRD.format(image="python", after="after-python"), "systemctl kexec"),
    "after-python": Job(_LOOK),
}
_EXITRD_MODULE: generators.Tree = {
    "module-setup.sh": """\
check() {
    return 0
}
install() {
    inst_hook shutdown 50 "$moddir/look.sh"
}
""",
    # Sourced by dracut's shutdown script, when it has unmounted what there was.
    "look.sh": """\
disks=0
while read -r device _; do
    case $device in
        /dev/vd*) disks=$((disks + 1)) ;;
    esac
done < /proc/mounts
echo "exitrd: $(kexec --version)" > /dev/console
echo "exitrd: disks: $disks" > /dev/console
""",
}


Shared = Callable[[str, Callable[[Path], None]], Path]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Shared:
    """A folder that is filled once, whichever of the test processes is first."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def get(name: str, fill: Callable[[Path], None]) -> Path:
        folder = base / name
        ended = base / f"{name}.ended"
        with locked(folder):
            if not ended.exists():
                try:
                    fill(folder)
                    ended.write_text("")
                except LabError as error:
                    ended.write_text(str(error))
                finally:
                    (folder / "disk").unlink(missing_ok=True)
        # The other cases fail at once.
        assert ended.read_text() == ""
        return folder

    return get


@pytest.fixture(
    scope="module", params=[pytest.param("", id="kexec_file_load"), jobs.further("-c", id="kexec_load")]
)
def options(request: pytest.FixtureRequest) -> str:
    """kdump-tools' for kexec."""
    found: str = request.param
    return found


@pytest.fixture(scope="module")
def crashed(shared: Shared, options: str) -> Path:
    """What a machine left that panicked: its results, and from its disk the folder of the dump."""
    return crash(shared, options)


def crash(shared: Shared, options: str) -> Path:
    """Have a machine go from its first kernel to a second one, and panic there."""

    def fill(folder: Path) -> None:
        marker = secrets.token_hex(8)
        job = Job(_LOOK + _KDUMP.format(options=options, marker=marker), PANIC)
        distro.boot({"first": Job(_LOADS, "systemctl kexec"), "systemctl": job}, folder)
        (folder / "marker").write_text(marker)
        saved = folder / "saved"
        saved.mkdir()
        for name in distro.list_folder(folder, "/var/crash"):
            if name.isdigit():
                for file in distro.list_folder(folder, f"/var/crash/{name}"):
                    distro.read_file(folder, f"/var/crash/{name}/{file}", saved / file.split(".")[0])

    return shared(f"crashed{options}", fill)


@pytest.fixture(scope="module")
def kdump(crashed: Path) -> Stage:
    """The results of the machine's job before the crash."""
    return Result(crashed, 0).stage("systemctl")


@pytest.fixture(scope="module")
def rebooted(shared: Shared) -> Result:
    """What such a machine left in its first kernel, and in the second."""
    return Result(crash(shared, ""), 0)


@pytest.fixture(scope="module")
def further(shared: Shared) -> Result:
    """What a machine left that went from kernel to kernel in other ways."""

    def fill(folder: Path) -> None:
        distro.boot(_FURTHER_JOBS, folder)

    return Result(shared("further", fill), 0)


@pytest.fixture(scope="module")
def through_dracut(shared: Shared, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """What a machine left that twice had dracut's shutdown script start the next kernel."""

    def image(name: str) -> bytes:
        folder = tmp_path_factory.mktemp(name)
        theirs = ["base", "bash", "fs-lib", "shutdown", "udev-rules"]
        made = generators.dracut(folder, {"98look": _EXITRD_MODULE}, theirs, static=name == "static")
        return made.read_bytes()

    def fill(folder: Path) -> None:
        distro.boot(_EXITRD_JOBS, folder, files={name: image(name) for name in ("static", "python")})

    return Result(shared("through-dracut", fill), 0)


def test_kdump_service_loads_at_boot(kdump: Stage) -> None:
    assert "pykexec" in kdump.read("version")
    assert kdump.read("service.out") == "active\n"
    assert kdump.read("service.loaded") == "1\n"
    assert "ready to kdump" in kdump.read("show.out")


@pytest.mark.parametrize("step", ["unload", "unload-again"])
def test_kdump_config_unload(kdump: Stage, step: str) -> None:
    assert (kdump.read(f"{step}.out"), kdump.read(f"{step}.err")) == ("unloaded kdump kernel.\n", "")
    assert kdump.read(f"{step}.loaded") == "0\n"


def test_kdump_config_status(kdump: Stage) -> None:
    assert kdump.read("status-unloaded.out") == "current state   : Not ready to kdump\n"
    assert kdump.read("status-loaded.out") == "current state   : ready to kdump\n"


def test_kdump_config_test(kdump: Stage) -> None:
    """It shows the command, and runs none."""
    command = kdump.read("dry-run.out").splitlines()[-1]
    assert shlex.split(command)[:2] == ["/sbin/kexec", "-p"]
    assert kdump.read("dry-run.loaded") == "0\n"
    assert command.strip() == kdump.read("reported-command").strip()


def test_kdump_config_load(kdump: Stage) -> None:
    assert kdump.read("load.out").splitlines()[-1] == "loaded kdump kernel."
    assert kdump.read("load.err") == ""
    assert kdump.read("load.loaded") == "1\n"


def test_kdump_config_try_reload(kdump: Stage) -> None:
    assert kdump.read("try-reload.loaded") == "1\n"
    assert kdump.read("second-command") == kdump.read("first-command")


def test_capture_kernel_saves_the_log(crashed: Path) -> None:
    log = (crashed / "saved/dmesg").read_text(errors="replace")
    assert (crashed / "marker").read_text() in log
    assert "Kernel panic - not syncing: sysrq triggered crash" in log


def test_capture_kernel_saves_a_dump(crashed: Path, tmp_path: Path) -> None:
    dump, log = tmp_path / "dump", tmp_path / "dmesg"
    # kdump-tools saves the flattened format.
    with (crashed / "saved/dump").open("rb") as saved:
        subprocess.run(["makedumpfile", "-R", dump], stdin=saved, check=True)
    subprocess.run(["makedumpfile", "--dump-dmesg", dump, log], check=True)
    assert (crashed / "marker").read_text() in log.read_text(errors="replace")


_FILES = {
    r"\d+</boot/vmlinuz-[^>]*>": "KERNEL",
    r"\d+</boot/initrd.img-[^>]*>": "INITRD",
    r"\d+</memfd:[^>]*>\(deleted\)": "IN_MEMORY",
}
_LINE = r'8, "one two\0"'
_CALLS = {
    "plain": f"kexec_file_load(KERNEL, INITRD, {_LINE}, 0)",
    "segments": "kexec_load(ENTRY, COUNT, SEGMENTS, KEXEC_ARCH_X86_64)",
    "unload": "kexec_file_load(-1, -1, 0, NULL, KEXEC_FILE_UNLOAD)",
}
_FURTHER_CALLS = {
    "file": f"kexec_file_load(KERNEL, INITRD, {_LINE}, 0)",
    "no-initrd": f"kexec_file_load(KERNEL, -1, {_LINE}, KEXEC_FILE_NO_INITRAMFS)",
    "compressed": f"kexec_file_load(IN_MEMORY, -1, {_LINE}, KEXEC_FILE_NO_INITRAMFS)",
    "crash": f"kexec_file_load(KERNEL, INITRD, {_LINE}, KEXEC_FILE_ON_CRASH)",
}


@pytest.mark.parametrize("name", _CALLS)
def test_system_call(rebooted: Result, name: str) -> None:
    """The kernel sees the user's own files, and nothing is printed."""
    check_call(rebooted.stage("first"), name, _CALLS[name])


@jobs.FURTHER
@pytest.mark.parametrize("name", _FURTHER_CALLS)
def test_further_system_call(further: Result, name: str) -> None:
    check_call(further.stage("first"), name, _FURTHER_CALLS[name])


def check_call(first: Stage, name: str, call: str) -> None:
    (seen,) = strace.calls(first.read(f"{name}.calls"))
    for pattern, word in _FILES.items():
        seen = re.sub(pattern, word, seen)
    seen = re.sub(r"kexec_load\(0x\w+, \d+, \[.*\]", "kexec_load(ENTRY, COUNT, SEGMENTS", seen)
    assert seen == f"{call} = 0"
    assert (first.read(f"{name}.out"), first.read(f"{name}.err")) == ("", "")
    assert first.read(f"{name}.loaded") == ("0\n" if name == "unload" else "1\n")


def test_reaches_the_next_kernel(rebooted: Result) -> None:
    reaches(rebooted, "first", "systemctl")


_WAYS = list(itertools.pairwise(_FURTHER_JOBS))


@jobs.FURTHER
@pytest.mark.parametrize(("before", "after"), _WAYS, ids=[after for _, after in _WAYS])
def test_reaches_the_next_kernel_in_other_ways(further: Result, before: str, after: str) -> None:
    reaches(further, before, after)


def reaches(result: Result, before: str, after: str) -> None:
    """The second kernel of a machine must have been reached as it should be."""
    one, other = result.stage(before), result.stage(after)
    assert other.read("cmdline") == f"{one.read('cmdline').strip()} lab={after}\n"
    assert other.read("boot_id") != one.read("boot_id")
    assert other.read("stopped") == one.read("boot_id"), "the services were stopped"
    assert other.read("kdump") == "current state   : ready to kdump\n"
    # QEMU's firmware is not run again: `-no-reboot` would have ended the machine.
    if after != "init-scripts":
        # With sysvinit's script the jump comes before the disk is unmounted.
        assert "recovery" not in other.read("dmesg")


_EXITRD_WAYS = list(itertools.pairwise(_EXITRD_JOBS))


@jobs.FURTHER
@pytest.mark.parametrize(("before", "after"), _EXITRD_WAYS, ids=[after for _, after in _EXITRD_WAYS])
def test_dracut_starts_the_next_kernel(through_dracut: Result, before: str, after: str) -> None:
    """With `kexec -e`, from the initramfs, when the root file system is gone."""
    one, other = through_dracut.stage(before), through_dracut.stage(after)
    assert other.read("cmdline") == f"{one.read('cmdline').strip()} lab={after}\n"
    assert other.read("boot_id") != one.read("boot_id")
    assert other.read("stopped") == one.read("boot_id"), "the services were stopped"
    assert "recovery" not in other.read("dmesg")
    said = [line for line in through_dracut.console.splitlines() if line.startswith("exitrd: ")]
    static, python = said[:2], said[2:]
    assert [each[1] for each in (static, python)] == ["exitrd: disks: 0"] * 2
    assert [("small helper" in each[0], "kexec-tools" in each[0]) for each in (static, python)] == [
        (True, True),
        (False, True),
    ]

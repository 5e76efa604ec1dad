"""The Debian package on a whole Debian 12: installed, armed, proven by a crash, and purged."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vm import jobs, kdump
from tools.lab import Stage, distro
from tools.lab.distro import Job
from tools.lab.host import run
from tools.packaging import build

pytestmark = jobs.FURTHER

# Debian's own service, whose start and end take a minute.
_MASKED = ("kdump-tools.service",)
_CRASH = """
kexec --version > before || true
dpkg -i /run/lab/in/pykexec.deb
kexec --version > version
systemctl is-enabled pykdump > enabled || true
cat /sys/kernel/kexec_crash_loaded > not-loaded
systemd-analyze verify pykdump.service > verified 2>&1
rm /etc/default/kdump-tools
echo "path /var/crash" > /etc/kdump.conf
systemctl enable --now pykdump
systemctl show --property=FragmentPath pykdump > unit
pykdump status > told
echo {marker} > /dev/kmsg
sync
"""
_NEXT = """
systemctl is-active pykdump > active
pykdump status > told
ls /var/crash/127.0.0.1-* > names
cat /var/crash/127.0.0.1-*/vmcore-dmesg.txt > crash-log
dpkg --purge pykexec
cat /sys/kernel/kexec_crash_loaded > loaded
kexec --version > version
readlink -f /sbin/kexec > place
ls /var/crash/127.0.0.1-* > names-after
systemctl is-enabled pykdump > enabled 2>&1 || true
find / -xdev -name '*pyk*' -not -path '/proc/*' > left
"""


def without_pykexec(folder: Path) -> Path:
    """Make a folder with a disk on which pykexec seems to be, so that the laboratory does not install it."""
    folder.mkdir()
    (folder / "empty").touch()
    run(["cp", "--sparse=always", distro.system().disk, folder / "disk"], "copying the disk")
    command = f"write {folder / 'empty'} usr/bin/pykexec"
    run(["debugfs", "-w", "-R", command, folder / "disk"], "writing to the disk")
    return folder


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stage, Stage, str]]:
    """What was seen before the crash, at the next boot, and the line that the first kernel logged."""
    folder = tmp_path_factory.mktemp("package")
    (deb,) = build.build(("deb",), folder)
    marker = secrets.token_hex(8)
    first, second = folder / "first", folder / "second"
    job = Job(_CRASH.format(marker=marker), kdump.TEST)
    blank = without_pykexec(folder / "blank")
    files = {"pykexec.deb": deb.read_bytes()}
    before = distro.boot({"first": job}, first, files=files, after=blank, masked=_MASKED).stage("first")
    after = distro.boot({"first": Job(_NEXT)}, second, after=first, masked=_MASKED).stage("first")
    yield before, after, marker
    (second / "disk").unlink()


def test_an_installation_starts_nothing(stages: tuple[Stage, Stage, str]) -> None:
    before, _, _ = stages
    assert "pykexec" not in before.read("before")
    assert "(pykexec " in before.read("version")
    assert before.read("enabled") == "disabled\n"
    assert before.read("not-loaded") == "0\n"
    assert before.read("verified") == ""
    assert before.read("unit").endswith("/lib/systemd/system/pykdump.service\n"), "not that of /etc"


def test_a_crash_leaves_a_dump(stages: tuple[Stage, Stage, str]) -> None:
    before, after, marker = stages
    assert before.read("told").startswith("armed:    yes, but unproven")
    assert after.read("active") == "active\n"
    assert after.read("names").split() == ["kexec-dmesg.log", "vmcore", "vmcore-dmesg.txt"]
    assert marker in after.read("crash-log")
    assert after.read("told").startswith("armed:    yes, and proven: a test passed")
    assert "dumps:    1 in /var/crash" in after.read("told")


def test_a_purge_leaves_the_dump_and_the_c_tool(stages: tuple[Stage, Stage, str]) -> None:
    before, after, _ = stages
    assert after.read("loaded") == "0\n"
    assert after.read("version") == before.read("before")
    assert after.read("place") == "/usr/sbin/kexec\n"
    assert after.read("names-after") == after.read("names")
    assert after.read("left") == "/usr/bin/pykexec\n", "the laboratory's"

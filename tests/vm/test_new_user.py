"""From nothing to a dump that is there, as README.md says it, on a bare Debian 12 and 13."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.vm import grub, jobs, kdump
from tools.lab import Stage, distro
from tools.lab.distro import Debian, Job
from tools.packaging import build

pytestmark = jobs.FURTHER

_TIMEOUT = 2000
_NOT_THERE = ("pykexec", "pykdump", "kexec", "vmcore-dmesg", "busybox", "makedumpfile")
_INSTALL = f"""
# Made anew, the initial ramdisk would take minutes, and be the same.
echo update_initramfs=no > /etc/initramfs-tools/update-initramfs.conf
for each in {" ".join(_NOT_THERE)}; do
    if command -v $each; then echo $each >> there; fi
done
{grub.INSTALLED}
apt-get update
DEBIAN_FRONTEND=noninteractive apt-get install --yes /run/lab/in/pykexec.deb > installed 2>&1
pykdump status > before || echo $? > before-status
pykdump setup --yes > setup
pykdump status > to-reboot || echo $? > to-reboot-status
{grub.LOADED}
"""
_ARMED = """
pykdump status > screen
cat /sys/kernel/kexec_crash_size > reserved
sync
"""
_PROVEN = """
pykdump status > screen
ls /var/crash/*-* > names
cat /var/crash/*-*/vmcore-dmesg.txt > log
pykdump info /var/crash/*-*/vmcore > info
"""


@dataclass(frozen=True, slots=True)
class Story:
    """What the user saw, boot by boot."""

    set_up: Stage
    armed: Stage
    proven: Stage


@pytest.fixture(
    scope="module",
    params=[pytest.param("bookworm", id="debian-12"), pytest.param("trixie", id="debian-13")],
)
def story(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """What was seen from the installation to the boot after the crash."""
    debian = Debian(request.param, bare=True)
    folder = tmp_path_factory.mktemp("new-user")
    (deb,) = build.build(("deb",), folder)
    work = {"first": Job(_INSTALL, grub.START), "after": Job(_ARMED, kdump.TEST)}
    files = {"pykexec.deb": deb.read_bytes()}
    result = distro.boot(
        work, folder / "crashed", files=files, reservation="", debian=debian, timeout=_TIMEOUT
    )
    set_up, armed = result.stage("first"), result.stage("after")
    # The boot loader's next boot is as the one before.
    again = distro.boot(
        {"after": Job(_PROVEN)},
        folder / "again",
        after=result.folder,
        line=armed.read("cmdline").strip(),
        debian=debian,
        timeout=_TIMEOUT,
    )
    yield Story(set_up, armed, again.stage("after"))
    (again.folder / "disk").unlink()


def test_nothing_is_there_at_first(story: Story) -> None:
    assert story.set_up.status == 0, story.set_up.log
    assert not (story.set_up.folder / "there").exists()
    assert "crashkernel=" not in story.set_up.read("cmdline")


def test_status_names_the_next_command(story: Story) -> None:
    seen = story.set_up
    assert (seen.read("before-status"), seen.read("to-reboot-status")) == ("3\n", "3\n")
    for name, command in {"before": "pykdump setup", "to-reboot": _restart(seen)}.items():
        assert seen.read(name).startswith("armed:    no: ")
        assert _next(seen.read(name)) == command


def test_after_the_reboot_it_is_armed(story: Story) -> None:
    assert story.armed.status == 0, story.armed.log
    assert story.armed.read("screen").startswith("armed:    yes, but unproven: ")
    assert _next(story.armed.read("screen")) == "pykdump test"
    (asked,) = re.findall(r"crashkernel=(\d+)M\n", story.armed.read("cmdline"))
    assert int(story.armed.read("reserved")) == int(asked) << 20


def test_after_the_crash_it_is_proven(story: Story) -> None:
    assert story.proven.status == 0, story.proven.log
    assert story.proven.read("screen").startswith("armed:    yes, and proven: a test passed")
    assert "next:" not in story.proven.read("screen")
    assert "dumps:    1 in /var/crash" in story.proven.read("screen")
    assert story.proven.read("names").split() == ["kexec-dmesg.log", "vmcore", "vmcore-dmesg.txt"]
    assert "pykdump: test " in story.proven.read("log")


def _next(screen: str) -> str:
    """Return the command that status names."""
    (found,) = re.findall(r"^next: +(.*?):", screen, re.M)
    return str(found)


def _restart(seen: Stage) -> str:
    """Return how setup says that the machine is to be started again."""
    (found,) = re.findall(r"^next: (.*), then pykdump status$", seen.read("setup"), re.M)
    return str(found)

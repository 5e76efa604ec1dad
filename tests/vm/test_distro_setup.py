"""pykdump setup on a whole Debian 12 with GRUB: after the reboot that it asks for, the machine is armed."""

import hashlib
import re
import subprocess

import pytest

from tests.vm import grub, jobs
from tools.lab import Result, distro
from tools.lab.debian import fetch
from tools.lab.distro import Job

_BARE = """
# Made anew, the initial ramdisk would take minutes, and be the same.
ln -s /bin/true /usr/local/sbin/update-initramfs
dpkg --remove kdump-tools busybox
rm -f /etc/apt/sources.list
echo "deb [trusted=yes] file:/run/lab/in/repository ./" > /etc/apt/sources.list.d/lab.list
apt-get update
rm /etc/default/kdump-tools
"""
_TREE = """
tree() {
    find /etc /boot/grub -type f -exec sha256sum {} + | sort -k 2 > "$1"
    find /etc -type l -printf '%p %l\\n' | sort >> "$1"
}
"""
_FIRST = f"""{_BARE}{grub.INSTALLED}{_TREE}
tree before
pykdump setup --dry-run > dry-run
tree after-dry-run
pykdump setup --yes > setup
cp /boot/grub/grub.cfg /etc/default/grub.d/pykdump.cfg .
{grub.LOADED}
"""
_AFTER = f"""{_TREE}
cat /sys/kernel/kexec_crash_size > reserved
cat /sys/kernel/kexec_crash_loaded > loaded
pykdump status > armed
tree before
pykdump setup --yes > again
tree after-again
pykdump setup --undo --yes > undo
tree after
pykdump setup --undo --yes > undo-again
"""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """What a machine left that was set up, and started by the menu that GRUB got."""
    folder = tmp_path_factory.mktemp("setup") / "machine"
    work = {"first": Job(_FIRST, grub.START), "after": Job(_AFTER)}
    result = distro.boot(work, folder, files=_repository("busybox"), masked=[grub.MASKED], reservation="")
    (folder / "disk").unlink()
    return result


def _repository(package: str) -> dict[str, bytes]:
    """Return an archive of one package, for apt."""
    (folder,) = fetch("bookworm", "amd64", [package])
    deb = folder.with_name(f"{folder.name}.deb")
    data = deb.read_bytes()
    fields = subprocess.run(["dpkg-deb", "-f", deb], check=True, capture_output=True).stdout
    place = f"Filename: ./{package}.deb\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n"
    return {f"repository/{package}.deb": data, "repository/Packages": fields + place.encode()}


@jobs.FURTHER
def test_set_up_then_armed_then_as_before(machine: Result) -> None:
    first, after = machine.stage("first"), machine.stage("after")
    assert (first.status, after.status) == (0, 0), (first.log, after.log)
    assert first.read("after-dry-run") == first.read("before")
    assert [line for line in first.read("dry-run").splitlines() if line.startswith("run ")] == [
        "run env DEBIAN_FRONTEND=noninteractive apt-get install --no-install-recommends",
        "run update-grub",
        "run systemctl daemon-reload",
        "run udevadm control --reload",
        "run systemctl enable pykdump.service",
    ]
    assert first.read("setup").splitlines()[-1] == "next: reboot, then pykdump status"
    (value,) = re.findall(r"crashkernel=(\d+)M\"", first.read("pykdump.cfg"))
    assert first.read("cmdline") != after.read("cmdline")
    assert after.read("cmdline").endswith(f"crashkernel={value}M\n")
    assert int(after.read("reserved")) == int(value) << 20
    assert after.read("loaded") == "1\n"
    assert "unproven" in after.read("armed").splitlines()[0]
    assert "there is nothing to do" in after.read("again")
    assert after.read("after-again") == after.read("before")
    assert after.read("after") == first.read("before")
    assert "nothing to take back" in after.read("undo-again")

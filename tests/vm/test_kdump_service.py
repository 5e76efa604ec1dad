"""pykdump.service on a whole Debian 12: systemd starts it at boot, udev has it reload, a crash proves it."""

from pathlib import Path

from tools.lab import distro
from tools.lab.distro import Job

_CRASH = """
systemctl disable --now kdump-tools
rm /etc/default/kdump-tools
mkdir -p /etc/sysconfig
echo "path /var/crash" > /etc/kdump.conf
pykdump install
systemd-analyze verify /etc/systemd/system/pykdump.service > verified 2>&1
systemctl enable --now pykdump
systemctl is-active pykdump > active
pykdump status > before
cat /sys/kernel/kexec_crash_loaded > loaded

# As if a CPU had been plugged in; the event comes as often as CPUs often come.
echo "KDUMP_COMMANDLINE_APPEND='nr_cpus=1 irqpoll reset_devices panic=10 changed=1'" > /etc/sysconfig/kdump
for _ in 1 2 3; do udevadm trigger --action=add /sys/devices/system/cpu/cpu1; done
udevadm settle
for _ in $(seq 60); do
    journalctl -u pykdump -o cat | grep -q "changed: the command line" && break
    sleep 1
done
journalctl -u pykdump -o cat > journal

# The distribution's image instead, and back.
echo PYKDUMP_ARGS="--initrd /var/lib/kdump/initrd.img-$(uname -r)" > /etc/default/pykdump
systemctl restart pykdump
pykdump status > distribution
systemctl stop pykdump
cat /sys/kernel/kexec_crash_loaded > stopped
rm /etc/default/pykdump
systemctl start pykdump
sync
"""
_NEXT = """
systemctl is-active pykdump > active
pykdump status > after
pykdump doctor > doctor || true
ls /var/crash/127.0.0.1-* > names
cd /var/crash/127.0.0.1-*
makedumpfile --dump-dmesg vmcore /tmp/log
cmp /tmp/log vmcore-dmesg.txt
"""


def test_the_service(tmp_path: Path) -> None:
    first = distro.boot({"first": Job(_CRASH, "pykdump test --yes")}, tmp_path / "one").stage("first")
    assert first.read("active") == "active\n"
    assert first.read("loaded") == "1\n"
    assert first.read("verified") == ""
    assert first.read("before").startswith("armed:    yes, but unproven: no pykdump test has been made")
    assert "target:   /var/crash on the ext4 of vda" in first.read("before")
    assert first.read("journal").count("changed: the command line") == 1
    distribution = first.read("distribution")
    assert "initrd:   /var/lib/kdump/initrd.img-" in distribution
    assert "target:   as /var/lib/kdump/initrd.img-" in distribution
    assert first.read("stopped") == "0\n"

    try:
        second = distro.boot({"first": Job(_NEXT)}, tmp_path / "two", after=tmp_path / "one").stage("first")
    finally:
        (tmp_path / "two/disk").unlink(missing_ok=True)
    assert second.read("active") == "active\n"
    assert second.read("after").startswith("armed:    yes, and proven: a test passed")
    assert "dumps:    1 in /var/crash" in second.read("after")
    assert second.read("names").split() == ["kexec-dmesg.log", "vmcore", "vmcore-dmesg.txt"]
    assert second.read("doctor").startswith("armed: yes")

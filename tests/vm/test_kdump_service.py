"""pykdump.service on a whole Debian 12: systemd starts it at boot, udev has it reload, a crash proves it."""

from pathlib import Path

from tests.support.schemas import require_valid
from tests.vm import jobs
from tools.lab import Stage, distro
from tools.lab.distro import Job

# Debian's own service, whose start and end take a minute.
_MASKED = ("kdump-tools.service",)
_SETUP = """
rm /etc/default/kdump-tools
mkdir -p /etc/sysconfig
echo "path /var/crash" > /etc/kdump.conf
pykdump install
systemd-analyze verify /etc/systemd/system/pykdump.service > verified 2>&1
systemd-analyze security --no-pager --threshold=40 pykdump.service > exposure
systemctl enable --now pykdump
systemctl is-active pykdump > active
"""
_CRASH = f"""{_SETUP}
pykdump status > before
cat /sys/kernel/kexec_crash_loaded > loaded

# As if a CPU had been plugged in; the event comes as often as CPUs often come. And with kexec_load, which
# takes addresses from /proc/iomem and /proc/kcore.
echo "KDUMP_COMMANDLINE_APPEND='nr_cpus=1 irqpoll reset_devices panic=10 changed=1'" > /etc/sysconfig/kdump
echo "KEXEC_ARGS=-c" >> /etc/sysconfig/kdump
for _ in 1 2 3; do udevadm trigger --action=add /sys/devices/system/cpu/cpu1; done
udevadm settle
for _ in $(seq 60); do
    journalctl -u pykdump -o cat | grep -q "changed: the command line" && break
    sleep 1
done
pykdump status > reloaded
pykdump status --metrics --output "$PWD/metrics"
pykdump estimate --json > estimate || true
stat -c %s /var/lib/pykdump/initrd-*.img > image
journalctl -u pykdump -o cat > journal

stat -c "%a %n" /run/pykdump /run/pykdump/* /var/lib/pykdump /var/lib/pykdump/* > modes
setpriv --reuid=65534 --regid=65534 --clear-groups pykdump status > nobody
sync
"""
_OTHER_TARGETS = f"""{_SETUP}
# The distribution's image instead.
echo PYKDUMP_ARGS="--initrd /var/lib/kdump/initrd.img-$(uname -r)" > /etc/default/pykdump
systemctl restart pykdump
pykdump status > distribution
systemctl stop pykdump
cat /sys/kernel/kexec_crash_loaded > stopped
rm /etc/default/pykdump

# A raw target that has a dump: the service brings it, and then refuses a device that is on no bus.
modprobe loop
python3 > /root/raw << END
import struct, sys
pair = struct.Struct(">qq").pack
header = (b"makedumpfile".ljust(16, b"\\0") + pair(1, 1)).ljust(4096, b"\\0")
sys.stdout.buffer.write(header + pair(0, 100) + b"x" * 100 + pair(-1, -1))
END
truncate -s 1M /root/raw
losetup /dev/loop0 /root/raw
rm -r /var/crash
mv /etc/kdump.conf /root/kdump.conf
echo "raw /dev/loop0" > /etc/kdump.conf
echo "core_collector makedumpfile -F" >> /etc/kdump.conf
systemctl start pykdump || true
cat /var/crash/127.0.0.1-*/vmcore > brought
stat -c "%a %n" /var/crash > modes-raw
stat -c "%a %n" /var/crash/127.0.0.1-* /var/crash/127.0.0.1-*/vmcore >> modes-raw
dd if=/dev/loop0 bs=12 count=1 > wiped
journalctl -u pykdump -o cat -n 30 > journal-raw
"""
# As dpkg calls it, then kernel-install(8): the first one counts.
_UPDATE = """
pykdump install
release=$(uname -r)
unit=pykdump-rehearse-$release
/etc/kernel/postinst.d/zz-pykdump $release /boot/vmlinuz-$release > off 2>&1
systemctl is-active $unit.timer > none || true
echo PYKDUMP_REHEARSE_UPDATES=yes > /etc/default/pykdump
/etc/kernel/postinst.d/zz-pykdump $release /boot/vmlinuz-$release > on 2>&1
systemctl is-active $unit.timer > waits
/etc/kernel/install.d/95-pykdump.install add $release /boot/x /boot/vmlinuz-$release > again 2>&1
systemctl show -p Nice,CPUSchedulingPolicy,IOSchedulingClass,RuntimeMaxUSec,ExecStart $unit.service > shown
systemctl start $unit.service || true
journalctl -u $unit.service -o cat > journal
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


def boot(job: Job, folder: Path, after: Path | None = None) -> Stage:
    return distro.boot({"first": job}, folder, after=after, masked=_MASKED).stage("first")


def test_the_service(tmp_path: Path) -> None:
    first = boot(Job(_CRASH, "pykdump test --yes"), tmp_path / "one")
    assert first.read("active") == "active\n"
    assert first.read("loaded") == "1\n"
    assert first.read("verified") == ""
    assert "Overall exposure level for pykdump.service: " in first.read("exposure")
    assert first.read("before").startswith("armed:    yes, but unproven: no pykdump test has been made")
    assert "target:   /var/crash on the ext4 of vda" in first.read("before")
    assert first.read("journal").count("changed: the command line") == 1
    assert "warning" not in first.read("journal")
    assert " (kexec_load," in first.read("reloaded")
    assert "pykdump_armed 1" in first.read("metrics").splitlines()
    estimate = require_valid("estimate", first.read("estimate"))
    (initrd,) = (term["size"] for term in estimate["terms"] if term["name"] == "initrd")
    assert initrd == int(first.read("image")), "the image that start has made"
    modes = {line.split()[0] for line in first.read("modes").splitlines()}
    assert modes == {"600", "700"}
    assert first.read("nobody").startswith("armed:    yes, but cannot tell what: ")

    try:
        second = boot(Job(_NEXT), tmp_path / "two", after=tmp_path / "one")
    finally:
        (tmp_path / "two/disk").unlink(missing_ok=True)
    assert second.read("active") == "active\n"
    assert second.read("after").startswith("armed:    yes, and proven: a test passed")
    assert "dumps:    1 in /var/crash" in second.read("after")
    assert second.read("names").split() == ["kexec-dmesg.log", "vmcore", "vmcore-dmesg.txt"]
    assert second.read("doctor").startswith("armed: yes")


@jobs.FURTHER
def test_other_targets(tmp_path: Path) -> None:
    """The distribution's own image, and a dump on a raw device, which the service brings."""
    try:
        first = boot(Job(_OTHER_TARGETS), tmp_path)
    finally:
        (tmp_path / "disk").unlink(missing_ok=True)
    distribution = first.read("distribution")
    assert "initrd:   /var/lib/kdump/initrd.img-" in distribution
    assert "target:   as /var/lib/kdump/initrd.img-" in distribution
    assert first.read("stopped") == "0\n"
    assert first.read("brought") == "x" * 100
    assert first.read("wiped") == "\0" * 12
    modes = [line.split(maxsplit=1) for line in first.read("modes-raw").splitlines()]
    assert modes.pop(0) == ["755", "/var/crash"]
    assert {mode for mode, _ in modes} == {"600", "700"}
    assert "finding loop0 again" in first.read("journal-raw")


@jobs.FURTHER
def test_a_new_kernel_is_rehearsed_once_the_update_is_done(tmp_path: Path) -> None:
    try:
        found = boot(Job(_UPDATE), tmp_path)
    finally:
        (tmp_path / "disk").unlink(missing_ok=True)
    assert (found.read("off"), found.read("none")) == ("", "inactive\n")
    assert (found.read("on"), found.read("waits")) == ("", "active\n")
    assert "one waits already" in found.read("again")
    shown = dict(line.split("=", 1) for line in found.read("shown").splitlines())
    assert (shown["Nice"], shown["RuntimeMaxUSec"]) == ("19", "1h")
    assert (shown["CPUSchedulingPolicy"], shown["IOSchedulingClass"]) == ("5", "3"), "SCHED_IDLE, idle"
    assert "rehearse --kernel /boot/vmlinuz-" in shown["ExecStart"]
    assert "pykdump" in found.read("journal")

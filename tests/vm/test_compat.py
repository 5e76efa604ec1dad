"""A 32-bit Python on a 64-bit kernel: the loader is a program of one architecture, the plan for another."""

import secrets

import pytest

from tests.vm import jobs
from tests.vm.conftest import RunGuest
from tools.lab import ARM64, PANIC, X86_64, Arch, Guest, Kernel, Machine, images
from tools.lab.arches.arm import ARCH as ARM
from tools.lab.arches.i386 import ARCH as I386

_USERLAND = "/boot/userland"
_WITHIN = f"""
set -e
mkdir /32
(cd /32 && cpio -idm < {_USERLAND})
for each in /proc /sys /dev /boot /usr/lib/python3; do
    mkdir -p "/32$each"
    mount -o bind "$each" "/32$each"
done
within() {{ chroot /32 "$@"; }}
loader() {{ within python3 -m pykexec "$@"; }}
within python3 -c 'import os, struct; print(os.uname().machine, struct.calcsize("P"))' > "$OUT/process"
linux32 chroot /32 python3 -c 'import os; print(os.uname().machine)' > "$OUT/personality"
"""
_SAYS = {X86_64: ("x86_64", "i686"), ARM64: ("aarch64", "armv8l")}
"""What uname says to a 32-bit process there, and what with the personality of one."""


def _guest(arch: Arch, userland: Arch, job: str, then: str, second_job: str) -> Guest:
    files = {_USERLAND: images.full(userland)}
    return Guest(Kernel.get("6.1", arch), _WITHIN + job, then, second_job, files=files)


@jobs.FURTHER
@pytest.mark.parametrize(
    ("arch", "userland"), [pytest.param(X86_64, I386, id="i386"), pytest.param(ARM64, ARM, id="arm")]
)
def test_crash(arch: Arch, userland: Arch, run_guest: RunGuest) -> None:
    """Before that: what it cannot do, a load under a personality that hides the kernel, and an unload."""
    kernel = Kernel.get("6.1", arch)
    marker = secrets.token_hex(8)
    load = f'-p "$KERNEL" --initrd "$SECOND_IMAGE" --append "{jobs.capture_command_line(marker, kernel)}"'
    job = f"""
! loader -s {load} 2> "$OUT/refusal"
linux32 chroot /32 python3 -m pykexec -c {load}
cat /sys/kernel/kexec_crash_loaded > "$OUT/loaded"
loader -p -u
cat /sys/kernel/kexec_crash_loaded >> "$OUT/loaded"
loader {load}
echo "{marker}" > /dev/kmsg
"""
    result = run_guest(_guest(arch, userland, job, PANIC, jobs.capture(kernel)), Machine(arch))
    first, second = result.stage("first"), result.stage("second")
    kernels, hidden = _SAYS[arch]
    assert (first.read("process"), first.read("personality")) == (f"{kernels} 4\n", f"{hidden}\n")
    assert "a 32-bit process cannot call it" in first.read("refusal")
    assert first.read("loaded").split() == ["1", "0"]
    assert marker in second.read("cmdline")
    assert marker in second.read("dmesg.txt")


@jobs.FURTHER
@pytest.mark.parametrize(
    ("arch", "userland"), [pytest.param(X86_64, I386, id="i386"), pytest.param(ARM64, ARM, id="arm")]
)
def test_boot(arch: Arch, userland: Arch, run_guest: RunGuest) -> None:
    line = f"{arch.line} marker={secrets.token_hex(8)}"
    job = f'loader -l "$KERNEL" --initrd "$SECOND_IMAGE" --append "{line}"'
    guest = _guest(arch, userland, job, "chroot /32 python3 -m pykexec -e", 'cp /proc/cmdline "$OUT"')
    assert run_guest(guest, Machine(arch)).stage("second").read("cmdline").strip() == line

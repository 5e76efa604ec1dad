"""Loads from an initramfs that holds busybox and what `pykexec.integration` copies into one, nothing else.

Three kernels run one after the other: the first, with a whole Debian Python, makes the initramfs and starts
the second kernel in it; that one loads and starts the third, which says what it was given.
"""

import secrets

import pytest

from tests.vm import jobs
from tests.vm.conftest import RunGuest
from tools.lab import ARM64, X86_64, Arch, Guest, Kernel, Machine, cpio, images
from tools.lab.debian import fetch

_FIRST = """
set -e
mkdir /tmp/tree
python3 -m pykexec.integration copy {options} /tmp/tree
{apart}
(cd /tmp/tree && find . | cpio -o -H newc) > /tmp/hook.img
cat /boot/base.img /tmp/hook.img > /tmp/initramfs.img
pykexec -c -l "$KERNEL" --initrd /tmp/initramfs.img --append "{line}"
"""
_SECOND = """
set -e
! command -v makedumpfile
status() {{ set +e; "$@"; echo "$* gave $?" >> "$OUT/statuses"; set -e; }}
kexec --version > "$OUT/version"
status kexec -e
status kexec -l -S
{load}
status kexec -l -S
"""
_NO_PYTHON = 'find / -xdev -path /loader -prune -o -name "*python*" -print > "$OUT/interpreters"\n'
# Debian's arm64 kernels have no kexec_file_load: what the helper starts, Python loads, from a root apart.
_ROOT_APART = """
mkdir /tmp/tree/loader
python3 -m pykexec.integration copy /tmp/tree/loader
"""
_LOAD_FROM_THERE = """
for folder in proc sys boot; do mkdir /loader/$folder; mount -o bind /$folder /loader/$folder; done
chroot /loader """
_THIRD = 'cp /proc/cmdline "$OUT"'


@pytest.mark.parametrize(
    ("arch", "options", "load"),
    [
        jobs.further(X86_64, "", "pykexec -c -l", id="python"),
        jobs.further(ARM64, "", "pykexec -c -l", id="python-arm64"),
        pytest.param(X86_64, "--static", "kexec -l", id="static"),
        jobs.further(ARM64, "--static", f"{_LOAD_FROM_THERE} /usr/sbin/kexec -c -l", id="static-arm64"),
    ],
)
def test_initramfs(arch: Arch, options: str, load: str, run_guest: RunGuest) -> None:
    kernel = Kernel.get("6.1", arch)
    marker = secrets.token_hex(8)
    line = f"{arch.line} marker={marker}"
    loaded = f'{load} --command-line="{line}" --initrd=/boot/third.img /boot/vmlinuz'
    second = _SECOND.format(load=loaded)
    first = _FIRST.format(
        options=options,
        apart=_ROOT_APART if "/loader" in load else "",
        line=arch.line,
    )
    base = _base(arch, kernel, second + (_NO_PYTHON if options else ""), "kexec -e")
    result = run_guest(Guest(kernel, first, "pykexec -e", files={"/boot/base.img": base}), Machine(arch))
    stage = result.stage("second")
    assert stage.read("statuses").splitlines() == [
        "kexec -e gave 1",
        "kexec -l -S gave 0",
        "kexec -l -S gave 1",
    ]
    assert "Nothing has been loaded!" in stage.log
    assert ("small helper" in stage.read("version")) is bool(options)
    if options:
        assert stage.read("interpreters") == ""
    third = result.stage("third")
    assert line in third.read("cmdline")


def _base(arch: Arch, kernel: Kernel, job: str, then: str) -> bytes:
    """What is in the second kernel's system besides what is copied there: busybox, and the third one."""
    third = images.small(arch) + kernel.modules() + images.overlay("third", _THIRD, {})
    (package,) = fetch("bookworm", arch.debian, ["busybox-static"])
    busybox = cpio.file("bin/busybox", (package / "bin/busybox").read_bytes(), executable=True)
    files = {"/boot/third.img": third, "/boot/vmlinuz": kernel.image.read_bytes()}
    return (
        cpio.archive([*cpio.folders(["bin"]), busybox])
        + kernel.modules()
        + images.overlay("second", job, files, then=then)
    )

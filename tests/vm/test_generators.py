"""Early kdump from initramfs images that dracut and mkinitramfs made, as distributions have them.

Three kernels run one after the other: the first one only starts the second, in such an image; there, before
any root is looked for, a crash kernel is loaded, and the system panics; the third says what it was given.
"""

import secrets
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import generators
from tests.vm import jobs
from tests.vm.conftest import RunGuest
from tools.lab import X86_64, Guest, Kernel, Machine, images

_FIRST = f"""
set -e
pykexec -c -l "$KERNEL" --initrd /boot/early.img --append "{X86_64.line} crashkernel=256M"
"""
# The call is that of Fedora's early kdump, word for word.
_EARLY = """#!/bin/sh
if [ "$1" = prereqs ]; then
    exit 0
fi
say() {{
    echo "early: $*" > /dev/kmsg
}}
say "version $(kexec --version)"
kexec -S
say "status $?"
EARLY_KEXEC_ARGS="-s"
/sbin/kexec $EARLY_KEXEC_ARGS -p --command-line="{line}" \\
    --initrd=/boot/initramfs-earlykdump /boot/kernel-earlykdump
say "load $?"
kexec -S
say "status $?"
echo c > /proc/sysrq-trigger
"""
_DRACUT_MODULE = """\
check() {
    return 0
}
depends() {
    echo base
}
install() {
    inst_binary /usr/bin/env /usr/sbin/kexec
    inst_simple "$moddir/kernel" /boot/kernel-earlykdump
    inst_simple "$moddir/initrd" /boot/initramfs-earlykdump
    inst_hook cmdline 00 "$moddir/early-kdump.sh"
}
"""
_HOOK = """#!/bin/sh -e
if [ "$1" = prereqs ]; then
    exit 0
fi
mkdir -p "$DESTDIR/boot"
cp "${0%/*}/../early/kernel" "$DESTDIR/boot/kernel-earlykdump"
cp "${0%/*}/../early/initrd" "$DESTDIR/boot/initramfs-earlykdump"
"""
_THIRD = """
set -e
cp /proc/cmdline "$OUT"
vmcore-dmesg /proc/vmcore > "$OUT/dmesg"
"""


def _dracut(folder: Path, early: str, kernel: bytes, initrd: bytes, static: bool) -> Path:
    files: generators.Tree = {
        "module-setup.sh": _DRACUT_MODULE,
        "early-kdump.sh": early,
        "kernel": kernel,
        "initrd": initrd,
    }
    # Its number is Fedora's, behind that of pykexec's module.
    return generators.dracut(
        folder, {"99earlykdump": files}, ["base", "bash", "fs-lib", "udev-rules"], static=static
    )


def _initramfs_tools(folder: Path, early: str, kernel: bytes, initrd: bytes, static: bool) -> Path:
    files: generators.Tree = {
        "scripts/init-top/early-kdump": early,
        "hooks/early-kdump": _HOOK,
        "early/kernel": kernel,
        "early/initrd": initrd,
    }
    return generators.initramfs_tools(folder, files, static=static)


@pytest.mark.parametrize(
    ("generate", "static"),
    [
        pytest.param(_dracut, False, id="dracut-python"),
        jobs.further(_initramfs_tools, True, id="initramfs-tools-static"),
    ],
)
def test_early_kdump(
    generate: Callable[[Path, str, bytes, bytes, bool], Path],
    static: bool,
    tmp_path: Path,
    run_guest: RunGuest,
) -> None:
    kernel = Kernel.get("6.1", X86_64)
    line = jobs.capture_command_line(secrets.token_hex(8), kernel)
    third = images.small(X86_64) + kernel.modules() + images.overlay("third", _THIRD, {})
    image = generate(tmp_path, _EARLY.format(line=line), kernel.image.read_bytes(), third, static)
    files = {"/boot/early.img": image.read_bytes()}
    result = run_guest(Guest(kernel, _FIRST, "pykexec -e", files=files), Machine(X86_64))
    stage = result.stage("third")
    assert line in stage.read("cmdline")
    version, *rest = [
        text.partition("early: ")[2] for text in stage.read("dmesg").splitlines() if "early: " in text
    ]
    assert version.startswith("version kexec-tools ")
    assert ("small helper" in version) is static
    assert rest == ["status 0", "load 0", "status 1"]

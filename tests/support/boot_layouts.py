"""Systems by their boot loader, as trees of files: what distributions install, without kernels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.machines import write

RELEASE = "6.1.0-30-amd64"
MACHINE_ID = "0123456789abcdef0123456789abcdef"
PARAMETERS = "root=UUID=1234 ro quiet"
_BLOCK = "# GRUB Environment Block\n"


@dataclass(frozen=True)
class Layout:
    """A system, and what setup has to change of it."""

    files: Mapping[str, str]
    edited: Sequence[str]
    """The files that get another text, or are new."""
    commands: Sequence[Sequence[str]] = ()
    executables: Sequence[str] = field(default=())

    def build(self, root: Path) -> Path:
        """Write the tree, and return its root."""
        for path, text in self.files.items():
            write(root, path, text)
        for path in self.executables:
            write(root, path, "#!/bin/sh\n")
        return root


def entry(release: str = RELEASE, options: str = PARAMETERS, machine_id: str = MACHINE_ID) -> str:
    """Return an entry of the Boot Loader Specification, as kernel-install writes it."""
    return (
        f"# Boot Loader Specification type#1 entry\ntitle      Debian GNU/Linux\nversion    {release}\n"
        f"machine-id {machine_id}\nsort-key   debian\noptions    {options}\n"
        f"linux      /{machine_id}/{release}/linux\ninitrd     /{machine_id}/{release}/initrd.img\n"
    )


def grub_menu(options: str = PARAMETERS) -> str:
    """Return what grub-mkconfig makes of one kernel."""
    return (
        "set default=0\nmenuentry 'Debian' --class debian {\n"
        f"\tlinux /boot/vmlinuz-{RELEASE} {options}\n\tinitrd /boot/initrd.img-{RELEASE}\n}}\n"
    )


DEBIAN_GRUB = """\
# If you change this file, run 'update-grub' afterwards to update
# /boot/grub/grub.cfg.
GRUB_DEFAULT=0
GRUB_TIMEOUT=5
GRUB_DISTRIBUTOR=`lsb_release -i -s 2> /dev/null || echo Debian`
GRUB_CMDLINE_LINUX_DEFAULT="quiet"
GRUB_CMDLINE_LINUX=""
#GRUB_TERMINAL=console
"""
TRIXIE_GRUB = DEBIAN_GRUB.replace(
    "`lsb_release -i -s 2> /dev/null || echo Debian`", '$( . /etc/os-release; echo "${NAME:-Debian}" )'
)
FEDORA_GRUB = """\
GRUB_TIMEOUT=5
GRUB_DISTRIBUTOR="$(sed 's, release .*$,,g' /etc/system-release)"
GRUB_DEFAULT=saved
GRUB_TERMINAL_OUTPUT="console"
GRUB_CMDLINE_LINUX="rd.lvm.lv=fedora/root rhgb quiet"
GRUB_ENABLE_BLSCFG=true
"""
SUSE_GRUB = """\
# Please execute grub2-mkconfig -o /boot/grub2/grub.cfg after changes
GRUB_DISTRIBUTOR=
GRUB_DEFAULT=saved
GRUB_CMDLINE_LINUX_DEFAULT="splash=silent preempt=full mitigations=auto quiet security=apparmor"
GRUB_CMDLINE_LINUX=""
SUSE_BTRFS_SNAPSHOT_BOOTING="true"
"""
KDUMP_TOOLS = 'GRUB_CMDLINE_LINUX_DEFAULT="$GRUB_CMDLINE_LINUX_DEFAULT crashkernel=384M-:128M"\n'
_SOURCES_FOLDER = "#!/bin/sh\nfor x in ${sysconfdir}/default/grub.d/*.cfg ; do\n  . $x\ndone\n"
_ENTRY = f"boot/loader/entries/{MACHINE_ID}-{RELEASE}.conf"

LAYOUTS = {
    "debian-12-grub": Layout(
        {
            "etc/default/grub": DEBIAN_GRUB,
            "etc/default/grub.d/kdump-tools.cfg": KDUMP_TOOLS,
            "usr/sbin/grub-mkconfig": _SOURCES_FOLDER,
            "boot/grub/grub.cfg": grub_menu(),
        },
        ["etc/default/grub.d/pykdump.cfg"],
        [["update-grub"]],
        ["usr/sbin/update-grub"],
    ),
    "debian-13-grub": Layout(
        {
            "etc/default/grub": TRIXIE_GRUB,
            "usr/sbin/grub-mkconfig": _SOURCES_FOLDER,
            "boot/grub/grub.cfg": grub_menu(),
        },
        ["etc/default/grub.d/pykdump.cfg"],
        [["update-grub"]],
        ["usr/sbin/update-grub"],
    ),
    "opensuse-grub2": Layout(
        {
            "etc/default/grub": SUSE_GRUB,
            "boot/grub2/grub.cfg": grub_menu(),
        },
        ["etc/default/grub"],
        [["grub2-mkconfig", "-o", "/boot/grub2/grub.cfg"]],
        ["usr/sbin/grub2-mkconfig"],
    ),
    "fedora-grubby": Layout(
        {
            "etc/machine-id": f"{MACHINE_ID}\n",
            "etc/default/grub": FEDORA_GRUB,
            _ENTRY: entry(options=f"{PARAMETERS} $tuned_params"),
            "boot/grub2/grub.cfg": "insmod blscfg\nblscfg\n",
        },
        [],
        [["grubby", "--update-kernel=ALL", "--remove-args=crashkernel", "--args=crashkernel=256M"]],
        ["usr/sbin/grubby", "usr/libexec/grubby/grubby-bls", "usr/sbin/grub2-mkconfig"],
    ),
    "openeuler-grubby": Layout(
        {"etc/default/grub": FEDORA_GRUB.replace("BLSCFG=true", "BLSCFG=false")},
        ["etc/default/grub"],
        [["grubby", "--update-kernel=ALL", "--remove-args=crashkernel", "--args=crashkernel=256M"]],
        ["usr/sbin/grubby", "usr/sbin/grub2-mkconfig"],
    ),
    "fedora-without-grubby": Layout(
        {
            "etc/machine-id": f"{MACHINE_ID}\n",
            "etc/default/grub": FEDORA_GRUB,
            _ENTRY: entry(options="$kernelopts $tuned_params"),
            "boot/grub2/grub.cfg": "insmod blscfg\nblscfg\n",
            "boot/grub2/grubenv": f"{_BLOCK}kernelopts={PARAMETERS}\n".ljust(1024, "#"),
        },
        [_ENTRY, "etc/default/grub"],
        executables=["usr/sbin/grub2-mkconfig"],
    ),
    "systemd-boot": Layout(
        {
            "etc/machine-id": f"{MACHINE_ID}\n",
            "etc/kernel/cmdline": f"{PARAMETERS}\n",
            f"boot/efi/loader/entries/{MACHINE_ID}-{RELEASE}.conf": entry(),
            f"boot/efi/loader/entries/{MACHINE_ID}-6.1.0-29-amd64.conf": entry("6.1.0-29-amd64"),
            "boot/efi/loader/entries/other.conf": entry(machine_id="f" * 32),
        },
        [
            f"boot/efi/loader/entries/{MACHINE_ID}-{RELEASE}.conf",
            f"boot/efi/loader/entries/{MACHINE_ID}-6.1.0-29-amd64.conf",
            "etc/kernel/cmdline",
        ],
    ),
    "entries-of-a-vendor": Layout(
        {"usr/lib/kernel/cmdline": f"{PARAMETERS}\n", "efi/loader/entries/a.conf": "linux /a\n"},
        ["efi/loader/entries/a.conf", "etc/kernel/cmdline"],
    ),
    "extlinux": Layout(
        {
            "boot/extlinux/extlinux.conf": "default l0\ntimeout 50\n\nlabel l0\n\tmenu label Arch\n"
            f"\tlinux /vmlinuz\n\tAPPEND {PARAMETERS}\n\n"
            f"label l1\n  kernel /old\n  append {PARAMETERS} single\n"
        },
        ["boot/extlinux/extlinux.conf"],
    ),
    "debian-u-boot-menu": Layout(
        {
            "etc/default/u-boot": '#U_BOOT_PARAMETERS="ro quiet"\n',
            "usr/sbin/u-boot-update": "for file in /etc/u-boot-menu/conf.d/*.conf\n",
            "boot/extlinux/extlinux.conf": "label l0\n\tlinux /vmlinuz\n\tappend ro quiet\n",
        },
        ["etc/u-boot-menu/conf.d/pykdump.conf"],
        [["u-boot-update"]],
    ),
    "zipl": Layout(
        {
            "etc/zipl.conf": "[defaultboot]\ndefaultmenu = menu\n:menu\ntarget = /boot\n1 = debian\n\n"
            "[debian]\ntarget = /boot\nimage = /boot/vmlinuz\nparameters = root=/dev/dasda1\n"
            f'[old]\nimage=/boot/old\nparameters="{PARAMETERS}"\n'
        },
        ["etc/zipl.conf"],
        [["zipl"]],
        ["sbin/zipl"],
    ),
    "zipl-entries": Layout(
        {
            "etc/zipl.conf": "[defaultboot]\ndefaultauto\ntarget=/boot\n",
            "etc/machine-id": f"{MACHINE_ID}\n",
            _ENTRY: entry(),
        },
        [_ENTRY],
        [["zipl"]],
        ["sbin/zipl"],
    ),
    "raspberry-pi-os": Layout(
        {
            "boot/firmware/config.txt": "arm_64bit=1\n[all]\n",
            "boot/firmware/cmdline.txt": f"console=tty1 {PARAMETERS} rootwait\n",
        },
        ["boot/firmware/cmdline.txt"],
    ),
    "raspberry-pi-debian": Layout(
        {
            "boot/firmware/config.txt": "arm_64bit=1\n",
            "boot/firmware/cmdline.txt": f"console=tty0 {PARAMETERS}",
            "etc/kernel/postinst.d/z50-raspi-firmware": "cat /etc/default/raspi-extra-cmdline\n",
        },
        ["boot/firmware/cmdline.txt", "etc/default/raspi-extra-cmdline"],
    ),
}

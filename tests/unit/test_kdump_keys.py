"""What the tables say of each key is what the readers, the service and the capture image do with it."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from pykexec.errors import PykexecError
from pykexec.kdump.capture import destination, image, init_settings
from pykexec.kdump.capture.errors import Unsupported
from pykexec.kdump.config import Settings, debian, fedora, keys, suse
from pykexec.kdump.config.keys import Key, Use
from pykexec.kdump.service import plan
from pykexec.manpages import configuration

Read = Callable[[str], Settings]


def conf(text: str) -> Settings:
    return fedora.read(text, "")


FILES: Mapping[str, tuple[Mapping[str, Key], Read, str]] = {
    "kdump.conf": (keys.KDUMP_CONF, conf, "{} {}\n"),
    "sysconfig of Fedora": (keys.FEDORA_SYSCONFIG, partial(fedora.read, ""), "{}='{}'\n"),
    "kdump-tools": (keys.DEBIAN, debian.read, "{}='{}'\n"),
    "sysconfig of openSUSE": (keys.SUSE, suse.read, "{}='{}'\n"),
    "pykdump's own": (keys.OURS, suse.read, "{}='{}'\n"),
}
"""Each table with its reader, and how the file writes a value."""

ENABLED = "USE_KDUMP=1\n"
SSH, NFS, FTP = "SSH=u@h\n", "NFS=h:/x\n", "FTP=h\n"
OF_SSH = "KDUMP_SAVEDIR=ssh://u@h/x\n"

EXAMPLES: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "kdump.conf": {
        **dict.fromkeys(("ext2", "ext3", "ext4", "btrfs", "xfs", "minix", "raw"), ("", "/dev/vda1")),
        "virtiofs": ("", "tag"),
        "nfs": ("", "h:/x"),
        "ssh": ("", "u@h"),
        "path": ("", "/x"),
        "sshkey": ("ssh u@h\n", "/key"),
        "core_collector": ("", "makedumpfile -c -d 1"),
        "keep_old_dumps": ("", "3"),
        "failure_action": ("", "halt"),
        "default": ("", "halt"),
        "final_action": ("", "halt"),
        "kdump_pre": ("", "/x"),
        "kdump_post": ("", "/x"),
        "kdump_emergency": ("", "/x"),
        "extra_bins": ("", "x"),
        "extra_modules": ("", "x"),
        "force_rebuild": ("", "1"),
        "force_no_rebuild": ("", "1"),
        "dracut_args": ("", "--add-drivers x"),
        "auto_reset_crashkernel": ("", "yes"),
        "override_resettable": ("", "1"),
        "fence_kdump_nodes": ("", "h"),
        "fence_kdump_args": ("fence_kdump_nodes h\n", "-p 7411"),
    },
    "pykdump's own": {"PYKDUMP_HAND_OVER_KEYS": ("", "yes")},
    "sysconfig of Fedora": {
        "KDUMP_KERNELVER": ("", "6.1"),
        "KDUMP_BOOTDIR": ("", "/x"),
        "KDUMP_IMG": ("", "Image"),
        "KDUMP_IMG_EXT": ("", ".gz"),
        "KDUMP_COMMANDLINE": ("", "quiet"),
        "KDUMP_COMMANDLINE_REMOVE": ("", "quiet"),
        "KDUMP_COMMANDLINE_APPEND": ("", "quiet"),
        "KEXEC_ARGS": ("", "-s"),
        "KDUMP_STDLOGLVL": ("", "1"),
        "KDUMP_SYSLOGLVL": ("", "1"),
        "KDUMP_KMSGLOGLVL": ("", "1"),
        "MKDUMPRD_ARGS": ("", "x"),
        "VMCORE_CREATION_NOTIFICATION": ("", "no"),
        "FADUMP_COMMANDLINE_APPEND": ("", "x"),
    },
    "kdump-tools": {
        "USE_KDUMP": ("", "1"),
        "KDUMP_KERNEL": (ENABLED, "/x"),
        "KDUMP_INITRD": (f"{ENABLED}KDUMP_KERNEL=/x\n", "/x"),
        "KDUMP_COREDIR": (ENABLED, "/x"),
        "KDUMP_CMDLINE": (ENABLED, "x"),
        "KDUMP_CMDLINE_APPEND": (ENABLED, "x"),
        "KDUMP_KEXEC_ARGS": (ENABLED, "-s"),
        "MAKEDUMP_ARGS": (ENABLED, "-l -d 1"),
        "KDUMP_COMPRESSION": (ENABLED, "xz"),
        "KDUMP_DUMP_DMESG": (ENABLED, "0"),
        "KDUMP_NUM_DUMPS": (ENABLED, "3"),
        "KDUMP_FAIL_CMD": (ENABLED, "x"),
        "KDUMP_SYSCTL": (ENABLED, "kernel.panic=1"),
        "SSH": (ENABLED, "u@h"),
        "SSH_KEY": (ENABLED + SSH, "/x"),
        "SSH_KDUMP_RETRY": (ENABLED + SSH, "100"),
        "NFS": (ENABLED, "h:/x"),
        "NFS_TIMEO": (ENABLED + NFS, "100"),
        "NFS_RETRANS": (ENABLED + NFS, "100"),
        "NFS_MOUNT_RETRY": (ENABLED + NFS, "100"),
        "HOSTTAG": (ENABLED, "hostname"),
        "FTP": (ENABLED, "h"),
        "FTP_USER": (ENABLED + FTP, "x"),
        "FTP_PASSWORD": (ENABLED + FTP, "x"),
        "FTP_PORT": (ENABLED + FTP, "2121"),
        "KDUMP_CONFIG": (ENABLED, "/x"),
        "KDUMP_STAMPDIR": (ENABLED, "/x"),
        "DEBUG_KERNEL": (ENABLED, "/x"),
    },
    "sysconfig of openSUSE": {
        "KDUMP_KERNELVER": ("", "6.1"),
        "KDUMP_CPUS": ("", "1"),
        "KDUMP_COMMANDLINE": ("", "x"),
        "KDUMP_COMMANDLINE_APPEND": ("", "x"),
        "KEXEC_OPTIONS": ("", "-s"),
        "MAKEDUMPFILE_OPTIONS": ("", "--num-threads 2"),
        "KDUMP_SAVEDIR": ("", "/x"),
        "KDUMP_DUMPLEVEL": ("", "1"),
        "KDUMP_DUMPFORMAT": ("", "zstd"),
        "KDUMP_KEEP_OLD_DUMPS": ("", "3"),
        "KDUMP_FREE_DISK_SIZE": ("", "1"),
        "KDUMP_IMMEDIATE_REBOOT": ("", "no"),
        "KDUMP_CONTINUE_ON_ERROR": ("", "no"),
        "KDUMP_PRESCRIPT": ("", "/x"),
        "KDUMP_POSTSCRIPT": ("", "/x"),
        "KDUMP_REQUIRED_PROGRAMS": ("", "x"),
        "KDUMP_SSH_IDENTITY": (OF_SSH, "/x"),
        "KDUMP_NET_TIMEOUT": (OF_SSH, "100"),
        "KDUMP_TRANSFER": ("", "x"),
        "KDUMP_FADUMP": ("", "yes"),
        "KDUMP_HOST_KEY": (OF_SSH, "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5"),
        "KDUMP_NETCONFIG": ("", "eth0:dhcp"),
        "KDUMP_AUTO_RESIZE": ("", "yes"),
        "KDUMPTOOL_FLAGS": ("", "x"),
        "KDUMP_SMTP_SERVER": ("", "x"),
        "KDUMP_SMTP_USER": ("", "x"),
        "KDUMP_SMTP_PASSWORD": ("", "x"),
        "KDUMP_NOTIFICATION_TO": ("", "a@b"),
        "KDUMP_NOTIFICATION_CC": ("", "a@b"),
        "KDUMP_COPY_KERNEL": ("", "no"),
        "KDUMP_CRASHKERNEL": ("", "x"),
        "KDUMP_UPDATE_BOOTLOADER": ("", "no"),
        "KDUMP_FADUMP_SHELL": ("", "yes"),
        "FADUMP_COMMANDLINE_APPEND": ("", "x"),
        "KDUMP_VERBOSE": ("", "1"),
    },
}
"""What the file says besides, and a value other than the default, for each key."""

CASES = [(file, name) for file, examples in EXAMPLES.items() for name in examples]


def test_every_key_is_tried_and_explained() -> None:
    for file, (table, _, _) in FILES.items():
        assert EXAMPLES[file].keys() == table.keys(), file
        for name, key in table.items():
            assert key.text.endswith("."), name


def as_it_counts(settings: Settings) -> Settings:
    return replace(settings, warnings=())


def is_refused(settings: Settings, tmp_path: Path) -> bool:
    """Whether pykdump's own capture image says that it cannot do that."""
    to = destination.Destination(destination.Transport.DISK, "/x")
    try:
        image.refuse_what_cannot_be(settings)
        init_settings.render(settings, "6.1", to, None, "host")
        destination.resolve(settings, tmp_path, tmp_path)
    except Unsupported:
        return True
    except PykexecError:  # there is no such machine
        return False
    return False


@pytest.mark.parametrize(("file", "name"), CASES)
def test_a_key_does_what_is_said_of_it(file: str, name: str, tmp_path: Path) -> None:
    table, read, form = FILES[file]
    besides, value = EXAMPLES[file][name]
    settings = read(besides + form.format(name, value))
    changes = as_it_counts(settings) != as_it_counts(read(besides))
    refused = is_refused(settings, tmp_path)
    own_warnings = (*settings.warnings, *plan._warnings(settings, own_image=True))
    told = set(own_warnings) - {*read(besides).warnings}
    if table[name].use is Use.HONOURED:
        assert (changes, refused) == (True, False)
    elif table[name].use is Use.REFUSED:
        assert (changes, refused) == (True, True)
    elif table[name].use is Use.TOLD:
        assert (bool(told), refused) == (True, False)
    else:
        assert (changes, bool(told), refused) == (False, False, False)


def test_the_examples_of_the_page_are_read() -> None:
    readers = {"kdump.conf": conf, "kdump-tools": debian.read}
    for what, lines in configuration.EXAMPLES:
        (read,) = (
            read for file, read in readers.items() if what.startswith(f"/etc/{file}") or f"/{file}:" in what
        )
        assert read("\n".join(lines)).warnings == (), what


@pytest.mark.parametrize(("file", "name"), CASES)
def test_a_default_is_what_counts_without_the_key(file: str, name: str) -> None:
    table, read, form = FILES[file]
    besides, _ = EXAMPLES[file][name]
    default = table[name].default
    if default is not None:
        same = read(besides + form.format(name, default))
        assert as_it_counts(same) == as_it_counts(read(besides))

"""The names in kdump's configuration files, by the tool that reads them; find the tool of a text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

FILESYSTEMS = ("ext2", "ext3", "ext4", "minix", "btrfs", "xfs", "virtiofs")
TARGETS = (*FILESYSTEMS, "raw", "nfs", "ssh")


@dataclass(frozen=True, slots=True)
class Format:
    """One tool's configuration file."""

    tool: str
    file: str
    names: frozenset[str]


KDUMP_CONF = Format(
    "kdumpctl",
    "etc/kdump.conf",
    frozenset(TARGETS)
    | frozenset(
        [
            "auto_reset_crashkernel",
            "core_collector",
            "default",
            "dracut_args",
            "extra_bins",
            "extra_modules",
            "failure_action",
            "fence_kdump_args",
            "fence_kdump_nodes",
            "final_action",
            "force_no_rebuild",
            "force_rebuild",
            "kdump_emergency",
            "kdump_post",
            "kdump_pre",
            "keep_old_dumps",
            "override_resettable",
            "path",
            "sshkey",
        ]
    ),
)
"""The only file with a tool that refuses unknown names; a shell sources the others."""
FEDORA_SYSCONFIG = Format(
    "kdumpctl",
    "etc/sysconfig/kdump",
    frozenset(
        [
            "FADUMP_COMMANDLINE_APPEND",
            "KDUMP_BOOTDIR",
            "KDUMP_COMMANDLINE",
            "KDUMP_COMMANDLINE_APPEND",
            "KDUMP_COMMANDLINE_REMOVE",
            "KDUMP_IMG",
            "KDUMP_IMG_EXT",
            "KDUMP_KERNELVER",
            "KDUMP_KMSGLOGLVL",
            "KDUMP_STDLOGLVL",
            "KDUMP_SYSLOGLVL",
            "KEXEC_ARGS",
            "MKDUMPRD_ARGS",
            "VMCORE_CREATION_NOTIFICATION",
        ]
    ),
)
DEBIAN = Format(
    "kdump-tools",
    "etc/default/kdump-tools",
    frozenset(
        [
            "DEBUG_KERNEL",
            "FTP",
            "FTP_PASSWORD",
            "FTP_PORT",
            "FTP_USER",
            "HOSTTAG",
            "KDUMP_CMDLINE",
            "KDUMP_CMDLINE_APPEND",
            "KDUMP_COMPRESSION",
            "KDUMP_CONFIG",
            "KDUMP_COREDIR",
            "KDUMP_DUMP_DMESG",
            "KDUMP_FAIL_CMD",
            "KDUMP_INITRD",
            "KDUMP_KERNEL",
            "KDUMP_KEXEC_ARGS",
            "KDUMP_NUM_DUMPS",
            "KDUMP_STAMPDIR",
            "KDUMP_SYSCTL",
            "MAKEDUMP_ARGS",
            "NFS",
            "NFS_MOUNT_RETRY",
            "NFS_RETRANS",
            "NFS_TIMEO",
            "SSH",
            "SSH_KDUMP_RETRY",
            "SSH_KEY",
            "USE_KDUMP",
        ]
    ),
)
SUSE = Format(
    "openSUSE's kdump",
    "etc/sysconfig/kdump",
    frozenset(
        [
            "FADUMP_COMMANDLINE_APPEND",
            "KDUMP_AUTO_RESIZE",
            "KDUMP_COMMANDLINE",
            "KDUMP_COMMANDLINE_APPEND",
            "KDUMP_CONTINUE_ON_ERROR",
            "KDUMP_COPY_KERNEL",
            "KDUMP_CPUS",
            "KDUMPTOOL_FLAGS",
            "KDUMP_CRASHKERNEL",
            "KDUMP_DUMPFORMAT",
            "KDUMP_DUMPLEVEL",
            "KDUMP_FADUMP",
            "KDUMP_FADUMP_SHELL",
            "KDUMP_FREE_DISK_SIZE",
            "KDUMP_HOST_KEY",
            "KDUMP_IMMEDIATE_REBOOT",
            "KDUMP_KEEP_OLD_DUMPS",
            "KDUMP_KERNELVER",
            "KDUMP_NETCONFIG",
            "KDUMP_NET_TIMEOUT",
            "KDUMP_NOTIFICATION_CC",
            "KDUMP_NOTIFICATION_TO",
            "KDUMP_POSTSCRIPT",
            "KDUMP_PRESCRIPT",
            "KDUMP_REQUIRED_PROGRAMS",
            "KDUMP_SAVEDIR",
            "KDUMP_SMTP_PASSWORD",
            "KDUMP_SMTP_SERVER",
            "KDUMP_SMTP_USER",
            "KDUMP_SSH_IDENTITY",
            "KDUMP_TRANSFER",
            "KDUMP_UPDATE_BOOTLOADER",
            "KDUMP_VERBOSE",
            "KEXEC_OPTIONS",
            "MAKEDUMPFILE_OPTIONS",
        ]
    ),
)
# recipes-kernel/kexec of meta-openembedded, and of its derivatives (NI Linux Real-Time, Qualcomm's)
OPENEMBEDDED = Format(
    "OpenEmbedded's kdump script (meta-oe, kexec-tools)",
    "etc/sysconfig/kdump.conf",
    frozenset(
        [
            "KDUMP_CMDLINE",
            "KDUMP_KIMAGE",
            "KDUMP_KVER",
            "KDUMP_VMCORE_PATH",
            "KEXEC",
            "KEXEC_ARGS",
            "LOGGER",
            "MAKEDUMPFILE",
            "MAKEDUMPFILE_ARGS",
        ]
    ),
)
STEAMOS = Format(
    "SteamOS's and Arch's kdumpst (kdump-steamos)",
    "usr/share/kdumpst.d",
    frozenset(
        [
            "FULL_COREDUMP",
            "GRUB_AUTOSET",
            "KDUMP_FOLDER",
            "KDUMP_MNT",
            "LOG_SUBMISSION",
            "MAKEDUMPFILE_COREDUMP_CMD",
            "MAKEDUMPFILE_DMESG_CMD",
            "MOUNT_DEVNODE",
            "MOUNT_FOLDER",
            "USE_PSTORE_RAM",
        ]
    ),
)
HAND_OVER_KEYS = "PYKDUMP_HAND_OVER_KEYS"
OURS = frozenset([HAND_OVER_KEYS])
"""The names that only pykdump knows, in each file that a shell sources."""
UNREAD = (OPENEMBEDDED, STEAMOS)
"""The formats that pykdump does not read."""
_SOURCED = (FEDORA_SYSCONFIG, DEBIAN, SUSE, *UNREAD)

_ASSIGNED = re.compile(r"^[ \t]*(?:export[ \t]+)?([A-Za-z_]\w{0,99})[ \t]*=", re.M | re.A)


def assigned(text: str) -> list[str]:
    """Return the names that lines of a text seem to assign values to."""
    return _ASSIGNED.findall(text)


def whose(names: Iterable[str], own: Format | None = None) -> Format | None:
    """Return the format that knows most of these names, without `own`'s; None where none knows any."""
    left = frozenset(names) - (own.names if own else frozenset())
    best = max(_SOURCED, key=lambda each: len(each.names & left))
    return best if best.names & left else None

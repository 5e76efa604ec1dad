"""The names in kdump's configuration files, by the tool that reads them; find the tool of a text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from pykexec.kdump.config import keys

FILESYSTEMS = ("ext2", "ext3", "ext4", "minix", "btrfs", "xfs", "virtiofs")
TARGETS = (*FILESYSTEMS, "raw", "nfs", "ssh")


@dataclass(frozen=True, slots=True)
class Format:
    """One tool's configuration file."""

    tool: str
    file: str
    names: frozenset[str]


KDUMP_CONF = Format("kdumpctl", "etc/kdump.conf", frozenset(keys.KDUMP_CONF))
"""The only file with a tool that refuses unknown names; a shell sources the others."""
FEDORA_SYSCONFIG = Format("kdumpctl", "etc/sysconfig/kdump", frozenset(keys.FEDORA_SYSCONFIG))
DEBIAN = Format("kdump-tools", "etc/default/kdump-tools", frozenset(keys.DEBIAN))
SUSE = Format("openSUSE's kdump", "etc/sysconfig/kdump", frozenset(keys.SUSE))
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
(HAND_OVER_KEYS,) = keys.OURS
OURS = frozenset(keys.OURS)
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

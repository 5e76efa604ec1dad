"""The keys of kdump's configuration files: what each means here, and what pykdump does with it.

The readers know a key by its name in these tables, and pykdump.conf(5) is made from them.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass


class Use(enum.Enum):
    """What pykdump does with a key."""

    HONOURED = "honoured"
    REFUSED = "refused: pykdump's own capture image cannot do this, the distribution's may (start --initrd)"
    TOLD = "checked, without effect; start says so"
    IGNORED = "without effect where there is no fadump"


@dataclass(frozen=True, slots=True)
class Key:
    """A key of a configuration file."""

    text: str
    """What it means: sentences for the manual page."""
    default: str | None = None
    """The value that counts where the file has none; None where that is nothing, or the text says what."""
    use: Use = Use.HONOURED


_FILESYSTEM = (
    "A file system to save dumps to, by its device: below /dev, or LABEL=, UUID=, PARTLABEL=, PARTUUID=."
)

KDUMP_CONF: Mapping[str, Key] = {
    **dict.fromkeys(("ext2", "ext3", "ext4", "btrfs", "xfs"), Key(_FILESYSTEM)),
    "minix": Key(_FILESYSTEM, use=Use.REFUSED),
    "virtiofs": Key("A folder of the host to save dumps to, by the tag it is shared with."),
    "raw": Key(
        "A partition that is overwritten with the dump. start turns it into a file after the reboot."
    ),
    "nfs": Key("An export to save dumps to: HOST:/FOLDER."),
    "ssh": Key("A server to send dumps to: USER@HOST."),
    "path": Key(
        "The folder for dumps, in the file system or on the server that is the target; of btrfs, in the"
        " subvolume that is mounted. Without a target it is a folder of the running system, on any disk.",
        "/var/crash",
    ),
    "sshkey": Key("The private key for the server of ssh, without a passphrase.", "/root/.ssh/kdump_id_rsa"),
    "core_collector": Key(
        "The command that writes the dump: makedumpfile with its options, cp, dd, cat, or, to a server, scp."
        " For raw and ssh makedumpfile needs -F, which the default then has.",
        "makedumpfile -l --message-level 7 -d 31",
    ),
    "keep_old_dumps": Key(
        "How many older dumps to keep on the target; 0 and -1 keep all. On ssh and raw nothing is removed.",
        "0",
    ),
    "failure_action": Key(
        "What to do when the dump cannot be saved: reboot, halt, poweroff, shell, or dump_to_rootfs, which"
        " saves it to the root file system.",
        "reboot",
    ),
    "default": Key("The old name of failure_action."),
    "final_action": Key("What to do when the dump is saved: reboot, halt or poweroff.", "reboot"),
    "kdump_pre": Key(
        "A program to run before the dump is saved; where it fails, no dump is saved. Then all programs in"
        " /etc/kdump/pre.d run."
    ),
    "kdump_post": Key(
        "A program to run afterwards. Its argument is 0 where the dump was saved. All programs in"
        " /etc/kdump/post.d run before it."
    ),
    "kdump_emergency": Key(
        "A program to run where no dump was saved, before failure_action. All programs in"
        " /etc/kdump/emergency.d run before it."
    ),
    "extra_bins": Key("More programs for the capture image, with the libraries that they need."),
    "extra_modules": Key("More kernel modules to load in the capture system."),
    "force_rebuild": Key("1: make the capture image anew at each start.", "0"),
    "force_no_rebuild": Key("1: never make the capture image anew where there is one.", "0"),
    "dracut_args": Key(
        "Options for dracut, which pykdump does not use. These have their meaning all the same: --mount"
        ' "DEVICE MOUNTPOINT TYPE OPTIONS", a dump target; --add-drivers and --force-drivers, where the'
        " kernel has them; --omit-drivers; --install, --install-optional and --include. start names the"
        " others."
    ),
    "auto_reset_crashkernel": Key(
        "yes: let package updates change crashkernel=. pykdump never does that.", "no", Use.TOLD
    ),
    "override_resettable": Key("Checked to be 0 or 1.", "0", Use.TOLD),
    "fence_kdump_nodes": Key(
        "The other nodes of a cluster, without this one. The capture system tells them that it saves memory,"
        " by fence_kdump_send and the way that leads to them now, wherever the dump goes."
    ),
    "fence_kdump_args": Key(
        "Options of fence_kdump_send: -p PORT, -f FAMILY, -c COUNT, -i SECONDS.",
        "-p 7410 -f auto -c 0 -i 10",
    ),
}
"""/etc/kdump.conf of Fedora, RHEL and openEuler: lines of KEY VALUE."""

_LOG_LEVEL = "The level of the service's messages, from 0 to 4. What pykdump says is in the journal."
_KEXEC_OPTIONS = "More options of pykexec for the load, such as -s or -d."
_FADUMP_APPEND = Key("For fadump of POWER, which pykdump does not set up.", use=Use.IGNORED)

FEDORA_SYSCONFIG: Mapping[str, Key] = {
    "KDUMP_KERNELVER": Key(
        "The release of the capture kernel (uname -r). Without it: the running kernel's."
    ),
    "KDUMP_BOOTDIR": Key("The folder with the capture kernel. Without it, the usual folders are looked in."),
    "KDUMP_IMG": Key("The beginning of the kernel's file name, before - and the release.", "vmlinuz"),
    "KDUMP_IMG_EXT": Key("The end of its file name."),
    "KDUMP_COMMANDLINE": Key(
        "The command line that the following two change. Without it: the running kernel's."
    ),
    "KDUMP_COMMANDLINE_REMOVE": Key(
        "Parameters to take away from it, by their names. crashkernel= and what belongs to this boot's root"
        " file system go in any case.",
        "hugepages hugepagesz slub_debug",
    ),
    "KDUMP_COMMANDLINE_APPEND": Key(
        "Parameters to add. Without the file, those that kdump-utils ships for the architecture are added."
    ),
    "KEXEC_ARGS": Key(f"{_KEXEC_OPTIONS} The text is split at blanks; quotes mean nothing."),
    "KDUMP_STDLOGLVL": Key(_LOG_LEVEL, "3", Use.TOLD),
    "KDUMP_SYSLOGLVL": Key(_LOG_LEVEL, "0", Use.TOLD),
    "KDUMP_KMSGLOGLVL": Key(_LOG_LEVEL, "0", Use.TOLD),
    "MKDUMPRD_ARGS": Key("What dracut_args is now.", use=Use.TOLD),
    "VMCORE_CREATION_NOTIFICATION": Key(
        "Whether kdumpctl notes if it has been tested. pykdump status tells that of its own tests.",
        "yes",
        Use.TOLD,
    ),
    "FADUMP_COMMANDLINE_APPEND": _FADUMP_APPEND,
}
"""/etc/sysconfig/kdump of the same: assignments of a shell, NAME=VALUE."""

_FOR_FTP = "For FTP."
_PATIENCE = "The capture system waits for three seconds times this, and for one minute at least."

DEBIAN: Mapping[str, Key] = {
    "USE_KDUMP": Key("1 turns the service on.", "0"),
    "KDUMP_KERNEL": Key("The path of the capture kernel. Without it: the running kernel's file."),
    "KDUMP_INITRD": Key("The path of a capture image to load instead of pykdump's own."),
    "KDUMP_COREDIR": Key("The folder for dumps, here or on the server.", "/var/crash"),
    "KDUMP_CMDLINE": Key(
        "The command line to begin with; nothing is taken away from it. Without it: the running kernel's,"
        " without crashkernel=, hugepages= and the like."
    ),
    "KDUMP_CMDLINE_APPEND": Key(
        "Parameters to add.",
        "reset_devices systemd.unit=kdump-tools-dump.service nr_cpus=1 irqpoll usbcore.nousb",
    ),
    "KDUMP_KEXEC_ARGS": Key(_KEXEC_OPTIONS),
    "MAKEDUMP_ARGS": Key("Options of makedumpfile.", "-F -c -d 31"),
    "KDUMP_COMPRESSION": Key("The program that compresses the dump: bzip2, gzip, lz4 or xz."),
    "KDUMP_DUMP_DMESG": Key("Whether to save the kernel's log, too: 1, or 0 for no.", "1"),
    "KDUMP_NUM_DUMPS": Key(
        "How many dumps to keep, the new one counted; 0 for all. With SSH none is removed.", "0"
    ),
    "KDUMP_FAIL_CMD": Key("A command line to run when the dump cannot be saved, before the reboot."),
    "KDUMP_SYSCTL": Key("Settings for sysctl once the kernel is loaded: NAME=VALUE, divided by blanks."),
    "SSH": Key("A server to send dumps to: USER@HOST."),
    "SSH_KEY": Key("The private key for it, without a passphrase.", "/root/.ssh/kdump_id_rsa"),
    "SSH_KDUMP_RETRY": Key(f"How often to try to reach that server. {_PATIENCE}", "16"),
    "NFS": Key("An export to save dumps to: HOST:/FOLDER."),
    "NFS_TIMEO": Key("The mount option timeo, in tenths of a second.", "600"),
    "NFS_RETRANS": Key("The mount option retrans.", "3"),
    "NFS_MOUNT_RETRY": Key(f"How often to try to mount the export. {_PATIENCE}", "4"),
    "HOSTTAG": Key("How the folders of dumps on a server begin: ip, or hostname.", "ip"),
    "FTP": Key("A server to send dumps to: HOST or HOST:FOLDER.", use=Use.REFUSED),
    "FTP_USER": Key(_FOR_FTP, use=Use.REFUSED),
    "FTP_PASSWORD": Key(_FOR_FTP, use=Use.REFUSED),
    "FTP_PORT": Key(_FOR_FTP, "21", Use.REFUSED),
    "KDUMP_CONFIG": Key("The kernel's configuration for kdump-config.", use=Use.TOLD),
    "KDUMP_STAMPDIR": Key("A folder that kdump-config notes in what it has dumped.", use=Use.TOLD),
    "DEBUG_KERNEL": Key("A kernel with symbols, for makedumpfile's older versions.", use=Use.TOLD),
}
"""/etc/default/kdump-tools of Debian and Ubuntu: assignments of a shell, NAME=VALUE."""

_MAIL = Key("For a notice by mail, which pykdump does not send.", use=Use.TOLD)

SUSE: Mapping[str, Key] = {
    "KDUMP_KERNELVER": Key(
        "The release of the capture kernel (uname -r), or its path. Without it: the running kernel's file."
    ),
    "KDUMP_CPUS": Key("How many CPUs the capture kernel has; 0 for all.", "32"),
    "KDUMP_COMMANDLINE": Key(
        "The command line to begin with; nothing is taken away from it. Without it: the running kernel's,"
        " changed as openSUSE's kdump does."
    ),
    "KDUMP_COMMANDLINE_APPEND": Key("Parameters to add."),
    "KEXEC_OPTIONS": Key(_KEXEC_OPTIONS),
    "MAKEDUMPFILE_OPTIONS": Key("More options of makedumpfile."),
    "KDUMP_SAVEDIR": Key(
        "Where to save dumps: a folder, or a URL, as nfs://HOST/FOLDER, ssh://USER@HOST:PORT/FOLDER,"
        " sftp://USER@HOST/FOLDER (scp is the same), cifs://USER:PASSWORD@HOST/SHARE/FOLDER (smb is the"
        " same). The capture image refuses ftp, and a password for ssh.",
        "/var/crash",
    ),
    "KDUMP_DUMPLEVEL": Key("What to leave out (makedumpfile -d), from 0 to 31.", "31"),
    "KDUMP_DUMPFORMAT": Key(
        "The format: compressed, lzo, snappy, zstd, ELF; raw for a copy, none for the log alone.",
        "compressed",
    ),
    "KDUMP_KEEP_OLD_DUMPS": Key(
        "How many older dumps to keep; 0 for all, -1 for none. On a server of ssh none is removed.", "0"
    ),
    "KDUMP_FREE_DISK_SIZE": Key("How many MiB have to stay free on the target.", "64"),
    "KDUMP_IMMEDIATE_REBOOT": Key("Whether to reboot afterwards, and not to start a shell.", "yes"),
    "KDUMP_CONTINUE_ON_ERROR": Key(
        "Whether a dump that failed ends as one that was saved; otherwise a shell is started.", "yes"
    ),
    "KDUMP_PRESCRIPT": Key("A line for a shell to run before the dump is saved."),
    "KDUMP_POSTSCRIPT": Key(
        "A line for a shell to run afterwards; $1 in it is 0 where the dump was saved. Where it is"
        " fence_kdump_send with its options and nodes, these nodes of a cluster are told from the start of"
        " the dump until the reboot."
    ),
    "KDUMP_REQUIRED_PROGRAMS": Key(
        "More programs for the capture image, with the libraries that they need."
    ),
    "KDUMP_SSH_IDENTITY": Key(
        "The private key for ssh: a path, or a name in /root/.ssh. Of several the first one counts. Without"
        " it, the first of id_ed25519, id_ecdsa and id_rsa there."
    ),
    "KDUMP_NET_TIMEOUT": Key("How many seconds to wait for the network, one minute at least.", "30"),
    "KDUMP_TRANSFER": Key("A command line that saves the dump in its own way.", use=Use.REFUSED),
    "KDUMP_FADUMP": Key("Whether firmware of POWER is to save memory.", "no", Use.REFUSED),
    "KDUMP_HOST_KEY": Key(
        "The server's key as known_hosts has it, without the name. Without it, and with *, the one in"
        " /root/.ssh/known_hosts counts, which then has to be there."
    ),
    "KDUMP_NETCONFIG": Key(
        "The interface, and how it gets its address. The capture system takes the interface and the address"
        " that reach the server now.",
        "auto",
        Use.TOLD,
    ),
    "KDUMP_AUTO_RESIZE": Key(
        "Whether to give back memory at boot: pykdump resize does that.", "no", Use.TOLD
    ),
    "KDUMPTOOL_FLAGS": Key("Flags for kdumptool.", use=Use.TOLD),
    "KDUMP_SMTP_SERVER": _MAIL,
    "KDUMP_SMTP_USER": _MAIL,
    "KDUMP_SMTP_PASSWORD": _MAIL,
    "KDUMP_NOTIFICATION_TO": _MAIL,
    "KDUMP_NOTIFICATION_CC": _MAIL,
    "KDUMP_COPY_KERNEL": Key("Whether to copy the kernel to the target, too.", "yes", Use.TOLD),
    "KDUMP_CRASHKERNEL": Key("What to reserve. See pykdump estimate.", "auto", Use.TOLD),
    "KDUMP_UPDATE_BOOTLOADER": Key(
        "Whether that goes to the boot loader, which pykdump setup alone changes.", "true", Use.TOLD
    ),
    "KDUMP_FADUMP_SHELL": Key("For KDUMP_FADUMP.", use=Use.IGNORED),
    "FADUMP_COMMANDLINE_APPEND": _FADUMP_APPEND,
    "KDUMP_VERBOSE": Key("What the service and the capture system tell.", "0", Use.TOLD),
}
"""/etc/sysconfig/kdump of openSUSE and SLE: assignments of a shell, NAME=VALUE."""

OURS: Mapping[str, Key] = {
    "PYKDUMP_HAND_OVER_KEYS": Key(
        "yes: for a target on encrypted volumes (dm-crypt, LUKS), pykdump start puts their keys into the"
        " capture image, in memory alone, never on a disk. Without it such a target is refused, unless the"
        " running kernel itself hands over keys that are in root's keyring (CONFIG_CRASH_DM_CRYPT), which is"
        " tried first. Who reads the reserved memory has the keys, as who reads the running kernel's.",
        "no",
    ),
}
"""What only pykdump knows, in each of the three files of assignments."""

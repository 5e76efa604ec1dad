"""What the lines of a capture's console mean.

They are the kernel's own messages (with the file they come from), and those of makedumpfile, kdump-tools,
kdump-utils, dracut, initramfs-tools and this project's capture image.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

PANIC = r"Kernel panic - not syncing: ?(.*)"
PANIC_WITHOUT_MEMORY = r"Kernel panic - not syncing: .*[Ff]ailed to allocate .*bytes"


class Stage(enum.Enum):
    """How far it came, in the order of events."""

    NO_CRASH = "no crash"
    NOT_LOADED = "no crash kernel loaded"
    NO_SECOND_KERNEL = "no second kernel"
    PURGATORY = "damaged in memory"
    KERNEL = "the capture kernel failed"
    OUT_OF_MEMORY = "out of memory"
    INITRD = "the initramfs failed"
    ROOT = "no root file system"
    USERLAND = "the capture system failed"
    COLLECTOR = "makedumpfile failed"
    DISK_FULL = "no space for the dump"
    TARGET = "the target cannot be reached"
    SAVED = "saved"


@dataclass(frozen=True, slots=True)
class Rule:
    """A line that tells how a capture failed; of several that match, the first in `RULES` counts."""

    pattern: str
    stage: Stage
    finding: str
    cause: str
    remedy: str
    detail: str = ""
    """A further line worth showing."""


SAVED = r"The dumpfile is saved to|saving vmcore complete|saved vmcore (?:in|via)|Finished saving vmcore"
NOT_SAVED = r"makedumpfile Failed|saving vmcore failed|failed to save vmcore|kdump: the dump was not saved"
LOG_SAVED = r"saving vmcore-dmesg\.txt complete"
SAVING = r"saving vmcore$"
LEFT = r"pykdump: (?:rebooting|halting|powering off|exit leaves this shell)"
"""pykdump's image has come to its end."""

_MORE_MEMORY = "raise crashkernel= (pykdump estimate says by how much)"

RULES = (
    # mm/oom_kill.c, mm/page_alloc.c
    Rule(
        r"System is deadlocked on memory|Out of memory and no killable processes",
        Stage.OUT_OF_MEMORY,
        "O1",
        "the capture kernel ran out of memory before its programs started",
        _MORE_MEMORY,
        r"invoked oom-killer",
    ),
    # mm/memblock.c and others: memblock_alloc_or_panic()
    Rule(
        PANIC_WITHOUT_MEMORY,
        Stage.OUT_OF_MEMORY,
        "O1",
        "the capture kernel ran out of memory while it set itself up",
        _MORE_MEMORY,
    ),
    # kernel/dma/swiotlb.c
    Rule(
        r"[Cc]an ?not allocate SWIOTLB buffer|swiotlb buffer is full",
        Stage.OUT_OF_MEMORY,
        "O2",
        "the capture kernel has too little memory below 4G for its devices' DMA",
        "ask for more below 4G: crashkernel=256M,low",
    ),
    Rule(
        r"Out of memory: Kill(?:ed)? process \d+ \((?:cryptsetup|systemd-cryptse)",
        Stage.OUT_OF_MEMORY,
        "O5",
        "unlocking the target took more memory than the capture system has",
        "add a key slot with PBKDF2 (cryptsetup luksAddKey --pbkdf pbkdf2), or dump elsewhere",
    ),
    Rule(
        r"Out of memory: Kill(?:ed)? process|invoked oom-killer",
        Stage.OUT_OF_MEMORY,
        "O4",
        "the capture system ran out of memory and lost a process",
        f"{_MORE_MEMORY}; fewer --num-threads",
        r"Killed process",
    ),
    # init/initramfs.c
    Rule(
        r"Initramfs unpacking failed: write error",
        Stage.OUT_OF_MEMORY,
        "O3",
        "the initramfs found no room in the memory it may take",
        f"a smaller initramfs, initramfs_options=size=90% (Linux 6.18), or {_MORE_MEMORY}",
    ),
    Rule(
        r"Initramfs unpacking failed|rootfs image is not initramfs",
        Stage.INITRD,
        "B2",
        "the initramfs is damaged, or compressed in a way the capture kernel cannot unpack",
        "build it again; load with digests checked (not -i), or with -s",
        PANIC,
    ),
    # arch/x86/kernel/setup.c, arch/x86/realmode/init.c
    Rule(
        r"[Cc]annot find place for new RAMDISK",
        Stage.KERNEL,
        "B5",
        "a stale initrd of the boot stub was taken for the capture kernel's",
        "load with an initramfs, be it an empty one",
    ),
    Rule(
        r"Cannot allocate trampoline",
        Stage.KERNEL,
        "B6",
        "the capture kernel's memory map has no memory below 1 MiB",
        "pass it one: report the memory map with pykexec --snapshot",
    ),
    # init/do_mounts.c, init/main.c
    Rule(
        r"No working init found|Requested init .* failed",
        Stage.INITRD,
        "B11",
        "the initramfs has no init that runs",
        "build it again; check that it is for this architecture",
    ),
    Rule(
        r"VFS: Unable to mount root fs",
        Stage.ROOT,
        "B11",
        "no initramfs took over, and the root file system cannot be mounted",
        "load an initramfs with --initrd, and one with the modules for the root device",
        r"VFS: Cannot open root device",
    ),
    # kernel/exit.c
    Rule(
        r"Kernel panic - not syncing: Attempted to kill init!",
        Stage.INITRD,
        "B11",
        "the capture system's init ended",
        "see what it said before; rd.shell (dracut) or failure_action shell stops where it goes wrong",
    ),
    Rule(
        r"Kernel panic - not syncing",
        Stage.KERNEL,
        "B18",
        "the capture kernel panicked",
        "see what it says; leave out the driver named in its call trace (dracut_args --omit-drivers)",
        r"Oops|BUG:|RIP:|pc :",
    ),
    # drivers/md/dm-thin.c: a file system on a thin volume may have room that its pool has not
    Rule(
        r"device-mapper: thin: .*switching pool to (?:out-of-data-space|read-only|fail)",
        Stage.DISK_FULL,
        "S9",
        "the thin pool below the target's file system is full",
        "extend the pool (lvextend), or let a dump go to a volume that is not thin",
    ),
    # makedumpfile
    Rule(
        r"No space left on device|ENOSPC",
        Stage.DISK_FULL,
        "S3",
        "the target has no space left for the dump",
        "make room; leave out more pages (-d 31), compress (-l), keep fewer dumps",
        r"makedumpfile Failed|saving vmcore failed|failed to save vmcore",
    ),
    Rule(
        r"PAGE SIZE .* not supported|VA Bits \d+ not supported",
        Stage.COLLECTOR,
        "S8",
        "makedumpfile is too old for the crashed kernel",
        "install a newer makedumpfile in the capture initramfs",
        r"makedumpfile Failed",
    ),
    Rule(
        r"Can't get (?:the )?(?:address|symbol|size) of|Invalid vmcoreinfo",
        Stage.COLLECTOR,
        "S10",
        "makedumpfile cannot find its way in the dump: the core headers or VMCOREINFO are wrong",
        "load again and compare pykexec -p --dry-run; check /proc/kallsyms and kernel.kptr_restrict",
        r"makedumpfile Failed",
    ),
    Rule(
        r"Can't allocate memory|Cannot allocate memory",
        Stage.OUT_OF_MEMORY,
        "O4",
        "makedumpfile did not get the memory it needs",
        f"{_MORE_MEMORY}; fewer --num-threads",
        r"makedumpfile Failed",
    ),
    # fs/proc/vmcore.c
    Rule(
        r"Core image elf header is not sane|Kdump: vmcore not initialized",
        Stage.COLLECTOR,
        "S10",
        "the capture kernel does not understand the core headers it was given",
        "load again, with digests checked (not -i); compare pykexec -p --dry-run",
    ),
    Rule(
        r"Can't open the dump memory|/proc/vmcore.*(?:No such file|not found|does not exist)",
        Stage.COLLECTOR,
        "P11",
        "the capture kernel shows no /proc/vmcore",
        "take a kernel with CONFIG_PROC_VMCORE and CONFIG_CRASH_DUMP, and load it with -p",
        r"makedumpfile Failed",
    ),
    # ssh, mount, dracut, systemd, initramfs-tools
    Rule(
        r"Host key verification failed|Permission denied \(publickey",
        Stage.TARGET,
        "S1",
        "the ssh server does not let the capture system in",
        "propagate the key, and the server's host key, and rebuild the initramfs",
    ),
    Rule(
        r"mount\.nfs|Unable to mount remote NFS|nfs: server .* not responding",
        Stage.TARGET,
        "S2",
        "the NFS export cannot be mounted in the capture system",
        "test the mount by its address; allow root to write there (no_root_squash)",
    ),
    Rule(
        r"ssh: connect to host|ssh: Could not resolve|Unable to reach remote server|Network is unreachable|"
        r"No route to host",
        Stage.TARGET,
        "S1",
        "the ssh server cannot be reached from the capture system",
        "see that the initramfs has the network's driver and configuration",
    ),
    # The image says this after every failure, so that what ssh itself says counts before it.
    Rule(
        r"kdump: ssh: cannot log in",
        Stage.TARGET,
        "S1",
        "the ssh server does not make the folder for the dump, or does not let the capture system in",
        "see what it says before; make a folder there with the capture system's key (ssh -i)",
    ),
    # net/sched/sch_generic.c
    Rule(
        r"NETDEV WATCHDOG: ",
        Stage.TARGET,
        "B16",
        "the network card does not send: it did not get over the crashed kernel's use of it",
        "update the card's firmware, or dump to a local disk",
    ),
    Rule(
        r"initiator reported error|iscsistart: .*(?:fail|timed out)|iscsiadm: .*(?:fail|timed out)",
        Stage.TARGET,
        "S12",
        "the iSCSI session could not be brought up again in the capture system",
        "use a target of its own (nfs, ssh), and test it with a crash",
    ),
    Rule(
        r"Please (?:enter passphrase for|unlock) disk",
        Stage.ROOT,
        "L13",
        "the capture system waits for somebody to unlock the target",
        "dump to a file system that is not encrypted, or over the network",
    ),
    Rule(
        r"dracut-initqueue.*(?:timeout|starting timeout scripts)|Timed out waiting for device|"
        r"Dependency failed for .*(?:sysroot|kdumproot)|ALERT! .* does not exist|"
        r"Gave up waiting for (?:root|suspend)|dump target.* does not exist|no network card has the address",
        Stage.ROOT,
        "S7",
        "a device that the dump goes to did not appear in the capture system",
        "rebuild the initramfs on this machine with the driver of that device; name the device by UUID",
    ),
    Rule(
        r"(?:I/O error, dev|I/O error on dev) ",  # block/blk-core.c, fs/buffer.c
        Stage.TARGET,
        "S14",
        "the disk that the dump goes to fails",
        "see that disk (smartctl -a); let dumps go to another one",
    ),
    Rule(
        r"kdump: cannot mount |mount: mounting .* failed|[Rr]emounting filesystem read-only|"
        r"Read-only file system",
        Stage.TARGET,
        "S15",
        "the target's file system cannot be mounted, or not written to",
        "check it (fsck) in the running system; see that the initramfs has its module",
    ),
    Rule(
        r"kdump: no dump is wanted",
        Stage.USERLAND,
        "S14",
        "the program of kdump_pre ended with an error, which says that there shall be no dump",
        "see what it said before; it has to end with exit status 0 where a dump is wanted",
        r"kdump: \S+ failed$",
    ),
    Rule(
        r"makedumpfile Failed|makedumpfile.* failed|saving vmcore failed|failed to save vmcore",
        Stage.COLLECTOR,
        "S14",
        "makedumpfile failed",
        "see the line before; run it again by hand with failure_action shell",
    ),
)

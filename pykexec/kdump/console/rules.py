"""The meaning of lines on a capture's console, in the order of their priority.

They are messages of the kernel (with the file they come from), makedumpfile, kdump-tools, kdump-utils,
dracut, initramfs-tools and this project's capture image.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from pykexec.kdump.console.signs import LOCKUP, OOPS, PANIC, UNSUPPORTED, USERLAND, WRITING

PANIC_WITHOUT_MEMORY = r"Kernel panic - not syncing: .*[Ff]ailed to allocate .*bytes"


class Stage(enum.Enum):
    """How far the capture came, in the order of events."""

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
    UNKNOWN = "cannot tell"
    SAVED = "saved"


class Blame(enum.Enum):
    """The place where a rule looks for the driver that may be the cause."""

    NOTHING = enum.auto()
    TRACE = enum.auto()
    """The kernel's report of its registers and its stack."""
    DRIVERS = enum.auto()
    """Lines of drivers about their devices (`signs.DRIVERS`)."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A line that shows how a capture failed; of several that match, the first in `RULES` counts."""

    pattern: str
    stage: Stage
    finding: str
    cause: str
    """The cause; `{name}` stands for a group of the pattern."""
    remedy: str
    detail: str = ""
    """Another line that is shown."""
    needs: str = ""
    """A line that the rule needs. It is shown, too."""
    unless: str = ""
    """A line that rules it out."""
    latest: bool = False
    """Whether the last line that matches counts, because a wait is reported again and again."""
    blame: Blame = Blame.NOTHING


_MORE_MEMORY = "raise crashkernel= (pykdump estimate says by how much)"

# makedumpfile.c, arch/*.c, sadump_info.c
_CANNOT_READ_KERNEL = (
    r"PAGE SIZE .* not supported|VA Bits \d+ not supported|Can't determine platform config|"
    r"Could not validate mem_section|Can't distinguish the memory type|"
    r"Can't get necessary (?:symbols|structures|information)|Can't (?:determine|get) (?:the )?pgdat list|"
    r"Can't read the buffer of struct page|Can't exclude unnecessary pages|[Cc]an(?:'t|not) read mem_map|"
    r"Can't get (?:the )?(?:address|symbol|size|number|offset) of|Can't get (?:mem_map|vmem_map|phys_base)|"
    r"Can't get a valid \w+|Can't convert a virtual address|Can't get the kernel version|"
    r"not supported for this kernel"
)
NEWER_MAKEDUMPFILE = (
    "install a newer makedumpfile and rebuild the capture initramfs; until then dump with cp,"
    " or with makedumpfile -d 1"
)
_MAKEDUMPFILE_FAILED = r"makedumpfile Failed"

# elf/dl-load.c of glibc; ldso/dynlink.c of musl
_LIBRARY = (
    r"(?:^|[\s\]])(?P<program>[^\s\]]+): error while loading shared libraries: (?P<library>[^:\s]+): "
    r"(?!.*(?:[Cc]annot allocate|failed to map))"
)
_LIBRARY_OF_MUSL = r"Error loading shared library (?P<library>[^:\s]+): .*\(needed by (?P<program>[^)\s]+)\)"
_REBUILD = (
    "rebuild the initramfs on this machine; if nothing is missing in it, there was no memory to unpack all"
    f" of it: {_MORE_MEMORY}"
)
_UNPACKING = r"Initramfs unpacking failed"

_APPEARS = "rebuild the initramfs on this machine with the driver of that device; name the device by UUID"
_NOT_WANTED = (
    f"{_APPEARS}; where the dump does not need it, take away the parameter that names it"
    " (KDUMP_COMMANDLINE_REMOVE)"
)
_NETWORK = "see that the initramfs has the network's driver and configuration"

RULES = (
    # mm/oom_kill.c, mm/page_alloc.c
    Rule(
        r"System is deadlocked on memory|Out of memory and no killable processes|"
        r"Unable to mount root fs: not enough memory",
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
        r"Out of memory: (?:Kill(?:ed)? process|.*panic_on_oom)|invoked oom-killer",
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
        r"error while loading shared libraries|Error loading shared library",
    ),
    # Junk after an archive does no harm: what counts is whether init ran.
    Rule(
        rf"{_UNPACKING}|rootfs image is not initramfs",
        Stage.INITRD,
        "B2",
        "the initramfs is damaged, or compressed in a way the capture kernel cannot unpack",
        "build it again; load with digests checked (not -i), or with -s",
        PANIC,
        unless=USERLAND,
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
        r"Failed to execute|exists but couldn't execute it",
    ),
    Rule(
        r"VFS: Unable to mount root fs",
        Stage.ROOT,
        "B11",
        "no initramfs took over, and the root file system cannot be mounted",
        "load an initramfs with --initrd, and one with the modules for the root device",
        r"VFS: Cannot open root device",
    ),
    # drivers/md/dm-thin.c: a file system on a thin volume may have room that its pool does not have
    Rule(
        r"device-mapper: thin: .*switching pool to (?:out-of-data-space|read-only|fail)",
        Stage.DISK_FULL,
        "S9",
        "the thin pool below the target's file system is full",
        "extend the pool (lvextend), or let a dump go to a volume that is not thin",
    ),
    # makedumpfile
    Rule(
        r"No space left on device|ENOSPC|less than KDUMP_FREE_DISK_SIZE",
        Stage.DISK_FULL,
        "S3",
        "the target has no space left for the dump",
        "make room; leave out more pages (-d 31), compress (-l), keep fewer dumps",
        r"makedumpfile Failed|saving vmcore failed|failed to save vmcore",
    ),
    # check_release() and open_vmcoreinfo() run before the kernel's own structures are read.
    Rule(
        r"Can't get (?:the )?(?:address|symbol) of (?:system_utsname|init_uts_ns)|Invalid vmcoreinfo|"
        r"vmcoreinfo.* don't match",
        Stage.COLLECTOR,
        "S10",
        "makedumpfile cannot find its way in the dump: the core headers or VMCOREINFO are wrong",
        "load again and compare pykexec -p --dry-run; check /proc/kallsyms and kernel.kptr_restrict",
        _MAKEDUMPFILE_FAILED,
    ),
    # arch/x86/mm/ioremap.c, kernel/iomem.c, arch/x86/mm/pat/memtype.c
    Rule(
        r"ioremap(?: attempted)? on RAM|memremap attempted on (?:ram|mixed range)|"
        r"map pfn (?:RAM range|expected mapping type)",
        Stage.COLLECTOR,
        "S10",
        "the core headers are wrong: they list memory that the capture kernel itself uses",
        "load again after each change of memory; try the other way to load (-c or -s), or a newer kernel",
        needs=r"read_vmcore|mmap_vmcore|oldmem|/proc/vmcore",
    ),
    Rule(
        r"/proc/vmcore\W{1,4}(?:Cannot allocate memory|Bad address|Input/output error)",
        Stage.COLLECTOR,
        "S10",
        "memory that the core headers list cannot be read: the headers are wrong",
        "load again after each change of memory; try the other way to load (-c or -s), or a newer kernel",
        unless=r"page allocation failure|vmap allocation",
    ),
    Rule(
        _CANNOT_READ_KERNEL,
        Stage.COLLECTOR,
        "S8",
        "makedumpfile is too old for the crashed kernel: it cannot read the kernel's structures",
        NEWER_MAKEDUMPFILE,
        rf"{UNSUPPORTED}|{_MAKEDUMPFILE_FAILED}",
    ),
    Rule(
        r"Can't allocate memory|Cannot allocate memory|cannot allocate memory",
        Stage.OUT_OF_MEMORY,
        "O4",
        "makedumpfile, or another program, did not get the memory it needs",
        f"{_MORE_MEMORY}; fewer --num-threads",
        _MAKEDUMPFILE_FAILED,
    ),
    # fs/proc/vmcore.c
    Rule(
        r"Core image elf header (?:is not sane|not found)|(?:Kdump: )?vmcore:? not initialized",
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
        _MAKEDUMPFILE_FAILED,
    ),
    *(
        Rule(
            pattern,
            Stage.INITRD,
            "B2",
            "the initramfs is not whole: {program} does not find the shared library {library}",
            _REBUILD,
            rf"{_UNPACKING}|Attempted to kill init",
        )
        for pattern in (_LIBRARY, _LIBRARY_OF_MUSL)
    ),
    Rule(
        r"symbol lookup error: |version `\S+' not found \(required by|Error relocating \S+: ",
        Stage.INITRD,
        "B2",
        "the initramfs is not whole: a program and a shared library in it do not fit",
        _REBUILD,
        rf"{_UNPACKING}|Attempted to kill init",
    ),
    Rule(
        r"(?P<program>\b(?:makedumpfile|vmcore-dmesg|kdump\.sh|kdumptool)): (?:command )?not found",
        Stage.INITRD,
        "B2",
        "the initramfs is not whole: {program} is not in it",
        _REBUILD,
        _UNPACKING,
    ),
    # kernel/exit.c; status 127 is that of shells and loaders
    Rule(
        r"Attempted to kill init! exitcode=0x00007f00",
        Stage.INITRD,
        "B2",
        "the capture system's init ended: a program or a shared library that it needs is not there",
        _REBUILD,
        _UNPACKING,
    ),
    Rule(
        r"Kernel panic - not syncing: Attempted to kill init!",
        Stage.INITRD,
        "B11",
        "the capture system's init ended",
        "see what it said before; rd.shell (dracut) or failure_action shell stops where it goes wrong",
    ),
    Rule(
        OOPS,
        Stage.KERNEL,
        "B18",
        "the capture kernel itself crashed",
        "see what it says; leave out the driver named in its call trace (dracut_args --omit-drivers)",
        blame=Blame.TRACE,
    ),
    Rule(
        LOCKUP,
        Stage.KERNEL,
        "B18",
        "the capture kernel hangs, and ended for that",
        "see what it says; leave out the driver named in its call trace (dracut_args --omit-drivers)",
        needs=PANIC,
        blame=Blame.TRACE,
    ),
    Rule(
        PANIC,
        Stage.KERNEL,
        "B18",
        "the capture kernel panicked",
        "see what it says; leave out the driver named in its call trace (dracut_args --omit-drivers)",
        unless=r"hung_task: blocked tasks",  # earlier lines say what hangs
        blame=Blame.TRACE,
    ),
    # ssh, mount, dracut, systemd, initramfs-tools
    Rule(
        r"Host key verification failed|Permission denied \(publickey",
        Stage.TARGET,
        "S1",
        "the ssh server does not let the capture system in",
        "propagate the key, and the server's host key, and rebuild the initramfs",
    ),
    # drivers/scsi/scsi_transport_iscsi.c; drivers/nvme/host/tcp.c
    Rule(
        r"kdump: \S+ does not answer any more|session\d+: session recovery timed out|"
        r"nvme\d+: Removing controller",
        Stage.TARGET,
        "S14",
        "the server that the dump goes to stopped answering",
        "see that server, and the way to it, at that time; let dumps go to another one",
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
        r"No route to host|network still isn't ready|Host not responding",
        Stage.TARGET,
        "S1",
        "the ssh server cannot be reached from the capture system",
        _NETWORK,
    ),
    Rule(
        r"kdump: mount\.cifs: cannot mount",
        Stage.TARGET,
        "S2",
        "the SMB share cannot be mounted in the capture system",
        "mount it by hand with the user, the password and the server's address of the configuration",
    ),
    # The image says this after every failure; ssh's own messages have to come before it.
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
    # mm/page_alloc.c; drivers/base/dd.c with ENOMEM
    Rule(
        r"page allocation failure: order:|with error -12$",
        Stage.OUT_OF_MEMORY,
        "O4",
        "a driver, or a program of the capture system, did not get the memory it needs",
        _MORE_MEMORY,
        r"with error -12$",
        unless=WRITING,
    ),
    Rule(
        r"Please (?:enter passphrase for|unlock) disk",
        Stage.ROOT,
        "L13",
        "the capture system waits for somebody to unlock the target",
        "dump to a file system that is not encrypted, or over the network",
    ),
    *(
        Rule(
            pattern,
            Stage.ROOT,
            "S7",
            f"{who}, which did not appear in the capture system",
            _APPEARS,
            blame=Blame.DRIVERS,
        )
        for pattern, who in (
            (r"Warning: \"?(?P<device>/dev/[^\s\"]+)\"? does not exist", "dracut waited for {device}"),
            (r"Timed out waiting for device (?P<device>\S+?)\.?(?: - .*)?$", "systemd waited for {device}"),
            (r"Job (?P<device>\S+\.device)/start (?:timed out|failed)", "systemd waited for {device}"),
            (r"ALERT! +(?P<device>\S+) +does not exist", "initramfs-tools waited for {device}"),
            (r"ERROR: device '(?P<device>[^']+)' not found", "mkinitcpio waited for {device}"),
            (r"dump target(?:'s)? (?P<device>.+?),? does not exist", "pykdump waited for {device}"),
            (r"no network card has the address (?P<device>\S+)", "pykdump looked for the card {device}"),
        )
    ),
    Rule(
        r"kdump: cannot mount |mount: mounting .* failed|[Rr]emounting filesystem read-only|"
        r"Read-only file system|"
        # mount(8), systemd's mount.c
        r"\bmount: .*(?:unknown filesystem type|can't read superblock|wrong fs type|mount\(2\) .*failed)|"
        r"Failed to mount \S*(?:sysroot|kdumproot|/)|"
        r"\.mount: Mount process exited, code=(?!exited, status=0)",
        Stage.TARGET,
        "S15",
        "the target's file system cannot be mounted, or not written to",
        "check it (fsck) in the running system; see that the initramfs has its module",
        # fs/*/super.c
        r"(?:XFS|EXT4-fs|BTRFS|F2FS-fs).*(?:[Cc]orrupt|failed|error)|Key was rejected by service",
    ),
    Rule(
        r"dracut-initqueue.*(?:timeout|starting timeout scripts)|Not all disks have been found|"
        r"Dependency failed for .*(?:sysroot|kdumproot)|Gave up waiting for (?:root|suspend)|"
        r"Failed to mount rootfs|Timeout waiting for root device",
        Stage.ROOT,
        "S7",
        "a device that the dump goes to did not appear in the capture system",
        _APPEARS,
        r"\[ -e \"?/dev/",
        blame=Blame.DRIVERS,
    ),
    Rule(
        r"(?:I/O error, dev|I/O error on dev) ",  # block/blk-core.c, fs/buffer.c
        Stage.TARGET,
        "S14",
        "the disk that the dump goes to fails",
        "see that disk (smartctl -a); let dumps go to another one",
    ),
    Rule(
        r"kdump: no dump is wanted|kdump_pre script exited with non-zero",
        Stage.USERLAND,
        "S14",
        "the program of kdump_pre ended with an error, which says that there shall be no dump",
        "see what it said before; it has to end with exit status 0 where a dump is wanted",
        r"kdump: \S+ failed$",
    ),
    Rule(
        rf"{UNSUPPORTED}|Attempt to read non-existent page|readmem: type_addr: ",
        Stage.COLLECTOR,
        "S8",
        "makedumpfile does not know the crashed kernel: it is too old",
        NEWER_MAKEDUMPFILE,
        _MAKEDUMPFILE_FAILED,
        needs=r"makedumpfile Failed|makedumpfile.* failed|saving vmcore failed|failed to save vmcore",
    ),
    Rule(
        r"\bmakedumpfile\[\d+\]:? (?:segfault|trap|general protection)|Segmentation fault",
        Stage.COLLECTOR,
        "S14",
        "makedumpfile, or another program, crashed",
        NEWER_MAKEDUMPFILE,
        UNSUPPORTED,
    ),
    Rule(
        r"pykdump: no progress for \d+ seconds: ending it",
        Stage.COLLECTOR,
        "S14",
        "saving made no progress for minutes, and was ended",
        "see whether the target answered, and how far it came in kexec-dmesg.log beside the dump",
        r"saving vmcore failed",
    ),
    Rule(
        r"makedumpfile Failed|makedumpfile.* failed|saving vmcore failed|failed to save vmcore|"
        r"Failed saving vmcore",
        Stage.COLLECTOR,
        "S14",
        "makedumpfile failed",
        "see the line before; run it again by hand with failure_action shell",
    ),
    Rule(
        LOCKUP,
        Stage.KERNEL,
        "B18",
        "the capture kernel hangs",
        "see what it says; leave out the driver named in its call trace (dracut_args --omit-drivers)",
        blame=Blame.TRACE,
    ),
    # Waits that do not end within the log
    *(
        Rule(
            pattern,
            Stage.ROOT,
            "S7",
            f"{who}, which does not appear in the capture system",
            _NOT_WANTED,
            unless=WRITING,
            latest=True,
            blame=Blame.DRIVERS,
        )
        for pattern, who in (
            # systemd's manager.c; the limit in parentheses may be none
            (
                r"start job is running for (?!.*\budev\b)"
                r"(?P<device>.*(?:/dev/|\bdev-|UUID|sysroot|kdumproot|initqueue|[Cc]rypt|[Mm]ount).*?)"
                r"(?: \(.*)?$",
                "systemd waits for {device}",
            ),
            (r"Job (?P<device>\S+\.(?:device|mount))/start running", "systemd waits for {device}"),
            (r"Expecting device (?P<device>\S+?)\.*$", "systemd waits for {device}"),
            (r"\[ -e \"?(?P<device>/dev/[^\s\"\]]+)", "dracut waits for {device}"),
            (r"Begin: Waiting for (?P<device>[^.]+?) \.\.\.", "initramfs-tools waits for the {device}"),
            (r"Waiting \d+ seconds for device (?P<device>\S+)", "mkinitcpio waits for {device}"),
            (r"Waiting for (?P<device>rootfs mount)", "kdump-utils waits for the {device}"),
            (r"Waiting for encrypted source device (?P<device>[^\s.]+)", "cryptsetup waits for {device}"),
            (r"Volume group \"(?P<device>[^\"]+)\" not found", "LVM looks for the group {device}"),
            (r"pykdump: (?:waiting for|putting together) (?P<device>.+)$", "pykdump waits for {device}"),
            # init/do_mounts.c, with rootwait
            (r"Waiting for root device (?P<device>\S+?)\.\.\.", "the kernel waits for its root {device}"),
        )
    ),
    Rule(
        r"Waiting for network to be ready|Network device did not appear|dhcp for interface \S+ failed|"
        r"start job is running for .*[Nn]etwork|Waiting up to \d+ secs for .* to become available|"
        r"Waiting for \S+ to respond to ping",
        Stage.TARGET,
        "S1",
        "the network does not come up in the capture system",
        _NETWORK,
        unless=WRITING,
        latest=True,
        blame=Blame.DRIVERS,
    ),
    Rule(
        r"[Ee]mergency (?:mode|shell)|Cannot open access to console|dropped into .* shell|"
        r"Dropping to a shell",
        Stage.USERLAND,
        "S14",
        "the capture system stopped, and waits for somebody at a shell",
        "see what it said before; let it reboot instead (failure_action reboot), once the cause is known",
    ),
)

"""Checks of the dump's target: reachable, lasting, large enough."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress

from pykexec.errors import FileError
from pykexec.kdump.capture import login, sshconfig
from pykexec.kdump.capture.errors import Unsupported
from pykexec.kdump.config.settings import Action, Target, TargetKind
from pykexec.kdump.config.targets import Login
from pykexec.kdump.console.diagnosis import Stage as Reached
from pykexec.kdump.doctor import commands, starting
from pykexec.kdump.doctor.capture import ended_with, seen
from pykexec.kdump.doctor.facts import Facts, Mount
from pykexec.kdump.doctor.finding import Check, Judgement, Stage, fine, unknown, wrong
from pykexec.kdump.doctor.shell import NO_COMMAND, Command, is_operand, run
from pykexec.kdump.doctor.tools import makedumpfile_fit
from pykexec.kdump.dumpsize import Room, expected_size
from pykexec.kdump.reservation.crashkernel import size_text
from pykexec.memory import GIB


def _ssh(facts: Facts) -> Judgement:
    found = ended_with(facts, "S1")
    if found is not None:
        return found
    if facts.settings is None:
        return unknown(facts.unconfigured)
    target = facts.settings.target
    if target.kind is not TargetKind.SSH:
        return fine("dumps do not go over ssh")
    if not facts.places.are_known:
        return unknown("the key is not in a snapshot")
    if target.ssh_key and facts.places.size(target.ssh_key) is None:
        return wrong(
            "the ssh key for dumps does not exist",
            target.ssh_key,
            remedy=f"make one and bring it to the server: {_propagated(facts)}",
            command=_key_made(target),
        )
    name, hosts = _known_as(facts, target), [each for each in login.KNOWN_HOSTS if facts.places.size(each)]
    readable = [file for each in hosts if facts.places.can_be_read and (file := facts.places.at(each))]
    is_missing = not hosts or (readable and not login.is_known(name, readable))
    if is_missing and not login.given_key(target):
        return wrong(
            "the server's host key is not known: the capture system would refuse to connect",
            f"no {name} in {' or '.join(hosts or login.KNOWN_HOSTS)}",
            remedy=f"log in once as root with that key, or: {_propagated(facts)}",
            command=_host_asked(target),
        )
    if _asks(facts, target.ssh_key):
        return wrong(
            "the ssh key for dumps does not open without a passphrase, which nobody can give after a crash",
            target.ssh_key,
            remedy="take the passphrase off, or take another key",
            command=run("ssh-keygen", "-p", "-N", "", "-f", target.ssh_key),
        )
    return fine(target.ssh_key or "root's own keys", *hosts)


def _known_as(facts: Facts, target: Target) -> str:
    """Return the server's name in known_hosts; ssh's own configuration may give it another one."""
    name = login.known_as(target)
    if facts.machine.is_live and os.geteuid() == 0:
        address = Login(target.address)
        with suppress(Unsupported):  # V4 tells
            return sshconfig.ask(address.host.bare, address.user, target.port).known_as
    return name


def _propagated(facts: Facts) -> str:
    return commands.ways(facts, "kdumpctl propagate", "kdump-config propagate") or "ssh-copy-id, ssh-keyscan"


def _key_made(target: Target) -> Command:
    if not is_operand(target.address):
        return NO_COMMAND
    made = run("ssh-keygen", "-q", "-N", "", "-f", target.ssh_key)
    return made.then(run("ssh-copy-id", "-i", target.ssh_key, *_port(target), target.address))


def _host_asked(target: Target) -> Command:
    host = target.address.rpartition("@")[2]
    if not is_operand(host):
        return NO_COMMAND
    return run("ssh-keyscan", *_port(target), host, append_to=login.KNOWN_HOSTS[0])


def _port(target: Target) -> tuple[str, ...]:
    return ("-p", str(target.port)) if target.port else ()


def _asks(facts: Facts, key: str) -> bool:
    file = facts.places.at(key) if key and facts.places.can_be_read else None
    try:
        return file is not None and not login.is_usable(file)
    except FileError:  # only root can read it
        return False


def _nfs(facts: Facts) -> Judgement:
    found = ended_with(facts, "S2")
    if found is not None:
        return found
    if facts.settings is None:
        return unknown(facts.unconfigured)
    target = facts.settings.target
    if target.kind is not TargetKind.NFS:
        return fine("dumps do not go over NFS")
    host = target.address.partition(":/")[0]
    # The capture system may have no resolver configuration; a full name or an address works.
    if "." in host or ":" in host:
        return fine(target.address)
    return wrong(
        "the NFS server's name is not a whole one: the capture system may not be able to look it up",
        target.address,
        remedy="write the server's address, or its fully qualified name",
    )


def _space(facts: Facts) -> Judgement:
    found = ended_with(facts, "S3")
    if found is not None:
        return found
    settings = facts.settings
    if settings is None:
        return unknown(facts.unconfigured)
    if not settings.save_dump:
        return fine("only the log is saved")
    if settings.target.kind is not TargetKind.LOCAL:
        return unknown(f"how much room {settings.target} has cannot be seen from here")
    free = facts.places.free(settings.path)
    if free is None:
        return unknown("a snapshot does not tell how much room there is")
    size = expected_size(settings, facts.text("proc/meminfo") or "", makedumpfile_fit(facts))
    if size is None:
        return unknown("no /proc/meminfo")
    room = Room(free, size + settings.free_space)
    evidence = f"{settings.path}: {room}"
    if room.is_enough:
        return fine(evidence)
    return wrong(
        "the dump may not fit",
        evidence,
        remedy="make room, leave out more pages (-d 31, and a makedumpfile that knows the kernel: S8), keep"
        " fewer dumps, or use another target",
    )


def _mount(facts: Facts) -> Mount | None:
    """Return the mount that dumps go to on the running system; None where it is not a mount."""
    return starting.target_mount(facts, facts.settings) if facts.settings else None


def _filesystem(facts: Facts) -> Judgement:
    if facts.settings is None:
        return unknown(facts.unconfigured)
    mount = _mount(facts)
    if mount is None:
        return (
            unknown("no /proc/self/mounts")
            if facts.mounts is None
            else fine("no file system of this system's")
        )
    if mount.type in ("vfat", "msdos", "exfat"):
        largest = "4 GiB" if mount.type == "vfat" else "2 GiB"
        if mount.type == "exfat" or facts.total_memory < 4 * GIB:
            return fine(
                f"{mount.point} is {mount.type}; a dump of {size_text(facts.total_memory)} fits a file"
            )
        return wrong(
            f"files on {mount.type} have less than {largest}: a dump may not fit into one",
            f"{mount.source} on {mount.point}",
            remedy="use another file system, or makedumpfile --split",
        )
    return fine(f"{mount.source} on {mount.point} ({mount.type})")


_VOLATILE = ("tmpfs", "ramfs", "overlay", "squashfs", "devtmpfs", "rootfs")


def _lasting(facts: Facts) -> Judgement:
    settings = facts.settings
    if settings is None:
        return unknown(facts.unconfigured)
    if facts.mounts is None:
        return unknown("no /proc/self/mounts")
    mount = _mount(facts)
    if settings.target.kind is TargetKind.LOCAL:
        if mount is not None and mount.type in _VOLATILE:
            return wrong(
                "dumps would go to a file system that is gone, or another one, in the capture system",
                f"{settings.path} is on {mount.type}, mounted on {mount.point}",
                remedy="use a path on a disk, or name a target",
            )
        return fine(f"{settings.path} is on {mount.source if mount else 'the root file system'}")
    if mount is None or settings.target.kind is not TargetKind.FILESYSTEM:
        return fine("the target is no file system mounted here")
    folder = mount.point.rstrip("/") + settings.path
    hiding = facts.mount_of(folder)
    if hiding is None or hiding == mount:
        return fine(f"{folder} is on {mount.source}")
    return wrong(
        "another file system is mounted over the folder: dumps would land below it, where nobody sees them",
        f"{hiding.source} on {hiding.point}",
        f"{mount.source} on {mount.point}",
        remedy="name the file system that is mounted there as the target, or change path",
    )


_UNSTABLE = re.compile(
    r"/dev/(?:sd[a-z]+\d*|vd[a-z]+\d*|xvd[a-z]+\d*|hd[a-z]+\d*|nvme\d+n\d+(?:p\d+)?|mmcblk\d+(?:p\d+)?|dm-\d+)"
)


def _stable_name(facts: Facts) -> Judgement:
    if facts.settings is None:
        return unknown(facts.unconfigured)
    target = facts.settings.target
    if target.kind not in (TargetKind.FILESYSTEM, TargetKind.RAW, TargetKind.DRACUT):
        return fine("the target is no device")
    if not _UNSTABLE.fullmatch(target.address):
        return fine(target.address)
    return wrong(
        "the target's device may have another name in the capture system",
        str(target),
        remedy="name it by UUID= or LABEL=, or by /dev/disk/by-id",
    )


_POOL_IS_FULL = r"device-mapper: thin: .*switching pool to (?:out-of-data-space|read-only|fail)"


def _thin_pool(facts: Facts) -> Judgement:
    found = ended_with(facts, "S9")
    if found is not None:
        return found
    if facts.settings is None:
        return unknown(facts.unconfigured)
    mount = _mount(facts)
    pools = list(_pools(facts, mount.source)) if mount is not None else []
    if not pools:
        return unknown("no /proc/self/mounts") if facts.mounts is None else fine("no thin pool is below it")
    line = facts.log_line(_POOL_IS_FULL)
    if line is None:
        return unknown(
            f"how full the thin pool {pools[0]} is cannot be seen from here (lvs -o +data_percent)"
        )
    return wrong(
        "the thin pool below the target's file system is full, whatever room the file system shows",
        line,
        remedy="extend the pool (lvextend), or let dumps go to a volume that is not thin",
    )


def _pools(facts: Facts, device: str) -> Iterator[str]:
    """Yield the kernel names of thin pools directly below a device-mapper device."""
    root = facts.machine.root
    for name in root.names("sys/block"):
        if not name.startswith("dm-") or device not in (
            f"/dev/{name}",
            f"/dev/mapper/{facts.text(f'sys/block/{name}/dm/name')}",
        ):
            continue
        for below in root.names(f"sys/block/{name}/slaves"):
            if (facts.text(f"sys/block/{name}/slaves/{below}/dm/uuid") or "").endswith("-tpool"):
                yield below


_STATUS = "var/lib/kdump/vmcore-creation.status"


def _last_dump(facts: Facts) -> Judgement:
    """Judge the last capture by what kdump-utils leaves for the next boot: success or fail, and when."""
    status = facts.text(_STATUS)
    if status is None:
        return unknown(f"no /{_STATUS}: nothing was left to tell of an earlier dump")
    if status.startswith("success"):
        return fine(f"/{_STATUS}: {status[:100]}")
    if not status.startswith("fail"):
        return unknown(f"/{_STATUS} says neither success nor fail: {status[:100]}")
    return wrong(
        "the last crash left no dump, and that may have gone unnoticed",
        f"/{_STATUS}: {status[:100]}",
        remedy="look at kexec-dmesg.log beside the dumps, and test again: pykdump test",
    )


def _file_system(facts: Facts) -> Judgement:
    found = ended_with(facts, "S15")
    if found is not None:
        return found
    if facts.ending is not None and facts.ending.stage is Reached.SAVED:
        return seen(facts, "S15")
    return starting.file_system(facts)


def _device_appears(facts: Facts) -> Judgement:
    return seen(facts, "S7")


def _readable(facts: Facts) -> Judgement:
    return seen(facts, "S10")


def _failure_shows(facts: Facts) -> Judgement:
    ending = facts.ending
    if ending is None:
        return unknown("no console log of a crash was given")
    if facts.settings is None:
        return unknown(facts.unconfigured)
    early = (Reached.NO_CRASH, Reached.NOT_LOADED, Reached.NO_SECOND_KERNEL, Reached.SAVED)
    if (
        ending.stage in early
        or facts.settings.failure_action is not Action.REBOOT
        or facts.settings.failure_command
    ):
        return fine("no failure was hidden by a reboot")
    return wrong(
        "the capture failed, and the machine rebooted at once: little is left to find out why",
        f"{ending.stage.value}: {ending.cause}",
        remedy="for the time being: failure_action shell, KDUMP_CONTINUE_ON_ERROR=false, or KDUMP_FAIL_CMD",
    )


def _iscsi(facts: Facts) -> Judgement:
    found = ended_with(facts, "S12")
    if found is not None:
        return found
    if facts.settings is None:
        return unknown(facts.unconfigured)
    sessions = facts.machine.root.names("sys/class/iscsi_session")
    booted = [word for word in facts.words if word.startswith(("netroot=iscsi", "rd.iscsi.", "iscsi_"))]
    if facts.settings.target.kind is not TargetKind.LOCAL or not (sessions or booted):
        return fine("dumps do not go to this system's iSCSI disk")
    if sessions and starting.image_is_ours(facts):
        return fine(
            "pykdump's capture system begins the session again that the running system has", *sessions
        )
    return wrong(
        "dumps may go to a disk behind iSCSI, whose session the capture system has to bring up again",
        *(booted or sessions),
        remedy="use a target of its own (nfs, ssh), and test it with a crash",
    )


def _saved(facts: Facts) -> Judgement:
    if facts.ending is not None and facts.ending.stage is Reached.SAVED:
        return fine(*(f"line {line.number}: {line.text[:200]}" for line in facts.ending.evidence))
    return seen(facts, "S14")


CHECKS = (
    Check(
        "S1",
        Stage.TARGET,
        "the ssh server lets the capture system in",
        _ssh,
        looks_at="The ssh key, its passphrase, the server's host key, and a crash's console log.",
        matters="Nobody can answer ssh's questions after a crash.",
        mend="Make a key without a passphrase, bring it to the server, and log in once as root with it.",
    ),
    Check(
        "S2",
        Stage.TARGET,
        "the NFS server is found",
        _nfs,
        looks_at="The NFS server's name, and a crash's console log.",
        matters="The capture system may have no way to look up a short name.",
        mend="Write the server's address or its whole name, and let root write there (no_root_squash).",
    ),
    Check(
        "S3",
        Stage.TARGET,
        "there is room for the dump",
        _space,
        looks_at="What is free where dumps go, and how large a dump is likely to be.",
        matters="A dump that does not fit is not whole.",
        mend="Make room, leave out more pages (-d 31), keep fewer dumps, or choose another target.",
    ),
    Check(
        "S4",
        Stage.TARGET,
        "the file system takes large files",
        _filesystem,
        looks_at="The type of the target's file system.",
        matters="A file on FAT has less than 4 GiB.",
        mend="Choose another file system, or let makedumpfile split the dump (--split).",
    ),
    Check(
        "S5",
        Stage.TARGET,
        "the dump stays, and can be found",
        _lasting,
        looks_at="The file system that path is on, and what is mounted over it.",
        matters="What is written to memory is gone at the next boot; what another file system covers nobody"
        " sees.",
        mend="Choose a path on a disk, or name the file system as the target.",
    ),
    Check(
        "S6",
        Stage.TARGET,
        "the device keeps its name",
        _stable_name,
        looks_at="How the configuration names the target's device.",
        matters="Kernel names such as sda may be given in another order in the capture system.",
        mend="Name it by UUID=, LABEL= or /dev/disk/by-id.",
    ),
    Check(
        "S7",
        Stage.TARGET,
        "the device appears in the capture system",
        _device_appears,
        looks_at="A crash's console log.",
        matters="A device whose driver is not in the image, or which comes too late, takes no dump.",
        mend="Build the image with the driver that the finding names, and test again.",
    ),
    Check(
        "S9",
        Stage.TARGET,
        "no thin pool runs full",
        _thin_pool,
        looks_at="Whether the target is on a thin pool, and the kernel's log.",
        matters="A file system may show room that the pool below it does not have.",
        mend="Extend the pool (lvextend), or let dumps go to a volume that is not thin.",
    ),
    Check(
        "S10",
        Stage.TARGET,
        "the dump can be read",
        _readable,
        looks_at="A crash's console log.",
        matters="A dump whose headers are wrong cannot be read.",
        mend="Load again, after each change of memory, too; try the other system call (-c or -s).",
    ),
    Check(
        "S11",
        Stage.TARGET,
        "a failure can be seen",
        _failure_shows,
        looks_at="A crash's console log, failure_action, and their like.",
        matters="A machine that reboots at once after a failed capture leaves little to find out why.",
        mend="For the time being: failure_action shell, KDUMP_CONTINUE_ON_ERROR=false, or KDUMP_FAIL_CMD.",
    ),
    Check(
        "S12",
        Stage.TARGET,
        "no iSCSI session is needed",
        _iscsi,
        looks_at="iSCSI sessions, netroot= and the like, and a crash's console log.",
        matters="The capture system has to bring the session up again to reach such a disk.",
        mend="Choose a target of its own (nfs, ssh), and test it: pykdump test.",
    ),
    Check(
        "S13",
        Stage.TARGET,
        "the last dump did not fail unnoticed",
        _last_dump,
        looks_at="/var/lib/kdump/vmcore-creation.status, which kdump-utils leaves after a capture.",
        matters="A capture that failed is easily overlooked once the machine runs again.",
        mend="Look at kexec-dmesg.log beside the dumps, and test again: pykdump test.",
    ),
    Check(
        "S14",
        Stage.TARGET,
        "the dump was written",
        _saved,
        looks_at="A crash's console log.",
        matters="A program or a disk that fails while the dump is written leaves none, or half of one.",
        mend="See the lines before it; failure_action shell lets you try by hand.",
    ),
    Check(
        "S15",
        Stage.TARGET,
        "the file system can be mounted and written to",
        _file_system,
        looks_at="The type of the target's file system, and a crash's console log.",
        matters="The capture system has to mount it, with the drivers and programs that its image has.",
        mend="Let dumps go to ext4, XFS or btrfs, or to another machine; check a damaged one (fsck).",
    ),
)

"""Checks of the load: whether a crash kernel could be loaded."""

from __future__ import annotations

import re

from pykexec.arch import for_machine
from pykexec.booting.kernel import identify, inspect
from pykexec.errors import ImageError, PykexecError
from pykexec.formats import identify as formats
from pykexec.formats import unwrap
from pykexec.kdump.capture.layers import DEPTH_MAX
from pykexec.kdump.config.names import HAND_OVER_KEYS
from pykexec.kdump.doctor import commands, starting
from pykexec.kdump.doctor.capture import ended_with
from pykexec.kdump.doctor.facts import Facts
from pykexec.kdump.doctor.finding import Check, Judgement, Stage, fine, said, unknown, wrong
from pykexec.kdump.doctor.part import of_architecture
from pykexec.kdump.doctor.reservation import more
from pykexec.kdump.reservation.crashkernel import size_text
from pykexec.kdump.reservation.sizing import kernel_memory
from pykexec.kexec_file import VOLUME_KEYS
from pykexec.memory import MIB, align_up

_FILES_UNKNOWN = "the kernel or the initramfs to be loaded is not known"
_BESIDES = 2 * MIB  # purgatory, boot parameters, page tables, ELF core headers


def _fits(facts: Facts) -> Judgement:
    kernel, initrd = facts.kernel_file, facts.initrd_file
    regions = facts.machine.crash_regions
    if kernel is None or initrd is None:
        return unknown(_FILES_UNKNOWN)
    if not regions:
        return unknown("nothing is reserved")
    needed = kernel_memory(kernel, facts.loads_for) + initrd.size + _BESIDES
    room = max(region.size for region in regions)
    evidence = f"kernel and initramfs take {-(-needed // MIB)}M, the reservation has {size_text(room)}"
    if needed <= room:
        return fine(evidence)
    enough = max(facts.estimate.recommended if facts.estimate else 0, align_up(needed, 16 * MIB))
    remedy, command = more(facts, enough)
    return wrong(
        f"kernel and initramfs do not fit the reservation: {-(-(needed - room) // MIB)}M are missing",
        evidence,
        remedy=remedy,
        command=command,
    )


def _format(facts: Facts) -> Judgement:
    if facts.kernel_file is None:
        return unknown(_FILES_UNKNOWN)
    try:
        file, wrappings = unwrap(facts.kernel_file)
    except ImageError as error:
        return wrong("the kernel cannot be unpacked", *said(error), remedy="install it again")
    shown = f"{file.path}: {formats.describe(file.data)}"
    shown += f", packed as {wrappings}" if wrappings else ""
    arch = facts.loads_for
    if arch is None:
        return unknown(f"{shown}; what kernels {facts.arch} has is not known")
    try:
        told = identify(file, arch)
    except ImageError as error:
        return wrong("the kernel is damaged", *said(error), remedy="install it again")
    if told is None:
        return wrong("the file is no kernel that can be loaded", shown, remedy="take /boot/vmlinuz-VERSION")
    if told.arch != arch.name:
        return wrong(
            "the kernel is for another architecture", shown, facts.arch, remedy="take this machine's"
        )
    return fine(shown)


_LOADERS_SHARE = 64  # bytes for elfcorehdr=, which loaders add


def _line_length(facts: Facts) -> Judgement:
    line = facts.capture_text
    if line is None:
        return unknown(facts.unconfigured)
    arch = facts.loads_for
    if arch is None:
        return unknown(f"how long a command line kernels for {facts.arch} take is not known")
    if facts.kernel_file is None:
        return unknown(_FILES_UNKNOWN)
    kernel, _ = unwrap(facts.kernel_file)
    told = inspect(kernel, arch)
    if told is None or told.line_limit is None:
        return unknown(f"how long a command line {kernel.path} takes is not known")
    limit = told.line_limit
    evidence = f"{len(line)} characters of {limit}"
    if len(line) + _LOADERS_SHARE <= limit:
        return fine(evidence)
    return wrong(
        "the capture kernel's command line is too long: its end would be cut, or the load refused",
        evidence,
        remedy="take away what the capture kernel does not need (KDUMP_COMMANDLINE_REMOVE)",
    )


def _memory(facts: Facts) -> Judgement:
    found = re.search(r"^MemAvailable:\s+(\d{1,15}) kB", facts.text("proc/meminfo") or "", re.M)
    if found is None:
        return unknown("no /proc/meminfo")
    if facts.kernel_file is None or facts.initrd_file is None:
        return unknown(_FILES_UNKNOWN)
    available, payload = int(found[1]) << 10, facts.kernel_file.size + facts.initrd_file.size
    evidence = f"{available // MIB}M are available, kernel and initramfs have {-(-payload // MIB)}M"
    # A load has the files and their unpacked form in memory at the same time.
    if available >= 2 * payload:
        return fine(evidence)
    return wrong(
        "there is not enough free memory to load them",
        evidence,
        remedy="stop something, or shrink the initramfs",
    )


# certs, crypto/asymmetric_keys/verify_pefile.c, kernel/kexec_file.c
_SIGNATURE = (
    r"kexec.*signature verification failed|Enforced kernel signature verification failed|"
    r"PEFILE: (?:Unsigned PE binary|Digest mismatch)|kernel signature verification failed"
)


def _signature(facts: Facts) -> Judgement:
    if facts.log is None:
        return unknown("the kernel's log is not known")
    line = facts.log_line(_SIGNATURE)
    if line is None:
        return fine("the kernel's log shows no refused signature")
    return wrong(
        "the kernel refused a signature: missing, damaged, or by a key it does not trust",
        line,
        remedy="take the distribution's signed kernel as it is, not unpacked; or enrol its key (mokutil)",
    )


def _kcore(facts: Facts) -> Judgement:
    if facts.machine.root.open("proc/kcore") is None:
        if facts.system_call == "file":
            return fine("-s is configured: the kernel makes the core headers itself")
        if facts.config_error is not None:
            return unknown(facts.unconfigured)
        if not facts.places.are_known:
            return unknown("/proc/kcore is not in the snapshot")
        return wrong(
            "the core headers cannot be made: nothing tells where the kernel is mapped",
            "no /proc/kcore",
            remedy="load with -s, or take a kernel with CONFIG_PROC_KCORE",
        )
    mapped = [segment for segment in facts.machine.kcore.segments if segment.physical is not None]
    return fine(f"/proc/kcore maps {len(mapped)} ranges of memory")


_RELOADS = re.compile(r"kdump|kexec")


def _hotplug(facts: Facts) -> Judgement:
    if facts.number("sys/devices/system/cpu/crash_hotplug") == 1:
        return fine("the kernel keeps the loaded headers up to date (crash_hotplug = 1)")
    for folder in ("etc/udev/rules.d", "lib/udev/rules.d", "usr/lib/udev/rules.d"):
        rules = [name for name in facts.machine.root.names(folder) if _RELOADS.search(name)]
        if rules:
            return fine(f"udev reloads: /{folder}/{rules[0]}")
    if not facts.places.are_known:
        return unknown("whether udev has a rule to reload is not in the snapshot")
    return wrong(
        "nothing loads the crash kernel again when CPUs or memory are plugged: the dump would miss them",
        "crash_hotplug is not 1, and there is no udev rule for kdump",
        remedy="load with --hotplug (Linux 6.10), or install the udev rule of the kdump service",
    )


def _encrypted(facts: Facts) -> Judgement:
    found = ended_with(facts, "L13")
    if found is not None:
        return found
    name = encrypted_target(facts)
    if name is None:
        return not_encrypted(facts)
    handed, why = key_is_handed_over(facts)
    if handed:
        return fine(f"{name} is encrypted; {why}")
    return wrong(
        "the dump's file system is encrypted, and the capture system would ask for a passphrase",
        f"{name} is a dm-crypt device",
        why,
        remedy="dump to a file system that is not encrypted, or over the network; with an image of pykdump's"
        " own: have its key in root's keyring where the kernel hands keys over (pykdump start says how), or"
        f" {HAND_OVER_KEYS}=yes",
    )


def key_is_handed_over(facts: Facts) -> tuple[bool, str]:
    """Return whether the loaded kernel got the keys of encrypted volumes, and the reason for that answer.

    pykdump start has the kernel do that, or puts them into its own image in memory, or refuses. Otherwise
    kexec_file_load passes on those that configfs names at that time (kernel/crash_dump_dm_crypt.c).
    """
    if facts.loaded is not None and facts.loaded.keys and facts.machine.kexec_state.crash_loaded:
        return True, "the kernel hands its key over, as pykdump start has told it (crash_dm_crypt_keys)"
    if facts.settings is not None and facts.settings.hand_over_keys and starting.image_is_ours(facts):
        return True, f"pykdump start puts its key into the capture image in memory ({HAND_OVER_KEYS})"
    if not facts.machine.root.names(VOLUME_KEYS):
        return False, "the kernel hands no keys over (no crash_dm_crypt_keys)"
    count = facts.number(f"{VOLUME_KEYS}/count")
    if not count:
        return False, f"crash_dm_crypt_keys/count = {count or 0}: no key is to be handed over"
    if not facts.machine.kexec_state.crash_loaded:
        return False, "nothing is loaded: keys are handed over when it is"
    if facts.loaded is None or facts.loaded.system_call != "kexec_file_load":
        how = "by kexec_load" if facts.loaded else "nobody knows how: there is no receipt"
        return False, f"keys are handed over by kexec_file_load only; what is loaded was loaded {how}"
    return True, f"{count} keys were handed over (crash_dm_crypt_keys)"


def not_encrypted(facts: Facts) -> Judgement:
    """Judge a target where `encrypted_target` found no encryption."""
    if facts.settings is None:
        return unknown(facts.unconfigured)
    if facts.mounts is None:
        return unknown("where dumps go is not known: no /proc/self/mounts")
    return fine("the target is not encrypted")


def encrypted_target(facts: Facts) -> str | None:
    """Return the dm-crypt device that local dumps go to; None where they go to none."""
    if facts.settings is None or facts.settings.target.is_remote:
        return None
    mount = facts.mount_below_overlays(facts.settings.path)
    mapped = [each for each in facts.machine.root.names("sys/block") if each.startswith("dm-")]
    for device in mapped:
        name = facts.text(f"sys/block/{device}/dm/name")
        if mount and mount.source in (f"/dev/mapper/{name}", f"/dev/{device}"):
            return _encrypted_below(facts, device, DEPTH_MAX)
    return None


def _encrypted_below(facts: Facts, device: str, depth: int) -> str | None:
    """Return the dm-crypt device that a device of the device mapper is, or is built on."""
    if (facts.text(f"sys/block/{device}/dm/uuid") or "").startswith("CRYPT-"):
        return facts.text(f"sys/block/{device}/dm/name") or device
    parts = facts.machine.root.names(f"sys/block/{device}/slaves") if depth else []
    found = (_encrypted_below(facts, each, depth - 1) for each in parts if each.startswith("dm-"))
    return next(filter(None, found), None)


def _not_written(facts: Facts) -> Judgement:
    """Judge whether the files are being written: such ones are refused.

    Error ETXTBSY; fs/exec.c, deny_write_access().
    """
    paths = [path for path in (facts.kernel_path, facts.initrd_path) if path]
    if not facts.places.can_be_read or not any(facts.places.size(path) is not None for path in paths):
        return unknown(_FILES_UNKNOWN)
    writer = facts.places.writer(*paths)
    if writer:
        return wrong(
            "a file to be loaded is being written: kexec_file_load would refuse it (ETXTBSY)",
            writer,
            remedy="wait until the package manager or image builder is done, and load again",
            command=commands.START,
        )
    return fine(f"nobody writes to {', '.join(paths)}")


def _plan(facts: Facts) -> Judgement:
    """Judge a plan for kexec_load, made as far as the system call."""
    kernel, initrd, line = facts.kernel_file, facts.initrd_file, facts.capture_text
    if kernel is None or initrd is None or line is None:
        return unknown(_FILES_UNKNOWN)
    if not facts.machine.crash_regions:
        return unknown("nothing is reserved")
    for_machine(facts.machine)  # a missing loader is not a lack of room
    from pykexec.loader import plan_load
    from pykexec.plan import Request
    from pykexec.purpose import Purpose

    request = Request(kernel, initrd=initrd, purpose=Purpose.CRASH, append=line)
    try:
        plan = plan_load(facts.machine, request)
    except PykexecError as error:
        return wrong(
            "no place was found for all that has to be loaded",
            *said(error),
            remedy="see where there is room: pykexec -p --dry-run",
        )
    return fine(*(f"{segment.name}: {segment.range}" for segment in plan.segments))


_CPUS_LEAVE = of_architecture("L2", "whether CPUs of {arch} can be stopped is not known")


CHECKS = (
    Check(
        "L1",
        Stage.LOAD,
        "kernel and initramfs fit the reservation",
        _fits,
        looks_at="The sizes of kernel, image and reservation.",
        matters="Both are loaded into the reservation, and the kernel refuses what does not fit.",
        mend="Reserve more (pykdump estimate says how much), or make the image smaller.",
    ),
    Check(
        "L2",
        Stage.LOAD,
        "CPUs can be stopped",
        _CPUS_LEAVE,
        looks_at="How the firmware starts and stops CPUs, where that differs between machines.",
        matters="A kernel that cannot stop the other CPUs cannot hand the machine over to another kernel.",
        mend="Take newer firmware, or use one CPU (nr_cpus=1); a reboot through the firmware works in any"
        " case.",
    ),
    Check(
        "L4",
        Stage.LOAD,
        "the kernel is one, and for this machine",
        _format,
        looks_at="The kernel's file: its format, and the architecture that it is for.",
        matters="A file that is damaged, no kernel, or another architecture's is refused, or does not"
        " start.",
        mend="Install the kernel's package again, or name /boot/vmlinuz-VERSION.",
    ),
    Check(
        "L5",
        Stage.LOAD,
        "the command line is short enough",
        _line_length,
        looks_at="The length of the capture kernel's command line, and what that kernel takes.",
        matters="A line that is too long is refused, or loses its end.",
        mend="Take away what the capture kernel does not need (KDUMP_COMMANDLINE_REMOVE).",
    ),
    Check(
        "L6",
        Stage.LOAD,
        "there is memory to load with",
        _memory,
        looks_at="MemAvailable in /proc/meminfo, and the sizes of kernel and image.",
        matters="A load has the files and what is made of them in memory at the same time.",
        mend="Stop something that takes memory, or make the image smaller.",
    ),
    Check(
        "L7",
        Stage.LOAD,
        "no signature was refused",
        _signature,
        looks_at="The kernel's log, for a signature that was refused.",
        matters="With Secure Boot, and where the kernel enforces signatures, only what a known key has"
        " signed is loaded.",
        mend="Take the distribution's signed kernel as it is, not unpacked, or enrol its key (mokutil).",
    ),
    Check(
        "L8",
        Stage.LOAD,
        "no file to be loaded is being written",
        _not_written,
        looks_at="The processes that have kernel or image open for writing.",
        matters="kexec_file_load refuses such a file (ETXTBSY), and half an image would be of no use.",
        mend="Wait for the package manager or the image builder, then load again: pykdump start.",
    ),
    Check(
        "L10",
        Stage.LOAD,
        "all that has to be loaded finds a place",
        _plan,
        looks_at="A plan for kexec_load, as pykexec -p --dry-run makes it.",
        matters="Kernel, image, parameters and core headers each need a place in the reservation, some at"
        " certain addresses only.",
        mend="See where there is room (pykexec -p --dry-run); reserve more, or elsewhere.",
    ),
    Check(
        "L11",
        Stage.LOAD,
        "core headers can be made",
        _kcore,
        looks_at="/proc/kcore, and the kexec arguments.",
        matters="The dump's headers say where the kernel was mapped, which kexec_load can only learn there.",
        mend="Add -s to the kexec arguments (the kernel then makes the headers itself), or take one with"
        " CONFIG_PROC_KCORE.",
    ),
    Check(
        "L12",
        Stage.LOAD,
        "plugged CPUs and memory are followed",
        _hotplug,
        looks_at="/sys/devices/system/cpu/crash_hotplug, and udev's rules for kdump.",
        matters="The headers list memory and CPUs as they were at the load: what is plugged in later is"
        " missing in the dump.",
        mend="pykdump install brings a udev rule that loads again; from Linux 6.10 on --hotplug lets the"
        " kernel do it.",
    ),
    Check(
        "L13",
        Stage.LOAD,
        "the target can be unlocked",
        _encrypted,
        looks_at="Whether dumps go to a device of dm-crypt, and whether the kernel hands its keys over"
        " (crash_dm_crypt_keys).",
        matters="After a crash nobody is there to enter a passphrase, so the file system stays closed.",
        mend="Let dumps go to a file system that is not encrypted, or over the network; or take pykdump's"
        f" own image, and let the kernel hand the key over, or {HAND_OVER_KEYS}=yes.",
    ),
)

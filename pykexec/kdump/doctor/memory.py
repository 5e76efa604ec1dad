"""Checks of memory in the capture kernel: what it wastes, and what it was seen to run out of."""

from __future__ import annotations

import re
from dataclasses import replace

from pykexec.errors import PykexecError
from pykexec.kdump.config.capture_line import limit_of_cpus
from pykexec.kdump.doctor.capture import ended_with
from pykexec.kdump.doctor.facts import Facts
from pykexec.kdump.doctor.finding import Check, Judgement, Stage, fine, unknown, wrong
from pykexec.kdump.doctor.load import encrypted_target, key_is_handed_over, not_encrypted
from pykexec.kdump.doctor.reservation import with_low
from pykexec.kdump.reservation.crashkernel import size_text
from pykexec.kdump.reservation.sizing import unpacked
from pykexec.memory import GIB, MIB
from pykexec.parameters import name_of

_APPEND = "append it: KDUMP_COMMANDLINE_APPEND, KDUMP_CMDLINE_APPEND"


def _cpus(facts: Facts) -> Judgement:
    found = ended_with(facts, "O1")
    if found is not None:
        return found
    if facts.capture_words is None:
        return unknown(facts.unconfigured)
    limits = [word for word in facts.capture_words if re.fullmatch(r"(?:nr_cpus|maxcpus)=\d+|nosmp", word)]
    online = len(facts.machine.cpu_notes)
    if limits or online <= 2:
        return fine(*limits, f"{online} CPUs")
    return wrong(
        "the capture kernel uses all CPUs: each takes memory of its own",
        f"{online} CPUs, and no nr_cpus=",
        remedy="append nr_cpus=1",
    )


_LOW_LEAST = 64 * MIB  # swiotlb's default size (include/linux/swiotlb.h)


def _low_memory(facts: Facts) -> Judgement:
    found = ended_with(facts, "O2")
    if found is not None:
        return replace(found, remedy=_more_low(facts))
    # mm/page_alloc.c, warn_alloc()
    pattern = r"page allocation failure: .*(?:GFP_DMA|GFP_DMA32)"
    line = facts.console.find(pattern, facts.console.capture) if facts.console else None
    if line is not None:
        cause = "a driver in the capture kernel found no memory for DMA"
        return wrong(cause, line.text, remedy=_more_low(facts))
    regions = facts.machine.crash_regions
    low = [region for region in regions if region.start < 4 * GIB]
    if not regions:
        return unknown("nothing is reserved")
    if not facts.part.has_low_memory:
        return unknown(facts.no_low_memory)
    if len(regions) == 1:
        return fine(f"all of the reservation is in one place: {regions[0]}")
    size = sum(region.size for region in low)
    if size >= _LOW_LEAST:
        return fine(f"{size_text(size)} below 4G")
    return wrong(
        "there is little memory below 4G for DMA in the capture kernel",
        f"{size_text(size)} below 4G",
        remedy=_more_low(facts),
    )


def _more_low(facts: Facts) -> str:
    """Return the remedy: the next of the usual sizes above the present one."""
    try:
        low = sum(each.size for each in facts.machine.crash_regions[:-1] if each.start < 4 * GIB)
        more = with_low(facts, next((size for size in _LOW_SIZES if size > low), 2 * low))
    except PykexecError:
        more = ""
    return f"reserve more below 4G: {more}" if more else "reserve more, below 4G"


_LOW_SIZES = (256 * MIB, 512 * MIB)


def _initramfs(facts: Facts) -> Judgement:
    found = ended_with(facts, "O3")
    if found is not None:
        return found
    if facts.initrd_file is None or facts.estimate is None:
        return unknown("the kernel or the initramfs to be loaded is not known")
    share = facts.estimate.inputs.tmpfs_percent
    files = unpacked(facts.initrd_file, facts.machine.page_size).contents
    # The share does not count the kernel itself, or the memory map (which is small).
    room = (facts.crash_size - facts.estimate.inputs.kernel) * share // 100
    evidence = f"{-(-files // MIB)}M unpacked; {share} % of memory are {max(room, 0) // MIB}M"
    if files <= room:
        return fine(evidence)
    return wrong(
        "the initramfs does not fit into the share of memory it may fill",
        evidence,
        remedy="a smaller initramfs (MODULES=dep, hostonly), initramfs_options=size=90%, or more memory",
    )


def _threads(facts: Facts) -> Judgement:
    found = ended_with(facts, "O4")
    if found is not None:
        return found
    if facts.settings is None:
        return unknown(facts.unconfigured)
    threads = facts.settings.collector.threads
    cpus = limit_of_cpus(facts.capture_words or ())
    if threads <= 1 or cpus is None or threads <= cpus:
        return fine(f"makedumpfile uses {threads or 1} threads")
    return wrong(
        "makedumpfile is to use more threads than the capture kernel has CPUs: they only take memory",
        f"--num-threads {threads}, {cpus} CPUs",
        remedy="take --num-threads away, or raise nr_cpus= and crashkernel=",
    )


_ARGON2_DEFAULT = 1 * GIB  # cryptsetup(8): the most memory a new LUKS2 key slot asks for


def _luks(facts: Facts) -> Judgement:
    found = ended_with(facts, "O5")
    if found is not None:
        return found
    name = encrypted_target(facts)
    if name is None:
        return not_encrypted(facts)
    handed, why = key_is_handed_over(facts)
    if handed:
        return fine(f"no key has to be derived: {why}")
    if facts.crash_size >= _ARGON2_DEFAULT + 256 * MIB:
        return fine(f"{size_text(facts.crash_size)} are reserved")
    return wrong(
        "unlocking the target takes up to 1 GiB (argon2), which the capture kernel has not",
        f"{name} is a dm-crypt device; {size_text(facts.crash_size)} are reserved",
        why,
        remedy="add a key slot with PBKDF2 (cryptsetup luksAddKey --pbkdf pbkdf2), or dump elsewhere",
    )


_WASTEFUL = ("hugepages", "hugetlb_cma", "log_buf_len", "slub_debug", "swiotlb", "page_owner", "kasan")
_HARMLESS = ("hugetlb_cma=0", "swiotlb=noforce", "hugepages=0", "page_owner=off")


def _inherited(facts: Facts) -> Judgement:
    if facts.capture_words is None:
        return unknown(facts.unconfigured)
    found = [word for word in facts.capture_words if name_of(word) in _WASTEFUL and word not in _HARMLESS]
    if not found:
        return fine("nothing on its command line takes memory for a large machine")
    return wrong(
        "the capture kernel would set memory aside as the running one does",
        *found,
        remedy="take it away: KDUMP_COMMANDLINE_REMOVE, or override it: KDUMP_CMDLINE_APPEND",
    )


def _device_dumps(facts: Facts) -> Judgement:
    if facts.capture_words is None:
        return unknown(facts.unconfigured)
    if "novmcoredd" in facts.capture_words:
        return fine("novmcoredd")
    built = facts.kernel_config
    if built is None:
        return unknown("the kernel's configuration is not known (no /boot/config-*, no /proc/config.gz)")
    if "CONFIG_PROC_VMCORE_DEVICE_DUMP" not in built:
        return fine("CONFIG_PROC_VMCORE_DEVICE_DUMP is off")
    return wrong(
        "drivers may put dumps of their devices into the capture kernel's memory",
        "CONFIG_PROC_VMCORE_DEVICE_DUMP is on, and there is no novmcoredd",
        remedy=_APPEND,
    )


def _device_memory(facts: Facts) -> Judgement:
    """Judge whether CMA takes too much of the reservation.

    80M were seen to be enough where 112M were not, because only in the latter CMA got its 64M.
    """
    usual = None if facts.loads_for is None else facts.loads_for.cma
    if usual == 0:
        return fine(f"distributions' kernels for {facts.arch} set no CMA aside by themselves")
    given = [word for word in facts.capture_words or () if word.startswith("cma=")]
    if given:
        return fine(given[-1])
    megabytes = (facts.kernel_config or {}).get("CONFIG_CMA_SIZE_MBYTES")
    if facts.kernel_config is not None and megabytes in (None, "0"):
        return fine("the kernel sets no CMA aside")
    if usual is None and megabytes is None:
        return unknown(f"whether kernels for {facts.arch} set CMA aside is not known")
    if facts.capture_words is None:
        return unknown(facts.unconfigured)
    if facts.crash_size >= 512 * MIB or (facts.kernel_config is None and facts.crash_size >= 256 * MIB):
        return fine(f"{size_text(facts.crash_size)} are reserved")
    return wrong(
        "the capture kernel sets memory aside for devices that the kernel itself cannot use",
        f"CMA: {megabytes or (usual or 0) // MIB}M of {size_text(facts.crash_size)}",
        remedy="append cma=0",
    )


CHECKS = (
    Check(
        "O1",
        Stage.MEMORY,
        "the capture kernel has memory for its CPUs",
        _cpus,
        looks_at="nr_cpus= and maxcpus= on the capture kernel's command line, and a crash's console log.",
        matters="Each CPU takes memory of its own, and the reservation is small.",
        mend="Append nr_cpus=1.",
    ),
    Check(
        "O2",
        Stage.MEMORY,
        "it has memory for DMA",
        _low_memory,
        looks_at="How much is reserved below 4G, and a crash's console log.",
        matters="Buffers for DMA take some 64 MiB there; without them disks and network do not work.",
        mend="Reserve more below 4G: crashkernel=SIZE,low beside SIZE,high.",
    ),
    Check(
        "O3",
        Stage.MEMORY,
        "it has room for the initramfs",
        _initramfs,
        looks_at="The size of the image when it is unpacked, and the reservation.",
        matters="It may fill only a share of the memory, usually half.",
        mend="Make it smaller (MODULES=dep, hostonly), append initramfs_options=size=90% (Linux 6.18), or"
        " reserve more.",
    ),
    Check(
        "O4",
        Stage.MEMORY,
        "makedumpfile's threads fit",
        _threads,
        looks_at="makedumpfile's --num-threads, nr_cpus=, and a crash's console log.",
        matters="Threads without a CPU take memory, and save no time.",
        mend="Take --num-threads away, or raise nr_cpus= and crashkernel=.",
    ),
    Check(
        "O5",
        Stage.MEMORY,
        "it has memory to unlock the target",
        _luks,
        looks_at="Whether dumps go to a device of dm-crypt, and how much is reserved.",
        matters="To unlock it takes up to 1 GiB of memory (argon2), by design.",
        mend="Add a key slot with PBKDF2 (cryptsetup luksAddKey --pbkdf pbkdf2), or let dumps go elsewhere.",
    ),
    Check(
        "O6",
        Stage.MEMORY,
        "it inherits no large setting",
        _inherited,
        looks_at="hugepages=, log_buf_len= and the like on the capture kernel's command line.",
        matters="They set memory aside as for the running kernel, which has much more of it.",
        mend="Take them away (KDUMP_COMMANDLINE_REMOVE), or override them (KDUMP_CMDLINE_APPEND).",
    ),
    Check(
        "O7",
        Stage.MEMORY,
        "no device dumps fill it",
        _device_dumps,
        looks_at="CONFIG_PROC_VMCORE_DEVICE_DUMP, and novmcoredd on the capture kernel's command line.",
        matters="Drivers may put dumps of their devices into the capture kernel's memory.",
        mend="Append novmcoredd (KDUMP_COMMANDLINE_APPEND, KDUMP_CMDLINE_APPEND).",
    ),
    Check(
        "O8",
        Stage.MEMORY,
        "no CMA takes it away",
        _device_memory,
        looks_at="CONFIG_CMA_SIZE_MBYTES, and cma= on the capture kernel's command line.",
        matters="What is set aside for devices the capture kernel cannot use itself.",
        mend="Append cma=0.",
    ),
)

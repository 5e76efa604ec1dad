"""Checks of the running kernel: what its build or its policy does not allow."""

from __future__ import annotations

from pykexec.errors import MachineError
from pykexec.formats import magic
from pykexec.kdump.doctor import commands
from pykexec.kdump.doctor.capture import ended_with
from pykexec.kdump.doctor.facts import Facts
from pykexec.kdump.doctor.finding import Check, Judgement, Stage, fine, unknown, wrong
from pykexec.kdump.doctor.part import part_of
from pykexec.kdump.doctor.shell import run

_CAP_SYS_BOOT = 22  # include/uapi/linux/capability.h
_OTHER_KERNEL = "boot a kernel that is built with it"


def _kexec(facts: Facts) -> Judgement:
    built = facts.kernel_config
    is_shown = facts.machine.kexec_state.crash_loaded is not None
    needed = part_of(facts.arch).reserves_with if is_shown else ("CONFIG_KEXEC_CORE", "CONFIG_CRASH_DUMP")
    for option in needed:
        if built is not None and option not in built:
            return wrong(
                "the kernel is built without crash kernels", f"{option} is off", remedy=_OTHER_KERNEL
            )
    if is_shown:
        return fine("/sys/kernel/kexec_crash_loaded is there")
    if facts.machine.root.names("sys/kernel"):
        return wrong(
            "the kernel is built without crash kernels",
            "no /sys/kernel/kexec_crash_loaded",
            remedy=_OTHER_KERNEL,
        )
    return unknown("neither /sys/kernel nor the kernel's configuration is known")


def _capability(facts: Facts) -> Judgement:
    status = facts.text("proc/self/status") if facts.machine.is_live or facts.places.are_known else None
    masks = [line.split() for line in (status or "").splitlines() if line.startswith("CapEff:")]
    if not masks or len(masks[0]) != 2:
        return unknown("no /proc/self/status: nobody can say who will load the crash kernel")
    try:
        mask = int(masks[0][1], 16)
    except ValueError:
        raise MachineError("/proc/self/status: CapEff is no number") from None
    if mask >> _CAP_SYS_BOOT & 1:
        return fine(f"CapEff {masks[0][1]} has CAP_SYS_BOOT")
    return wrong(
        "CAP_SYS_BOOT is missing, as in a container",
        f"CapEff {masks[0][1]}",
        remedy="run on the host, as root",
        command=run("sudo", "pykdump", "start"),
    )


def _load_disabled(facts: Facts) -> Judgement:
    disabled = facts.machine.kexec_state.load_disabled
    if disabled is None:
        return unknown("no /proc/sys/kernel/kexec_load_disabled")
    if not disabled:
        return fine("kernel.kexec_load_disabled = 0")
    return wrong(
        "the sysctl kernel.kexec_load_disabled forbids any load until the next boot",
        "kernel.kexec_load_disabled = 1",
        remedy="find what sets it: grep -r kexec_load_disabled /etc/sysctl.d /etc/sysctl.conf; then reboot",
        command=run(*_SYSCTL_FILES, "-exec", "sed", "-i", "/kexec_load_disabled/d", "{}", "+").then(
            commands.REBOOT
        ),
    )


# sysctl.d(5)
_SYSCTL_FILES = (
    "find", "/etc", "/usr/lib", "-maxdepth", "2", "-type", "f",
    "(", "-path", "*/sysctl.d/*", "-o", "-path", "/etc/sysctl.conf", ")",
)  # fmt: skip


def _load_limit(facts: Facts) -> Judgement:
    limit = facts.machine.kexec_state.load_limit_panic
    if limit is None:
        return fine("no kernel.kexec_load_limit_panic (Linux before 6.3)")
    if limit:
        return fine(f"kernel.kexec_load_limit_panic = {limit}")
    return wrong(
        "no further crash load is allowed: each reload, also one after CPUs are plugged, has used one up",
        "kernel.kexec_load_limit_panic = 0",
        remedy="reboot; set the limit higher, or load only once",
        command=commands.REBOOT,
    )


def _lockdown(facts: Facts) -> Judgement:
    lockdown = facts.machine.kexec_state.lockdown
    if lockdown in (None, "none"):
        return fine(f"lockdown: {lockdown or 'not built in'}")
    if facts.config_error is not None:
        return unknown(facts.unconfigured)
    # kexec_file_load is tried first with -a, and without any of -s, -c and -a.
    if facts.system_call != "load":
        return fine(f"lockdown: {lockdown}, and no -c is configured")
    return wrong(
        "the kernel is locked down and takes signed kernels only, through kexec_file_load",
        f"/sys/kernel/security/lockdown: {lockdown}",
        remedy="take -c out of the kexec arguments (KEXEC_ARGS, KDUMP_KEXEC_ARGS), and load a signed kernel",
    )


def _in_log(facts: Facts, pattern: str, cause: str, remedy: str) -> Judgement:
    if facts.log is None:
        return unknown("the kernel's log is not known")
    line = facts.log_line(pattern)
    return (
        fine("the kernel's log shows no sign of it") if line is None else wrong(cause, line, remedy=remedy)
    )


def _ima(facts: Facts) -> Judgement:
    return _in_log(
        facts,
        r"ima: impossible to appraise a kernel image",  # security/integrity/ima/ima_main.c
        "the IMA policy demands a signature, which kexec_load cannot pass on",
        "add -s to the kexec arguments",
    )


def _tdx(facts: Facts) -> Judgement:
    return _in_log(
        facts,
        # arch/x86/kernel/machine_kexec_64.c, and earlier out-of-tree series
        r"(?i:kexec.*(?:tdx_pw_mce|disabled.*tdx)|tdx.*disables kexec|tdx.*kexec is disabled)",
        "kexec is off on CPUs with an erratum of TDX (tdx_pw_mce), while the firmware has TDX on",
        "turn TDX off in the firmware, or take Linux 7.2 with a TDX module that can be turned off",
    )


def _xen(facts: Facts) -> Judgement:
    if facts.text("sys/hypervisor/type") != "xen":
        return fine("no Xen")
    guest, control = facts.text("sys/hypervisor/guest_type") or "", facts.text("proc/xen/capabilities") or ""
    if "control_d" in control:
        return wrong(
            "this is Xen's dom0: the hypervisor, not this kernel, loads and starts crash kernels",
            f"/proc/xen/capabilities: {control}",
            remedy="use a kexec with Xen support there",
        )
    if guest in ("HVM", "PVH"):
        return fine(f"a Xen guest of type {guest}")
    return wrong(
        "a paravirtualised Xen guest cannot start another kernel by itself",
        f"/sys/hypervisor/guest_type: {guest or 'missing'}",
        remedy="make it an HVM or PVH guest, or dump it from outside (xl dump-core)",
    )


def _selinux(facts: Facts) -> Judgement:
    log = facts.end_of("var/log/audit/audit.log")
    if log is None:
        return unknown("no /var/log/audit/audit.log")
    for line in log.splitlines():
        if "denied" in line and any(f'comm="{name}"' in line for name in ("kexec", "pykexec", "kdumpctl")):
            return wrong(
                "SELinux has denied the loader something",
                line[:300],
                remedy="restorecon -v on the files it names, or a policy module (audit2allow)",
            )
    return fine("no denial of kexec in the audit log")


def _addresses(facts: Facts) -> Judgement:
    try:
        iomem = facts.machine.iomem
    except MachineError as error:
        if "zeros" not in error.what:
            raise
        return wrong(
            "physical addresses are hidden from this process",
            error.what,
            remedy="run as root",
            command=run("sudo", "pykdump", "start"),
        )
    if facts.sysctl("kptr_restrict") == 2 and facts.machine.root.open("proc/kcore") is None:
        return wrong(
            "kernel addresses are hidden, and there is no /proc/kcore to find them out with",
            "kernel.kptr_restrict = 2",
            remedy="sysctl kernel.kptr_restrict=1",
            command=run("sysctl", "kernel.kptr_restrict=1"),
        )
    return fine(f"/proc/iomem has {len(iomem.entries)} ranges")


def _built_with(facts: Facts, *options: str, cause: str, remedy: str) -> Judgement:
    built = facts.kernel_config
    if built is None:
        return unknown("the kernel's configuration is not known (no /boot/config-*, no /proc/config.gz)")
    off = [option for option in options if option not in built]
    if off:
        return wrong(cause, f"{', '.join(off)} off", remedy=remedy)
    return fine(", ".join(f"{option}={built[option]}" for option in options))


def _vmcore(facts: Facts) -> Judgement:
    found = ended_with(facts, "P11")
    if found is not None:
        return found
    return _built_with(
        facts,
        "CONFIG_PROC_VMCORE",
        "CONFIG_CRASH_DUMP",
        cause="as a capture kernel this one would show no /proc/vmcore",
        remedy="configure another kernel for the capture (KDUMP_KERNELVER, KDUMP_KERNEL)",
    )


def built_relocatable(facts: Facts) -> Judgement:
    """Judge the kernel by CONFIG_RELOCATABLE."""
    return _built_with(
        facts,
        "CONFIG_RELOCATABLE",
        cause="this kernel runs only where it was linked for, which is not in the reservation",
        remedy="configure another kernel for the capture",
    )


def _relocatable(facts: Facts) -> Judgement:
    own = part_of(facts.arch).checks.get("P12")
    if own is not None:
        return own(facts)
    if "CONFIG_RELOCATABLE" in (facts.kernel_config or {}):
        return built_relocatable(facts)
    return unknown(f"what kernels for {facts.arch} have to be built with to run elsewhere is not known")


def _file_load(facts: Facts) -> Judgement:
    if facts.config_error is not None:
        return unknown(facts.unconfigured)
    if facts.system_call != "file":
        return fine("-s is not configured")
    return _built_with(
        facts,
        "CONFIG_KEXEC_FILE",
        cause="-s is configured, and this kernel has no kexec_file_load",
        remedy="take -s out of KEXEC_ARGS, or write -a",
    )


# usr/Kconfig (from init/Kconfig): RD_*, for each compression that our formats know
_UNPACKS = {
    "gzip": "CONFIG_RD_GZIP",
    "bzip2": "CONFIG_RD_BZIP2",
    "lzma": "CONFIG_RD_LZMA",
    "xz": "CONFIG_RD_XZ",
    "lz4": "CONFIG_RD_LZ4",
    "zstd": "CONFIG_RD_ZSTD",
}


def _initrd_compression(facts: Facts) -> Judgement:
    if facts.initrd_file is None:
        return unknown("the capture initramfs is not known")
    name = magic.compression(facts.initrd_file.data)
    if name is None:
        return fine("the initramfs begins uncompressed")
    return _built_with(
        facts,
        _UNPACKS[name],
        cause=f"the kernel cannot unpack an initramfs compressed with {name}",
        remedy="compress it otherwise (dracut --gzip, COMPRESS= in initramfs.conf)",
    )


CHECKS = (
    Check(
        "P1",
        Stage.KERNEL,
        "the kernel can load crash kernels",
        _kexec,
        looks_at="/sys/kernel/kexec_crash_loaded, and the kernel's configuration (/boot/config-*,"
        " /proc/config.gz).",
        matters="Without CONFIG_KEXEC_CORE and CONFIG_CRASH_DUMP a kernel can neither hold nor start"
        " another one.",
        mend="Boot a kernel that is built with them, as those of most distributions are.",
    ),
    Check(
        "P2",
        Stage.KERNEL,
        "the loader is privileged",
        _capability,
        looks_at="The effective capabilities of this process (/proc/self/status).",
        matters="Loading a kernel takes CAP_SYS_BOOT, which ordinary users and most containers do not have.",
        mend="Run it as root, on the host itself.",
    ),
    Check(
        "P3",
        Stage.KERNEL,
        "loading is not disabled",
        _load_disabled,
        looks_at="The sysctl kernel.kexec_load_disabled.",
        matters="Once it is 1, nothing can be loaded or replaced before the next boot.",
        mend="Find what sets it (grep -r kexec_load_disabled /etc/sysctl.d /etc/sysctl.conf), take that"
        " away, and reboot.",
    ),
    Check(
        "P4",
        Stage.KERNEL,
        "loads are left",
        _load_limit,
        looks_at="The sysctl kernel.kexec_load_limit_panic (Linux 6.3).",
        matters="Each attempt to load or unload a crash kernel uses up one of them; at 0 none is left"
        " before the next boot.",
        mend="Reboot; then set the limit higher, or load only once.",
    ),
    Check(
        "P5",
        Stage.KERNEL,
        "lockdown allows the configured way of loading",
        _lockdown,
        looks_at="/sys/kernel/security/lockdown, and the kexec arguments of the configuration.",
        matters="A kernel that is locked down, as with Secure Boot, takes signed kernels only, and only by"
        " kexec_file_load.",
        mend="Take -c out of the arguments, so that kexec_file_load is used, and load a signed kernel.",
    ),
    Check(
        "P6",
        Stage.KERNEL,
        "IMA has not refused a load",
        _ima,
        looks_at="The kernel's log, for a kernel image that IMA could not appraise.",
        matters="A policy that demands signatures refuses kexec_load, which hands over memory and no file"
        " with a signature.",
        mend="Add -s to the kexec arguments: it loads by kexec_file_load.",
    ),
    Check(
        "P7",
        Stage.KERNEL,
        "TDX does not disable kexec",
        _tdx,
        looks_at="The kernel's log, for a kexec that is off because of TDX.",
        matters="On CPUs with a certain erratum (tdx_pw_mce) kexec is off as long as the firmware has TDX"
        " on.",
        mend="Turn TDX off in the firmware, or take a kernel and a TDX module that can turn it off.",
    ),
    Check(
        "P8",
        Stage.KERNEL,
        "no Xen in between",
        _xen,
        looks_at="/sys/hypervisor/type and guest_type, and /proc/xen/capabilities.",
        matters="In dom0 the hypervisor loads crash kernels, not Linux; a paravirtualised guest cannot"
        " start another kernel.",
        mend="Use Xen's own kexec in dom0. Make a guest HVM or PVH, or dump it from outside (xl dump-core).",
    ),
    Check(
        "P9",
        Stage.KERNEL,
        "SELinux has not denied a load",
        _selinux,
        looks_at="The audit log, for something that SELinux denied to kexec, pykexec or kdumpctl.",
        matters="A loader that may not read its files, or not make the system call, loads nothing.",
        mend="Restore the labels of the files that are named (restorecon -v), or allow it by a policy"
        " module (audit2allow).",
    ),
    Check(
        "P10",
        Stage.KERNEL,
        "addresses can be read",
        _addresses,
        looks_at="/proc/iomem, /proc/kcore, and the sysctl kernel.kptr_restrict.",
        matters="The loader has to know where memory is and where the kernel is mapped; who is not root is"
        " shown zeros.",
        mend="Run as root. Where there is no /proc/kcore, set kernel.kptr_restrict to 1.",
    ),
    Check(
        "P11",
        Stage.KERNEL,
        "the kernel can be a capture kernel",
        _vmcore,
        looks_at="The kernel's configuration, and a crash's console log.",
        matters="The capture kernel shows what is to be saved as /proc/vmcore, for which it has to be"
        " built.",
        mend="Take another kernel for the capture (KDUMP_KERNELVER), with CONFIG_PROC_VMCORE and"
        " CONFIG_CRASH_DUMP.",
    ),
    Check(
        "P12",
        Stage.KERNEL,
        "the kernel is relocatable",
        _relocatable,
        looks_at="The kernel's configuration, as far as its architecture needs it for this.",
        matters="The capture kernel runs in the reserved memory, and not at the address for which kernels"
        " are usually linked.",
        mend="Take a kernel that is built to be relocatable, or one built for the place of the reservation.",
    ),
    Check(
        "P13",
        Stage.KERNEL,
        "kexec_file_load is there where it is configured",
        _file_load,
        looks_at="The kexec arguments of the configuration, and CONFIG_KEXEC_FILE.",
        matters="With -s nothing is loaded where the kernel has no kexec_file_load.",
        mend="Take -s out of the arguments, or write -a, which tries both system calls.",
    ),
    Check(
        "P14",
        Stage.KERNEL,
        "the kernel can unpack the initramfs",
        _initrd_compression,
        looks_at="How the capture image is compressed, and what the kernel can unpack (CONFIG_RD_*).",
        matters="A kernel that cannot unpack its image has no init, and panics instead of saving a dump.",
        mend="Compress the image in another way (dracut --gzip, COMPRESS= in initramfs.conf).",
    ),
)

"""Checks of the capture kernel's start: failures seen in a crash's console log, and foreseen ones."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pykexec.kdump.config.settings import Dialect
from pykexec.kdump.console.diagnosis import Stage as Reached
from pykexec.kdump.console.diagnosis import shown
from pykexec.kdump.console.rules import RULES
from pykexec.kdump.doctor.facts import Facts
from pykexec.kdump.doctor.finding import Check, Judgement, Stage, fine, unknown, wrong
from pykexec.kdump.doctor.part import of_architecture, part_of
from pykexec.parameters import name_of

NO_CONSOLE = "no console log of a crash was given"


def ended_with(facts: Facts, finding: str) -> Judgement | None:
    """Return the judgement where a crash's console log ends with that finding; None where it does not."""
    ending = facts.ending
    if ending is None or ending.finding != finding:
        return None
    evidence = tuple(f"line {line.number}: {shown(line)}" for line in ending.evidence)
    return wrong(ending.cause, *evidence, remedy=ending.remedy)


def seen(facts: Facts, finding: str) -> Judgement:
    """Judge a fault that only a console log shows. Cannot tell where the capture did not come that far."""
    found = ended_with(facts, finding)
    if found is not None:
        return found
    if facts.ending is None:
        return unknown(NO_CONSOLE)
    if facts.ending.stage is Reached.NO_CRASH:
        return unknown(facts.ending.cause)
    order = list(Reached)
    if order.index(facts.ending.stage) <= max(map(order.index, _stages(finding))):
        return unknown(f"the console log does not go that far: {facts.ending.cause}")
    return fine("the console log shows no sign of it")


def no_sign(facts: Facts) -> Judgement:
    """Judge a fault that the console log does not show; cannot tell where there is no log."""
    return unknown(NO_CONSOLE) if facts.console is None else fine("the console log shows no sign of it")


def _stages(finding: str) -> list[Reached]:
    """Return the stages in which a finding may show."""
    stages = [rule.stage for rule in RULES if rule.finding == finding]
    return stages or [Reached.PURGATORY]  # only B3 has no rule: it ends a capture before its kernel speaks


def parameters_of(facts: Facts, names: Iterable[str]) -> list[str]:
    """Return the capture kernel's parameters that have one of these names."""
    wanted = {name.replace("-", "_") for name in names}
    return [word for word in facts.capture_words or () if name_of(word).replace("-", "_") in wanted]


def without(facts: Facts, names: Iterable[str], cause: str, remedy: str) -> Judgement:
    """Judge whether the capture kernel gets a parameter of these names, which it must not."""
    if facts.capture_words is None:
        return unknown(facts.unconfigured)
    found = parameters_of(facts, names)
    return wrong(cause, *found, remedy=remedy) if found else fine("none of them is on its command line")


TAKE_AWAY = "take it away: KDUMP_COMMANDLINE_REMOVE, or KDUMP_CMDLINE"
_APPEND = "append it: KDUMP_COMMANDLINE_APPEND, KDUMP_CMDLINE_APPEND"


def _vga(facts: Facts) -> Judgement:
    if facts.modules is None:
        return unknown("no /proc/modules")
    if "mgag200" not in facts.modules or "nomodeset" in facts.words:
        return fine("no mgag200 sets the graphics mode")
    return wrong(
        "after mgag200 has set a mode, a kernel that writes to VGA text memory while it unpacks may hang",
        "mgag200 is loaded",
        remedy="boot with nomodeset, or keep the module from loading; never load with --console-vga",
    )


def _damaged_initrd(facts: Facts) -> Judgement:
    return seen(facts, "B2")


def _damaged_memory(facts: Facts) -> Judgement:
    return seen(facts, "B3")


def _acpi(facts: Facts) -> Judgement:
    pattern = r"A valid RSDP was not found"  # drivers/acpi/acpica/tbxfroot.c
    line = facts.console.find(pattern, facts.console.capture) if facts.console else None
    if line is not None:
        return wrong(
            "the capture kernel did not find the ACPI tables: EFI's were not passed on to it",
            line.text,
            remedy="append acpi_rsdp=ADDRESS (/sys/firmware/efi/systab), and load with -s",
        )
    own = part_of(facts.arch).checks.get("B4")
    return no_sign(facts) if own is None else own(facts)


def _stale_ramdisk(facts: Facts) -> Judgement:
    return seen(facts, "B5")


def _trampoline(facts: Facts) -> Judgement:
    return seen(facts, "B6")


def _devices_reset(facts: Facts) -> Judgement:
    found = ended_with(facts, "B9")
    if found is not None:
        return found
    if facts.capture_words is None:
        return unknown(facts.unconfigured)
    if parameters_of(facts, ["reset_devices"]):
        return fine("reset_devices")
    return wrong(
        "drivers are not told to reset devices that still do what the crashed kernel told them",
        "no reset_devices on the capture kernel's command line",
        remedy=_APPEND,
    )


def _panic_on_warn(facts: Facts) -> Judgement:
    cause = "the capture kernel would panic at the first warning"
    return without(facts, ["panic_on_warn"], cause, TAKE_AWAY)


_WAITED_FOR = (
    "rd.lvm.lv",
    "rd.luks.uuid",
    "rd.dm.uuid",
    "rd.md.uuid",
    "netroot",
    "rd.iscsi.initiator",
    "resume",
)


def _root(facts: Facts) -> Judgement:
    found = ended_with(facts, "B11")
    if found is not None:
        return found
    # Debian's capture system is the ordinary one and needs its root.
    dialect = facts.settings.dialect if facts.settings else Dialect.FEDORA
    names = {
        Dialect.FEDORA: ("root", *_WAITED_FOR),
        Dialect.SUSE: _WAITED_FOR,  # openSUSE's own rules add root=kdump
        Dialect.DEBIAN: ("resume",),
    }[dialect]
    cause = "the capture system would wait for what the running one needs"
    return without(facts, names, cause, TAKE_AWAY)


def _ignition(facts: Facts) -> Judgement:
    cause = "the first boot's provisioning would run again in the capture system"
    names = ["ignition.firstboot", "flatcar.first_boot", "systemd.condition-first-boot"]
    return without(facts, names, cause, TAKE_AWAY)


_SCREEN = re.compile(r"console=(?:tty\d*|null|)(?:,.*)?")
"""Consoles on the screen, which have fixed names; drivers name other consoles as they like."""


def _console(facts: Facts) -> Judgement:
    words = facts.capture_words
    if words is None:
        return unknown(facts.unconfigured)
    consoles = [word for word in words if word.startswith("console=")]
    if not all(_SCREEN.fullmatch(word) for word in consoles):
        return fine(*consoles)
    usual = part_of(facts.arch).console
    return wrong(
        "the capture kernel has no serial console: the screen stays dark, and nothing tells what happens",
        *(consoles or ["no console= on its command line"]),
        remedy=f"append console={usual or 'with its name'}, where the machine has one",
    )


_GRAPHICS = ("nouveau", "amdgpu", "nvidia", "radeon")


def _graphics(facts: Facts) -> Judgement:
    if facts.modules is None:
        return unknown("no /proc/modules")
    loaded = [name for name in _GRAPHICS if name in facts.modules]
    arguments = " ".join(facts.settings.dracut_arguments) if facts.settings else ""
    line = " ".join(facts.capture_words or ())
    left = [
        name for name in loaded if name not in arguments and name not in line and "nomodeset" not in line
    ]
    if facts.settings is not None and facts.settings.dialect is not Dialect.FEDORA:
        left = [name for name in left if name in ("nouveau", "nvidia")]
    if left and facts.config_error is not None:
        return unknown(facts.unconfigured)
    if not left:
        return fine("no graphics driver that is known to hang after a crash")
    return wrong(
        "a graphics driver that may hang on a card which the crashed kernel used",
        *(f"{name} is loaded" for name in left),
        remedy=f"append module_blacklist={','.join(left)}, or dracut_args --omit-drivers",
    )


def _memory_encryption(facts: Facts) -> Judgement:
    if facts.log is None:
        return unknown("the kernel's log is not known")
    encryption = facts.part.encryption
    if encryption is None:
        return unknown(f"whether memory is encrypted on {facts.arch} is not known")
    active = facts.log_line(encryption)
    if active is None:
        return fine("no memory encryption is active")
    if facts.capture_words is None:
        return unknown(facts.unconfigured)
    setting = parameters_of(facts, ["mem_encrypt"])
    running = [word for word in facts.words if word.startswith("mem_encrypt=")]
    nothing = "no mem_encrypt="
    if setting == running or (setting and setting[-1].endswith("=on")):
        return fine(active, *setting)
    return wrong(
        "the capture kernel would treat encrypted memory otherwise than the crashed one",
        active,
        f"running: {' '.join(running) or nothing}; capture: {' '.join(setting) or nothing}",
        remedy="give both the same mem_encrypt=",
    )


def _network(facts: Facts) -> Judgement:
    return seen(facts, "B16")


def _came_up(facts: Facts) -> Judgement:
    return seen(facts, "B18")


_BOOT_CPU = of_architecture("B7", "whether the boot CPU matters on {arch} is not known")
_GRAVITON = of_architecture("B8", "whether irqpoll harms on {arch} is not known")
_ITS = of_architecture("B17", "what interrupt controllers {arch} has is not known")


CHECKS = (
    Check(
        "B1",
        Stage.CAPTURE,
        "VGA memory can be written to",
        _vga,
        looks_at="Whether mgag200 has set a graphics mode.",
        matters="A kernel that writes to VGA text memory while it unpacks may then hang.",
        mend="Boot with nomodeset, or keep the module from loading; never load with --console-vga.",
    ),
    Check(
        "B2",
        Stage.CAPTURE,
        "the initramfs arrived whole",
        _damaged_initrd,
        looks_at="A crash's console log.",
        matters="Without its whole image the capture kernel has no init, or programs without their"
        " libraries.",
        mend="Build the image again; load with digests checked (not -i), or with -s.",
    ),
    Check(
        "B3",
        Stage.CAPTURE,
        "the loaded kernel stayed whole",
        _damaged_memory,
        looks_at="A crash's console log: what purgatory says of the digests.",
        matters="What was changed after the load, by a device or by the crash, is not started, because it"
        " could do harm.",
        mend="Load again; if that comes back, find the device that writes there (an IOMMU helps), or"
        " reserve elsewhere.",
    ),
    Check(
        "B4",
        Stage.CAPTURE,
        "ACPI tables are found",
        _acpi,
        looks_at="A crash's console log, and how EFI's tables are passed on.",
        matters="Without the ACPI tables the capture kernel finds neither all devices nor its interrupts.",
        mend="Append acpi_rsdp=ADDRESS (/sys/firmware/efi/systab has it), and load with -s.",
    ),
    Check(
        "B5",
        Stage.CAPTURE,
        "no stale initramfs is taken for the real one",
        _stale_ramdisk,
        looks_at="A crash's console log.",
        matters="A capture kernel without an image of its own may take one that the firmware's boot stub"
        " has left.",
        mend="Load it with an image, be it an empty one.",
    ),
    Check(
        "B6",
        Stage.CAPTURE,
        "there is memory for the trampoline",
        _trampoline,
        looks_at="A crash's console log.",
        matters="Some architectures need memory below 1 MiB to start CPUs and to wake up.",
        mend="Report the memory map: pykexec --snapshot machine.tar.",
    ),
    Check(
        "B7",
        Stage.CAPTURE,
        "the boot CPU is left alone",
        _BOOT_CPU,
        looks_at="How many CPUs the capture kernel starts, and whether the boot CPU is left out.",
        matters="Where a crash happens on another CPU, starting the boot CPU again may reset the machine.",
        mend="Use one CPU (nr_cpus=1), or append what the finding names.",
    ),
    Check(
        "B8",
        Stage.CAPTURE,
        "no irqpoll on Graviton",
        _GRAVITON,
        looks_at="Whether the machine is an AWS Graviton, and irqpoll.",
        matters="irqpoll breaks hot-unplug of PCI devices there.",
        mend="Take it away (KDUMP_COMMANDLINE_REMOVE, KDUMP_CMDLINE).",
    ),
    Check(
        "B9",
        Stage.CAPTURE,
        "devices are reset",
        _devices_reset,
        looks_at="reset_devices on the capture kernel's command line, and a crash's console log.",
        matters="Devices go on with what the crashed kernel told them, unless drivers reset them.",
        mend="Append it (KDUMP_COMMANDLINE_APPEND, KDUMP_CMDLINE_APPEND).",
    ),
    Check(
        "B10",
        Stage.CAPTURE,
        "warnings do not end the capture kernel",
        _panic_on_warn,
        looks_at="panic_on_warn on the capture kernel's command line.",
        matters="After a crash warnings are likely, and the first would end the capture.",
        mend="Take it away (KDUMP_COMMANDLINE_REMOVE, KDUMP_CMDLINE).",
    ),
    Check(
        "B11",
        Stage.CAPTURE,
        "the capture system waits for nothing it does not need",
        _root,
        looks_at="root=, rd.*, resume= and the like on the capture kernel's command line, and a crash's"
        " console log.",
        matters="The capture system would wait for devices of the running one, which it does not need.",
        mend="Take them away (KDUMP_COMMANDLINE_REMOVE, KDUMP_CMDLINE).",
    ),
    Check(
        "B12",
        Stage.CAPTURE,
        "no first boot is repeated",
        _ignition,
        looks_at="Parameters of a first boot (ignition.firstboot and others) on the capture kernel's"
        " command line.",
        matters="The capture system would set the machine up anew, on the disks that are in use.",
        mend="Take them away (KDUMP_COMMANDLINE_REMOVE, KDUMP_CMDLINE).",
    ),
    Check(
        "B13",
        Stage.CAPTURE,
        "the capture kernel can be watched",
        _console,
        looks_at="console= on the capture kernel's command line.",
        matters="Where a capture stops can only be seen on a serial console: the screen usually stays dark.",
        mend="Append console= with the serial port's name, where the machine has one.",
    ),
    Check(
        "B14",
        Stage.CAPTURE,
        "no graphics driver hangs it",
        _graphics,
        looks_at="Graphics drivers that are loaded, and whether the capture system leaves them out.",
        matters="They may hang on a card that the crashed kernel used.",
        mend="Append module_blacklist=NAME, or leave them out of the image (dracut_args --omit-drivers).",
    ),
    Check(
        "B15",
        Stage.CAPTURE,
        "memory encryption is the same in both kernels",
        _memory_encryption,
        looks_at="Whether memory is encrypted, and mem_encrypt= for both kernels.",
        matters="A capture kernel that treats memory otherwise reads rubbish.",
        mend="Give both the same mem_encrypt=.",
    ),
    Check(
        "B16",
        Stage.CAPTURE,
        "the network card gets over the crash",
        _network,
        looks_at="A crash's console log.",
        matters="Some network cards do not get over the way in which the crashed kernel left them.",
        mend="Update the card's firmware, or let dumps go to a local disk.",
    ),
    Check(
        "B17",
        Stage.CAPTURE,
        "the GIC's ITS is passed on",
        _ITS,
        looks_at="The device tree, for an interrupt controller with an ITS, and whether there is EFI.",
        matters="An ITS keeps its tables where the first kernel had them; without EFI another kernel may"
        " use that memory.",
        mend="Boot through UEFI, or without an ITS. A crash kernel is not affected.",
    ),
    Check(
        "B18",
        Stage.CAPTURE,
        "the capture kernel comes up",
        _came_up,
        looks_at="A crash's console log.",
        matters="A capture kernel that crashes or hangs saves nothing.",
        mend="See what it says, and leave out the driver that is named there (dracut_args --omit-drivers).",
    ),
)

"""The doctor's checks that depend on the architecture, for arm64."""

from __future__ import annotations

from pykexec.arch.arm64.cpus import SPIN_TABLE, enable_methods
from pykexec.arch.arm64.kdump import is_graviton
from pykexec.devicetree import DeviceTree
from pykexec.kdump.doctor.capture import TAKE_AWAY, without
from pykexec.kdump.doctor.facts import Facts
from pykexec.kdump.doctor.finding import Judgement, fine, unknown, wrong
from pykexec.kdump.doctor.part import DoctorPart, always_fine


def _boot_cpu(facts: Facts) -> Judgement:
    if facts.capture_words is None:
        return unknown(facts.unconfigured)
    return fine("any CPU can start another one (PSCI)")


def _irqpoll(facts: Facts) -> Judgement:
    if not is_graviton(facts.machine):
        return fine("this is no AWS Graviton")
    return without(facts, ["irqpoll"], "irqpoll breaks hot-unplug of PCI devices on AWS Graviton", TAKE_AWAY)


def _its(facts: Facts) -> Judgement:
    """Judge plain kexec on a machine with an ITS.

    Its LPI tables cannot move once the first kernel uses them, and only EFI passes them on.
    """
    its = _its_nodes(facts)
    if its is None:
        return unknown("no device tree: whether the GIC has an ITS is not known")
    if not its or facts.machine.efi is not None:
        return fine("no GICv3 ITS" if not its else "EFI passes the ITS's tables on")
    return wrong(
        "a kernel booted with plain kexec is overwritten: the GIC's ITS keeps its tables where the first"
        " kernel had them, and without UEFI nothing tells the second one (a crash kernel is not affected)",
        *its,
        remedy="boot through UEFI firmware, or without an ITS (QEMU: its=off); no pykexec -l, -e here",
    )


_ITS = b"arm,gic-v3-its\0"


def _its_nodes(facts: Facts) -> list[str] | None:
    """Return the ITS nodes' paths; None without a device tree.

    A machine with ACPI has a tree that says nothing about its GIC.
    """
    tree = DeviceTree.running(facts.machine.root)
    if tree is None:
        return None
    return [path for path, properties in tree.nodes() if _ITS in properties.get("compatible", b"")]


def _cpus_leave(facts: Facts) -> Judgement:
    """Judge whether other CPUs can be stopped.

    arch/arm64/kernel/machine_kexec.c, machine_kexec_prepare().
    """
    line = facts.log_line(r"Can't kexec: CPUs are stuck in the kernel")
    methods = enable_methods(facts.machine)
    if line is None and not methods:
        return unknown("neither the device tree nor the kernel's log tells how CPUs are stopped")
    if line is None and SPIN_TABLE not in methods:
        return fine(*sorted(methods), "no CPU that cannot be taken offline is known of")
    return wrong(
        "the firmware has no way to stop CPUs (no PSCI): another kernel cannot be started for a reboot",
        line or f"/proc/device-tree/cpus: enable-method is {SPIN_TABLE}",
        remedy="reboot through the firmware; for crashes, boot with nr_cpus=1 or newer firmware",
    )


PART = DoctorPart(
    checks={
        "B7": _boot_cpu,
        "B8": _irqpoll,
        "B17": _its,
        "L2": _cpus_leave,
        "P12": always_fine("arm64 kernels run anywhere"),  # Documentation/arch/arm64/booting.rst
    },
    console="ttyAMA0",
    stopping_cpus="allow pseudo-NMIs (irqchip.gicv3_pseudo_nmi=1)",
)

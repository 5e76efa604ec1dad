"""The doctor's checks that depend on the architecture, for x86_64."""

from __future__ import annotations

from pykexec.arch.x86.doctor import CHECKS, CONSOLE
from pykexec.kdump.doctor.capture import no_sign
from pykexec.kdump.doctor.facts import Facts
from pykexec.kdump.doctor.finding import Judgement, fine, wrong
from pykexec.kdump.doctor.part import DoctorPart, always_fine


def _acpi(facts: Facts) -> Judgement:
    if facts.machine.efi is None or not facts.places.are_known:
        return no_sign(facts)
    if "noefi" in facts.words and not any(word.startswith("acpi_rsdp=") for word in facts.words):
        return wrong(
            "the kernel was booted with noefi: the capture kernel would not find the ACPI tables",
            "noefi",
            remedy="append acpi_rsdp=ADDRESS (/sys/firmware/efi/systab)",
        )
    return fine("EFI's tables can be passed on")


_CPUS_LEAVE = always_fine("no CPU that cannot be taken offline is known of")

PART = DoctorPart(checks={**CHECKS, "B4": _acpi, "L2": _CPUS_LEAVE}, console=CONSOLE)

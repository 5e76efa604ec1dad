"""Remedies as one line for root's shell, for the distribution that a machine has."""

from __future__ import annotations

from pykexec.kdump.doctor.facts import Facts

START = "pykdump start"

_FOLDERS = ("usr/sbin", "usr/bin", "sbin")


def reserve(facts: Facts, parameter: str) -> str:
    """Reserve with crashkernel=PARAMETER from the next boot on; "" where there is no telling how."""
    if not parameter:
        return ""
    if _has(facts, "grubby"):
        return f"grubby --update-kernel=ALL --args=crashkernel={parameter} && reboot"
    if _has(facts, "update-grub") or (not facts.places.are_known and facts.text("var/lib/dpkg/status")):
        # Behind kdump-tools.cfg, which sets one too: the last crashkernel= holds.
        line = f'GRUB_CMDLINE_LINUX_DEFAULT="$GRUB_CMDLINE_LINUX_DEFAULT crashkernel={parameter}"'
        return f"echo '{line}' > /etc/default/grub.d/pykdump.cfg && update-grub && reboot"
    return ""


def install(facts: Facts, package: str) -> str:
    """Install a package, or its newest version."""
    if _has(facts, "apt-get") or facts.text("var/lib/dpkg/status"):
        return f"apt-get install {package}"
    if _has(facts, "dnf"):
        return f"dnf install {package}"
    return f"zypper install {package}" if _has(facts, "zypper") else ""


def _has(facts: Facts, program: str) -> bool:
    return any(facts.places.size(f"/{folder}/{program}") is not None for folder in _FOLDERS)

"""What the running kernel says about kexec itself: what is loaded, and what it would refuse."""

import re
from dataclasses import dataclass

from pykexec.errors import MachineError
from pykexec.machine.root import Root
from pykexec.machine.text import read_number, read_text


@dataclass(frozen=True, slots=True)
class KexecState:
    """None stands for what this kernel does not show."""

    loaded: bool | None
    crash_loaded: bool | None
    crash_size: int | None
    """Bytes reserved for a crash kernel."""
    elfcorehdr_size: int | None
    """Bytes the kernel wants for ELF core headers it updates itself (CONFIG_CRASH_HOTPLUG)."""
    load_disabled: bool | None
    load_limit_reboot: int | None
    """How many more normal loads are allowed; -1: any number."""
    load_limit_panic: int | None
    """The same for crash loads."""
    lockdown: str | None
    """One of none, integrity, confidentiality."""


def read_kexec_state(root: Root) -> KexecState:
    """Ask now: this state changes with every load."""

    def of(new: str, old: str) -> int | None:
        # New kernels keep these files in a folder of their own.
        value = read_number(root, f"sys/kernel/kexec/{new}", 10)
        return read_number(root, f"sys/kernel/{old}", 10) if value is None else value

    def flag(value: int | None) -> bool | None:
        return None if value is None else value != 0

    return KexecState(
        loaded=flag(of("loaded", "kexec_loaded")),
        crash_loaded=flag(of("crash_loaded", "kexec_crash_loaded")),
        crash_size=of("crash_size", "kexec_crash_size"),
        elfcorehdr_size=of("crash_elfcorehdr_size", "crash_elfcorehdr_size"),
        load_disabled=flag(read_number(root, "proc/sys/kernel/kexec_load_disabled", 10)),
        load_limit_reboot=read_number(root, "proc/sys/kernel/kexec_load_limit_reboot", 10),
        load_limit_panic=read_number(root, "proc/sys/kernel/kexec_load_limit_panic", 10),
        lockdown=_lockdown(root),
    )


def _lockdown(root: Root) -> str | None:
    try:
        text = read_text(root, "sys/kernel/security/lockdown")
    except MachineError:
        return None
    chosen = re.search(r"\[(\w+)\]", text or "")
    return chosen[1] if chosen else None

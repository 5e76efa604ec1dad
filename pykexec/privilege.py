"""Check whether this process may load and start kernels at all."""

import os

from pykexec.errors import MachineError, PykexecError
from pykexec.machine import Machine

_CAP_SYS_BOOT = 22  # include/uapi/linux/capability.h
_INITIAL_UID_MAP = ["0", "0", str((1 << 32) - 1)]  # user_namespaces(7)


def may_boot(machine: Machine) -> bool:
    """Return whether this process has CAP_SYS_BOOT, and not only in a user namespace; all of kexec needs it.

    Raises MachineError for capabilities that make no sense.
    """
    capabilities = process_status(machine).get("CapEff")
    if capabilities is None:
        return os.geteuid() == 0
    owns_ids = _text(machine, "proc/self/uid_map").split() in ([], _INITIAL_UID_MAP)
    try:
        return owns_ids and bool(int(capabilities, 16) >> _CAP_SYS_BOOT & 1)
    except ValueError:
        raise MachineError(f"/proc/self/status: CapEff is no number: {capabilities[:40]!r}") from None


def require_no_xen(machine: Machine) -> None:
    """Raise PykexecError in a Xen control domain, where the hypervisor loads kernels.

    The system calls there would load a kernel that is never started.
    """
    if "control_d" in _text(machine, "proc/xen/capabilities"):
        raise PykexecError(
            "this is a Xen control domain: the hypervisor loads kernels, which pykexec cannot ask it to do",
            hint="use the kexec of kexec-tools here",
        )


def process_status(machine: Machine) -> dict[str, str]:
    """Return the fields of /proc/self/status by name."""
    lines = (line.partition(":") for line in _text(machine, "proc/self/status").splitlines())
    return {name: value.strip() for name, _, value in lines}


def _text(machine: Machine, path: str) -> str:
    """Return a file's text; "" where it cannot be read."""
    try:
        return (machine.read(path) or b"").decode("utf-8", "replace")
    except MachineError:
        return ""

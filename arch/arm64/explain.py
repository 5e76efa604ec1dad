"""Why kernels of arm64 refuse what others do not."""

from __future__ import annotations

import errno as e
from collections.abc import Iterator

from pykexec.arch.arm64.cpus import SPIN_TABLE, enable_methods
from pykexec.explain import ExplainPart
from pykexec.machine import Machine
from pykexec.purpose import Purpose


def _causes(errno: int, purpose: Purpose, machine: Machine) -> Iterator[str]:
    """arch/arm64/kernel/machine_kexec.c machine_kexec_prepare(): cpus_are_stuck_in_kernel()."""
    if errno == e.EBUSY and purpose is Purpose.BOOT and SPIN_TABLE in enable_methods(machine):
        yield (
            f"this board's firmware cannot stop CPUs (enable-method {SPIN_TABLE}), so that its kernel starts"
            " no other one; reboot it through the firmware"
        )


PART = ExplainPart(_causes)

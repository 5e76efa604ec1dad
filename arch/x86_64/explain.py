"""Why kernels of x86_64 refuse what others do not."""

from __future__ import annotations

import errno as e
from collections.abc import Iterator

from pykexec.explain import ExplainPart
from pykexec.machine import Machine
from pykexec.purpose import Purpose


def _causes(errno: int, _: Purpose, __: Machine) -> Iterator[str]:
    # arch/x86/kernel/machine_kexec_64.c machine_kexec_prepare(): an erratum of CPUs whose firmware gave keys
    # to TDX, whatever the kernel does with them. Linux 7.2 can turn the TDX module off.
    if errno == e.ENOTSUP:
        yield (
            "kexec is off on this machine, as where firmware has TDX on and the CPU has the erratum"
            " tdx_pw_mce (dmesg says why); turn TDX off in the firmware, or take Linux 7.2 or later"
        )


PART = ExplainPart(_causes)

"""Why kernels of 64-bit powerpc refuse what others do not."""

from __future__ import annotations

import errno as e
from collections.abc import Iterator

from pykexec.explain import ExplainPart
from pykexec.machine import Machine
from pykexec.purpose import Purpose


def _causes(errno: int, _: Purpose, __: Machine) -> Iterator[str]:
    """arch/powerpc/kexec/core_64.c, machine_kexec_prepare()."""
    if errno == e.ETXTBSY:
        yield (
            "a segment lies where the running kernel's own code is, or tables that devices use (TCE): leave"
            " out --mem-min, or choose a higher one"
        )


PART = ExplainPart(_causes)

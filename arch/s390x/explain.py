"""Why kernels of s390x refuse what others do not."""

from __future__ import annotations

import errno as e
from collections.abc import Iterator

from pykexec.arch.s390x import secureipl
from pykexec.explain import ExplainPart
from pykexec.machine import Machine
from pykexec.purpose import Purpose


def _causes(errno: int, _: Purpose, machine: Machine) -> Iterator[str]:
    if errno == e.EACCES and secureipl.is_on(machine):
        yield f"secure IPL demands a signed kernel, which kexec_load cannot pass on; {secureipl.REMEDY}"
    if errno == e.ENOSYS:
        # debian/config/s390x/config of Debian's kernels
        yield (
            f"the running kernel {machine.kernel_release} is built without CONFIG_KEXEC, as Debian's for"
            " s390x are from 6.12 on; take one that has it, such as Debian 12's 6.1"
        )


PART = ExplainPart(_causes)

"""Why what looks like a kernel of i386 refuses what its kernels do not."""

from __future__ import annotations

import errno as e
from collections.abc import Iterator

from pykexec import names
from pykexec.arch.i386 import ARCH
from pykexec.explain import ExplainPart
from pykexec.machine import Machine
from pykexec.machine.sysfs import read_text
from pykexec.purpose import Purpose


def _causes(errno: int, _: Purpose, machine: Machine) -> Iterator[str]:
    # kernel/kexec.c, compat_sys_kexec_load(). A personality changes what uname says, and not this file.
    actual = read_text(machine.root, "proc/sys/kernel/arch")
    row = names.of_uname(actual or "")
    if errno == e.EINVAL and row is not None and row.name != ARCH.name:
        yield (
            f"the running kernel is one for {row.name}, of which this process is not told (setarch);"
            " run pykexec outside of it, with a Python of the kernel's own word size"
        )


PART = ExplainPart(_causes)

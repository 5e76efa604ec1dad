"""What pykdump knows about s390x."""

from __future__ import annotations

from pykexec.kdump.part import Fedora, KdumpPart
from pykexec.kdump.reservation.support import CrashkernelSupport
from pykexec.memory import MIB


def _crashkernel(_: str, __: str) -> CrashkernelSupport:
    # arch/s390/kernel/setup.c, reserve_crashkernel()
    return CrashkernelSupport(knows_high=False, honours_cma=False)


PART = KdumpPart(
    crashkernel=_crashkernel,
    fedora=Fedora(
        append="nr_cpus=1 cgroup_disable=memory numa=off udev.children-max=2 panic=10"
        " transparent_hugepage=never vmcp_cma=0 cma=0",
        crashkernel="2G-64G:256M,64G-:512M",
    ),
    suse_adds="zfcp.allow_lun_scan=0",
    section_size=lambda _: 256 * MIB,
)

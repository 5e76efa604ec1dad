"""What pykdump knows about ppc64le."""

from __future__ import annotations

from pykexec.arch.powerpc import kdump
from pykexec.kdump.part import Fedora, KdumpPart

PART = KdumpPart(
    crashkernel=kdump.crashkernel,
    fedora=Fedora(
        append="irqpoll nr_cpus=16 noirqdistrib reset_devices cgroup_disable=memory numa=off"
        " udev.children-max=2 ehea.use_mcs=0 panic=10 kvm_cma_resv_ratio=0 transparent_hugepage=never",
        crashkernel="2G-4G:384M,4G-16G:512M,16G-64G:1G,64G-128G:2G,128G-:4G",
    ),
    section_size=kdump.section_size,
)

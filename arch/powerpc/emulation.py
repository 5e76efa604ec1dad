"""Tell QEMU about powerpc: partitions below a hypervisor (pseries)."""

from pykexec.emulation.part import Emulation, Kvm, Packages

PACKAGES = Packages(debian="qemu-system-ppc", fedora="qemu-system-ppc-core", suse="qemu-ppc")

PARTITION = Emulation(
    command="qemu-system-ppc64",
    packages=PACKAGES,
    machine=("-M", "pseries", "-cpu", "power9"),
    console="hvc0",
    ram_start=0,
    kvm=Kvm(("ppc64", "ppc64le"), ("-M", "pseries", "-cpu", "host")),
    # All others spin until the new kernel starts them: on one thread they would take most of its time.
    parallel=True,
)
"""In QEMU 7.2 a processor's decrementer stops at times, and what sleeps there does not wake up."""

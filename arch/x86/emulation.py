"""Tell QEMU about PCs."""

from pykexec.emulation.part import Emulation, Kvm, Packages

_MACHINE = ("-M", "q35", "-cpu", "max")
"""With KVM, "max" is the host's own processor."""

PC = Emulation(
    command="qemu-system-x86_64",
    packages=Packages(debian="qemu-system-x86", fedora="qemu-system-x86-core", suse="qemu-x86"),
    machine=_MACHINE,
    console="ttyS0",
    early_console="earlyprintk=serial,ttyS0,115200",
    # Where QEMU waits for a processor, kernels find no ticks in time, and panic (io_apic.c, check_timer()).
    parameters="no_timer_check",
    ram_start=0,
    kvm=Kvm(("x86_64",), _MACHINE),
)

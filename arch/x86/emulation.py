"""Tell QEMU about PCs."""

from pykexec.emulation.part import Packages

PACKAGES = Packages(debian="qemu-system-x86", fedora="qemu-system-x86-core", suse="qemu-x86")
MACHINE = ("-M", "q35", "-cpu", "max")
"""With KVM, "max" is the host's own processor."""
CONSOLE = "ttyS0"
EARLY_CONSOLE = "earlyprintk=serial,ttyS0,115200"
# Where QEMU waits for a processor, kernels find no ticks in time, and panic (io_apic.c, check_timer()).
PARAMETERS = "no_timer_check"

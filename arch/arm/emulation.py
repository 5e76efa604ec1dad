"""How QEMU makes machines of 32-bit Arm: its virtual one, with a device tree."""

from pykexec.emulation.part import Emulation, Packages

PART = Emulation(
    command="qemu-system-arm",
    packages=Packages(debian="qemu-system-arm", fedora="qemu-system-arm-core", suse="qemu-arm"),
    # Nothing is above 4 GiB: kernels without LPAE would not see it.
    machine=("-M", "virt,highmem=off", "-cpu", "cortex-a15"),
    console="ttyAMA0",
    early_console="earlycon",
    ram_start=0x40000000,
    parallel=True,  # QEMU 7.2, two CPUs: just before the kernel starts the first process
)

"""How QEMU makes RISC-V machines of 64 bits: its virtual one, with OpenSBI."""

from pykexec.emulation.part import Emulation, Kvm, Packages

PART = Emulation(
    command="qemu-system-riscv64",
    packages=Packages(debian="qemu-system-riscv64", fedora="qemu-system-riscv-core", suse="qemu-extra"),
    machine=("-M", "virt"),
    console="ttyS0",
    early_console="earlycon",
    ram_start=0x80000000,
    kvm=Kvm(("riscv64",), ("-M", "virt", "-cpu", "host")),
)

"""How QEMU makes arm64 machines: its virtual one, with a device tree unless it has UEFI."""

from pykexec.emulation.part import Emulation, Kvm, Packages

PART = Emulation(
    command="qemu-system-aarch64",
    packages=Packages(debian="qemu-system-arm", fedora="qemu-system-aarch64-core", suse="qemu-arm"),
    # Without an ITS: its tables do not survive a kexec on machines without EFI.
    machine=("-M", "virt,gic-version=3,its=off", "-cpu", "max,pauth-impdef=on"),
    console="ttyAMA0",
    early_console="earlycon",
    ram_start=0x40000000,
    # The host's own interrupt controller may be an older one.
    kvm=Kvm(("arm64",), ("-M", "virt,gic-version=host,its=off", "-cpu", "host")),
)

"""How QEMU makes LoongArch machines: its virtual one, always with UEFI.

Without UEFI the device tree lies where the running kernel puts its own code for the jump to another kernel.
"""

from pykexec.emulation.part import Emulation, Firmware, Kvm, Packages

_MACHINE = ("-M", "virt", "-cpu", "la464")

PART = Emulation(
    command="qemu-system-loongarch64",
    packages=Packages(
        debian="qemu-system-loongarch64", fedora="qemu-system-loongarch64-core", suse="qemu-extra"
    ),
    machine=_MACHINE,
    console="ttyS0",
    early_console="earlycon=uart,mmio,0x1fe001e0",
    # Of what is above 2 GiB; the first 256 MiB are at 0, and stand before it in a file.
    ram_start=0x70000000,
    firmware=Firmware(
        (
            "/usr/share/qemu-efi-loongarch64/QEMU_EFI.fd",
            "/usr/share/edk2/loongarch64/QEMU_EFI.fd",
            "/usr/share/qemu/edk2-loongarch64-code.fd",
        ),
        Packages(debian="qemu-efi-loongarch64", fedora="edk2-loongarch64", suse="qemu-extra"),
    ),
    kvm=Kvm(("loongarch64",), _MACHINE),
    parallel=True,
)

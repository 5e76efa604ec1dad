"""What differs between the architectures that the lab can emulate."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Arch:
    """One architecture: its emulator and its Debian packages."""

    name: str
    """The name of its folder in arch/."""
    qemu: str
    """The emulator's command, and the Debian package that has it."""
    qemu_package: str
    machine: tuple[str, ...]
    """QEMU options that make the machine, without memory, processors and devices."""
    console: str
    """The serial console's name in a kernel command line."""
    ram_start: int
    """The physical address at which the machine's memory begins."""
    uefi: tuple[str, str]
    """UEFI firmware: the Debian package, and the file in it."""
    debian: str
    """Debian's name for the architecture."""
    kernel_package: str
    """The package that depends on the newest kernel of a suite."""

    def makedumpfile_reads(self, version: str) -> bool:
        """Whether makedumpfile (1.7.8, too) reads dumps of Debian's kernel of that version.

        It does not know arm64's 52-bit virtual addresses with pages of 4 KiB, which came with Linux 6.9.
        """
        return self.name != "arm64" or version in ("5.10", "6.1")


X86_64 = Arch(
    name="x86_64",
    qemu="qemu-system-x86_64",
    qemu_package="qemu-system-x86",
    machine=("-M", "q35", "-cpu", "max"),
    console="ttyS0",
    ram_start=0,
    uefi=("ovmf", "usr/share/ovmf/OVMF.fd"),
    debian="amd64",
    kernel_package="linux-image-cloud-amd64",
)

ARM64 = Arch(
    name="arm64",
    qemu="qemu-system-aarch64",
    qemu_package="qemu-system-arm",
    # Without an ITS: its tables do not survive a kexec on machines without EFI.
    machine=("-M", "virt,gic-version=3,its=off", "-cpu", "max,pauth-impdef=on"),
    console="ttyAMA0",
    ram_start=0x40000000,
    uefi=("qemu-efi-aarch64", "usr/share/qemu-efi-aarch64/QEMU_EFI.fd"),
    debian="arm64",
    kernel_package="linux-image-cloud-arm64",
)

ARCHES = {arch.name: arch for arch in (X86_64, ARM64)}

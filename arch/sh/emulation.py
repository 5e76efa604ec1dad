"""How QEMU makes SuperH machines: RTS7751R2D, which has 64 MiB of memory."""

from pykexec.emulation.part import Emulation, Packages

PART = Emulation(
    command="qemu-system-sh4",
    packages=Packages(debian="qemu-system-sh4", fedora="qemu-system-sh4-core", suse="qemu-extra"),
    machine=("-M", "r2d"),
    console="ttySC1,115200",
    early_console="earlyprintk",
    ram_start=0x0C000000,
    # The first is no console, but speaks to the clock.
    serial=("-serial", "null", "-serial", "chardev:console"),
)

"""How QEMU makes s390x machines, whose devices are on channels."""

from pykexec.emulation.part import Emulation, Kvm, Packages

_MACHINE = ("-M", "s390-ccw-virtio")

PART = Emulation(
    command="qemu-system-s390x",
    packages=Packages(debian="qemu-system-s390x", fedora="qemu-system-s390x-core", suse="qemu-s390x"),
    machine=_MACHINE,
    console="ttysclp0",
    early_console="earlyprintk",
    ram_start=0,
    virtio=("ccw", "virtio"),  # virtio_ccw is built in, and no module that a kernel would list
    kvm=Kvm(("s390x",), _MACHINE),
    # A loaded kernel unpacks itself with XZ, byte by byte, over code of the first kernel's. As long as QEMU
    # has translations of that, each byte takes a look at those of its page: minutes instead of seconds.
    translations=8,
)

"""Machines to rehearse: the lab's kernels, and capture images for them, with this machine as the host."""

import gzip
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pykexec.emulation import SOFTWARE, Accelerator
from pykexec.initramfs import PADDING, Addition, newc
from pykexec.kdump.capture import init_settings
from pykexec.kdump.capture.blockdevice import Superblock
from pykexec.kdump.capture.destination import Destination, Transport
from pykexec.kdump.capture.image import INIT
from pykexec.kdump.capture.modules import Index
from pykexec.kdump.config.settings import Dialect, Settings
from pykexec.kdump.rehearsal.asked import Rehearsal
from pykexec.memory import GIB
from tools.lab import Kernel, images

UUID = "12345678-9abc-4def-8123-456789abcdef"
_THERE = ("virtio_pci", "virtio_console", "virtio_blk", "nvme", "ext4", "xfs", "crc32c_generic")
_OPTIONAL = ("crc32c", "libcrc32c", "crypto-crc32c")


def machine(
    kernel: Kernel,
    folder: Path,
    *,
    filesystem: str = "ext4",
    drivers: Sequence[str] = ("virtio_blk",),
    reserved: str = "256M",
    append: str = "",
    fits: bool = True,
) -> Rehearsal:
    """A machine whose files are below `folder`; its image has these drivers for its disk.

    `fits`: the image's makedumpfile is known to fit the kernel.
    """
    root = folder / "root"
    there = [name for name in _THERE if kernel.has_module(name)]
    for path, data in kernel.module_folder(there).items():
        file = root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    image = folder / "capture.img"
    image.write_bytes(_image(kernel, root, filesystem, drivers, fits=fits))
    arch = kernel.arch
    return Rehearsal(
        arch.name,
        kernel.image,
        kernel.release,
        kernel.image,
        image,
        " ".join(filter(None, (f"{arch.line} nr_cpus=1 reset_devices", arch.capture, append))),
        reserved,
        GIB,
        2,
        parameters=arch.left_out,
        root=root,
        accelerated=Accelerator(SOFTWARE, "tests do without KVM"),
    )


def _image(kernel: Kernel, root: Path, filesystem: str, drivers: Sequence[str], *, fits: bool) -> bytes:
    """As `pykdump mkinitrd` makes it: the lab's programs, /init, its settings and modules."""
    to = Destination(Transport.DISK, "/crash", None, Superblock(filesystem, UUID, ""))
    settings = Settings(Dialect.FEDORA, path="/crash")
    settings = replace(settings, collector=replace(settings.collector, is_known_to_fit=fits))
    text = init_settings.render(settings, kernel.release, to, None, "127.0.0.1")
    modules = Index(kernel.release, root).closure(
        (kernel.arch.emulation.virtio[1], *drivers, filesystem), optional=_OPTIONAL
    )
    order = "".join(f"{each.name}.ko\n" for each in modules)
    files = [
        Addition("init", memoryview(INIT.read_bytes()), 0o755),
        Addition("etc/pykdump.conf", memoryview(text.encode())),
        Addition("lib/modules/order", memoryview(order.encode())),
        *(Addition(f"lib/modules/{each.name}.ko", memoryview(each.read())) for each in modules),
    ]
    programs = images.small(kernel.arch)
    programs += bytes(-len(programs) % PADDING)
    return gzip.compress(programs + newc(files, alone=False), 1)

"""Machines to rehearse: the lab's kernels, and capture images for them, with this machine as the host."""

import gzip
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from pykexec.emulation import SOFTWARE, Accelerator
from pykexec.initramfs import PADDING, Addition, newc
from pykexec.integration.libraries import libraries_of
from pykexec.kdump import programs
from pykexec.kdump.capture import init_settings
from pykexec.kdump.capture.blockdevice import BlockDevice, Superblock
from pykexec.kdump.capture.destination import Destination, Transport
from pykexec.kdump.capture.image import INIT, more_of_init
from pykexec.kdump.capture.layers import Layer, Stack
from pykexec.kdump.capture.modules import Index
from pykexec.kdump.config.settings import Dialect, Settings
from pykexec.kdump.rehearsal.asked import Rehearsal
from pykexec.memory import GIB
from tools.lab import Kernel, images
from tools.lab.machine import emulator

UUID = "12345678-9abc-4def-8123-456789abcdef"
_THERE = (
    "virtio_pci",
    "virtio_console",
    "virtio_blk",
    "nvme",
    "ext4",
    "xfs",
    "raid1",
    "dm_mod",
    "crc32c_generic",
)
_MODULES, _ASSEMBLERS = {"md": "raid1", "lvm": "dm_mod"}, {"md": "mdadm", "lvm": "lvm"}
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
    layers: Sequence[Layer] = (),
) -> Rehearsal:
    """A machine whose files are below `folder`; its image has these drivers for its disk.

    `fits`: the image's makedumpfile is known to fit the kernel; `layers` are below the file system, and of
    a machine like this one.
    """
    root = folder / "root"
    there = [name for name in _THERE if kernel.has_module(name)]
    for path, data in kernel.module_folder(there).items():
        file = root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    image = folder / "capture.img"
    image.write_bytes(_image(kernel, root, filesystem, drivers, layers, fits=fits))
    arch = kernel.arch
    emulator(arch)  # installs it
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


def _image(
    kernel: Kernel,
    root: Path,
    filesystem: str,
    drivers: Sequence[str],
    layers: Sequence[Layer],
    *,
    fits: bool,
) -> bytes:
    """As `pykdump mkinitrd` makes it: the lab's programs, /init, its settings and modules."""
    device = BlockDevice("target", "", 0, 0, (), stack=Stack(tuple(layers)))
    to = Destination(Transport.DISK, "/crash", device, Superblock(filesystem, UUID, ""))
    settings = Settings(Dialect.FEDORA, path="/crash")
    settings = replace(settings, collector=replace(settings.collector, is_known_to_fit=fits))
    text = init_settings.render(settings, kernel.release, to, None, "127.0.0.1")
    modules = Index(kernel.release, root).closure(
        (kernel.arch.emulation.virtio[1], *drivers, *(_MODULES[each.kind] for each in layers), filesystem),
        optional=_OPTIONAL,
    )
    order = "".join(f"{each.name}.ko\n" for each in modules)
    files = [
        Addition("init", memoryview(INIT.read_bytes()), 0o755),
        *(Addition(f"init.d/{part.name}", memoryview(part.read_bytes())) for part in more_of_init([to])),
        *_programs(_ASSEMBLERS[each.kind] for each in layers),
        Addition("etc/pykdump.conf", memoryview(text.encode())),
        Addition("lib/modules/order", memoryview(order.encode())),
        *(Addition(f"lib/modules/{each.name}.ko", memoryview(each.read())) for each in modules),
    ]
    system = images.small(kernel.arch)
    system += bytes(-len(system) % PADDING)
    return gzip.compress(system + newc(files, alone=False), 1)


def _programs(names: Iterable[str]) -> Iterator[Addition]:
    """This machine's programs, where the image has its own, with their libraries."""
    found = [path for name in names if (path := programs.find(name))]
    places = {f"usr/bin/{path.name}": path for path in found}
    for place, file in (*places.items(), *((str(each).lstrip("/"), each) for each in libraries_of(found))):
        yield Addition(place, memoryview(file.read_bytes()), 0o755)

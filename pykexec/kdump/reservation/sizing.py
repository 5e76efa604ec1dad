"""Read the inputs of an estimate from a machine and the files to load."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping

from pykexec import names
from pykexec.arch import Arch, find
from pykexec.booting import devicememory
from pykexec.booting.kernel import identify
from pykexec.errors import ImageError
from pykexec.files import FileData
from pykexec.formats import compression, magic, unwrap
from pykexec.kdump.config.capture_line import NO_TRACEFS
from pykexec.kdump.part import KdumpPart, part_of
from pykexec.kdump.reservation.estimate import DRIVERS_UNKNOWN, TMPFS_PERCENT, Inputs, Unpacked, for_pages
from pykexec.machine import Machine
from pykexec.machine.sysfs import read_text
from pykexec.memory import GIB, KIB, MIB, align_up
from pykexec.parameters import name_of, parameters
from pykexec.versions import of_release

FACTS = ("proc/modules", "sys/bus/pci/drivers/mlx5_core/new_id", "sys/devices/platform/arm-smmu-*/uevent")
"""The files read in addition to those of `Machine`, for snapshots."""

_DRIVER_BUFFERS = 16 * MIB  # queues and rings of ordinary storage and network devices
_VIRTIO_BUFFERS = 2 * MIB
_MODULES_TEXT_MAX = 1 * MIB
_MODULES_MAX = 64 * MIB  # a capture initrd has only some of the modules that are loaded now

# kdump-utils, kdumpctl: measured extra needs of devices, with pages of 4 KiB and of 64 KiB
MLX5 = {4 * KIB: 150 * MIB, 16 * KIB: 175 * MIB, 64 * KIB: 200 * MIB}
SMMU_64K = 384 * MIB

# Modules that are no hardware's drivers, and virtio's.
_WITHOUT_HARDWARE = re.compile(
    r"virtio.*|(net_)?failover|ext4|jbd2|mbcache|xfs|btrfs|xor|raid6_pq|zstd_compress|l?i?b?crc.*|crypto_.*"
)

_KERNEL_MAX = 4 * GIB
_INITRAMFS_OPTIONS_SINCE = (6, 18)
_EVENTFS_SINCE = (6, 9)  # tracefs makes inodes when they are looked at


def read_inputs(
    machine: Machine,
    kernel: FileData,
    initrd: FileData | None,
    capture_line: str,
    *,
    network: bool = False,
    kernel_log: str = "",
) -> Inputs:
    """Return the inputs for loading these files on that machine with that command line.

    Raises MachineError for a missing fact, ImageError for a file that is no kernel or no initramfs.
    """
    name, page_size = names.name_of_uname(machine.uname_machine), machine.page_size
    part, arch = part_of(name), find(machine.uname_machine)
    image = Unpacked(0, 0, 0) if initrd is None else unpacked(initrd, page_size)
    drivers, why, hungry = _drivers(machine, page_size, image.modules)
    plain, _ = unwrap(kernel)
    memory = kernel_memory(plain, arch)
    cma, swiotlb = devicememory.usually_set_aside(machine, plain, arch)
    return Inputs(
        arch=name,
        total_memory=machine.iomem.system_ram.size,
        kernel=memory,
        # One that is larger than its file by far unpacks itself from that.
        unpacking=plain.size if memory >= 2 * plain.size else 0,
        initrd=image,
        tracefs=NO_TRACEFS not in parameters(capture_line) or _since(_EVENTFS_SINCE, machine.kernel_release),
        page_size=page_size,
        cpus=_capture_cpus(machine, capture_line),
        drivers=drivers,
        drivers_why=why,
        hungry=hungry,
        network=network,
        encrypted_memory=_is_encrypted(machine, part, kernel_log),
        cma=devicememory.given_cma(capture_line, cma or 0),
        swiotlb=devicememory.given_swiotlb(capture_line, swiotlb or 0),
        tmpfs_percent=_tmpfs_percent(capture_line, machine.kernel_release),
        left_out=() if initrd else ("the initrd (--initrd)",),
        not_known=tuple(_not_known(part, capture_line, cma, swiotlb)),
    )


def kernel_memory(file: FileData, arch: Arch | None) -> int:
    """Return the bytes that a kernel takes where it runs. Raises ImageError.

    For one that does not tell, that is one and a half times its size, for what it does not store.
    """
    unwrapped, _ = unwrap(file)
    facts = identify(unwrapped, arch)
    if facts is None:
        from pykexec.formats import identify as formats

        raise formats.unknown(file.path, unwrapped.data, "no bzImage, Image or vmlinux")
    if facts.memory is None:
        return unwrapped.size * 3 // 2
    if facts.memory >= _KERNEL_MAX:
        raise ImageError(f"{file.path}: damaged header: a memory size of {facts.memory:#x} bytes")
    return facts.memory


_ALWAYS_ALLOWED, _RATIO_MAX, _UNPACKED_MAX = 160 * MIB, 20, 4 * GIB
"""Limits on the bytes that an initramfs unpacks to; such images shrink to a tenth at best."""
_CPIO_HEADER = 110
_CPIO_NAME_MAX = 64 * KIB
_PIECE = 1 * MIB
_TRAILER = b"TRAILER!!!"
_ENTRIES_MAX = 1 << 20
# In capture/image.py: what tells our own image, and where its modules are.
_OWN_SETTINGS = b"etc/pykdump.conf"
_OWN_MODULE = re.compile(rb"lib/modules/(\w{1,64})\.ko")


def unpacked(file: FileData, page_size: int) -> Unpacked:
    """Return the memory of an initramfs: cpio archives, then perhaps compressed data with more of them.

    Raises ImageError for anything else, a damaged file, or one that unpacks to far more than its size.
    """
    stream = _Stream(iter([file.data]))
    files = _Files(page_size)
    _archives(file.path, stream, files)
    name = magic.compression(file.data[stream.position :])
    if name is not None:
        limit = min(_ALWAYS_ALLOWED + _RATIO_MAX * file.size, _UNPACKED_MAX)
        pieces = _pieces(file.path, file.data[stream.position :], name, limit)
        stream = _Stream(memoryview(piece) for piece in pieces)
        _archives(file.path, stream, files)
    if start := stream.peek(4):
        raise ImageError(
            f"{file.path}: no initramfs: {start.hex()} at offset {stream.position:#x} begins no archive"
        )
    return Unpacked(file.size, files.contents, files.entries, files.modules if files.is_own else None)


def _pieces(path: str, data: memoryview, name: str, limit: int) -> Iterator[bytes]:
    """Yield what the data unpacks to. Raises ImageError."""
    try:
        yield from compression.pieces(path, data, name, limit)
    except compression.NoLibrary:
        # Where such images are made there is one.
        program = shutil.which(name)
        if program is None:
            raise
        yield from _by_program(program, path, data, limit)


def _by_program(program: str, path: str, data: memoryview, limit: int) -> Iterator[bytes]:
    with tempfile.TemporaryFile() as packed:
        packed.write(data)
        packed.seek(0)
        command = [program, "-dcq"]
        with subprocess.Popen(
            command, stdin=packed, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as child:
            assert child.stdout is not None
            try:
                while piece := child.stdout.read(_PIECE):
                    limit -= len(piece)
                    if limit < 0:
                        raise ImageError(f"{path}: unpacks to far more than an initramfs does")
                    yield piece
            except BaseException:
                child.kill()
                raise
    if child.returncode:
        raise ImageError(f"{path}: damaged data: {shlex.join(command)} does not unpack it")


class _Files:
    """What is told of an archive's files, one after the other."""

    def __init__(self, page_size: int) -> None:
        self._page_size = page_size
        self.contents = 0
        """The bytes in whole pages."""
        self.entries = 0
        self.modules: dict[str, int] = {}
        """The sizes of those where pykdump's own image has its modules."""
        self.is_own = False

    def add(self, name: bytes, size: int) -> None:
        """Count a file."""
        self.contents += align_up(size, self._page_size)
        self.entries += 1
        self.is_own |= name == _OWN_SETTINGS
        if module := _OWN_MODULE.fullmatch(name):
            self.modules[module[1].decode("ascii")] = size


class _Stream:
    """Pieces one after the other; none is kept."""

    def __init__(self, pieces: Iterator[memoryview]) -> None:
        self._pieces = pieces
        self._piece = memoryview(b"")
        self.position = 0

    def peek(self, size: int) -> bytes:
        """Return the next bytes, fewer at the end."""
        while self._piece.nbytes < size and (more := next(self._pieces, None)) is not None:
            self._piece = memoryview(bytes(self._piece) + more) if self._piece else more
        return bytes(self._piece[:size])

    def skip(self, size: int) -> bool:
        """Skip bytes; return whether there were so many."""
        while size and self.peek(1):
            step = min(size, self._piece.nbytes)
            self._piece = self._piece[step:]
            self.position += step
            size -= step
        return not size

    def skip_zeros(self) -> None:
        while piece := self.peek(64 * KIB):
            if piece != bytes(len(piece)):  # hundreds of times as fast as to strip them
                self.skip(len(piece) - len(piece.lstrip(b"\0")))
                return
            self.skip(len(piece))


def _archives(path: str, stream: _Stream, files: _Files) -> None:
    """Count the files of archives. The stream is then after these."""
    while True:
        if stream.peek(1) == b"\0":
            stream.skip_zeros()
        if stream.peek(6) not in magic.CPIO:
            return
        name, size = _entry(path, stream)
        if name != _TRAILER:
            files.add(name, size)
        if files.entries > _ENTRIES_MAX:
            raise ImageError(f"{path}: an initramfs of more than {_ENTRIES_MAX} files")


def _entry(path: str, stream: _Stream) -> tuple[bytes, int]:
    """Return the name and the size of the next header's file."""
    at, header = stream.position, stream.peek(_CPIO_HEADER)
    digits = header[6:]
    if len(header) < _CPIO_HEADER or not re.fullmatch(rb"[0-9A-Fa-f]{104}", digits):
        raise ImageError(f"{path}: damaged initramfs: no cpio header at offset {at:#x}")
    size, name_size = int(digits[48:56], 16), int(digits[88:96], 16)
    name = stream.peek(_CPIO_HEADER + min(name_size, _CPIO_NAME_MAX))[_CPIO_HEADER:]
    file_at = align_up(at + _CPIO_HEADER + name_size, 4)
    if name_size > _CPIO_NAME_MAX or not stream.skip(file_at + size - at):
        raise ImageError(f"{path}: truncated initramfs: the file at offset {at:#x} does not end in it")
    stream.skip(-stream.position % 4)  # the padding may be missing at the end
    return name[:name_size].rstrip(b"\0"), size


def _capture_cpus(machine: Machine, capture_line: str) -> int:
    numbers = [
        int(word.partition("=")[2])
        for word in parameters(capture_line)
        if re.fullmatch(r"(?:nr_cpus|maxcpus)=[0-9]{1,5}", word)
    ]
    # maxcpus=0 means one, too.
    return max(numbers[-1], 1) if numbers else max(len(machine.cpu_notes), 1)


def _tmpfs_percent(capture_line: str, release: str) -> int:
    """Return the percentage of memory for the initramfs: 100 for a ramfs, which has no limit.

    root= or rootfstype= without tmpfs select a ramfs (init_rootfs() in init/do_mounts.c).
    """
    values = {name_of(word): word.partition("=")[2] for word in parameters(capture_line)}
    if ("root" in values or "rootfstype" in values) and "tmpfs" not in values.get("rootfstype", ""):
        return 100
    size = re.search(r"(?:^|,)size=([1-9][0-9]?|100)%", values.get("initramfs_options", ""))
    if size and _since(_INITRAMFS_OPTIONS_SINCE, release):
        return int(size[1])
    return TMPFS_PERCENT


def _since(version: tuple[int, int], release: str) -> bool:
    return (of_release(release) or (0, 0)) >= version


def _drivers(machine: Machine, page_size: int, own: Mapping[str, int] | None) -> tuple[int, str, int]:
    """Return the bytes for drivers, for people what is counted, and the part for devices that take much.

    `own`: our image's modules; None: it is another's.
    """
    hungry = 0
    loaded = read_text(machine.root, "proc/modules", _MODULES_TEXT_MAX)
    if own is not None:
        size, why = sum(own.values()) + _buffers(machine, own), "the image's modules, and buffers of devices"
    elif loaded is None:
        size, why = DRIVERS_UNKNOWN, "a guess: what is loaded is not known"
    else:
        code = sum(int(each) for each in re.findall(r"^\S+ (\d{1,12}) ", loaded, re.M))
        size = min(code, _MODULES_MAX) + _DRIVER_BUFFERS
        why = "the modules loaded now, and buffers of devices"
    if "mlx5_core" in own if own is not None else _has_mlx5(machine, loaded or ""):
        hungry += for_pages(MLX5, page_size)
        why += ", more for mlx5"
    smmu = [each for each in machine.root.names("sys/devices/platform") if each.startswith("arm-smmu-")]
    if smmu and page_size == 64 * KIB:
        hungry += SMMU_64K
        why += ", more for the SMMU's queues"
    return size + hungry, why, hungry


def _buffers(machine: Machine, modules: Iterable[str]) -> int:
    """Return the bytes of devices' buffers."""
    # Drivers that are built in are not known. A machine that has virtio's will have no others.
    is_virtual = bool(machine.root.names("sys/bus/virtio/devices"))
    return (
        _VIRTIO_BUFFERS if is_virtual and all(map(_WITHOUT_HARDWARE.fullmatch, modules)) else _DRIVER_BUFFERS
    )


def _has_mlx5(machine: Machine, loaded: str) -> bool:
    bound = machine.root.names("sys/bus/pci/drivers/mlx5_core")
    return bool(bound) or bool(re.search(r"^mlx5_core ", loaded, re.M))


def _is_encrypted(machine: Machine, part: KdumpPart, kernel_log: str) -> bool:
    if part.encryption is None:
        return False
    asked_for = "mem_encrypt=on" in parameters(machine.command_line)
    return asked_for or bool(re.search(part.encryption, kernel_log))


def _not_known(part: KdumpPart, capture_line: str, cma: int | None, swiotlb: int | None) -> Iterator[str]:
    if cma is None and not devicememory.CMA.search(capture_line):
        yield "what kernels set aside for devices (CMA)"
    if swiotlb is None and not devicememory.SWIOTLB.search(capture_line):
        yield "what kernels set aside for DMA (swiotlb)"
    if part.encryption is None:
        yield "what encrypted memory takes"

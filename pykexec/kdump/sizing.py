"""What an estimate is made of, read from a machine and the files to load."""

from __future__ import annotations

import re

from pykexec.command_line import name_of, parameters
from pykexec.crash import cma_ranges
from pykexec.errors import ImageError
from pykexec.files import FileData
from pykexec.formats import compression, magic, unwrap
from pykexec.kdump import crashkernel
from pykexec.kdump.estimate import DRIVERS_UNKNOWN, TMPFS_PERCENT, Inputs, Unpacked
from pykexec.kdump.kerneltraits import KernelTraits, traits
from pykexec.machine import Machine
from pykexec.machine.text import read_text
from pykexec.memory import GIB, KIB, MIB, align_up

FACTS = ("proc/modules", "sys/bus/pci/drivers/mlx5_core/new_id", "sys/devices/platform/arm-smmu-*/uevent")
"""The files read besides those of `Machine`, for snapshots."""

_DRIVER_BUFFERS = 16 * MIB  # queues and rings of ordinary storage and network devices
_MODULES_MAX = 64 * MIB  # a capture initrd has only some of the modules that are loaded now

# kdump-utils, kdumpctl: measured extra needs of devices, with pages of 4 KiB and of 64 KiB
MLX5 = {4 * KIB: 150 * MIB, 16 * KIB: 175 * MIB, 64 * KIB: 200 * MIB}
SMMU_64K = 384 * MIB

_ARM64_CMA = 64 * MIB
_INITRAMFS_OPTIONS_SINCE = (6, 18)
# mm/mem_encrypt.c, arch/x86/mm/mem_encrypt.c: print_mem_encrypt_feature_info()
_ENCRYPTION = re.compile(r"Memory Encryption Features active:? ?AMD (?:SME|SEV)")


def read_inputs(
    machine: Machine,
    kernel: FileData,
    initrd: FileData | None,
    capture_line: str,
    *,
    network: bool = False,
    kernel_log: str = "",
) -> Inputs:
    """The inputs for loading these files on that machine with that command line.

    Raises MachineError for a missing fact, ImageError for a file that is no kernel or no initramfs.
    """
    arch, page_size = machine.uname_machine, machine.page_size
    words = machine.command_line.split()
    drivers, why = _drivers(machine, page_size)
    return Inputs(
        arch=arch,
        total_memory=machine.iomem.system_ram.size,
        kernel=kernel_memory(kernel),
        initrd=Unpacked(0, 0, 0) if initrd is None else unpacked(initrd, page_size),
        page_size=page_size,
        cpus=_capture_cpus(machine, capture_line),
        drivers=drivers,
        drivers_why=why,
        network=network,
        encrypted_memory="mem_encrypt=on" in words or bool(_ENCRYPTION.search(kernel_log)),
        cma=_cma(capture_line, arch),
        tmpfs_percent=_tmpfs_percent(capture_line, machine.kernel_release),
        left_out=() if initrd else ("the initrd (--initrd)",),
    )


def traits_of(machine: Machine) -> KernelTraits:
    """What of crashkernel= a machine's kernel knows, by its version and by what it has reserved.

    Raises MachineError.
    """
    known = traits(machine.uname_machine, machine.kernel_release, machine.command_line)
    regions = machine.iomem.crash_regions
    return crashkernel.observed(known, machine.command_line, regions, has_cma=bool(cma_ranges(machine)))


def kernel_memory(file: FileData) -> int:
    """Bytes a kernel takes where it runs: init_size of a bzImage, image_size of an arm64 Image.

    Of another kernel, what it has unpacked, and half as much again for what it does not store. Raises
    ImageError.
    """
    unwrapped, _ = unwrap(file)
    data = unwrapped.data
    if bytes(data[0x202:0x206]) == b"HdrS":
        return _field(unwrapped, 0x260, 4)
    is_image = bytes(data[0x38:0x3C]) == b"ARM\x64"
    if is_image and any(data[0x10:0x18]):
        return _field(unwrapped, 0x10, 8)
    if not is_image and bytes(data[:4]) != b"\x7fELF":
        from pykexec.formats import identify

        raise identify.unknown(
            file.path, data, "no bzImage, Image or vmlinux", "a kernel is usually /boot/vmlinuz-VERSION"
        )
    return unwrapped.size * 3 // 2


def _field(file: FileData, offset: int, size: int) -> int:
    value = int.from_bytes(file.data[offset : offset + size], "little")
    if file.size < offset + size or not 0 < value < 4 * GIB:
        raise ImageError(
            f"{file.path}: damaged header: a memory size of {value:#x} bytes (offset {offset:#x})"
        )
    return value


_CPIO_MAGICS = (b"070701", b"070702")
_CPIO_HEADER = 110
_TRAILER = b"TRAILER!!!"
_NESTING_MAX = 8
_UNPACKED_MAX = 1 * GIB  # it is looked through in memory
_ENTRIES_MAX = 1 << 20


def unpacked(file: FileData, page_size: int) -> Unpacked:
    """Look through an initramfs: cpio archives one after the other, each compressed or not.

    Raises ImageError for what is neither, or is damaged.
    """
    contents = entries = 0
    data: memoryview = file.data
    for _ in range(_NESTING_MAX):
        at, more_contents, more_entries = _archives(file.path, data, page_size)
        contents += more_contents
        entries += more_entries
        if at >= data.nbytes:
            return Unpacked(file.size, contents, entries)
        name = magic.compression(data[at:])
        if name is None:
            start = bytes(data[at : at + 4]).hex()
            raise ImageError(f"{file.path}: no initramfs: {start} at offset {at:#x} begins no archive")
        data = memoryview(b"".join(compression.pieces(file.path, data[at:], name, _UNPACKED_MAX)))
    raise ImageError(f"{file.path}: compressed more than {_NESTING_MAX} times")


def _archives(path: str, data: memoryview, page_size: int) -> tuple[int, int, int]:
    """Where the uncompressed archives end, the bytes of their files in whole pages, and their number."""
    at = contents = entries = 0
    while at < data.nbytes:
        if data[at] == 0:
            at = _behind_zeros(data, at)
        elif bytes(data[at : at + 6]) in _CPIO_MAGICS:
            at, size, is_entry = _entry(path, data, at)
            contents += align_up(size, page_size)
            entries += is_entry
            if entries > _ENTRIES_MAX:
                raise ImageError(f"{path}: an initramfs of more than {_ENTRIES_MAX} files")
        else:
            break
    return at, contents, entries


def _behind_zeros(data: memoryview, at: int) -> int:
    step = 64 * KIB
    while at < data.nbytes:
        piece = bytes(data[at : at + step])
        rest = piece.lstrip(b"\0")
        if rest:
            return at + len(piece) - len(rest)
        at += len(piece)
    return at


def _entry(path: str, data: memoryview, at: int) -> tuple[int, int, int]:
    """One file of a newc archive: where the next one starts, its size, and whether it is one."""
    header = bytes(data[at : at + _CPIO_HEADER])
    digits = header[6:]
    if len(header) < _CPIO_HEADER or not re.fullmatch(rb"[0-9A-Fa-f]{104}", digits):
        raise ImageError(f"{path}: damaged initramfs: no cpio header at offset {at:#x}")
    size, name_size = int(digits[48:56], 16), int(digits[88:96], 16)
    name_at = at + _CPIO_HEADER
    file_at = align_up(name_at + name_size, 4)
    end = align_up(file_at + size, 4)
    if file_at + size > data.nbytes or name_size > 1 << 16:
        raise ImageError(f"{path}: truncated initramfs: the file at offset {at:#x} does not end in it")
    name = bytes(data[name_at : name_at + name_size]).rstrip(b"\0")
    return min(end, data.nbytes), size, int(name != _TRAILER)


def _capture_cpus(machine: Machine, capture_line: str) -> int:
    numbers = [
        int(word.partition("=")[2])
        for word in parameters(capture_line)
        if re.fullmatch(r"(?:nr_cpus|maxcpus)=[0-9]{1,5}", word)
    ]
    # maxcpus=0 means one, too.
    return max(numbers[-1], 1) if numbers else max(len(machine.cpu_notes), 1)


def _tmpfs_percent(capture_line: str, release: str) -> int:
    """init_rootfs() in init/do_mounts.c: a ramfs, which has no limit, if root= or rootfstype= is given."""
    values = {name_of(word): word.partition("=")[2] for word in parameters(capture_line)}
    if ("root" in values or "rootfstype" in values) and "tmpfs" not in values.get("rootfstype", ""):
        return 100
    version = re.match(r"(\d{1,4})\.(\d{1,4})", release)
    size = re.search(r"(?:^|,)size=([1-9][0-9]?|100)%", values.get("initramfs_options", ""))
    if size and version and (int(version[1]), int(version[2])) >= _INITRAMFS_OPTIONS_SINCE:
        return int(size[1])
    return TMPFS_PERCENT


def _drivers(machine: Machine, page_size: int) -> tuple[int, str]:
    modules = read_text(machine.root, "proc/modules")
    if modules is None:
        size, why = DRIVERS_UNKNOWN, "a guess: what is loaded is not known"
    else:
        code = sum(int(each) for each in re.findall(r"^\S+ (\d{1,12}) ", modules, re.M))
        size = min(code, _MODULES_MAX) + _DRIVER_BUFFERS
        why = "the modules loaded now, and buffers of devices"
    if machine.root.names("sys/bus/pci/drivers/mlx5_core") or re.search(r"^mlx5_core ", modules or "", re.M):
        size += MLX5[page_size]
        why += ", more for mlx5"
    smmu = [each for each in machine.root.names("sys/devices/platform") if each.startswith("arm-smmu-")]
    if smmu and page_size == 64 * KIB:
        size += SMMU_64K
        why += ", more for the SMMU's queues"
    return size, why


def _cma(capture_line: str, arch: str) -> int:
    """CONFIG_CMA_SIZE_MBYTES is 64 in distributions' arm64 kernels; those for x86_64 set nothing aside."""
    sizes = re.findall(r"(?:^|\s)cma=([0-9]{1,6})([KMG]?)", capture_line)
    if sizes:
        number, unit = sizes[-1]
        return int(number) << {"": 0, "K": 10, "M": 20, "G": 30}[unit]
    return _ARM64_CMA if arch == "aarch64" else 0

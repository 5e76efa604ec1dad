"""Build the parameter segment: boot_params ("zero page"), the command line, and then the setup_data."""

import struct
from collections.abc import Sequence

from pykexec.arch.x86 import e820, layouts
from pykexec.arch.x86.kernel import LinuxKernel
from pykexec.machine import BOOT_FRAMEBUFFER_DRIVERS, Machine
from pykexec.machine.efi import EfiFacts
from pykexec.machine.sysfs import read_number
from pykexec.memory import KIB, MIB, MemoryKind, Range, TypedRange, align_up
from pykexec.values import dataclass, replace

RunningBootParams = layouts.Parsed | None
RUNNING_BOOT_PARAMS = "sys/kernel/boot_params/data"
_RUNNING_SETUP_DATA = "sys/kernel/boot_params/setup_data"

COMMAND_LINE_OFFSET = 0x1000
_RNG_SEED_SIZE = 32
# boot.rst: the protocol versions that introduced these fields.
_WITH_COMMAND_LINE_POINTER, _WITH_SETUP_DATA = 0x0202, 0x0209
_OLD_COMMAND_LINE_MAGIC = 0xA33F
_PAGE = 4 * KIB

# VIDEO_TYPE_* in include/uapi/linux/screen_info.h: neither a framebuffer nor text.
_NO_VIDEO = 0
_ORIG_VIDEO_IS_VGA = 0x0F


@dataclass(frozen=True, slots=True)
class Handover:
    """What the new kernel is told; addresses are physical."""

    command_line: bytes
    memory_map: Sequence[TypedRange]
    initrd: Range | None
    running: RunningBootParams
    """The running kernel's boot_params."""
    screen_info: bytes
    efi: EfiFacts | None
    """None: the new kernel boots without EFI."""
    rsdp: int
    seed: bytes | None

    def with_initrd(self, initrd: Range | None) -> "Handover":
        """Return the same with the initrd's place, once it is known."""
        return replace(self, initrd=initrd)


def read_running(machine: Machine) -> RunningBootParams:
    """Return the boot_params of the running kernel; None where it does not show them."""
    data = machine.read(RUNNING_BOOT_PARAMS)
    if data is None or len(data) < layouts.BOOT_PARAMS.sizeof():
        return None
    # The boot loader's sentinel does not matter here, and need not be zero.
    clean = bytearray(data[: layouts.BOOT_PARAMS.sizeof()])
    clean[0x1EF] = 0
    return layouts.BOOT_PARAMS.parse(bytes(clean))


_HANDED_OVER = {
    layouts.SETUP_IMA: "IMA's list of measurements",
    layouts.SETUP_KEXEC_KHO: "state kept by KHO",
}
"""What kexec_file_load gives to one kernel only (arch/x86/kernel/kexec-bzimage64.c)."""


def not_handed_on(machine: Machine) -> list[str]:
    """Return what the running kernel has, or got from the one before, and the next kernel will not get."""
    names = machine.root.names(_RUNNING_SETUP_DATA)
    kinds = {read_number(machine.root, f"{_RUNNING_SETUP_DATA}/{name}/type") for name in names}
    kinds |= {layouts.SETUP_IMA} if machine.has_measured else set()
    return [what for kind, what in _HANDED_OVER.items() if kind in kinds]


def screen_info(running: RunningBootParams, framebuffer_driver: str | None) -> bytes:
    """Return the running kernel's screen_info, as long as it describes the screen.

    A driver for the real hardware sets another mode, and the framebuffer that the firmware left is gone.
    Then the new kernel must not draw to it.
    """
    if running is None:
        return _text_mode(is_vga=1)
    if framebuffer_driver is None or framebuffer_driver in BOOT_FRAMEBUFFER_DRIVERS:
        return bytes(running.screen_info)
    return _text_mode(is_vga=_NO_VIDEO)


def _text_mode(is_vga: int) -> bytes:
    info = bytearray(64)
    columns, lines, points = 80, 25, 16
    info[0x07], info[0x0E], info[_ORIG_VIDEO_IS_VGA], info[0x10] = columns, lines, is_vga, points
    return bytes(info)


def rsdp_address(machine: Machine, running: RunningBootParams) -> int:
    """Return the physical address of ACPI's root pointer; 0 when neither boot_params nor EFI tells it."""
    if running is not None and running.acpi_rsdp_addr:
        return int(running.acpi_rsdp_addr)
    tables = machine.efi.systab if machine.efi else {}
    return tables.get("ACPI20") or tables.get("ACPI") or 0


def efi_to_hand_over(machine: Machine, kernel: LinuxKernel, running: RunningBootParams) -> EfiFacts | None:
    """Return the EFI facts if the new kernel can take over the runtime services; None otherwise."""
    efi = machine.efi
    if efi is None or running is None or not kernel.takes_efi or not efi.runtime_map:
        return None
    known = running.efi_info
    if known.efi_memmap_size == 0 or known.efi_memdesc_version != layouts.EFI_MEMORY_DESC_VERSION:
        return None
    return efi


def build(address: int, kernel: LinuxKernel, handover: Handover) -> bytes:
    """Return the contents of the parameter segment at that address; their size does not depend on it."""
    command_line = handover.command_line + b"\0"
    efi_map_at = align_up(COMMAND_LINE_OFFSET + len(command_line), 16)
    efi_map = _efi_memory_map(handover.efi) if handover.efi else b""
    chain_at = align_up(efi_map_at + len(efi_map), 16)
    nodes = _setup_data(handover) if kernel.protocol >= _WITH_SETUP_DATA else []
    chain = _setup_data_chain(address + chain_at, nodes)
    header = _setup_header(kernel, handover, address, setup_data=address + chain_at if chain else 0)
    block = bytearray(chain_at + len(chain))
    block[:_PAGE] = _zero_page(
        handover, header, address, efi_map=Range.sized(address + efi_map_at, len(efi_map))
    )
    if kernel.protocol < _WITH_COMMAND_LINE_POINTER:
        # In screen_info: cl_magic, and cl_offset from the start of boot_params.
        struct.pack_into("<HH", block, 0x20, _OLD_COMMAND_LINE_MAGIC, COMMAND_LINE_OFFSET)
    block[COMMAND_LINE_OFFSET : COMMAND_LINE_OFFSET + len(command_line)] = command_line
    block[efi_map_at : efi_map_at + len(efi_map)] = efi_map
    block[chain_at:] = chain
    return bytes(block)


def _setup_header(kernel: LinuxKernel, handover: Handover, address: int, setup_data: int) -> layouts.Parsed:
    header = layouts.SETUP_HEADER.parse(kernel.setup_header)
    header.type_of_loader = layouts.KEXEC_LOADER_ID
    header.loadflags = 0  # boot.rst: write bits for the decompressor (KASLR_FLAG, QUIET_FLAG) start clear
    header.root_flags = 0xFFFF  # mount the root read-only unless the command line says otherwise
    header.root_dev = 0
    header.cmd_line_ptr = (address + COMMAND_LINE_OFFSET) & 0xFFFFFFFF
    header.setup_data = setup_data
    if handover.initrd:
        header.ramdisk_image = handover.initrd.start & 0xFFFFFFFF
        header.ramdisk_size = handover.initrd.size & 0xFFFFFFFF
    if handover.running is not None:
        header.hardware_subarch = handover.running.hdr.hardware_subarch
    return header


def _zero_page(handover: Handover, header: layouts.Parsed, address: int, *, efi_map: Range) -> bytes:
    empty = bytes(layouts.BOOT_PARAMS.sizeof())
    fields = layouts.BOOT_PARAMS.parse(empty)
    fields.hdr = header
    fields.screen_info = handover.screen_info
    fields.acpi_rsdp_addr = handover.rsdp
    fields.ext_cmd_line_ptr = (address + COMMAND_LINE_OFFSET) >> 32
    if handover.initrd:
        fields.ext_ramdisk_image = handover.initrd.start >> 32
        fields.ext_ramdisk_size = handover.initrd.size >> 32
    running = handover.running
    if running is not None:
        _inherit(fields, running)
        if handover.efi:
            fields.efi_info = _efi_info(running.efi_info, efi_map)
    fields.alt_mem_k, ext_mem_k = _memory_above_1m(handover.memory_map)
    entries = handover.memory_map[: layouts.E820_MAX_ENTRIES_ZEROPAGE]
    fields.e820_entries = len(entries)
    page = bytearray(layouts.BOOT_PARAMS.build(fields))
    table = e820.pack(entries)
    page[0x2D0 : 0x2D0 + len(table)] = table
    # screen_info.ext_mem_k, which for historical reasons belongs to the memory map
    struct.pack_into("<H", page, 0x02, ext_mem_k)
    return bytes(page)


def _inherit(fields: layouts.Parsed, running: layouts.Parsed) -> None:
    """Copy what firmware found out and cannot be asked again."""
    for name in ("ist_info", "edid_info", "secure_boot", "eddbuf", "eddbuf_entries"):
        setattr(fields, name, getattr(running, name))
    fields.edd_mbr_sig_buffer = running.edd_mbr_sig_buffer
    fields.edd_mbr_sig_buf_entries = running.edd_mbr_sig_buf_entries


def _memory_above_1m(memory_map: Sequence[TypedRange]) -> tuple[int, int]:
    """Return (alt_mem_k, ext_mem_k): KiB of RAM from 1 MiB on, for kernels that distrust the e820 table."""
    for entry in memory_map:
        if entry.kind is MemoryKind.RAM and MIB in entry.range:
            kib = (entry.range.end - MIB) // KIB
            return min(kib, 0xFFFFFFFF), min(kib, 0xFC00)
    return 0, 0


def _setup_data(handover: Handover) -> list[tuple[int, bytes]]:
    nodes = []
    beyond = handover.memory_map[layouts.E820_MAX_ENTRIES_ZEROPAGE :]
    if beyond:
        nodes.append((layouts.SETUP_E820_EXT, e820.pack(beyond)))
    if handover.efi:
        nodes.append((layouts.SETUP_EFI, _efi_setup_data(handover.efi)))
    if handover.running is not None and handover.running.cc_blob_address:
        # For confidential guests (SEV-SNP). A bzImage looks in EFI's tables first, a vmlinux only here:
        # find_cc_blob() in arch/x86/boot/compressed/sev.c and arch/x86/kernel/sev.c, struct cc_setup_data.
        nodes.append((layouts.SETUP_CC_BLOB, struct.pack("<I", handover.running.cc_blob_address)))
    if handover.seed:
        nodes.append((layouts.SETUP_RNG_SEED, handover.seed[:_RNG_SEED_SIZE]))
    return nodes


def _setup_data_chain(address: int, nodes: Sequence[tuple[int, bytes]]) -> bytes:
    """Return struct setup_data one after the other, each with the address of the next."""
    chain = bytearray()
    for index, (kind, data) in enumerate(nodes):
        size = align_up(layouts.SETUP_DATA.sizeof() + len(data), 16)
        follower = 0 if index == len(nodes) - 1 else address + len(chain) + size
        node = layouts.SETUP_DATA.build({"next": follower, "type": kind, "len": len(data)}) + data
        chain += node.ljust(size, b"\0")
    return bytes(chain)


def _efi_memory_map(efi: EfiFacts) -> bytes:
    """Return runtime regions at the first kernel's virtual addresses: SetVirtualAddressMap() works once."""
    return b"".join(
        layouts.EFI_MEMORY_DESC.build(
            {
                "type": entry.type,
                "phys_addr": entry.physical,
                "virt_addr": entry.virtual,
                "num_pages": entry.pages,
                "attribute": entry.attribute,
            }
        )
        for entry in efi.runtime_map
    )


def _efi_setup_data(efi: EfiFacts) -> bytes:
    return bytes(
        layouts.EFI_SETUP_DATA.build(
            {
                "fw_vendor": efi.fw_vendor,
                "runtime": efi.runtime,
                "tables": efi.config_table,
                "smbios": efi.systab.get("SMBIOS", 0),
            }
        )
    )


def _efi_info(running: layouts.Parsed, efi_map: Range) -> layouts.Parsed:
    info = layouts.EFI_INFO.parse(layouts.EFI_INFO.build(running))
    info.efi_memdesc_size = layouts.EFI_MEMORY_DESC.sizeof()
    info.efi_memdesc_version = layouts.EFI_MEMORY_DESC_VERSION
    info.efi_memmap = efi_map.start & 0xFFFFFFFF
    info.efi_memmap_hi = efi_map.start >> 32
    info.efi_memmap_size = efi_map.size
    return info

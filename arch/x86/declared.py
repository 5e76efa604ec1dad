"""The boot protocol's structures, with the names of arch/x86/include/uapi/asm/bootparam.h and boot.rst.

After a change: tools/compile-layouts.
"""

from construct import (
    Array,
    Bytes,
    Const,
    Int8ul,
    Int16ul,
    Int32ul,
    Int64ul,
    Padding,
    Struct,
)

_SETUP_HEADER_OFFSET = 0x1F1
_E820_MAX_ENTRIES_ZEROPAGE = 128
_EDD_MBR_SIG_MAX = 16
_EDDMAXNR = 6
_EDD_INFO_SIZE = 82

SETUP_HEADER = Struct(
    "setup_sects" / Int8ul,  # 0x1f1
    "root_flags" / Int16ul,
    "syssize" / Int32ul,  # in 16-byte units
    "ram_size" / Int16ul,
    "vid_mode" / Int16ul,
    "root_dev" / Int16ul,
    "boot_flag" / Int16ul,  # 0x1fe
    "jump" / Int16ul,  # 0x200
    "header" / Bytes(4),  # "HdrS"
    "version" / Int16ul,
    "realmode_swtch" / Int32ul,
    "start_sys_seg" / Int16ul,
    "kernel_version" / Int16ul,
    "type_of_loader" / Int8ul,  # 0x210
    "loadflags" / Int8ul,
    "setup_move_size" / Int16ul,
    "code32_start" / Int32ul,
    "ramdisk_image" / Int32ul,  # 0x218
    "ramdisk_size" / Int32ul,
    "bootsect_kludge" / Int32ul,
    "heap_end_ptr" / Int16ul,
    "ext_loader_ver" / Int8ul,
    "ext_loader_type" / Int8ul,
    "cmd_line_ptr" / Int32ul,  # 0x228
    "initrd_addr_max" / Int32ul,
    "kernel_alignment" / Int32ul,  # 0x230
    "relocatable_kernel" / Int8ul,
    "min_alignment" / Int8ul,
    "xloadflags" / Int16ul,
    "cmdline_size" / Int32ul,  # without the terminating NUL
    "hardware_subarch" / Int32ul,  # 0x23c
    "hardware_subarch_data" / Int64ul,
    "payload_offset" / Int32ul,
    "payload_length" / Int32ul,
    "setup_data" / Int64ul,  # 0x250
    "pref_address" / Int64ul,
    "init_size" / Int32ul,  # 0x260
    "handover_offset" / Int32ul,
    "kernel_info_offset" / Int32ul,  # 0x268
)

EFI_INFO = Struct(
    "efi_loader_signature" / Bytes(4),
    "efi_systab" / Int32ul,
    "efi_memdesc_size" / Int32ul,
    "efi_memdesc_version" / Int32ul,
    "efi_memmap" / Int32ul,
    "efi_memmap_size" / Int32ul,
    "efi_systab_hi" / Int32ul,
    "efi_memmap_hi" / Int32ul,
)

E820_ENTRY = Struct("addr" / Int64ul, "size" / Int64ul, "type" / Int32ul)

BOOT_PARAMS = Struct(
    "screen_info" / Bytes(64),  # 0x000
    "apm_bios_info" / Bytes(20),  # 0x040
    Padding(4),
    "tboot_addr" / Int64ul,  # 0x058
    "ist_info" / Bytes(16),  # 0x060
    "acpi_rsdp_addr" / Int64ul,  # 0x070
    Padding(8),
    "hd0_info" / Bytes(16),  # 0x080
    "hd1_info" / Bytes(16),
    "sys_desc_table" / Bytes(16),  # 0x0a0
    "olpc_ofw_header" / Bytes(16),
    "ext_ramdisk_image" / Int32ul,  # 0x0c0
    "ext_ramdisk_size" / Int32ul,
    "ext_cmd_line_ptr" / Int32ul,
    Padding(112),
    "cc_blob_address" / Int32ul,  # 0x13c
    "edid_info" / Bytes(128),  # 0x140
    "efi_info" / EFI_INFO,  # 0x1c0
    "alt_mem_k" / Int32ul,  # 0x1e0
    "scratch" / Int32ul,
    "e820_entries" / Int8ul,  # 0x1e8
    "eddbuf_entries" / Int8ul,
    "edd_mbr_sig_buf_entries" / Int8ul,
    "kbd_status" / Int8ul,
    "secure_boot" / Int8ul,  # 0x1ec
    Padding(2),
    # A loader that does not clear unknown fields leaves this one non-zero; the kernel then ignores them
    # (sanitize_boot_params()).
    "sentinel" / Const(0, Int8ul),  # 0x1ef
    Padding(1),
    "hdr" / SETUP_HEADER,  # 0x1f1
    Padding(0x290 - _SETUP_HEADER_OFFSET - SETUP_HEADER.sizeof()),
    "edd_mbr_sig_buffer" / Array(_EDD_MBR_SIG_MAX, Int32ul),  # 0x290
    "e820_table" / Array(_E820_MAX_ENTRIES_ZEROPAGE, E820_ENTRY),  # 0x2d0
    Padding(48),
    "eddbuf" / Bytes(_EDDMAXNR * _EDD_INFO_SIZE),  # 0xd00
    Padding(276),
)

SETUP_DATA = Struct("next" / Int64ul, "type" / Int32ul, "len" / Int32ul)  # then len bytes

EFI_SETUP_DATA = Struct(
    "fw_vendor" / Int64ul,
    "runtime" / Int64ul,
    "tables" / Int64ul,
    "smbios" / Int64ul,
    Padding(8 * 8),
)

EFI_MEMORY_DESC = Struct(
    "type" / Int32ul,
    Padding(4),
    "phys_addr" / Int64ul,
    "virt_addr" / Int64ul,
    "num_pages" / Int64ul,
    "attribute" / Int64ul,
)

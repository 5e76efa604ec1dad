"""Compiled from declared.py by tools/compile-layouts: change that one."""

from pykexec.records import Numbers, Record, Records

SETUP_HEADER = Record(
    "<BHLHHHHH4sHLHHBBHLLLLHBBLLLBBHLLQLLQQLLL",
    "setup_sects root_flags syssize ram_size vid_mode root_dev boot_flag jump header "
    "version realmode_swtch start_sys_seg kernel_version type_of_loader loadflags "
    "setup_move_size code32_start ramdisk_image ramdisk_size bootsect_kludge "
    "heap_end_ptr ext_loader_ver ext_loader_type cmd_line_ptr initrd_addr_max "
    "kernel_alignment relocatable_kernel min_alignment xloadflags cmdline_size "
    "hardware_subarch hardware_subarch_data payload_offset payload_length setup_data "
    "pref_address init_size handover_offset kernel_info_offset",
)

EFI_INFO = Record(
    "<4sLLLLLLL",
    "efi_loader_signature efi_systab efi_memdesc_size efi_memdesc_version efi_memmap "
    "efi_memmap_size efi_systab_hi efi_memmap_hi",
)

E820_ENTRY = Record(
    "<QQL",
    "addr size type",
)

BOOT_PARAMS = Record(
    "<64s20s4xQ16sQ8x16s16s16s16sLLL112xL128s32sLLBBBBB2xB1x123s36x64s2560s48x492s276x",
    "screen_info apm_bios_info tboot_addr ist_info acpi_rsdp_addr hd0_info hd1_info "
    "sys_desc_table olpc_ofw_header ext_ramdisk_image ext_ramdisk_size "
    "ext_cmd_line_ptr cc_blob_address edid_info efi_info alt_mem_k scratch "
    "e820_entries eddbuf_entries edd_mbr_sig_buf_entries kbd_status secure_boot "
    "sentinel hdr edd_mbr_sig_buffer e820_table eddbuf",
    inner={
        "efi_info": EFI_INFO,
        "hdr": SETUP_HEADER,
        "edd_mbr_sig_buffer": Numbers("<16L"),
        "e820_table": Records(E820_ENTRY, 128),
    },
    constants={
        "sentinel": 0,
    },
)

SETUP_DATA = Record(
    "<QLL",
    "next type len",
)

EFI_SETUP_DATA = Record(
    "<QQQQ64x",
    "fw_vendor runtime tables smbios",
)

EFI_MEMORY_DESC = Record(
    "<L4xQQQQ",
    "type phys_addr virt_addr num_pages attribute",
)

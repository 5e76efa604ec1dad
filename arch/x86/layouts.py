"""The boot protocol's structures and constants, named as in bootparam.h and boot.rst.

arch/x86/include/uapi/asm/bootparam.h, Documentation/arch/x86/boot.rst.
"""

from pykexec.arch.x86.compiled import (
    BOOT_PARAMS,
    E820_ENTRY,
    EFI_INFO,
    EFI_MEMORY_DESC,
    EFI_SETUP_DATA,
    SETUP_DATA,
    SETUP_HEADER,
)

__all__ = [
    "BOOT_PARAMS",
    "E820_ENTRY",
    "EFI_INFO",
    "EFI_MEMORY_DESC",
    "EFI_SETUP_DATA",
    "SETUP_DATA",
    "SETUP_HEADER",
]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    Parsed: TypeAlias = Any
else:
    Parsed = object
"""What parsers return: a container whose attributes are the fields."""

SETUP_HEADER_OFFSET = 0x1F1

KEXEC_LOADER_ID = 0xD0  # boot.rst, type_of_loader: 0xD is kexec-tools; the low digit is a version
LOADED_HIGH = 1 << 0  # loadflags

XLF_KERNEL_64 = 1 << 0
XLF_CAN_BE_LOADED_ABOVE_4G = 1 << 1
XLF_EFI_KEXEC = 1 << 4
XLF_5LEVEL = 1 << 5

E820_MAX_ENTRIES_ZEROPAGE = 128

# enum setup_data_type, arch/x86/include/uapi/asm/setup_data.h
SETUP_E820_EXT = 1
SETUP_EFI = 4
SETUP_CC_BLOB = 7
SETUP_IMA = 8
SETUP_RNG_SEED = 9
SETUP_KEXEC_KHO = 10

EFI_MEMORY_DESC_VERSION = 1

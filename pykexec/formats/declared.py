"""Headers of kernels and of their containers.

After a change: tools/compile-layouts.
"""

from construct import Bytes, Int8ub, Int32ub, Int32ul, Int64ul, Padding, Struct

ZBOOT = Struct(  # libstub/zboot-header.S
    "mz" / Bytes(4),
    "magic" / Bytes(4),
    "payload_offset" / Int32ul,
    "payload_size" / Int32ul,
    Padding(8),
    Padding(32),  # the compression's name; its first bytes tell it, too
)
UIMAGE = Struct(  # U-Boot's include/image.h
    "magic" / Bytes(4),
    "header_crc" / Int32ub,
    "time" / Int32ub,
    "size" / Int32ub,
    "load" / Int32ub,
    "entry" / Int32ub,
    "data_crc" / Int32ub,
    "os" / Int8ub,
    "arch" / Int8ub,
    "type" / Int8ub,
    "compression" / Int8ub,
    "name" / Bytes(32),
)
IMAGE = Struct(  # Documentation/arch/arm64/booting.rst, Documentation/arch/riscv/boot-image-header.rst
    "code0" / Int32ul,
    "code1" / Int32ul,
    "text_offset" / Int64ul,  # 0x08
    "image_size" / Int64ul,  # 0x10
    "flags" / Int64ul,  # 0x18
    Padding(24),
    "magic" / Bytes(4),  # 0x38
    "pe_offset" / Int32ul,
)

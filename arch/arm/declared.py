"""Headers of arm's kernels.

After a change: tools/compile-layouts.
"""

from construct import Int32ul, Padding, Struct

ZIMAGE = Struct(  # arch/arm/boot/compressed/head.S
    Padding(0x24),
    "magic" / Int32ul,
    "start" / Int32ul,
    "end" / Int32ul,
    "byte_order" / Int32ul,
    "extended" / Int32ul,  # 0x34
    "table" / Int32ul,
)
KERNEL_SIZE = Struct(  # arch/arm/boot/compressed/vmlinux.lds.S; the last two since Linux 5.10
    "size" / Int32ul,  # in words, itself included
    "tag" / Int32ul,
    "inflated_at" / Int32ul,
    "bss" / Int32ul,
    "text_offset" / Int32ul,
    "heap" / Int32ul,
)

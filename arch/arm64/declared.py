"""The header of an arm64 Image (booting.rst, "Call the kernel image").

After a change: tools/compile-layouts.
"""

from construct import Bytes, Int32ul, Int64ul, Padding, Struct

HEADER = Struct(
    "code0" / Int32ul,
    "code1" / Int32ul,
    "text_offset" / Int64ul,  # 0x08
    "image_size" / Int64ul,  # 0x10
    "flags" / Int64ul,  # 0x18
    Padding(24),
    "magic" / Bytes(4),  # 0x38
    "res5" / Int32ul,
)

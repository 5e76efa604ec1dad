"""Compiled from declared.py by tools/compile-layouts: change that one."""

from pykexec.records import Record

ZBOOT = Record(
    "<4s4sLL8x32x",
    "mz magic payload_offset payload_size",
)

UIMAGE = Record(
    ">4sLLLLLLBBBB32s",
    "magic header_crc time size load entry data_crc os arch type compression name",
)

IMAGE = Record(
    "<LLQQQ24x4sL",
    "code0 code1 text_offset image_size flags magic pe_offset",
)

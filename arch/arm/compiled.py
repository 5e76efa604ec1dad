"""Compiled from declared.py by tools/compile-layouts: change that one."""

from pykexec.records import Record

ZIMAGE = Record(
    "<36xLLLLLL",
    "magic start end byte_order extended table",
)

KERNEL_SIZE = Record(
    "<LLLLLL",
    "size tag inflated_at bss text_offset heap",
)

"""Compiled from declared.py by tools/compile-layouts: change that one."""

from pykexec.records import Record

HEADER = Record(
    "=8sQQ32s72s72sQQQQQQQ",
    "magic version size digest machine release page_size crash_start crash_size entry "
    "flags fact_count segment_count",
)

FACT = Record(
    "<64s32s",
    "pattern digest",
)

SEGMENT = Record(
    "=32sQQQQ",
    "name address memory_size offset size",
)

"""Compiled from declared.py by tools/compile-layouts: change that one."""

from pykexec.records import Numbers, Record

REGION = Record(
    "=QQ16s32s",
    "address size name digest",
)

PARAMS = Record(
    "=LLLLQ32sLLQLLQQQQQLL",
    "magic version size flags jump_to arguments console console_shift console_base "
    "console_divisor unused backup_source backup_destination backup_size "
    "jump_back_digits jump_back_entry region_count reset",
    inner={
        "arguments": Numbers("=4Q"),
    },
)

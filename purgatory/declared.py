"""The parameter block: struct params and struct region of common/params.h.

After a change: tools/compile-layouts.
"""

from construct import Array, Bytes, Int32ul, Int64ul, Struct

_NAME_SIZE = 16
_ARGUMENTS = 4

REGION = Struct(
    "address" / Int64ul,
    "size" / Int64ul,
    "name" / Bytes(_NAME_SIZE),
    "digest" / Bytes(32),
)
PARAMS = Struct(
    "magic" / Int32ul,
    "version" / Int32ul,
    "size" / Int32ul,
    "flags" / Int32ul,
    "jump_to" / Int64ul,
    "arguments" / Array(_ARGUMENTS, Int64ul),
    "console" / Int32ul,
    "console_shift" / Int32ul,
    "console_base" / Int64ul,
    "console_divisor" / Int32ul,
    "unused" / Int32ul,
    "backup_source" / Int64ul,
    "backup_destination" / Int64ul,
    "backup_size" / Int64ul,
    "jump_back_digits" / Int64ul,
    "jump_back_entry" / Int64ul,
    "region_count" / Int32ul,
    "reset" / Int32ul,
    # then _REGIONS_MAX times REGION
)

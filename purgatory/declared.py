"""The parameter block: struct params and struct region of common/params.h, in the machine's byte order.

After a change: tools/compile-layouts.
"""

from construct import Array, Bytes, Int32un, Int64un, Struct

_NAME_SIZE = 16
_ARGUMENTS = 4

REGION = Struct(
    "address" / Int64un,
    "size" / Int64un,
    "name" / Bytes(_NAME_SIZE),
    "digest" / Bytes(32),
)
PARAMS = Struct(
    "magic" / Int32un,
    "version" / Int32un,
    "size" / Int32un,
    "flags" / Int32un,
    "jump_to" / Int64un,
    "arguments" / Array(_ARGUMENTS, Int64un),
    "console" / Int32un,
    "console_shift" / Int32un,
    "console_base" / Int64un,
    "console_divisor" / Int32un,
    "unused" / Int32un,
    "backup_source" / Int64un,
    "backup_destination" / Int64un,
    "backup_size" / Int64un,
    "jump_back_digits" / Int64un,
    "jump_back_entry" / Int64un,
    "region_count" / Int32un,
    "reset" / Int32un,
    # then _REGIONS_MAX times REGION
)

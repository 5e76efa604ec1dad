"""A plan's file: the structures of purgatory/exec/planfile.h, in the machine's byte order.

After a change: tools/compile-layouts, and tools/build-exec-helper.
"""

from construct import Bytes, Int64un, Struct

_NAME_SIZE = 72  # a name of uname(2) has 64 bytes at most (include/uapi/linux/utsname.h)

HEADER = Struct(
    "magic" / Bytes(8),
    "version" / Int64un,
    "size" / Int64un,
    "digest" / Bytes(32),
    "machine" / Bytes(_NAME_SIZE),
    "release" / Bytes(_NAME_SIZE),
    "page_size" / Int64un,
    "crash_start" / Int64un,
    "crash_size" / Int64un,
    "entry" / Int64un,
    "flags" / Int64un,
    "fact_count" / Int64un,
    "segment_count" / Int64un,
    # then `fact_count` times FACT, then `segment_count` times SEGMENT
)
FACT = Struct(
    "pattern" / Bytes(64),
    "digest" / Bytes(32),
)
SEGMENT = Struct(
    "name" / Bytes(32),
    "address" / Int64un,
    "memory_size" / Int64un,
    "offset" / Int64un,
    "size" / Int64un,
)

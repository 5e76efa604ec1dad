"""A plan's file: the structures of purgatory/exec/planfile.h, in the machine's byte order.

pykexec-plan(5) is made of the texts beside the fields. After a change of more than those:
tools/compile-layouts, and tools/build-exec-helper.
"""

from construct import Bytes, Int64un, Struct

_NAME_SIZE = 72  # a name of uname(2) has 64 bytes at most (include/uapi/linux/utsname.h)

HEADER = Struct(
    "magic" / Bytes(8) * '"KEXPLAN" and a zero byte.',
    "version" / Int64un * "1.",
    "size" / Int64un * "The size of the file, in bytes.",
    "digest" / Bytes(32) * "The SHA-256 of all that follows.",
    "machine" / Bytes(_NAME_SIZE) * "What uname -m prints.",
    "release" / Bytes(_NAME_SIZE) * "What uname -r prints.",
    "page_size" / Int64un * "The page size of the running kernel, in bytes.",
    "crash_start"
    / Int64un
    * "The last region that is reserved for a crash kernel: its address, 0 for none.",
    "crash_size" / Int64un * "Its size, in bytes; 0 for none.",
    "entry" / Int64un * "The entry of kexec_load(2): the address where to start.",
    "flags" / Int64un * "The flags of kexec_load(2).",
    "fact_count" / Int64un * "The number of facts that follow, 64 at most.",
    "segment_count" / Int64un * "The number of segments that follow those, from 1 to 16.",
    # then `fact_count` times FACT, then `segment_count` times SEGMENT
)
FACT = Struct(
    "pattern" / Bytes(64) * "A pattern of paths, without the first slash; ** is for all below a folder.",
    "digest"
    / Bytes(32)
    * (
        "The exclusive or of the SHA-256 of each file that matches: of its path, a zero byte, and what a"
        " snapshot has of it."
    ),
)
SEGMENT = Struct(
    "name" / Bytes(32) * "What it is, for messages.",
    "address" / Int64un * "Its physical address, at the beginning of a page.",
    "memory_size" / Int64un * "Its size in memory, in bytes: whole pages. What has no contents is zero.",
    "offset" / Int64un * "Where in the file its contents are, at the beginning of a page.",
    "size" / Int64un * "The size of its contents, in bytes.",
)

"""The first bytes of a kernel's containers; the code that opens one is imported only when it is met."""

COMPRESSIONS: tuple[tuple[str, bytes], ...] = (
    ("gzip", b"\x1f\x8b\x08"),
    ("xz", b"\xfd7zXZ\0"),
    ("lzma", b"\x5d\x00\x00"),
    ("bzip2", b"BZh"),
    ("zstd", b"\x28\xb5\x2f\xfd"),
    ("lz4", b"\x04\x22\x4d\x18"),
    ("lz4", b"\x02\x21\x4c\x18"),  # legacy frames, as made by lz4 -l for kernels and initramfs
    ("lzop", b"\x89LZO\0\r\n\x1a\n"),
)
UIMAGE = b"\x27\x05\x19\x56"
DEVICE_TREE = b"\xd0\x0d\xfe\xed"
CPIO = (b"070701", b"070702")
"""The newc format, without and with checksums: the formats a kernel unpacks (init/initramfs.c)."""

_PE_HEADERS_MAX = 24 + 0x10000 + 96 * 40
"""Both headers and the table of at most 96 sections (Microsoft's PE format)."""


_SKIPPABLE = b"\x2a\x4d\x18"
_SKIPPABLE_MAX = 16


def behind_skippable(data: memoryview) -> memoryview:
    """Return the data after skippable frames (RFC 8878, 3.1.2), which mean nothing; pzstd writes them."""
    for _ in range(_SKIPPABLE_MAX):
        if bytes(data[1:4]) != _SKIPPABLE or data[0] >> 4 != 5:
            break
        data = data[8 + int.from_bytes(data[4:8], "little") :]
    return data


def compression(data: memoryview) -> str | None:
    """Return the compression's name; None for data that is not compressed."""
    data = behind_skippable(data)
    for name, magic in COMPRESSIONS:
        if bytes(data[: len(magic)]) == magic:
            return name
    return None


def may_be_bundle(data: memoryview) -> bool:
    """Return whether the data begins like a unified kernel image or a FIT image; all of these begin so."""
    if bytes(data[:4]) == DEVICE_TREE:
        return True
    if bytes(data[:2]) != b"MZ":
        return False
    start = int.from_bytes(data[0x3C:0x40], "little")
    return b".linux\0\0" in bytes(data[start : start + _PE_HEADERS_MAX])


def is_wrapped(data: memoryview) -> bool:
    """Return whether the data is compressed, or a container with nothing but a kernel in it."""
    return compression(data) is not None or is_zboot(data) or bytes(data[:4]) == UIMAGE


def is_zboot(data: memoryview) -> bool:
    """Return whether the data is an EFI zboot image (drivers/firmware/efi/libstub/zboot-header.S)."""
    return bytes(data[:2]) == b"MZ" and bytes(data[4:8]) == b"zimg"

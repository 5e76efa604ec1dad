"""The first bytes by which a kernel's wrapping is known; what unwraps it is imported when met."""

COMPRESSIONS: tuple[tuple[str, bytes], ...] = (
    ("gzip", b"\x1f\x8b\x08"),
    ("xz", b"\xfd7zXZ\0"),
    ("lzma", b"\x5d\x00\x00"),
    ("bzip2", b"BZh"),
    ("zstd", b"\x28\xb5\x2f\xfd"),
    ("lz4", b"\x04\x22\x4d\x18"),
    ("lz4", b"\x02\x21\x4c\x18"),  # the legacy frame, which kernels and initramfs are made with (lz4 -l)
    ("lzop", b"\x89LZO\0\r\n\x1a\n"),
)
UIMAGE = b"\x27\x05\x19\x56"
DEVICE_TREE = b"\xd0\x0d\xfe\xed"
CPIO = (b"070701", b"070702")
"""The newc format, without and with checksums: what a kernel unpacks (init/initramfs.c)."""


def compression(data: memoryview) -> str | None:
    """The compression's name, or None for what is not compressed."""
    for name, magic in COMPRESSIONS:
        if bytes(data[: len(magic)]) == magic:
            return name
    return None


def is_zboot(data: memoryview) -> bool:
    """Whether this is an EFI zboot image (drivers/firmware/efi/libstub/zboot-header.S)."""
    return bytes(data[:2]) == b"MZ" and bytes(data[4:8]) == b"zimg"

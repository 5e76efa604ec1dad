"""An EFI zboot image made by hand, from drivers/firmware/efi/libstub/zboot-header.S alone."""

import struct


def zboot(payload: bytes, compression: bytes) -> bytes:
    header = struct.pack("<4s4sII8x32s", b"MZ\0\0", b"zimg", 0x1000, len(payload), compression)
    return header.ljust(0x1000, b"\0") + payload + bytes(512)

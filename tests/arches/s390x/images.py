"""An s390x image made by hand, from the layout in arch/s390/include/asm/setup.h alone."""

import struct
from dataclasses import dataclass

PARAMETERS, LINE = 0x10400, 0x10480


@dataclass(frozen=True)
class FakeImage:
    """Fields of the parameter area by their names there."""

    max_command_line_size: int = 4096
    version: bytes = b"6.1.1-test (builder@host) #1 SMP"
    kernel_version: int = 0x18000
    """Where the version is."""
    size: int = 0x20000
    signature: bytes = b"S390EP"

    def build(self) -> bytes:
        data = bytearray(bytes(range(256)) * (self.size // 256))
        data[0x10008:0x10010] = self.signature + b"\0\1"
        fields = (0, 0, 0, 0, 0, self.kernel_version, self.max_command_line_size)
        struct.pack_into(">7Q", data, PARAMETERS, *fields)
        default = b"root=/dev/ram0 ro"
        data[LINE : LINE + 4096] = default.ljust(4096, b"\0")
        if self.kernel_version:
            text = self.version + b"\0"
            data[self.kernel_version : self.kernel_version + len(text)] = text
        return bytes(data)

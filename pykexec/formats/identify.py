"""Saying what a file is that turned out not to be the kernel it should be."""

from elftools.elf.enums import ENUM_E_MACHINE

_PE_MACHINES = {0x014C: "i386", 0x8664: "x86_64", 0xAA64: "arm64", 0x01C2: "arm", 0x5064: "riscv64"}
"""IMAGE_FILE_MACHINE_* of Microsoft's PE format."""
_ELF_MACHINES = {number: name.removeprefix("EM_").lower() for name, number in ENUM_E_MACHINE.items()}


def describe(data: memoryview) -> str | None:
    """Such as "an EFI executable for arm64"; None for what is not known."""
    if bytes(data[:4]) == b"\x7fELF" and data.nbytes >= 20:
        machine = int.from_bytes(data[18:20], "big" if data[5] == 2 else "little")
        return f"an ELF file for {_ELF_MACHINES.get(machine, f'machine {machine}')}"
    if bytes(data[:2]) == b"MZ" and data.nbytes >= 0x40:
        start = int.from_bytes(data[0x3C:0x40], "little")
        if bytes(data[start : start + 4]) == b"PE\0\0" and start + 6 <= data.nbytes:
            machine = int.from_bytes(data[start + 4 : start + 6], "little")
            return f"an EFI executable for {_PE_MACHINES.get(machine, f'machine {machine:#x}')}"
    return None

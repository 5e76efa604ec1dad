"""ACPI's root pointer, by its checksums (ACPI specification, 5.2.5.3)."""

import struct

import pytest

from pykexec.arch.x86 import acpi


def summed(data: bytearray, place: int) -> bytearray:
    data[place] = -sum(data) & 0xFF
    return data


def rsdp(revision: int = 2, length: int = 36) -> bytes:
    first = summed(bytearray(struct.pack("<8sB6sBI", b"RSD PTR ", 0, b"BOCHS ", revision, 0x7FE0000)), 8)
    if revision < 2:
        return bytes(first)
    rest = struct.pack("<IQB3x", length, 0x7FE1000, 0).ljust(length - 20, b"x")
    return bytes(summed(first + rest, 32))


@pytest.mark.parametrize("good", [rsdp(0), rsdp(), rsdp(length=40)], ids=["1.0", "2.0", "larger"])
def test_good(good: bytes) -> None:
    assert acpi.checked(good) == good
    assert acpi.checked(good + b"what is behind it") == good


@pytest.mark.parametrize("good", [rsdp(0), rsdp(), rsdp(length=40)], ids=["1.0", "2.0", "larger"])
def test_any_wrong_byte_is_noticed(good: bytes) -> None:
    for place in range(len(good)):
        damaged = bytearray(good)
        damaged[place] ^= 1
        assert acpi.checked(bytes(damaged)) is None, place
        assert acpi.checked(good[:place]) is None

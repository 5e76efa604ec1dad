"""What files of kernels tell, by the numbers of the kernel's and the formats' own documents."""

import contextlib
import io
from dataclasses import replace

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import given
from hypothesis import strategies as st

from pykexec import arch as architectures
from pykexec.booting.kernel import KernelFacts, identify, inspect, memory_of, release_of, told
from pykexec.errors import ImageError
from pykexec.files import FileData
from tests.support.arm64_image import FakeImage
from tests.support.bzimage import FakeBzImage
from tests.support.pe import portable_executable
from tests.support.program import Load, Program, multiboot1, multiboot2

X86_64 = architectures.find("x86_64")
ARM64 = architectures.find("aarch64")
I386 = architectures.find("i686")
assert X86_64 is not None
assert ARM64 is not None
EITHER = (X86_64, ARM64)

RELEASE = "6.1.0-50-test"
BANNER = b"\0Linux version 6.1.0-50-test (x@y) #1\n\0"
MIB = 1 << 20


def file(data: bytes) -> FileData:
    return FileData.from_bytes("kernel", data)


def vmlinux(machine: int, bits: int = 64, order: str = "<") -> bytes:
    """As the linker makes it: text, data, and what is zero; addresses with a gap between them."""
    loads = [
        Load(16 * MIB, BANNER + b"text" * 100),
        Load(18 * MIB, b"data" * 100, memsz=3 * MIB + 5),
    ]
    return Program(loads, 16 * MIB, bits=bits, machine=machine, order=order).build()


def with_version(text: bytes, offset: int = 0x400, kernel: FakeBzImage | None = None) -> bytes:
    """boot.rst, kernel_version: a pointer less 0x200."""
    data = bytearray((kernel or FakeBzImage()).build())
    data[0x20E:0x210] = offset.to_bytes(2, "little")
    data[0x600 : 0x600 + len(text)] = text
    return bytes(data)


NO_64BIT_ENTRY = FakeBzImage(xloadflags=0, init_size=5 * MIB + 1)


@pytest.mark.parametrize(
    ("machine", "data", "format_", "memory", "line_limit", "release", "for_file_load"),
    [
        (X86_64, with_version(b"6.1 (x@y)\0"), "bzImage64", 4 * MIB, 2047, "6.1", True),
        (X86_64, with_version(b"", 0, NO_64BIT_ENTRY), "bzImage", 5 * MIB + 4096, 2047, None, False),
        (X86_64, FakeBzImage(version=0x205).build(), "bzImage", None, 255, None, False),
        (X86_64, vmlinux(62), "elf-x86_64", 5 * MIB + 4096, 2047, RELEASE, False),
        (X86_64, vmlinux(3, 32), "elf-x86", 5 * MIB + 4096, 2047, RELEASE, False),
        (X86_64, multiboot1() + bytes(100), "multiboot-x86", None, None, None, False),
        (X86_64, multiboot2() + bytes(100), "multiboot2-x86", None, None, None, False),
        (
            ARM64,
            FakeImage(image_size=3 * MIB).build() + BANNER,
            "Image",
            3 * MIB,
            2047,
            "6.1.0-50-test",
            True,
        ),
        (ARM64, FakeImage(image_size=0).build(), "Image", 16 * MIB, 2047, None, True),
        (ARM64, vmlinux(183), "vmlinux", 5 * MIB + 5, 2047, RELEASE, False),
    ],
)
def test_kernels_of_their_architecture(
    machine: architectures.Arch,
    data: bytes,
    format_: str,
    memory: int | None,
    line_limit: int | None,
    release: str | None,
    for_file_load: bool,
) -> None:
    found = inspect(file(data), machine)
    assert found is not None
    assert (found.arch, found.format, found.line_limit) == (machine.name, format_, line_limit)
    assert (found.release, found.is_for_file_load) == (release, for_file_load)
    assert memory is None or found.memory == memory
    assert I386 is not None
    runs_on_i386 = inspect(file(data), I386) == replace(found, arch="i386")
    for first in (None, *EITHER):
        whose = "i386" if runs_on_i386 and first != machine else machine.name
        assert identify(file(data), first) == replace(found, arch=whose), "whichever is asked first"
    (other,) = (each for each in EITHER if each != machine)
    assert inspect(file(data), other) is None


def test_a_kernel_that_does_not_tell_its_memory_gets_enough() -> None:
    """Before protocol 2.10 (boot.rst, init_size): four times their size is too little."""
    found = told(file(FakeBzImage(version=0x205).build()))
    assert found is not None
    assert found.memory is not None
    assert found.memory > 4 * 8192


@pytest.mark.parametrize(
    ("data", "name"),
    [
        # include/uapi/linux/elf-em.h
        (vmlinux(50), "ia64"),
        (vmlinux(258, 32), "loongarch32"),
        (vmlinux(15, order=">"), "parisc64"),
        (vmlinux(42, 32, ">"), "sheb"),
        (vmlinux(2, 32, ">"), "sparc"),
        # Microsoft's PE format, "Machine types"
        (portable_executable([(".text", b"x")], machine=0x200), "ia64"),
        (portable_executable([(".text", b"x")], machine=0x6232), "loongarch32"),
    ],
)
def test_kernels_of_architectures_without_a_loader(data: bytes, name: str) -> None:
    for first in (None, *EITHER):
        found = identify(file(data), first)
        assert found is not None
        assert found.arch == name
        assert (found.memory, found.line_limit, found.is_for_file_load) == (None, None, False)
        assert memory_of(file(data), found) == len(data)


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"text", bytes(5000), b"\x7fELF", b"MZ" + bytes(100), b"\x7fELF\2\1\1" + bytes(500)),
        portable_executable([(".text", b"x")]),
        portable_executable([(".text", b"x")], machine=0xAA64),
    ],
)
def test_files_that_are_no_kernels(data: bytes) -> None:
    assert identify(file(data)) is None
    assert memory_of(file(data), None) == len(data)
    assert release_of(file(data + BANNER)) is None


@pytest.mark.parametrize(
    "data",
    [
        FakeBzImage(init_size=0).build(),
        FakeBzImage().build()[:0x300],
        FakeImage(image_size=1 << 63).build(),
        vmlinux(62)[:500],
        vmlinux(183)[:500],
    ],
)
def test_damaged_kernels(data: bytes) -> None:
    with pytest.raises(ImageError):
        identify(file(data))
    assert told(file(data)) is None
    assert release_of(file(data)) is None


@pytest.mark.parametrize(
    ("data", "release"),
    [
        (with_version(b"6.1.0-50-amd64 (x@y) #1 SMP\0"), "6.1.0-50-amd64"),
        (with_version(b"6.1.0-50-amd64"), "6.1.0-50-amd64"),
        (with_version(b"\0"), None),
        (with_version(b"x", 0), None),
        (with_version(b"x", 0xFFFF), None),
        (FakeImage(image_size=MIB).build() + b"\0Linux version " + b"x" * 100, None),
        (FakeImage().build(), None),
    ],
)
def test_release(data: bytes, release: str | None) -> None:
    assert release_of(file(data)) == release


LOADS = st.lists(
    st.tuples(st.integers(0, 1 << 20), st.integers(0, 300), st.integers(0, 1 << 20)), min_size=1, max_size=5
)


@given(LOADS, st.sampled_from([(62, X86_64), (3, X86_64), (183, ARM64)]))
def test_memory_of_a_vmlinux_is_from_its_first_byte_to_its_last(
    parts: list[tuple[int, int, int]], machine: tuple[int, architectures.Arch]
) -> None:
    """pyelftools is the oracle; no two segments overlap."""
    at, loads = 1 << 20, []
    for gap, size, zeros in parts:
        at += gap
        loads.append(Load(at, b"x" * size, memsz=size + zeros))
        at += size + zeros
    number, arch = machine
    data = Program(loads, 1 << 20, bits=32 if number == 3 else 64, machine=number).build()
    rows = [each for each in ELFFile(io.BytesIO(data)).iter_segments("PT_LOAD") if each["p_memsz"]]
    found = told(file(data), arch)
    if not rows:
        assert found is None
        return
    start, end = (
        min(each["p_paddr"] for each in rows),
        max(each["p_paddr"] + each["p_memsz"] for each in rows),
    )
    assert found is not None
    assert found.memory is not None
    assert 0 <= found.memory - (end - start) < 4096


KERNELS = (
    with_version(b"6.1\0"),
    FakeImage(image_size=MIB).build() + BANNER,
    vmlinux(62),
    vmlinux(183),
    portable_executable([(".text", b"x")], machine=0x5064),
)


@given(st.data())
def test_any_damage_is_told_or_refused(data: st.DataObject) -> None:
    blob = bytearray(data.draw(st.sampled_from(KERNELS)))
    for _ in range(data.draw(st.integers(1, 8))):
        blob[data.draw(st.integers(0, min(len(blob), 0x800) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(blob)) | st.just(len(blob)))
    with contextlib.suppress(ImageError):
        found = identify(file(bytes(blob[:end])), data.draw(st.sampled_from([None, *EITHER])))
        assert found is None or isinstance(found, KernelFacts)
        assert found is None or found.release is None or len(found.release) <= 256


def test_facts_are_printed_without_the_kernel() -> None:
    assert len(repr(told(file(vmlinux(62))))) < 400

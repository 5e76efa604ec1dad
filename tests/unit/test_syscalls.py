"""What reaches the kernel: read back from memory with struct, as the kernel would."""

import ctypes
import errno
import mmap
import os
import struct
import sys
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec import names, syscalls
from pykexec.errors import PykexecError
from pykexec.files import FileData
from pykexec.formats import elfheader
from pykexec.plan import Segment

Loaded = tuple[int, int, bytes]


class FakeKernel:
    """Reads the segment table and the buffers as copy_from_user() does, at the moment of the call."""

    def __init__(self) -> None:
        self.entry = self.flags = -1
        self.loaded: list[Loaded] = []

    def __call__(self, number: int, entry: int, count: int, table: int, flags: int) -> int:
        self.entry, self.flags = entry, flags
        for index in range(count):
            buf, bufsz, mem, memsz = struct.unpack("@4N", ctypes.string_at(table + index * 32, 32))
            self.loaded.append((mem, memsz, ctypes.string_at(buf, bufsz) if bufsz else b""))
        return 0


def segment(address: int, memsz: int, data: memoryview) -> Segment:
    return Segment("kernel", address, memsz, data, "test")


@given(
    st.lists(st.tuples(st.integers(0, 2**51), st.integers(1, 2**20), st.binary(max_size=300)), max_size=16)
)
def test_kernel_sees_the_segments(contents: list[Loaded]) -> None:
    kernel = FakeKernel()
    segments = [segment(page << 12, pages << 12, memoryview(data)) for page, pages, data in contents]
    syscalls.kexec_load(0x1234, segments, 0x3E0001, call=kernel)
    assert (kernel.entry, kernel.flags) == (0x1234, 0x3E0001)
    assert kernel.loaded == [(page << 12, pages << 12, data) for page, pages, data in contents]


def test_every_kind_of_buffer_is_passed_in_place(tmp_path: Path) -> None:
    content = os.urandom(8 << 20)
    file = tmp_path / "initrd"
    file.write_bytes(content)
    mapped = FileData.open(file, "initrd").data
    with file.open("rb") as opened:
        read_only = memoryview(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ))
    views = [mapped, mapped[4096:], read_only, memoryview(content)[1:-1], memoryview(bytearray(content))]
    addresses = []
    maps = Path("/proc/self/maps").read_text()

    def kernel(number: int, entry: int, count: int, table: int, flags: int) -> int:
        for index, view in enumerate(views):
            buf, bufsz, _, _ = struct.unpack("@4N", ctypes.string_at(table + index * 32, 32))
            assert bufsz == view.nbytes
            assert ctypes.string_at(buf + bufsz - 64, 64) == view[-64:]
            addresses.append(buf)
        return 0

    segments = [segment(index << 32, 8 << 20, view) for index, view in enumerate(views)]
    tracemalloc.start()
    try:
        syscalls.kexec_load(0, segments, 0, call=kernel)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20
    starts = [int(each.partition("-")[0], 16) for each in maps.splitlines() if each.endswith(str(file))]
    assert addresses[0] in starts
    assert addresses[4] == ctypes.addressof(ctypes.c_char.from_buffer(views[4]))
    assert addresses[1] == addresses[0] + 4096


def test_buffers_are_released_after_the_call_also_when_it_fails() -> None:
    data = bytearray(100)

    def refuse(*arguments: int) -> int:
        raise OSError(errno.EBUSY, "busy")

    with pytest.raises(OSError, match="busy"):
        syscalls.kexec_load(0, [segment(0, 4096, memoryview(data))], 0, call=refuse)
    data.extend(b"a bytearray with exported buffers cannot grow")


def test_unloading_is_a_load_of_nothing() -> None:
    kernel = FakeKernel()
    syscalls.kexec_unload(1, call=kernel)
    assert (kernel.entry, kernel.flags, kernel.loaded) == (0, 1, [])


def test_real_kernel_answers_with_an_errno() -> None:
    # A flag that no kernel knows: whatever the privilege, nothing is loaded or unloaded.
    with pytest.raises(OSError, match=r".") as caught:
        syscalls.kexec_load(0, [segment(0, 4096, memoryview(b"x"))], 0x8000)
    assert caught.value.errno in (errno.EPERM, errno.EINVAL, errno.ENOSYS, errno.EACCES, errno.EBUSY)


@pytest.mark.parametrize(("one", "other"), [("armv7l", "armv6l"), ("ppc64", "ppc64le"), ("i586", "i386")])
def test_relatives_share_their_numbers(one: str, other: str) -> None:
    assert len({syscalls.kexec_load_number(names.of_uname(each)) for each in (one, other)}) == 1


@pytest.mark.parametrize(("uname", "kind"), [("alpha", "a program of alpha"), ("vax", "this process")])
def test_programs_without_a_known_call_are_refused(uname: str, kind: str) -> None:
    with pytest.raises(PykexecError, match=f"from {kind}"):
        syscalls.kexec_load_number(names.of_uname(uname))


@pytest.mark.parametrize(
    ("machine", "bits", "name"),
    [(62, 64, "x86_64"), (3, 32, "i386"), (62, 32, None), (258, 64, "loongarch64"), (75, 32, None)],
)
def test_a_process_is_known_by_its_programs_file(machine: int, bits: int, name: str | None) -> None:
    """Programs of x32 (machine 62, 32 bits) have numbers that no table here has."""
    file = elfheader.Encoding(bits, sys.byteorder).build(elfheader.ET_DYN, machine, [])
    found = syscalls.program_arch(file[: syscalls.PROGRAM_HEAD])
    assert (None if found is None else found.name) == name


def test_this_process_is_what_python_says() -> None:
    process = syscalls.process_arch()
    assert process is not None
    assert process.elf.bits == struct.calcsize("P") * 8
    assert process == names.of_uname(os.uname().machine)


@pytest.mark.parametrize("name", ["x32", "i386", "arm"])
def test_a_process_without_the_call_for_files(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a kernel without it answers."""
    row = next((each for each in names.ALL if each.name == name), None)
    monkeypatch.setattr(syscalls, "process_arch", lambda: row)
    with pytest.raises(OSError, match=r".") as caught:
        syscalls.kexec_file_load(3, -1, b"", 0, call=FakeKernel())
    assert caught.value.errno == errno.ENOSYS


ADDRESSES = st.integers(0, 1 << 52).map(lambda page: page << 12) | st.sampled_from(
    [(1 << 32) - 4096, 1 << 32]
)


@given(ADDRESSES, st.lists(st.tuples(ADDRESSES, st.integers(1, 1 << 22)), max_size=3))
def test_what_a_word_of_32_bits_would_cut_is_refused(entry: int, places: list[tuple[int, int]]) -> None:
    segments = [segment(address, pages << 12, memoryview(b"")) for address, pages in places]
    # As the fields of struct kexec_segment would hold it.
    cut = ctypes.c_uint32(entry).value != entry or any(
        ctypes.c_uint32(last).value != last
        for each in segments
        for last in (each.address, each.address + each.memsz - 1)
    )
    if cut:
        with pytest.raises(PykexecError, match="beyond the addresses of a 32-bit process") as error:
            syscalls.require_words(entry, segments, 32)
        named = f"the entry point {entry:#x}" if entry >> 32 else "segment kernel ends at 0x"
        assert named in str(error.value)
    else:
        syscalls.require_words(entry, segments, 32)


def test_a_load_of_this_process_is_checked_too() -> None:
    with pytest.raises(PykexecError, match="the entry point"):
        syscalls.kexec_load(1 << 64, [], 0, call=FakeKernel())

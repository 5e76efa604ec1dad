"""What the loader hashes, and what purgatory is told."""

import hashlib
import io
import os
import struct
import threading
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import given, settings
from hypothesis import strategies as st

from pykexec import purgatory
from pykexec.errors import PurgatoryError
from pykexec.files import FileData
from pykexec.formats.elfheader import Encoding
from pykexec.loader import plan_load
from pykexec.plan import Purpose, Request
from pykexec.purgatory import Backup, Console, ConsoleKind, Digest, Region
from pykexec.values import replace
from tests.support.arm64_image import FakeImage
from tests.support.bzimage import FakeBzImage
from tests.support.machines import snapshot

_PREBUILT = Path(purgatory.__file__).parent / "prebuilt"

MACHINES = {
    "qemu-6.1-1g": FileData.from_bytes("vmlinuz", FakeBzImage().build()),
    "qemu-arm64-6.1-1g": FileData.from_bytes("Image", FakeImage().build()),
}


@pytest.mark.parametrize("purpose", Purpose)
@pytest.mark.parametrize("machine", MACHINES)
def test_each_byte_that_is_loaded_is_hashed_once_and_no_padding(
    machine: str, purpose: Purpose, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[memoryview] = []

    def count(data: memoryview) -> object:
        hashed.append(data)
        return hash_of(data)

    hash_of = hashlib.sha256
    monkeypatch.setattr(hashlib, "sha256", count)
    initrd = FileData.from_bytes("initrd", b"\x28\xb5\x2f\xfd" * (9 << 18))
    plan = plan_load(snapshot(machine), Request(MACHINES[machine], purpose=purpose, initrd=initrd))
    loaded = [segment for segment in plan.segments if segment.name != "purgatory"]
    assert sum(part.nbytes for part in hashed) == sum(segment.data.nbytes for segment in loaded)
    assert sum(segment.memsz for segment in loaded) > sum(segment.data.nbytes for segment in loaded)
    assert initrd.size in {segment.data.nbytes for segment in loaded}


@settings(deadline=None)
@given(st.lists(st.binary(max_size=300) | st.sampled_from([64, 5000]).map(bytes), max_size=9))
def test_digests_are_those_of_hashlib(contents: list[bytes]) -> None:
    regions = [Region(str(n), n << 20, memoryview(data)) for n, data in enumerate(contents)]
    expected = {str(n): hashlib.sha256(data).digest() for n, data in enumerate(contents) if data}
    assert {each.name: each.sha256 for each in purgatory.digest_regions(regions)} == expected


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that stands for x86_64's purgatory."""
    monkeypatch.setattr(purgatory, "_PREBUILT", os.fspath(tmp_path))
    return tmp_path / "x86_64.elf"


def test_a_purgatory_that_is_cut_off_is_refused(shipped: Path) -> None:
    whole = (_PREBUILT / "x86_64.elf").read_bytes()
    (segment,) = ELFFile(io.BytesIO(whole)).iter_segments("PT_LOAD")
    end = segment["p_offset"] + segment["p_filesz"]
    shipped.write_bytes(whole[:end])
    assert purgatory.load_blob("x86_64").image == segment.data()
    for length in (0, 63, 64, 100, *range(4096, end, 170), end - 1):
        shipped.write_bytes(whole[:length])
        with pytest.raises(PurgatoryError, match=r"x86_64\.elf: truncated"):
            purgatory.load_blob("x86_64")


def test_a_purgatory_without_anything_to_load_is_refused(shipped: Path) -> None:
    with pytest.raises(PurgatoryError, match=r"x86_64\.elf: No such file"):
        purgatory.load_blob("x86_64")
    code = bytearray((_PREBUILT / "x86_64.elf").read_bytes())
    struct.pack_into("<H", code, 56, 0)  # e_phnum (elf(5))
    shipped.write_bytes(code)
    with pytest.raises(PurgatoryError, match=r"x86_64\.elf: it has no segment to load") as error:
        purgatory.load_blob("x86_64")
    assert error.value.hint == "install pykexec again"


def test_a_purgatory_for_another_machine_is_refused(shipped: Path) -> None:
    shipped.write_bytes((_PREBUILT / "arm64.elf").read_bytes())
    with pytest.raises(PurgatoryError, match=r"x86_64\.elf is not a purgatory of version"):
        purgatory.load_blob("x86_64")


BUILT_FOR_32_BITS: dict[str, dict[str, Any]] = {
    "entry": {"jump_to": 1 << 32},
    "argument": {"arguments": (1, 1 << 32)},
    "console": {"console": Console(ConsoleKind.UART_8250_MMIO, 1 << 32)},
    "way back": {"jump_back_digits": 1 << 32},
    "backup": {"backup": Backup(0, 0xFFFF_F000, 0x2000)},
    "region": {"digests": [Digest("initrd", 0xFFFF_F000, 0x1001, bytes(32))]},
}


@pytest.mark.parametrize("what", BUILT_FOR_32_BITS)
def test_what_does_not_fit_a_word_is_refused(what: str) -> None:
    """Purgatory takes the low word of its fields, which are of 64 bits on all machines."""
    settings = {"jump_to": 0, "arguments": (), "digests": (), **BUILT_FOR_32_BITS[what]}
    blob = purgatory.load_blob("x86_64")
    assert purgatory.build(blob, **settings)
    with pytest.raises(PurgatoryError, match=r"0x1[0-9a-f]{8}, which does not fit this machine's 32 bits"):
        purgatory.build(replace(blob, encoding=Encoding(32, "little")), **settings)


def test_the_last_bytes_that_a_word_can_name() -> None:
    blob = replace(purgatory.load_blob("x86_64"), encoding=Encoding(32, "little"))
    last = Digest("initrd", 0xFFFF_F000, 0x1000, bytes(32))
    backup = Backup(0, 0xFFFF_F000, 0x1000)
    assert purgatory.build(blob, jump_to=0xFFFF_FFFF, arguments=(), digests=[last], backup=backup)


@pytest.mark.parametrize("possible", [0, 1])
def test_hashing_where_no_more_threads_can_be_started(
    possible: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit on processes holds for threads, too (RLIMIT_NPROC, a cgroup's pids.max)."""
    started: list[threading.Thread] = []
    start = threading.Thread.start

    def limited(thread: threading.Thread) -> None:
        if len(started) == possible:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    monkeypatch.setattr(purgatory, "_cores", lambda: 4)
    contents = [os.urandom(9 << 20) for _ in range(4)]
    regions = [Region(str(n), n << 28, memoryview(data)) for n, data in enumerate(contents)]
    assert [digest.sha256 for digest in purgatory.digest_regions(regions)] == [
        hashlib.sha256(data[at : at + (4 << 20)]).digest()
        for data in contents
        for at in range(0, len(data), 4 << 20)
    ]
    assert not any(thread.is_alive() for thread in started)

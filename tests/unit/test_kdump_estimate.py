"""Sizing: compared with what real capture kernels ran out of memory with, and with what cpio packs."""

import bz2
import gzip
import lzma
import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import lz4.frame
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from pykexec.arch import find
from pykexec.errors import ImageError, UsageError
from pykexec.files import FileData
from pykexec.formats import zstd
from pykexec.initramfs import Addition, newc
from pykexec.kdump.reservation import estimate as estimates
from pykexec.kdump.reservation import sizing
from pykexec.kdump.reservation.estimate import Estimate, Inputs, Unpacked, estimate, judge
from pykexec.kdump.reservation.resize import resize, resize_steps
from pykexec.kdump.reservation.sizing import kernel_memory, read_inputs, unpacked
from pykexec.machine import Machine
from pykexec.memory import GIB, KIB, MIB, Range
from tests.arches.loongarch64 import images as loongarch64_images
from tests.support.arm64_image import FakeImage
from tests.support.bzimage import FakeBzImage
from tests.support.footprint import takes_at_most
from tests.support.growth import QUADRATIC_SUSPECTED, growth
from tests.support.machines import FOLDER, snapshot, write
from tests.support.machines import unpacked as snapshot_with
from tests.support.program import Load, Program
from tests.support.schemas import require_valid
from tests.support.stopwatch import Stopwatch


def as_text(result: Estimate, reserved: int | None = 0, columns: int = 1000) -> str:
    """The report for a machine that has reserved so much; by default every sentence is one line."""
    return estimates.as_text(result, judge(result, reserved, result.clause), columns)


def as_json(result: Estimate, reserved: int | None = 0) -> str:
    return estimates.as_json(result, judge(result, reserved, result.clause))


PLAIN = Inputs("x86_64", 8 * GIB, 51 * MIB, Unpacked(12 * MIB, 12 * MIB, 300))

# Debian's 6.1 cloud kernels under QEMU, 1 GiB of memory, an uncompressed initramfs with busybox and
# makedumpfile: the least crashkernel= with which the dump came through, in steps of 4 and 16 MiB, and the
# largest with which the capture kernel ran out of memory.
MEASURED = [
    pytest.param(
        Inputs("x86_64", GIB, 51 * MIB, Unpacked(11921264, 11921264, 200), drivers=0), 92, 96, id="x86_64"
    ),
    pytest.param(
        Inputs("arm64", GIB, 26 * MIB, Unpacked(10779480, 10779480, 200), drivers=0),
        64,
        80,
        id="arm64-cma=0",
    ),
    # With CMA's 64 MiB set aside, memory ran out at 112M.
    pytest.param(
        Inputs("arm64", GIB, 26 * MIB, Unpacked(10779480, 10779480, 200), drivers=0, cma=64 * MIB),
        112,
        128,
        id="arm64",
    ),
]


@pytest.mark.parametrize(("inputs", "too_little", "enough"), MEASURED)
def test_no_less_than_was_needed_and_not_wildly_more(inputs: Inputs, too_little: int, enough: int) -> None:
    result = estimate(inputs)
    assert too_little * MIB < result.needed
    assert enough * MIB <= result.recommended <= 3 * enough * MIB


def _own(kernel: int, unpacking: int, drivers: int, contents: int) -> Inputs:
    """With pykdump's image, in KiB; and one CPU."""
    initrd = Unpacked(2900 * KIB, contents * KIB, 100, modules={})
    return Inputs("x86_64", GIB, kernel * KIB, initrd, drivers=drivers * KIB, unpacking=unpacking * KIB)


@pytest.mark.parametrize(
    ("inputs", "too_little", "enough"),
    [
        pytest.param(replace(_own(52704, 13817, 2350, 6000), tracefs=False), 68, 72, id="6.1-cloud"),
        pytest.param(_own(57208, 11461, 2150, 5800), 76, 80, id="6.12-cloud"),
        pytest.param(replace(_own(65116, 8030, 4700, 8500), tracefs=False), 84, 88, id="6.1"),
    ],
)
def test_our_own_image_was_needed_within_a_quarter(inputs: Inputs, too_little: int, enough: int) -> None:
    """Debian's kernels under QEMU with virtio, in steps of 4 MiB: less ran out of memory."""
    result = estimate(inputs)
    assert too_little * MIB < result.needed
    assert enough * MIB <= result.recommended <= enough * MIB * 5 // 4


def test_terms_add_up() -> None:
    result = estimate(PLAIN)
    assert result.needed == sum(term.size for term in result.terms)
    assert result.recommended >= result.needed * 5 // 4
    assert result.recommended % (16 * MIB) == 0
    assert result.parameter == f"{result.recommended // MIB}M"
    assert all(term.why for term in result.terms)


def size(inputs: Inputs, name: str) -> int:
    return sum(term.size for term in estimate(inputs).terms if term.name == name)


@pytest.mark.parametrize(("page_size", "section_bits"), [(4 * KIB, 27), (16 * KIB, 27), (64 * KIB, 29)])
def test_arm64s_memory_map_covers_whole_sections(page_size: int, section_bits: int) -> None:
    """SECTION_SIZE_BITS: arch/arm64/include/asm/sparsemem.h, since Linux 5.12. 64: sizeof(struct page)."""
    inputs = Inputs("arm64", GIB, 26 * MIB, Unpacked(10779480, 10779480, 200), page_size=page_size)
    reserved = -(-estimate(inputs).recommended >> section_bits) << section_bits
    assert size(inputs, "memory map") == reserved // page_size * 64


def test_each_input_has_its_term() -> None:
    assert size(PLAIN, "kernel") == 51 * MIB
    assert size(PLAIN, "initrd") == 12 * MIB
    assert size(PLAIN, "its contents") == 12 * MIB + 300 * KIB
    # Two bits for each of 2 Mi pages; no more than 32 MiB, however much memory there is.
    assert size(PLAIN, "bitmaps") == 512 * KIB
    assert size(replace(PLAIN, total_memory=1 << 44), "bitmaps") == 32 * MIB
    assert size(replace(PLAIN, luks=1 * GIB), "LUKS") == GIB
    assert size(replace(PLAIN, cma=64 * MIB), "CMA") == 64 * MIB
    assert size(replace(PLAIN, network=True), "network") > 0
    assert size(replace(PLAIN, threads=4), "threads") > 0
    assert size(replace(PLAIN, swiotlb=64 * MIB), "swiotlb") == 64 * MIB
    assert size(replace(PLAIN, encrypted_memory=True), "swiotlb") == 64 * MIB
    assert size(replace(PLAIN, encrypted_memory=True, swiotlb=8 * MIB), "swiotlb") == 64 * MIB, "one pool"
    assert size(replace(PLAIN, cpus=32), "CPUs") == 32 * size(PLAIN, "CPUs")
    large_pages = replace(PLAIN, arch="arm64", page_size=64 * KIB)
    assert size(large_pages, "running kernel") - size(PLAIN, "running kernel") >= 80 * MIB


def test_what_a_kernel_unpacks_itself_from_is_used_again() -> None:
    """By what comes after that, and no more: else the kernel itself would not fit."""
    own = replace(PLAIN, initrd=replace(PLAIN.initrd, modules={}), drivers=2 * MIB)
    reused = [size(own, "kernel") - size(replace(own, unpacking=n * MIB), "kernel") for n in (0, 14, 400)]
    later = sum(size(own, name) for name in ("running kernel", "drivers", "programs"))
    assert reused == [0, 14 * MIB, later]
    assert size(replace(PLAIN, unpacking=14 * MIB), "kernel") == PLAIN.kernel, "of another's image"


def test_a_tmpfs_takes_only_half() -> None:
    large = replace(PLAIN, initrd=Unpacked(40 * MIB, 400 * MIB, 9000))
    result = estimate(large)
    assert size(large, "tmpfs limit") > 0
    rest = sum(term.size for term in result.terms if term.name not in ("kernel", "memory map"))
    assert rest >= 2 * 400 * MIB
    assert size(replace(large, tmpfs_percent=90), "tmpfs limit") < size(large, "tmpfs limit")
    assert size(replace(large, tmpfs_percent=100), "tmpfs limit") == 0


def test_the_memory_map_covers_what_is_recommended() -> None:
    for kernel in (10, 100, 1000, 10000):
        inputs = replace(PLAIN, kernel=kernel * MIB)
        result = estimate(inputs)
        assert size(inputs, "memory map") >= result.recommended // 4096 * 64


SIZES = st.integers(0, 1 << 40)


@given(SIZES, SIZES, SIZES, st.integers(1, 512), st.sampled_from([4096, 16384, 65536]), st.integers(1, 100))
def test_more_never_needs_less(
    total: int, kernel: int, initrd: int, cpus: int, page: int, percent: int
) -> None:
    small = Inputs("arm64", total, kernel, Unpacked(initrd, initrd, 10), page, cpus, tmpfs_percent=percent)
    before = estimate(small)
    for larger in (
        replace(small, total_memory=total + GIB),
        replace(small, kernel=kernel + MIB),
        replace(small, initrd=Unpacked(initrd + MIB, initrd + MIB, 20)),
        replace(small, cpus=cpus + 1),
        replace(small, drivers=small.drivers + MIB),
    ):
        after = estimate(larger)
        assert after.needed >= before.needed
        assert after.recommended >= before.recommended


@pytest.mark.parametrize(
    "bad",
    [
        {"page_size": 0},
        {"page_size": 12288},
        {"cpus": 0},
        {"cpus": 1 << 30},
        {"threads": -1},
        {"tmpfs_percent": 0},
        {"tmpfs_percent": 101},
        {"kernel": -1},
        {"total_memory": 1 << 70},
        {"initrd": Unpacked(0, 1 << 62, 0)},
    ],
)
def test_absurd_inputs(bad: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        estimate(replace(PLAIN, **bad))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("inputs", "name", "value"),
    [
        # kdump-utils: 2G-64G:256M,64G-:512M; +64M with SME
        (PLAIN, "Fedora, RHEL", 256 * MIB),
        (replace(PLAIN, total_memory=GIB), "Fedora, RHEL", 0),
        (replace(PLAIN, total_memory=64 * GIB), "Fedora, RHEL", 512 * MIB),
        (replace(PLAIN, encrypted_memory=True), "Fedora, RHEL", 320 * MIB),
        # 2G-4G:256M,4G-64G:320M,64G-:576M; +100M with pages of 64 KiB
        (replace(PLAIN, arch="arm64"), "Fedora, RHEL", 320 * MIB),
        (replace(PLAIN, arch="arm64", page_size=65536), "Fedora, RHEL", 420 * MIB),
        (PLAIN, "Debian", 128 * MIB),
        (PLAIN, "Fedora CoreOS", 300 * MIB),
    ],
)
def test_compared_with_distributions(inputs: Inputs, name: str, value: int) -> None:
    result = estimate(inputs)
    found = next(each for each in result.comparisons if each.name == name)
    assert found.size == value
    assert found.enough == (value >= result.needed)


def test_reports() -> None:
    result = estimate(PLAIN)
    text = as_text(result)
    assert f"crashkernel={result.parameter}" in text
    assert "Debian would reserve 128.0 MiB (crashkernel=384M-:128M): too little" in text
    content = require_valid("estimate", as_json(result))
    assert content["needed"] == sum(each["size"] for each in content["terms"])
    assert content["crashkernel"] == result.parameter


def test_what_is_not_known_of_an_architecture_is_named() -> None:
    machine = Machine.from_snapshot(FOLDER / "qemu-6.1-1g.tar")
    kernel = FileData.from_bytes("vmlinuz", FakeBzImage().build())
    assert read_inputs(snapshot("qemu-6.1-1g"), kernel, None, "").not_known == ()
    with patch.object(Machine, "uname_machine", "of the future"):
        inputs = read_inputs(machine, kernel, None, "nr_cpus=1")
        told = read_inputs(machine, kernel, None, "cma=0")
    assert inputs.cma == 0
    text = as_text(estimate(inputs))
    assert "not counted, as it is not known for of the future: what kernels set aside" in text
    assert "Fedora, RHEL" not in text
    left_out = require_valid("estimate", as_json(estimate(inputs)))["left_out"]
    assert "what kernels set aside for devices (CMA)" in left_out
    assert "what kernels set aside for DMA (swiotlb)" in inputs.not_known
    assert "CMA" not in "".join(told.not_known), "as the command line says it"
    with patch.object(Machine, "uname_machine", "of the future"):
        told = read_inputs(machine, kernel, None, "swiotlb=noforce")
    assert "swiotlb" not in "".join(told.not_known)


SENTENCE = re.compile(
    r"(?:[A-Z][A-Za-z]+(?:,? [A-Z][A-Za-z]+)*) would reserve (?:[\d.]+ MiB"
    r"|nothing on a machine with so little memory) \(crashkernel=[^)]*\)(?:: (.*))?"
)


@given(
    total=st.integers(1, 256).map(lambda number: number * GIB // 4),
    kernel=st.integers(1, 300).map(lambda number: number * MIB),
)
def test_what_others_reserve_does_not_contradict_what_is_recommended(total: int, kernel: int) -> None:
    result = estimate(replace(PLAIN, total_memory=total, kernel=kernel))
    told = [line for line in as_text(result).splitlines() if "would reserve" in line]
    assert len(told) == len(result.comparisons)
    for line, compared in zip(told, result.comparisons, strict=True):
        found = SENTENCE.fullmatch(line)
        assert found, line
        assert (found[1] == "enough") == (compared.size >= result.recommended)
        assert (found[1] == "too little") == (0 < compared.size < result.needed)
        assert (found[1] is None) == (compared.size == 0)


def test_a_part_that_was_not_given_is_named() -> None:
    machine, kernel = snapshot("qemu-6.1-1g"), FileData.from_bytes("vmlinuz", FakeBzImage().build())
    without = estimate(read_inputs(machine, kernel, None, "nr_cpus=1"))
    assert "not counted, as it was not given: the initrd (--initrd)" in as_text(without)
    assert require_valid("estimate", as_json(without))["left_out"] == ["the initrd (--initrd)"]
    initrd = FileData.from_bytes("initrd", newc([Addition("init", memoryview(b"x"), 0o755)]))
    assert "not counted" not in as_text(estimate(read_inputs(machine, kernel, initrd, "nr_cpus=1")))


# What the files take


def pack(folder: Path, files: dict[str, bytes]) -> bytes:
    """An archive that the real cpio made."""
    names = ["."]
    for name, content in files.items():
        write(folder, name, content)
        names += [*(str(each) for each in reversed(Path(name).parents[:-1])), name]
    done = subprocess.run(
        ["cpio", "-o", "-H", "newc", "--quiet"],
        input="\n".join(dict.fromkeys(names)).encode(),
        cwd=folder,
        capture_output=True,
        check=True,
    )
    return done.stdout


FILES = {"init": b"x" * 5000, "bin/sh": b"y" * 4096, "etc/empty": b""}


@pytest.mark.programs
def test_what_cpio_packs(tmp_path: Path) -> None:
    archive = pack(tmp_path, FILES)
    found = unpacked(FileData.from_bytes("i", archive), 4096)
    assert found == Unpacked(len(archive), 8192 + 4096, 6)
    assert unpacked(FileData.from_bytes("i", archive), 65536).contents == 2 * 65536


@pytest.mark.programs
@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress])
def test_microcode_in_front_of_a_compressed_archive(compress: object, tmp_path: Path) -> None:
    assert callable(compress)
    first, second = (
        pack(tmp_path / "a", {"kernel/x86/microcode/AMD.bin": b"u" * 4096}),
        pack(tmp_path / "b", FILES),
    )
    whole = first + bytes(512) + compress(second)
    found = unpacked(FileData.from_bytes("i", whole), 4096)
    assert (found.size, found.contents) == (len(whole), 4096 + 8192 + 4096)
    assert found.entries == 5 + 6


def _without_library() -> None:
    raise ImportError


@pytest.mark.programs
def test_what_only_a_program_unpacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python before 3.14 has no zstd, and Debian's initramfs are made with the program."""
    archive = newc([Addition("init", memoryview(bytes(5 * MIB)))])
    packed = zstandard.ZstdCompressor().compress(archive)
    monkeypatch.setattr(zstd, "implementation", _without_library)
    assert unpacked(FileData.from_bytes("i", packed), 4096) == Unpacked(len(packed), 5 * MIB, 1)
    with pytest.raises(ImageError, match=r"i: damaged data: .*zstd -dcq does not unpack it"):
        unpacked(FileData.from_bytes("i", packed[:-9]), 4096)
    bomb = zstandard.ZstdCompressor().compress(bytes(300 * MIB))
    with takes_at_most(56 * MIB), pytest.raises(ImageError, match="i: unpacks to far more than an"):
        unpacked(FileData.from_bytes("i", packed[:4] + bomb[4:]), 4096)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        ImageError, match="i: compressed with zstd, which takes the Python package zstandard"
    ):
        unpacked(FileData.from_bytes("i", packed), 4096)


@pytest.mark.programs
def test_truncated_archives(tmp_path: Path) -> None:
    archive = pack(tmp_path, {"init": b"x" * 300})
    end = archive.index(b"TRAILER!!!") - 110
    for length in range(1, end):
        if bytes(archive[:length]).strip(b"\0") and length not in _entry_ends(archive):
            with pytest.raises(ImageError, match="initramfs"):
                unpacked(FileData.from_bytes("i", archive[:length]), 4096)


def _entry_ends(archive: bytes) -> set[int]:
    """Where an archive may end without anything being cut."""
    ends: set[int] = set()
    at = archive.find(b"070701", 1)
    while at >= 0:
        ends.update(range(at - 3, at + 1))
        at = archive.find(b"070701", at + 1)
    return ends


@pytest.mark.parametrize(
    "data",
    [
        b"hello",
        b"070701",
        b"070701" + b"g" * 104,
        b"070701" + b"F" * 104,
        b"\x1f\x8b\x08" + bytes(20),
        b"\0\0x",
    ],
)
def test_no_initramfs(data: bytes) -> None:
    with pytest.raises(ImageError):
        unpacked(FileData.from_bytes("i", data), 4096)


def test_what_is_packed_twice_is_no_initramfs() -> None:
    """A kernel unpacks once."""
    data = gzip.compress(gzip.compress(b"\0" * 4, mtime=0), mtime=0)
    with pytest.raises(ImageError, match="1f8b0800 at offset 0x0 begins no archive"):
        unpacked(FileData.from_bytes("i", data), 4096)


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "xz": lambda data: lzma.compress(data, preset=0),
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE, preset=0),
    "bzip2": bz2.compress,
    "zstd": lambda data: zstandard.ZstdCompressor().compress(data),
    "lz4": lz4.frame.compress,
}


@pytest.mark.parametrize("name", COMPRESSORS)
@pytest.mark.slow
def test_large_files_in_a_small_archive(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of them is kept, and what has no end is not waited for."""
    monkeypatch.setattr(sizing, "_ALWAYS_ALLOWED", 4 * MIB)
    size = 64 * MIB
    header = b"070701" + b"0" * 48 + b"%08x" % size + b"0" * 32 + b"00000004" + b"0" * 8 + b"abc\0\0\0"
    data = COMPRESSORS[name](header + bytes(size))
    whole = FileData.from_bytes("i", data + b"x" * 4 * MIB)
    stopwatch = Stopwatch()
    with takes_at_most(56 * MIB):
        with pytest.raises(ImageError, match=r"i: unpacks to more than \d MiB"):
            unpacked(FileData.from_bytes("i", data), 4096)
        assert unpacked(whole, 4096) == Unpacked(whole.size, size, 1)
    assert stopwatch.seconds() < 4


def test_many_files_take_linear_time() -> None:
    entry = b"070701" + b"0" * 88 + b"00000004" + b"0" * 8 + b"abc\0\0\0"
    assert len(entry) == 116

    def count(number: int) -> None:
        assert unpacked(FileData.from_bytes("i", entry * number), 4096).entries == number

    assert growth(lambda: count(300), lambda: count(3000)) < QUADRATIC_SUSPECTED


def memory(kernel: bytes) -> int:
    return kernel_memory(FileData.from_bytes("k", kernel), None)


def test_kernels() -> None:
    bzimage = FakeBzImage(init_size=0x3300000).build()
    assert memory(bzimage) == 0x3300000
    image = FakeImage(image_size=0x1A00000).build()
    assert memory(image) == 0x1A00000
    assert memory(gzip.compress(image, mtime=0)) == 0x1A00000
    for number in (3, 62, 183):
        program = Program([Load(0x1000000, b"x" * 500, memsz=0x700000)], 0x1000000, machine=number)
        assert memory(program.build() + bytes(0x1000000)) == 0x700000, "whatever it has to debug it with"
    elsewhere = Program([Load(0x1000000, b"x" * 500)], 0x1000000, machine=50).build()
    assert memory(elsewhere) == len(elsewhere) * 3 // 2
    for damaged in (
        FakeBzImage(init_size=0).build(),
        bzimage[:0x210],
        FakeImage(image_size=1 << 36).build(),
    ):
        with pytest.raises(ImageError, match=r"damaged|truncated"):
            memory(damaged)
    with pytest.raises(ImageError, match="no bzImage, Image or vmlinux"):
        memory(b"no kernel")


# From a machine

KERNEL = FileData.from_bytes("k", FakeBzImage(init_size=0x3300000).build())


def inputs_of(tmp_path: Path, changes: dict[str, str | bytes | None], line: str, log: str = "") -> Inputs:
    machine = snapshot_with("qemu-6.1-1g", tmp_path, changes)
    return read_inputs(machine, KERNEL, None, line, kernel_log=log)


def test_inputs_of_a_machine(tmp_path: Path) -> None:
    found = inputs_of(
        tmp_path, {"proc/modules": "ext4 1048576 1 - Live 0x0\nvirtio_blk 32768 2 - Live 0x0\n"}, ""
    )
    assert (found.arch, found.page_size, found.kernel, found.cpus) == ("x86_64", 4096, 0x3300000, 2)
    assert found.total_memory == snapshot("qemu-6.1-1g").iomem.system_ram.size
    assert found.drivers == 1048576 + 32768 + 16 * MIB
    assert (found.cma, found.tmpfs_percent, found.encrypted_memory) == (0, 50, False)


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("nr_cpus=1", "cpus", 1),
        ("nr_cpus=4 maxcpus=3", "cpus", 3),
        ("maxcpus=0", "cpus", 1),
        ("cma=16M", "cma", 16 * MIB),
        ("cma=0", "cma", 0),
        ("swiotlb=force", "swiotlb", 64 * MIB),
        ("swiotlb=16384,force", "swiotlb", 32 * MIB),
        ("swiotlb=force swiotlb=noforce", "swiotlb", 0),
        ("swiotlb=16384", "swiotlb", 0),  # only how large it would be
        ("root=/dev/sda1", "tmpfs_percent", 100),
        ("root=/dev/sda1 rootfstype=tmpfs", "tmpfs_percent", 50),
        ("initramfs_options=size=90%", "tmpfs_percent", 50),  # the snapshot's kernel is older than 6.18
    ],
)
def test_inputs_of_the_command_line(line: str, name: str, value: int, tmp_path: Path) -> None:
    assert getattr(inputs_of(tmp_path, {}, line), name) == value


OWN = {"etc/pykdump.conf": 1000, "lib/modules/virtio_ring.ko": 40000, "lib/modules/ext4.ko": 2 * MIB}


@pytest.mark.parametrize(
    ("virtual", "more", "expected"),
    [
        (True, {}, 40000 + 2 * MIB + 2 * MIB),
        (False, {}, 40000 + 2 * MIB + 16 * MIB),
        (True, {"lib/modules/nvme.ko": 70000}, 40000 + 2 * MIB + 70000 + 16 * MIB),
        (True, {"lib/modules/mlx5_core.ko": 3 * MIB}, 40000 + 5 * MIB + (16 + 150) * MIB),
    ],
)
def test_our_own_image_loads_its_modules_alone(
    virtual: bool, more: dict[str, int], expected: int, tmp_path: Path
) -> None:
    """Not those that are loaded now; only virtio's devices have small buffers."""
    files = [Addition(name, memoryview(bytes(size))) for name, size in {**OWN, **more}.items()]
    image = FileData.from_bytes("i", gzip.compress(newc(files)))
    changes: dict[str, str | bytes | None] = {"proc/modules": "mlx5_core 16777216 1 - Live 0x0\n"}
    if virtual:
        changes["sys/bus/virtio/devices/virtio0/vendor"] = "0x1af4\n"
    machine = snapshot_with("qemu-6.1-1g", tmp_path, changes)
    own = read_inputs(machine, KERNEL, image, "initcall_blacklist=tracer_init_tracefs")
    assert own.drivers == expected
    others = [each for each in files if each.path != "etc/pykdump.conf"]
    other = read_inputs(machine, KERNEL, FileData.from_bytes("i", gzip.compress(newc(others))), "")
    assert other.drivers == 16 * MIB + 16 * MIB + 150 * MIB
    assert estimate(own).recommended < estimate(other).recommended


@pytest.mark.parametrize(("release", "less"), [("6.1.0", 8 * MIB), ("6.12.1", 0)])
def test_a_kernel_without_tracefs(release: str, less: int, tmp_path: Path) -> None:
    """Since Linux 6.9 its inodes are made when they are looked at."""
    changes: dict[str, str | bytes | None] = {"proc/sys/kernel/osrelease": release}
    lines = ("quiet", "initcall_blacklist=tracer_init_tracefs")
    plain, without = (
        size(inputs_of(tmp_path / line[:1], changes, line), "running kernel") for line in lines
    )
    assert plain - without == less


def test_initramfs_options_since_6_18(tmp_path: Path) -> None:
    changes: dict[str, str | bytes | None] = {"proc/sys/kernel/osrelease": "6.18.1"}
    assert inputs_of(tmp_path, changes, "initramfs_options=mode=755,size=90%").tmpfs_percent == 90


@pytest.mark.parametrize("page_size", [8, 256])
def test_pages_that_were_not_measured(page_size: int, tmp_path: Path) -> None:
    changes: dict[str, str | bytes | None] = {
        "pykexec-snapshot.json": f'{{"page_size": {page_size * KIB}, "machine": "sh4"}}',
        "proc/modules": "mlx5_core 4096 1 - Live 0x0\n",
    }
    small = {"proc/modules": changes["proc/modules"]}
    found, less = (
        estimate(inputs_of(tmp_path / name, each, "")) for name, each in (("a", changes), ("b", small))
    )
    assert found.needed > less.needed


def test_hungry_hardware(tmp_path: Path) -> None:
    plain = inputs_of(tmp_path / "a", {"proc/modules": "ext4 4096 1 - Live 0x0\n"}, "")
    mlx5 = inputs_of(tmp_path / "b", {"proc/modules": "mlx5_core 4096 1 - Live 0x0\n"}, "")
    assert mlx5.drivers - plain.drivers == 150 * MIB
    assert "mlx5" in mlx5.drivers_why
    log = "[    0.1] Memory Encryption Features active: AMD SEV SEV-ES\n"
    assert inputs_of(tmp_path / "c", {}, "", log).encrypted_memory


def test_arm64_sets_cma_aside() -> None:
    machine = snapshot("qemu-arm64-6.1-1g")
    image = FileData.from_bytes("k", FakeImage().build())
    assert read_inputs(machine, image, None, "nr_cpus=1").cma == 64 * MIB
    assert read_inputs(machine, image, None, "nr_cpus=1 cma=0").cma == 0


def test_kernels_that_always_set_swiotlb_aside() -> None:
    """As loongarch64's do (arch/loongarch/kernel/setup.c): with CMA too much for 256 MiB."""
    machine, image = snapshot("qemu-arm64-6.1-1g"), FileData.from_bytes("k", FakeImage().build())
    arch = find("aarch64")
    assert arch is not None
    with patch.object(sizing, "find", lambda _: replace(arch, swiotlb=64 * MIB, cma=128 * MIB)):
        found = {line: read_inputs(machine, image, None, line) for line in ("", "cma=0 swiotlb=noforce")}
        by_size = read_inputs(machine, image, None, "swiotlb=4096,force")
    assert [(each.swiotlb, each.cma) for each in found.values()] == [(64 * MIB, 128 * MIB), (0, 0)]
    assert by_size.swiotlb == 8 * MIB
    much, little = (estimate(each).needed for each in found.values())
    assert little < 192 * MIB < 256 * MIB < much


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("CONFIG_DMA_CMA=y\nCONFIG_CMA_SIZE_MBYTES=16\nCONFIG_CMA_SIZE_SEL_MBYTES=y\n", 16 * MIB),
        ("CONFIG_DMA_CMA=y\nCONFIG_CMA_SIZE_MBYTES=16\nCONFIG_CMA_SIZE_SEL_MAX=y\n", 64 * MIB),  # not only
        ("CONFIG_CMA=y\n# CONFIG_DMA_CMA is not set\n", 0),
        ("CONFIG_DMA_CMA=y\nCONFIG_CMA_SIZE_MBYTES=x\nCONFIG_CMA_SIZE_SEL_MBYTES=y\n", 64 * MIB),
        ("nonsense", 64 * MIB),
        (None, 64 * MIB),
    ],
)
def test_the_kernel_s_configuration_says_how_much_cma(
    config: str | None, expected: int, tmp_path: Path
) -> None:
    release = "6.1.0-50-cloud-arm64"
    changes: dict[str, str | bytes | None] = {f"boot/config-{release}": config} if config else {}
    machine = snapshot_with("qemu-arm64-6.1-1g", tmp_path, changes)
    image = FileData.from_bytes("k", FakeImage().build() + f"Linux version {release} (x)\n\0".encode())
    assert read_inputs(machine, image, None, "nr_cpus=1").cma == expected
    assert read_inputs(machine, image, None, "cma=8M").cma == 8 * MIB


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("nr_cpus=1", 64 * MIB),  # include/linux/swiotlb.h: IO_TLB_DEFAULT_SIZE
        ("swiotlb=noforce", 0),
        ("swiotlb=4096", 8 * MIB),  # slabs of 2 KiB
        ("swiotlb=8192,2,force", 16 * MIB),
        ("swiotlb=4096 swiotlb=8192", 16 * MIB),
        ("swiotlb=4096,noforce", 0),
        ("swiotlb=force", 64 * MIB),
        ("noswiotlb=1 myswiotlb=noforce", 64 * MIB),
    ],
)
def test_loongarch64_sets_swiotlb_aside(words: str, expected: int) -> None:
    """Whatever memory there is (arch/loongarch/kernel/setup.c, arch_mem_init())."""
    machine = snapshot("qemu-loongarch64-7.2-1g")
    image = FileData.from_bytes("k", loongarch64_images.FakeImage().build())
    inputs = read_inputs(machine, image, None, words)
    assert size(inputs, "swiotlb") == expected


# Shrinking the reservation

STATE: dict[str, str | bytes | None] = {"sys/kernel/kexec_crash_loaded": "0\n"}


def test_shrink() -> None:
    machine = snapshot("qemu-6.1-1g")
    (region,) = machine.iomem.crash_regions
    plan = resize(machine, 128 * MIB - 100)
    assert plan.value == 128 * MIB, "whole pages"
    assert plan.kept == (Range.sized(region.start, 128 * MIB),)
    assert plan.freed == (Range(region.start + 128 * MIB, region.end),)
    assert plan.path == "/sys/kernel/kexec_crash_size"


def test_shrink_what_has_a_low_part(tmp_path: Path) -> None:
    def plan(folder: str, counted: int) -> int:
        files: dict[str, str | bytes | None] = {"sys/kernel/kexec_crash_size": f"{counted}\n", **STATE}
        return resize(snapshot_with("qemu-6.1-6g-high", tmp_path / folder, files), 64 * MIB).value

    # Linux 6.5 and later count the low 256 MiB too; shrinking takes from the high part.
    assert plan("old", 256 * MIB) == 64 * MIB
    assert plan("new", 512 * MIB) == 320 * MIB


def test_shrink_while_loaded(tmp_path: Path) -> None:
    machine = snapshot_with("qemu-6.1-1g", tmp_path, {"sys/kernel/kexec_crash_loaded": "1\n"})
    steps = resize_steps(resize(machine, 64 * MIB))
    assert (steps[0], steps[1]) == (
        "unload the crash kernel: pykexec -p -u",
        f"echo {64 * MIB} > /sys/kernel/kexec_crash_size",
    )
    assert steps[-1] == "load the crash kernel again"
    assert resize_steps(resize(machine, 256 * MIB)) == ("nothing to do: the reservation has that size",)


@pytest.mark.parametrize("wanted", [-1, 256 * MIB + 1, 1 << 70])
def test_it_does_not_grow(wanted: int) -> None:
    with pytest.raises(UsageError, match="can only shrink"):
        resize(snapshot("qemu-6.1-1g"), wanted)


def test_nothing_reserved(tmp_path: Path) -> None:
    write(tmp_path, "proc/iomem", "00001000-3fffffff : System RAM\n")
    with pytest.raises(UsageError, match="no memory is reserved"):
        resize(Machine.from_snapshot(tmp_path), 0)

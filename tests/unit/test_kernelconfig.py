"""Kernel configurations, in images and in files; real kernels' are read in tests/differential."""

import contextlib
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import lz4.frame
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from pykexec import kernelconfig
from pykexec.errors import ImageError, MachineError
from pykexec.machine.root import Folder
from tests.support.arm64_image import FakeImage
from tests.support.bzimage import FakeBzImage
from tests.support.stopwatch import Stopwatch

TEXT = """#
# Automatically generated file; DO NOT EDIT.
# Linux/x86 6.1.0 Kernel Configuration
#
CONFIG_CC_VERSION_TEXT="gcc-12 \\"x\\""
CONFIG_KEXEC=y
CONFIG_CRASH_DUMP=y
# CONFIG_KEXEC_SIG is not set
CONFIG_EXT4_FS=m
CONFIG_NR_CPUS=8192
CONFIG_PHYSICAL_START=0x1000000
CONFIG_EMPTY=""
#CONFIG_COMMENT=y
"""
EMBEDDED = b"IKCFG_ST" + gzip.compress(TEXT.encode(), mtime=0) + b"IKCFG_ED"  # kernel/configs.c
VMLINUX = b"\x7fELF" + b"code" * 5000 + b"IKCFG_ST %s IKCFG_ED strings\0" + EMBEDDED + b"data" * 5000


def bzimage(payload: bytes) -> bytes:
    """With the compressed kernel behind 64 bytes of code, as payload_offset and payload_length say."""
    data = bytearray(FakeBzImage(payload=b"\xf4" * 64 + payload + b"\xf4" * 500).build())
    data[0x248:0x24C] = (64).to_bytes(4, "little")
    data[0x24C:0x250] = len(payload).to_bytes(4, "little")
    return bytes(data)


def from_image(data: bytes) -> kernelconfig.KernelConfig | None:
    return kernelconfig.from_image("kernel", memoryview(data))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CONFIG_KEXEC", "y"),
        ("CONFIG_KEXEC_SIG", "n"),
        ("CONFIG_EXT4_FS", "m"),
        ("CONFIG_NR_CPUS", "8192"),
        ("CONFIG_PHYSICAL_START", "0x1000000"),
        ("CONFIG_CC_VERSION_TEXT", 'gcc-12 "x"'),
        ("CONFIG_EMPTY", ""),
        ("CONFIG_COMMENT", None),
        ("CONFIG_MISSING", None),
    ],
)
def test_values(name: str, value: str | None) -> None:
    found = kernelconfig.parse("config", TEXT)
    assert found.get(name) == value
    assert found.enabled(name) == (value in ("y", "m"))


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress, zstandard.compress])
def test_from_file(pack: Callable[[bytes], bytes]) -> None:
    found = kernelconfig.from_file("/proc/config.gz", memoryview(pack(TEXT.encode())))
    assert (found.source, found.get("CONFIG_CRASH_DUMP")) == ("/proc/config.gz", "y")


@pytest.mark.parametrize(
    "image",
    [
        VMLINUX,
        FakeImage().build() + EMBEDDED,
        gzip.compress(VMLINUX, mtime=0),
        bzimage(gzip.compress(VMLINUX, mtime=0)),
        bzimage(zstandard.compress(VMLINUX)),
        bzimage(lz4.frame.compress(VMLINUX)),
    ],
)
def test_from_image(image: bytes) -> None:
    found = from_image(image)
    assert found is not None
    assert (found.source, found.get("CONFIG_CRASH_DUMP")) == ("kernel (the configuration in it)", "y")


@pytest.mark.parametrize(
    "image",
    [
        b"",
        FakeImage().build(),
        FakeBzImage().build(),
        bzimage(gzip.compress(b"no configuration", mtime=0)),
        bzimage(gzip.compress(VMLINUX, mtime=0)[:60]),
        bzimage(lzma.compress(VMLINUX)),  # takes seconds for a real kernel
        bzimage(b"\x1f\x8b\x08" + b"\xff" * 100),
        FakeBzImage(version=0x0207).build(),
        bzimage(b"x")[:0x248],
    ],
)
def test_images_that_do_not_tell(image: bytes) -> None:
    assert from_image(image) is None


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (EMBEDDED[:-8], "truncated: the configuration in it does not end"),
        (EMBEDDED[:100] + b"IKCFG_ED", "does not end|damaged gzip"),
        (b"IKCFG_ST" + gzip.compress(b"nonsense", mtime=0) + b"IKCFG_ED", "not one CONFIG_ option"),
        (b"IKCFG_ST" + gzip.compress(bytes(8 << 20), mtime=0) + b"IKCFG_ED", "unpacks to more than 4 MiB"),
    ],
)
def test_damaged(image: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        from_image(image)


def test_only_as_much_is_unpacked_as_can_hold_it() -> None:
    bomb = bzimage(zstandard.compress(bytes(600 << 20)))
    stopwatch = Stopwatch()
    assert from_image(bomb) is None
    assert stopwatch.seconds() < 1


@pytest.mark.parametrize("data", [b"", b"text", bytes(5 << 20)])
def test_no_configuration(data: bytes) -> None:
    with pytest.raises(ImageError, match="no kernel configuration"):
        kernelconfig.from_file("x", memoryview(data))


def write(top: Path, path: str, data: bytes = TEXT.encode()) -> None:
    (top / path).parent.mkdir(parents=True, exist_ok=True)
    (top / path).write_bytes(data)


@pytest.mark.parametrize("path", ["boot/config-6.1", "lib/modules/6.1/config", "usr/lib/modules/6.1/config"])
def test_beside_the_image(tmp_path: Path, path: str) -> None:
    assert kernelconfig.beside_image(Folder(tmp_path), "6.1") is None
    write(tmp_path, path)
    found = kernelconfig.beside_image(Folder(tmp_path), "6.1")
    assert found is not None
    assert found.source == f"/{path}"
    assert kernelconfig.beside_image(Folder(tmp_path), "") is None
    assert kernelconfig.beside_image(Folder(tmp_path), "../../boot/config-6.1") is None


def test_of_the_running_kernel(tmp_path: Path) -> None:
    root = Folder(tmp_path)
    assert kernelconfig.of_running_kernel(root, "6.1") is None
    write(tmp_path, "boot/config-6.1", b"CONFIG_A=y\n")
    found = kernelconfig.of_running_kernel(root, "6.1")
    assert found is not None
    assert found.enabled("CONFIG_A")
    write(tmp_path, "proc/config.gz", gzip.compress(b"CONFIG_B=y\n", mtime=0))
    found = kernelconfig.of_running_kernel(root, "6.1")
    assert found is not None
    assert found.enabled("CONFIG_B")
    write(tmp_path, "proc/config.gz", b"x" * (65 << 20))
    with pytest.raises(MachineError):
        kernelconfig.of_running_kernel(root, "6.1")


@given(st.data())
def test_any_damage_is_read_or_refused(data: st.DataObject) -> None:
    blob = bytearray(
        data.draw(
            st.sampled_from(
                [EMBEDDED, bzimage(gzip.compress(VMLINUX, mtime=0)), gzip.compress(VMLINUX, mtime=0)]
            )
        )
    )
    for _ in range(data.draw(st.integers(1, 8))):
        blob[data.draw(st.integers(0, min(len(blob), 0x800) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ImageError):
        from_image(bytes(blob))


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        kernelconfig.parse("x", text)
    except ImageError:
        assert "CONFIG_" not in text or "\nCONFIG_" not in f"\n{text}" or "=" not in text

"""Kernel configurations, in images and in files; real kernels' are read in tests/differential."""

import contextlib
import gzip
import lzma
from collections.abc import Callable

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from pykexec import kernelconfig
from pykexec.errors import ImageError
from tests.support.arm64_image import FakeImage

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


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress, zstandard.compress])
def test_from_file(pack: Callable[[bytes], bytes]) -> None:
    assert kernelconfig.from_file("config.gz", memoryview(pack(TEXT.encode())))["CONFIG_CRASH_DUMP"] == "y"


@pytest.mark.parametrize("image", [VMLINUX, FakeImage().build() + EMBEDDED])
def test_of_an_image(image: bytes) -> None:
    found = kernelconfig.embedded("kernel", memoryview(image))
    assert found is not None
    assert found["CONFIG_CRASH_DUMP"] == "y"


@pytest.mark.parametrize("image", [b"", FakeImage().build(), gzip.compress(VMLINUX, mtime=0)])
def test_images_that_do_not_tell(image: bytes) -> None:
    assert kernelconfig.embedded("kernel", memoryview(image)) is None


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
        kernelconfig.embedded("kernel", memoryview(image))


@pytest.mark.parametrize("data", [b"", b"text", bytes(5 << 20)])
def test_no_configuration(data: bytes) -> None:
    with pytest.raises(ImageError, match="no kernel configuration"):
        kernelconfig.from_file("x", memoryview(data))


@given(st.data())
def test_any_damage_is_read_or_refused(data: st.DataObject) -> None:
    blob = bytearray(data.draw(st.sampled_from([EMBEDDED, VMLINUX[20000:22000]])))
    for _ in range(data.draw(st.integers(1, 8))):
        blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ImageError):
        kernelconfig.embedded("kernel", memoryview(blob))


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        kernelconfig.parse("x", text)
    except ImageError:
        assert "CONFIG_" not in text or "\nCONFIG_" not in f"\n{text}" or "=" not in text

"""Hashing with purgatory's own code where this machine's CPU can, and without."""

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec import purgatory
from pykexec.purgatory import Region, native

_PREBUILT = Path(purgatory.__file__).parent / "prebuilt"


@given(st.lists(st.binary(max_size=300) | st.sampled_from([1, 100_000]).map(bytes), max_size=9))
def test_digests_are_those_of_hashlib(contents: list[bytes]) -> None:
    regions = [Region(str(n), n << 20, memoryview(data)) for n, data in enumerate(contents)]
    expected = {str(n): hashlib.sha256(data).digest() for n, data in enumerate(contents) if data}
    assert {each.name: each.sha256 for each in purgatory.digest_regions(regions)} == expected


def test_what_has_no_function_for_programs(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    for file in _PREBUILT / "arm64.elf", empty, tmp_path, tmp_path / "missing":
        assert native.find(os.fspath(file)) is None


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_hashing_without_it(machine: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(purgatory, "_PREBUILT", os.fspath(tmp_path))
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "", "", "", machine)))
    data = os.urandom(10 << 20)
    digests = purgatory.digest_regions([Region("initrd", 0, memoryview(data))])
    assert [digest.sha256 for digest in digests] == [
        hashlib.sha256(data[each.address : each.address + each.size]).digest() for each in digests
    ]

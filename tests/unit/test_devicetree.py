"""Device trees: nothing lost but what is changed, nothing believed that is not checked."""

import struct
from pathlib import Path

import fdt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec.devicetree import DeviceTree
from pykexec.errors import DeviceTreeError
from pykexec.machine.root import Folder
from tests.support.dtb import Blob, Tree
from tests.support.growth import QUADRATIC_SUSPECTED, growth
from tests.support.machines import ARM64_SNAPSHOTS, snapshot

NAMES = st.text(alphabet="abc-,@09#", min_size=1, max_size=8)
TREES = st.recursive(
    st.dictionaries(NAMES, st.binary(max_size=12), max_size=4),
    lambda below: st.dictionaries(NAMES, st.binary(max_size=12) | below, max_size=4),
    max_leaves=12,
)


def read(blob: bytes) -> DeviceTree:
    return DeviceTree(blob, "test.dtb")


def flat(tree: Tree, path: str = "") -> dict[str, dict[str, bytes]]:
    """Paths to properties."""
    result = {path or "/": {name: value for name, value in tree.items() if isinstance(value, bytes)}}
    for name, value in tree.items():
        if not isinstance(value, bytes):
            result |= flat(value, f"{path}/{name}")
    return result


@given(
    TREES, st.lists(st.tuples(st.integers(1, 1 << 63), st.integers(1, 1 << 63)), max_size=3), st.booleans()
)
def test_everything_survives(tree: Tree, reservations: list[tuple[int, int]], nops: bool) -> None:
    blob = Blob(tree, reservations, boot_cpu=7, nops=nops).build()
    again = read(read(blob).to_bytes())
    assert dict(again.nodes()) == flat(tree)
    header = fdt.Header.parse(again.to_bytes())
    assert (header.version, header.boot_cpuid_phys) == (17, 7)
    data = again.to_bytes()
    entries = struct.iter_unpack(">QQ", data[header.off_mem_rsvmap : header.off_dt_struct])
    assert list(entries) == [*reservations, (0, 0)]


@pytest.mark.parametrize("name", ARM64_SNAPSHOTS)
def test_real_trees_survive(name: str) -> None:
    data = snapshot(name).read("sys/firmware/fdt")
    assert data is not None
    tree = read(data)
    assert dict(read(tree.to_bytes()).nodes()) == dict(tree.nodes())
    assert tree.get("/", "compatible") == b"linux,dummy-virt\0"


def test_strings_that_are_empty_stay() -> None:
    """The library's own reader drops them."""
    blob = Blob({"names": b"a\0\0b\0"}).build()
    assert read(read(blob).to_bytes()).get("/", "names") == b"a\0\0b\0"


def test_changes() -> None:
    tree = read(Blob({"chosen": {"old": b"1", "keep": b"2"}, "cpus": {}}).build())
    tree.set("/chosen", "new", b"3")
    tree.set("/chosen", "old", b"")
    tree.remove("/chosen", "missing")
    tree.remove("/missing", "old")
    again = read(tree.to_bytes())
    assert dict(again.nodes())["/chosen"] == {"old": b"", "keep": b"2", "new": b"3"}
    tree.remove("/chosen", "old")
    assert read(tree.to_bytes()).get("/chosen", "old") is None


@pytest.mark.parametrize("name", ["caf\xe9", "with space", "bell\a"])
def test_a_folder_with_names_that_no_tree_has(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "proc/device-tree"
    (folder / "chosen").mkdir(parents=True)
    (folder / "chosen" / name).write_bytes(b"x")
    with pytest.raises(DeviceTreeError, match="no name of a node or property"):
        DeviceTree.from_folder(Folder(tmp_path), "proc/device-tree")


def test_a_missing_chosen_is_made() -> None:
    tree = read(Blob({}).build())
    tree.set("/chosen", "bootargs", b"quiet\0")
    assert read(tree.to_bytes()).get("/chosen", "bootargs") == b"quiet\0"


@pytest.mark.parametrize(
    ("address_cells", "size_cells", "expected"),
    [(2, 2, ">QQ"), (1, 1, ">II"), (2, 1, ">QI"), (1, 2, ">IQ")],
)
def test_ranges_respect_the_cells(address_cells: int, size_cells: int, expected: str) -> None:
    cells = {
        "#address-cells": struct.pack(">I", address_cells),
        "#size-cells": struct.pack(">I", size_cells),
    }
    tree = read(Blob(cells).build())
    assert tree.ranges([(0x40000000, 0x1000)]) == struct.pack(expected, 0x40000000, 0x1000)
    if 1 in (address_cells, size_cells):
        with pytest.raises(DeviceTreeError, match="does not fit"):
            tree.ranges([(1 << 32, 1 << 32)])


@pytest.mark.parametrize("cells", [b"", b"\0\0\0\0", b"\0\0\0\5", b"\xff\xff\xff\xff", b"\0\0\0\0\0\0\0\2"])
def test_absurd_cells(cells: bytes) -> None:
    tree = read(Blob({"#address-cells": cells}).build())
    with pytest.raises(DeviceTreeError, match="#address-cells"):
        tree.ranges([(0, 0)])


def patched(offset: int, value: int, blob: bytes) -> bytes:
    return blob[:offset] + struct.pack(">I", value) + blob[offset + 4 :]


GOOD = Blob({"chosen": {"bootargs": b"quiet\0"}, "cpus": {"cpu@0": {"reg": bytes(4)}}}).build()
DEEP: Tree = {}
for _ in range(100):
    DEEP = {"n": DEEP}


@pytest.mark.parametrize(
    ("blob", "message"),
    [
        (b"", "no device tree"),
        (b"#!/bin/sh\n" * 10, "no device tree"),
        (patched(4, 0xFFFFFFFF, GOOD), "its header says 4294967295 bytes"),
        (patched(4, 8, GOOD), "its header says 8 bytes"),
        (patched(8, 0xFFFFFFF0, GOOD), "structure block"),
        (patched(12, 0xFFFFFFF0, GOOD), "strings block"),
        (patched(16, 0xFFFFFFF0, GOOD), "reservations"),
        (patched(20, 3, GOOD), "version 3"),
        (patched(24, 18, GOOD), "compatible with 18"),
        (patched(36, 8, GOOD), "truncated"),
        (Blob(DEEP).build(), "nested more than"),
        (Blob({"a/b": {}}).build(), "a node's name with a slash: 'a/b'"),
    ],
)
def test_damaged_trees(blob: bytes, message: str) -> None:
    with pytest.raises(DeviceTreeError, match=message) as caught:
        read(blob)
    assert str(caught.value).startswith("test.dtb: ")


def test_truncated_anywhere() -> None:
    for length in range(len(GOOD)):
        with pytest.raises(DeviceTreeError):
            read(patched(4, max(length, 1), GOOD)[:length])


@given(st.data())
def test_any_damage_is_read_or_refused(data: st.DataObject) -> None:
    blob = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 6))):
        blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
    try:
        tree = read(bytes(blob))
        dict(read(tree.to_bytes()).nodes())
    except DeviceTreeError:
        pass


@pytest.mark.slow
def test_thousands_of_nodes_take_linear_time() -> None:
    def blob(count: int) -> bytes:
        return Blob({f"node@{i:x}": {"reg": bytes(8)} for i in range(count)}).build()

    few, many = blob(2000), blob(20000)
    assert growth(lambda: read(few), lambda: read(many)) < QUADRATIC_SUSPECTED

"""Device trees: nothing lost but what is changed, nothing believed that is not checked."""

import os
import struct
from pathlib import Path

import fdt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec.devicetree import DeviceTree, flattened
from pykexec.errors import DeviceTreeError, ImageError
from pykexec.formats import fit
from pykexec.machine.root import Folder
from tests.support.dtb import Blob, Tree
from tests.support.footprint import takes_at_most
from tests.support.growth import QUADRATIC_SUSPECTED, growth
from tests.support.machines import ARM64_SNAPSHOTS, snapshot
from tests.support.stopwatch import Stopwatch

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


@given(TREES)
def test_another_reader_finds_the_same(tree: Tree) -> None:
    blob = read(Blob(tree).build()).to_bytes()
    found = {
        path: {each.name: theirs(each) for each in properties}
        for path, _, properties in fdt.parse_dtb(blob).walk()
    }
    assert found == flat(tree)


def theirs(found: fdt.Property) -> bytes:
    """A property's bytes, which the library holds as what it takes them for."""
    if isinstance(found, fdt.PropStrings):
        return b"".join(text.encode() + b"\0" for text in found.data)
    if isinstance(found, fdt.PropWords):
        return struct.pack(f">{len(found.data)}I", *found.data)
    return bytes(found.data) if isinstance(found, fdt.PropBytes) else b""


@given(TREES)
def test_values_are_not_copied(tree: Tree) -> None:
    """A FIT image's are as large as kernels."""
    data = memoryview(bytearray(Blob(tree).build()))
    nodes = [flattened.read(data, "test.dtb").root]
    for node in nodes:
        nodes += node.children
        for value in node.properties.values():
            assert isinstance(value, memoryview)
            assert value.obj is data.obj


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
        (patched(12, 60, GOOD), "structure block and its strings block overlap"),
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
@pytest.mark.parametrize("kind", ["nodes", "properties"])
def test_thousands_of_nodes_and_properties_take_linear_time(kind: str) -> None:
    """To read them, to change each, and to write them."""

    def blob(count: int) -> bytes:
        return wide(properties=count) if kind == "properties" else wide(nodes=count)

    def work(data: bytes, count: int) -> None:
        tree = read(data)
        for number in range(count):
            tree.set("/" if kind == "properties" else f"/n{number:x}", f"p{number}", b"\1")
        assert len(dict(read(tree.to_bytes()).nodes())["/"]) == (count + 1 if kind == "properties" else 0)

    few, many = blob(1000), blob(10000)
    assert growth(lambda: work(few, 1000), lambda: work(many, 10000)) < QUADRATIC_SUSPECTED


def test_properties_are_kept_whatever_their_name_is(tmp_path: Path) -> None:
    """The library's own writer leaves some out, and writes names into the ends of others."""
    names = {name: bytes([index]) for index, name in enumerate(["a_with_references", "xreg", "reg", "g"])}
    assert dict(read(read(Blob(names).build()).to_bytes()).nodes()) == {"/": names}


def test_of_twins_the_first_counts() -> None:
    """drivers/of/base.c __of_find_property(); once it is taken away, none comes to light."""
    twins = struct.pack(">III", 3, 1, 0) + b"1\0\0\0" + struct.pack(">III", 3, 1, 0) + b"2\0\0\0"
    blob = Blob({"aa": b""}).build()
    blob = blob.replace(struct.pack(">III", 3, 0, 0), twins)
    grown = len(twins) - 12
    for offset in (4, 12, 36):
        blob = patched(offset, struct.unpack_from(">I", blob, offset)[0] + grown, blob)
    tree = read(read(blob).to_bytes())
    assert tree.get("/", "aa") == b"1"
    tree.remove("/", "aa")
    assert read(tree.to_bytes()).get("/", "aa") is None


BEGIN, END, NOP = struct.pack(">II", 1, 0), struct.pack(">II", 2, 9), struct.pack(">I", 4)


def structure(body: bytes, strings: bytes = b"a\0") -> bytes:
    """A blob with these blocks: what Blob takes too long for."""
    at = 56 + len(body)
    header = (0xD00DFEED, at + len(strings), 56, at, 40, 17, 16, 0, len(strings), len(body))
    return struct.pack(">10I", *header) + bytes(16) + body + strings


def wide(nodes: int = 0, properties: int = 0) -> bytes:
    """Nodes and properties with short names."""
    body = struct.pack(">III", 3, 0, 0) * properties + struct.pack(">III", 1, 0x61000000, 2) * nodes
    return structure(BEGIN + body + END)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "truncated"),
        (BEGIN, "truncated"),
        (END, "tag 0x2 at 0x0 of the structure block is out of place"),
        (BEGIN + struct.pack(">I", 5) + END, "tag 0x5 at 0x8 of the structure block is out of place"),
        (BEGIN + END[:4] + BEGIN + END, "more than one root node"),
        (
            struct.pack(">III", 3, 0, 0) + BEGIN + END,
            "tag 0x3 at 0x0 of the structure block is out of place",
        ),
        (BEGIN + struct.pack(">III", 3, 0xFFFFFFFF, 0) + END, "the property at 0x8 of the structure block"),
        (BEGIN + struct.pack(">III", 3, 0, 5) + END, "the property at 0x8 of the structure block"),
        (BEGIN + struct.pack(">III", 3, 0, 0xFFFFFFFF) + END, "the property at 0x8 of the structure block"),
        (struct.pack(">I", 1) + b"x" * 400, "a node's name does not end"),
        (struct.pack(">I", 1) + b"\xff\0\0\0" + END, "a name with unprintable characters"),
    ],
)
def test_hostile_structure(body: bytes, message: str) -> None:
    with pytest.raises(DeviceTreeError, match=message):
        read(structure(body))
    with pytest.raises(ImageError, match=message):
        fit.parse("fit", memoryview(structure(body)))
    assert not fit.matches(memoryview(structure(body)))


CHAIN: Tree = {str(number): {} for number in range(1000)}
for _ in range(60):
    CHAIN = {"n" * 100: CHAIN}


@pytest.mark.parametrize(
    ("blob", "message"),
    [
        (wide(nodes=1_000_000), "more than 32768 nodes"),
        (wide(properties=1_000_000), "more than 131072 properties"),
        (Blob(CHAIN).build(), "a path of more than 1024 characters"),
        (Blob({"x" * 1000: b""}).build(), "damaged"),
        (Blob({"x" * 1000: {}}).build(), "a node's name does not end"),
        (Blob({}, reservations=[(1, 1)] * 500_000).build(), "reservations do not end"),
        (structure(BEGIN + NOP * 4_000_000 + END), "more than 524288 tags"),
        (structure(BEGIN * 2_000_000), "nested more than 64 deep"),
    ],
)
@pytest.mark.slow
def test_trees_that_no_board_has(blob: bytes, message: str) -> None:
    stopwatch = Stopwatch()
    with pytest.raises(DeviceTreeError, match=message):
        read(blob)
    assert stopwatch.seconds() < 1


@pytest.mark.slow
def test_what_is_read_of_a_large_blob_takes_little_memory() -> None:
    """A quarter of as many properties as are read, all of different names, which lie over each other."""
    names = b"".join(f"{number:0127x}\0".encode() for number in range(1 << 10))
    count = (1 << 15) - 1
    properties = b"".join(struct.pack(">III", 3, 0, place) for place in range(count))
    blob = structure(BEGIN + properties + END, names)
    with takes_at_most(25 << 20):
        assert len(dict(read(blob).nodes())["/"]) > 1 << 14


def test_links_in_a_folder_are_not_followed(tmp_path: Path) -> None:
    """Two links to the folder that they are in make 2^64 nodes of it."""
    folder = tmp_path / "proc/device-tree"
    (folder / "chosen").mkdir(parents=True)
    (folder / "chosen" / "bootargs").write_bytes(b"quiet\0")
    for name in "ab":
        (folder / name).symlink_to(".")
    os.mkfifo(folder / "pipe")
    tree = DeviceTree.from_folder(Folder(tmp_path), "proc/device-tree")
    assert dict(tree.nodes()) == {"/": {}, "/chosen": {"bootargs": b"quiet\0"}}

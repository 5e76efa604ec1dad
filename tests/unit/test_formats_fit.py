"""FIT images, good and hostile; those that mkimage makes are read in tests/differential."""

import gzip
import hashlib
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec import formats
from pykexec.errors import ImageError
from pykexec.files import FileData
from pykexec.formats import fit
from tests.support.arm64_image import FakeImage
from tests.support.dtb import Blob, Tree
from tests.support.footprint import takes_at_most
from tests.support.growth import QUADRATIC_SUSPECTED, growth
from tests.support.stopwatch import Stopwatch

KERNEL = FakeImage(size=0x1000).build()
TREE = Blob({"compatible": b"a,board\0"}).build()
Values = dict[str, "bytes | Tree"]


def text(value: str) -> bytes:
    return value.encode() + b"\0"


def image(data: bytes, kind: str = "kernel", compression: str = "none", **more: "bytes | Tree") -> Values:
    kinds = {"data": data, "type": text(kind), "compression": text(compression), "arch": text("arm64")}
    return {**kinds, **({"os": text("linux")} if kind == "kernel" else {}), **more}


def hashed(data: bytes, algorithm: str) -> Tree:
    value = zlib.crc32(data).to_bytes(4) if algorithm == "crc32" else hashlib.new(algorithm, data).digest()
    return {"algo": text(algorithm), "value": value}


def blob(images: Tree, configurations: Tree) -> bytes:
    return Blob({"description": text("x"), "images": images, "configurations": configurations}).build()


IMAGES: Values = {
    "kernel-1": {**image(KERNEL), "hash-1": hashed(KERNEL, "sha256")},
    "packed": image(gzip.compress(KERNEL, mtime=0), compression="gzip"),
    "initrd": image(b"initrd", "ramdisk", "gzip"),
    "tree": image(TREE, "flat_dt"),
}
CONFIGURATIONS: Values = {
    "default": text("one"),
    "one": {"kernel": text("kernel-1"), "description": text("The first")},
    "two": {
        "kernel": text("packed"),
        "ramdisk": text("initrd"),
        "fdt": text("tree"),
        "compatible": text("a,board"),
    },
}
WHOLE = blob(IMAGES, CONFIGURATIONS)


def parse(data: bytes) -> fit.Fit:
    return fit.parse("fit", memoryview(data))


def with_kernel(**kernel: "bytes | Tree") -> bytes:
    return blob({"k": {**image(KERNEL), **kernel}}, {"c": {"kernel": text("k")}})


def test_configurations() -> None:
    found = parse(WHOLE)
    assert found.default == "one"
    assert [(each.name, each.description, each.compatible) for each in found.configurations] == [
        ("one", "The first", ()),
        ("two", "", ("a,board",)),
    ]


def test_the_default_one_is_where_it_lies() -> None:
    view = memoryview(bytearray(WHOLE))
    found = fit.parse("fit", view).select()
    assert bytes(found.kernel) == KERNEL
    assert found.kernel.obj is view.obj, "no copy"
    assert (found.initrds, found.device_tree, found.notes) == ((), None, ())


def test_by_name() -> None:
    """The kernel is unpacked, the initrd is not: the new kernel does that."""
    found = parse(WHOLE).select("two")
    assert bytes(found.kernel) == KERNEL
    assert [bytes(each) for each in found.initrds] == [b"initrd"]
    assert bytes(found.device_tree or b"") == TREE
    assert found.format == "FIT image, configuration two"


def test_by_machine() -> None:
    found = parse(WHOLE)
    assert found.find(compatible=["a,board-rev2", "a,board"]) == "two"
    assert found.find(compatible=["b,board"]) == "one"
    assert found.find("one", compatible=["a,board"]) == "one"
    assert found.select("two", compatible=["b,board"]).notes == (
        "fit: its configuration two is for a,board, this is b,board",
    )


def test_without_a_default() -> None:
    one: Values = {"one": CONFIGURATIONS["one"]}
    assert parse(blob(IMAGES, one)).find() == "one"
    both: Values = {**one, "two": CONFIGURATIONS["two"]}
    with pytest.raises(ImageError, match="none of its configurations is the default") as error:
        parse(blob(IMAGES, both)).find()
    assert error.value.hint == "its configurations: one, two"


@pytest.mark.parametrize("algorithm", ["sha256", "sha1", "crc32", "md5", "sha384", "sha512"])
def test_hashes(algorithm: str) -> None:
    """As U-Boot's source_file_format has them: crc32 is big-endian, like all of a device tree."""
    good = hashed(KERNEL, algorithm)
    assert bytes(parse(with_kernel(**{"hash-1": good})).select().kernel) == KERNEL
    bad = hashed(KERNEL + b"x", algorithm)
    with pytest.raises(ImageError, match=f"/images/k: damaged: its {algorithm} is another than hash-2 says"):
        parse(with_kernel(**{"hash-1": good, "hash-2": bad})).select()


def test_many_hashes_take_the_time_of_one_for_each_algorithm(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed_bytes = 0

    def crc32(data: memoryview) -> int:
        nonlocal hashed_bytes
        hashed_bytes += data.nbytes
        return crc(data)

    crc = zlib.crc32
    many = {f"hash-{number}": hashed(KERNEL, "crc32") for number in range(1000)}
    image = with_kernel(**many)
    monkeypatch.setattr(zlib, "crc32", crc32)
    assert bytes(parse(image).select().kernel) == KERNEL
    assert hashed_bytes == len(KERNEL)


def test_trees_that_are_one_and_the_same() -> None:
    """The configuration names one tree of 16 MiB, packed to 16 KiB, over and over."""
    bomb = gzip.compress(bytes(15 << 20), mtime=0)
    images: Tree = {"k": image(KERNEL), "t": image(bomb, "flat_dt", "gzip")}
    stopwatch = Stopwatch()
    for count, message in ((2, "unpacks to more than 1 MiB"), (20_000, "20000 trees")):
        fit = parse(blob(images, {"c": {"kernel": text("k"), "fdt": text("t") * count}}))
        with takes_at_most(100 << 20), pytest.raises(ImageError, match=message):
            fit.select()
    assert stopwatch.seconds() < 2


def test_many_machines_and_configurations_take_linear_time() -> None:
    def work(count: int) -> None:
        assert images[count].find(compatible=machines[count]) == f"c{count - 1}"

    counts = (200, 2000)
    machines = {count: [*(f"other,{n}" for n in range(count)), f"board,{count - 1}"] for count in counts}
    images = {
        count: parse(
            blob(
                {"k": image(KERNEL)},
                {f"c{n}": {"kernel": text("k"), "compatible": text(f"board,{n}")} for n in range(count)},
            )
        )
        for count in counts
    }
    assert growth(lambda: work(200), lambda: work(2000)) < QUADRATIC_SUSPECTED


def test_hashes_are_of_what_is_packed() -> None:
    packed = gzip.compress(KERNEL, mtime=0)
    node = {**image(packed, compression="gzip"), "hash": hashed(packed, "sha1")}
    assert bytes(parse(blob({"k": node}, {"c": {"kernel": text("k")}})).select().kernel) == KERNEL


def external(position: str, *, offset: int = 0, size: int = len(KERNEL)) -> bytes:
    """The kernel behind the tree, as ``mkimage -E`` has it, with 8 bytes before it."""
    node: Values = {**image(b""), "data-size": struct.pack(">I", size), position: struct.pack(">I", 0)}
    del node["data"]
    tree = blob({"k": node}, {"c": {"kernel": text("k")}})
    start = len(tree) + -len(tree) % 4 if position == "data-position" else 0
    node[position] = struct.pack(">I", start + 8 + offset)
    tree = blob({"k": node}, {"c": {"kernel": text("k")}})
    return tree + bytes(-len(tree) % 4) + b"8 bytes!" + KERNEL


@pytest.mark.parametrize("position", ["data-offset", "data-position"])
def test_external_data(position: str) -> None:
    assert bytes(parse(external(position)).select().kernel) == KERNEL
    with pytest.raises(ImageError, match="truncated: its data ends at"):
        parse(external(position, offset=1)).select()
    with pytest.raises(ImageError, match="truncated: its data ends at"):
        parse(external(position, size=0xFFFFFFFF)).select()


def test_what_is_not_checked_is_said() -> None:
    signature: Tree = {"algo": text("sha256,rsa2048"), "value": bytes(256)}
    configurations: Tree = {
        "c": {
            "kernel": text("k"),
            "fdt": text("t") + text("o"),
            "loadables": text("fw"),
            "signature-1": signature,
        }
    }
    images: Tree = {"k": {**image(KERNEL), "signature-1": signature}, "t": image(TREE, "flat_dt")}
    with pytest.raises(ImageError, match="fit: /images/o is missing, the fdt of the configuration c"):
        parse(blob(images, configurations)).select()
    images = {**images, "o": image(b"the overlay", "flat_dt")}
    found = parse(blob(images, configurations)).select()
    assert [bytes(each) for each in found.overlays] == [b"the overlay"]
    assert found.notes == (
        "fit: /configurations/c is signed; pykexec does not check that",
        "fit: /images/k is signed; pykexec does not check that",
        "fit: /images/fw of the configuration c is left out",
    )


@pytest.mark.parametrize("line", ["quiet " * 500 + "root=UUID=0", "note=über", "raw=\udcff", ""])
def test_a_command_line_is_taken_as_it_is(line: str) -> None:
    """The kernel takes 2048 characters or more (COMMAND_LINE_SIZE), and bytes of any kind."""
    bootargs = line.encode("utf-8", "surrogateescape") + b"\0"
    found = parse(blob({"k": image(KERNEL)}, {"c": {"kernel": text("k"), "bootargs": bootargs}}))
    assert found.select().command_line == line


def test_many_names_are_all_read() -> None:
    names = [f"board,{number}" for number in range(2000)]
    compatible = b"".join(map(text, names))
    found = parse(blob({"k": image(KERNEL)}, {"c": {"kernel": text("k"), "compatible": compatible}}))
    assert found.configurations[0].compatible == tuple(names)


@pytest.mark.parametrize("name", ["bootargs", "compatible", "description"])
def test_a_text_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ImageError, match=f"fit: damaged: 70000 bytes of text in a property {name}"):
        parse(blob({"k": image(KERNEL)}, {"c": {"kernel": text("k"), name: b"x" * 70000}})).select()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no device tree"),
        (TREE, "a device tree without /images"),
        (Blob({"images": {}}).build(), "without /configurations"),
        (Blob({"images": {}, "configurations": {}}).build(), "without /configurations"),
    ],
)
def test_no_fit(data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        parse(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (blob({}, {"c": {}}), "its configuration c has no kernel"),
        (blob({}, {"c": {"kernel": text("k")}}), "/images/k is missing, the kernel of the configuration c"),
        (with_kernel(type=text("ramdisk")), "a ramdisk, not a kernel"),
        (with_kernel(os=text("vxworks")), "a kernel of vxworks, not of Linux"),
        (with_kernel(compression=text("gzip")), "damaged gzip data"),
        (with_kernel(compression=text("lzo")), "compressed with lzop, which pykexec cannot"),
        (with_kernel(compression=text("rot13")), "compressed with rot13, which pykexec cannot"),
        (with_kernel(cipher={"algo": text("aes256")}), "encrypted"),
        (with_kernel(**{"hash-1": {"algo": text("crc16-ccitt")}}), "a hash that cannot be checked"),
        (with_kernel(**{"hash-1": {}}), "a hash that cannot be checked"),
        (blob({"k": {"type": text("kernel")}}, {"c": {"kernel": text("k")}}), "no data, nor data-size"),
        (blob({"k": {"type": text("kernel"), "data-size": b"x"}}, {"c": {"kernel": text("k")}}), "no data"),
    ],
)
def test_what_is_wrong_is_said(data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        parse(data).select()


def test_truncated_anywhere() -> None:
    for length in range(0, len(WHOLE), 61):
        with pytest.raises(ImageError, match=r"truncated|cut off"):
            parse(WHOLE[:length])


@given(st.data())
def test_any_damage_is_read_or_refused(data: st.DataObject) -> None:
    damaged = bytearray(WHOLE)
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = parse(bytes(damaged))
        bundle = found.select(data.draw(st.sampled_from([None, "one", "two"])))
    except ImageError:
        return
    assert bundle.kernel.nbytes <= 1 << 20


@pytest.mark.parametrize(
    ("word", "value"), [(2, 8), (2, 1 << 30), (3, 1 << 31), (5, 15), (6, 18), (9, 1 << 30)]
)
def test_hostile_header(word: int, value: int) -> None:
    data = bytearray(WHOLE)
    struct.pack_into(">I", data, 4 * word, value)
    with pytest.raises(ImageError, match="damaged device tree"):
        parse(bytes(data))


def test_unwrap_finds_the_default_kernel() -> None:
    file = FileData.from_bytes("fit", WHOLE)
    inner, wrappings = formats.unwrap(file)
    assert (bytes(inner.data), wrappings) == (KERNEL, "FIT image, configuration one")
    assert formats.is_bundle(file)
    tree = FileData.from_bytes("tree", TREE)
    assert formats.unwrap(tree) == (tree, "")
    assert not formats.is_bundle(tree)


def test_open_bundle() -> None:
    found = formats.open_bundle(FileData.from_bytes("fit", WHOLE), compatible=["a,board"])
    assert found.format == "FIT image, configuration two"

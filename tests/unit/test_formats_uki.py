"""Unified kernel images, good and hostile; those that ukify makes are read in tests/differential."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec import formats
from pykexec.errors import ImageError
from pykexec.files import FileData
from pykexec.formats import pe, uki
from pykexec.formats.bundle import Bundle
from tests.support.arm64_image import FakeImage
from tests.support.bzimage import FakeBzImage
from tests.support.dtb import Blob
from tests.support.pe import Section, portable_executable
from tests.support.stopwatch import Stopwatch

KERNEL = FakeBzImage().build()
ARM64 = 0xAA64
Parts = list[Section | tuple[str, bytes]]


def parse(*parts: Section | tuple[str, bytes]) -> uki.Uki:
    return uki.parse("uki", memoryview(portable_executable([(".linux", KERNEL), *parts])))


def addon(*parts: tuple[str, bytes], name: str = "addon", machine: int = 0x8664) -> uki.Addon:
    return uki.parse_addon(name, memoryview(portable_executable(parts, machine=machine)))


def initrds(bundle: Bundle) -> list[bytes]:
    return [bytes(each) for each in bundle.initrds]


def tree(*compatible: str) -> bytes:
    return Blob({"compatible": b"".join(each.encode() + b"\0" for each in compatible)}).build()


def test_its_parts_are_where_they_lie() -> None:
    image = portable_executable(
        [
            (".text", b"code"),
            (".linux", KERNEL),
            (".initrd", b"initrd!"),
            (".ucode", b"microcode"),
            (".osrel", b"ID=x"),
        ]
    )
    view = memoryview(bytearray(image))
    found = uki.parse("uki", view).select()
    assert (bytes(found.kernel), initrds(found)) == (KERNEL, [b"microcode", b"initrd!"])
    assert found.kernel.obj is found.initrds[0].obj is view.obj, "no copies"


@pytest.mark.parametrize(
    ("section", "line"),
    [
        (b"root=/dev/sda quiet\n\0\0", "root=/dev/sda quiet"),
        (b"  quiet\r\n  ", "quiet"),
        (b"one\ntwo\n", "one two"),
        (b"quiet\0garbage", "quiet"),
        (b"\n", ""),
        ("größe=1".encode(), "größe=1"),
    ],
)
def test_command_line(section: bytes, line: str) -> None:
    assert parse((".cmdline", section)).select().command_line == line


def test_without_a_command_line() -> None:
    assert parse().select().command_line is None
    assert parse(Section(".cmdline", b"quiet", virtual_size=0)).select().command_line is None


def test_memory_counts_when_it_is_less_than_the_file() -> None:
    """The file's size is aligned, that in memory is not; where memory is more, zeros follow."""
    found = parse(
        Section(".initrd", b"1234567", virtual_size=5), Section(".ucode", b"12", virtual_size=900)
    ).select()
    assert initrds(found) == [b"12".ljust(512, b"\0"), b"12345"]


def test_the_first_of_a_name_counts() -> None:
    assert parse((".cmdline", b"first"), (".cmdline", b"second")).select().command_line == "first"


PROFILES: Parts = [
    (".cmdline", b"base"),
    (".initrd", b"shared"),
    (".profile", b"ID=regular\nTITLE=Regular boot\n"),
    (".profile", b'ID=reset\nTITLE="Factory reset"\n'),
    (".cmdline", b"reset"),
    (".profile", b"TITLE='Another kernel'"),
    (".linux", b"other kernel"),
    (".initrd", b"its initrd"),
]


@pytest.mark.parametrize(
    ("choice", "line", "initrd", "kernel"),
    [
        (None, "base", b"shared", KERNEL),
        ("0", "base", b"shared", KERNEL),
        ("regular", "base", b"shared", KERNEL),
        ("@1", "reset", b"shared", KERNEL),
        (1, "reset", b"shared", KERNEL),
        ("reset", "reset", b"shared", KERNEL),
        ("Factory reset", "reset", b"shared", KERNEL),
        ("Another kernel", "base", b"its initrd", b"other kernel"),
    ],
)
def test_profiles(choice: str | int | None, line: str, initrd: bytes, kernel: bytes) -> None:
    found = parse(*PROFILES).select(choice)
    assert (found.command_line, initrds(found), bytes(found.kernel)) == (line, [initrd], kernel)


def test_unknown_profile() -> None:
    with pytest.raises(ImageError, match="no profile 3") as error:
        parse(*PROFILES).select("3")
    assert error.value.hint == "its profiles: @0 (regular), @1 (reset), @2 (Another kernel)"
    with pytest.raises(ImageError, match="no profile reset"):
        parse().select("reset")
    assert parse().select("0").command_line is None


def test_a_kernel_for_each_profile_but_none_shared() -> None:
    parts: Parts = [(".profile", b"ID=a"), (".linux", b"A"), (".profile", b"ID=b"), (".linux", b"B")]
    image = uki.parse("uki", memoryview(portable_executable(parts)))
    assert [bytes(image.select(name).kernel) for name in "ab"] == [b"A", b"B"]
    with pytest.raises(ImageError, match=r"profile @1 \(b\) has no .linux"):
        uki.parse("uki", memoryview(portable_executable(parts[:3])))


def test_the_machine_s_device_tree_is_chosen() -> None:
    image = parse(
        (".dtb", tree("any,board")),
        (".dtbauto", tree("a,one", "a,soc")),
        (".dtbauto", tree("a,two", "a,soc")),
    )
    trees = {name: image.select(compatible=name).device_tree for name in ("a,one", "a,two", "a,soc")}
    assert {name: bytes(each or b"") for name, each in trees.items()} == {
        "a,one": tree("a,one", "a,soc"),
        "a,two": tree("a,two", "a,soc"),
        "a,soc": tree("any,board"),
    }
    assert bytes(image.select().device_tree or b"") == tree("any,board")
    assert parse((".dtbauto", tree("a,one"))).select(compatible="a,two").device_tree is None


def test_damaged_device_tree() -> None:
    with pytest.raises(ImageError, match=r"\.dtbauto: damaged device tree"):
        parse((".dtbauto", b"\xd0\x0d\xfe\xed no tree")).select(compatible="a,one")


def test_addons() -> None:
    """The order is that of the specification: microcode in front in reverse, the rest behind."""
    added = [
        addon((".cmdline", b"one\n"), (".initrd", b"i1"), (".ucode", b"u1")),
        addon((".cmdline", b"two"), (".initrd", b"i2"), (".ucode", b"u2")),
    ]
    found = parse((".cmdline", b"base"), (".initrd", b"i0"), (".ucode", b"u0")).select(addons=added)
    assert found.command_line == "base one two"
    assert initrds(found) == [b"u2", b"u1", b"u0", b"i0", b"i1", b"i2"]
    assert found.notes == ()
    assert parse().select(addons=added).command_line == "one two"


def test_addons_that_do_not_fit_are_left_out() -> None:
    added = [
        addon((".cmdline", b"arm"), machine=ARM64, name="a"),
        addon((".cmdline", b"other"), (".uname", b"6.2"), name="b"),
        addon((".cmdline", b"same"), (".uname", b"6.1\n"), name="c"),
    ]
    found = parse((".uname", b"6.1")).select(addons=added)
    assert (found.command_line, found.release) == ("same", "6.1")
    assert found.notes == (
        "a is left out: it is for arm64",
        "b is left out: it is for 6.2, the kernel is 6.1",
    )


def test_a_profile_s_trees_take_the_place_of_all_that_are_for_every_profile() -> None:
    image = parse(
        (".dtbauto", tree("a")), (".profile", b"ID=0"), (".profile", b"ID=1"), (".dtbauto", tree("b"))
    )

    def taken(profile: str, compatible: str) -> bytes:
        return bytes(image.select(profile, compatible=compatible).device_tree or b"")

    assert (taken("0", "a"), taken("1", "a"), taken("1", "b")) == (tree("a"), b"", tree("b"))


def test_device_trees_of_addons() -> None:
    """A tree takes the place of the image's, changes are to the last tree there is."""
    change = Blob({"fragment@0": {"target-path": b"/\0", "__overlay__": {"a": b""}}}).build()
    image = parse((".dtb", tree("base")))
    first, other = addon((".dtb", tree("first"))), addon((".dtbauto", tree("other")), (".dtb", change))

    def taken(*addons: uki.Addon, compatible: str | None = None) -> list[bytes]:
        found = image.select(addons=addons, compatible=compatible)
        return [bytes(each) for each in (found.device_tree or b"", *found.overlays)]

    assert taken(first) == [tree("first")]
    assert taken(first, other, compatible="first") == [tree("first"), change]
    assert taken(other, first) == [tree("first")]
    assert taken(other, compatible="other") == [tree("other")]
    with pytest.raises(ImageError, match="an add-on changes its device tree, of which it has none"):
        parse().select(addons=[other])


def test_addon_names() -> None:
    names = ["b.addon.efi", "a.addon.efi", "c.efi", "README", "B.ADDON.EFI"]
    assert uki.addon_names(names) == ["B.ADDON.EFI", "a.addon.efi", "b.addon.efi"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a PE file"),
        (portable_executable([(".linux", b"x"), (".cmdline", b"x")]), "it has a kernel"),
        (portable_executable([(".text", b"x")]), r"it has none of \.cmdline"),
    ],
)
def test_no_addon(data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        uki.parse_addon("addon", memoryview(data))


def test_a_signed_kernel_keeps_its_length() -> None:
    """What aligns the section would not be covered by the signature within it."""
    signed = portable_executable([(".text", b"kernel")], certificates=b"\x01" * 24)
    image = uki.parse(
        "uki", memoryview(portable_executable([Section(".linux", signed, virtual_size=1 << 20)]))
    )
    assert bytes(image.select().kernel) == signed
    trailing = signed + b"x"
    image = uki.parse(
        "uki", memoryview(portable_executable([Section(".linux", trailing, virtual_size=1 << 20)]))
    )
    assert bytes(image.select().kernel).rstrip(b"\0") == trailing


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([(".text", b"")], "no .linux section"),
        ([Section(".linux", KERNEL, virtual_size=0)], "profile @0 has no .linux"),
        ([Section(".linux", KERNEL, pointer=1 << 31)], r"truncated: its section \.linux ends at"),
        ([Section(".linux", KERNEL, raw_size=0xFFFFFFFF, virtual_size=0xFFFFFFFF)], "truncated"),
        ([(".linux", KERNEL), Section(".initrd", b"x", pointer=0x400)], r"\.linux and \.initrd overlap"),
        ([(".linux", KERNEL), (".profile", b"x" * 70000)], "70000 bytes of text"),
    ],
)
def test_what_is_wrong_is_said(parts: Parts, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        uki.parse("uki", memoryview(portable_executable(parts)))


def test_a_long_command_line_is_refused() -> None:
    with pytest.raises(ImageError, match=r"100000 bytes of text in its section \.cmdline"):
        parse((".cmdline", b"x" * 100000)).select()


def test_absurd_section_counts() -> None:
    image = portable_executable([(".linux", KERNEL)], count=0xFFFF)
    assert not uki.matches(memoryview(image))
    with pytest.raises(ImageError, match="65535 PE sections"):
        uki.parse("uki", memoryview(image))


WHOLE = portable_executable([(".linux", KERNEL), (".initrd", b"initrd" * 300), *PROFILES])


def test_truncated_anywhere() -> None:
    stopwatch = Stopwatch()
    for length in [*range(0, 0x500, 7), *range(0x500, len(WHOLE.rstrip(b"\0")), 501)]:
        with pytest.raises(ImageError, match=r"truncated|no \.linux"):
            uki.parse("uki", memoryview(WHOLE[:length]))
    assert stopwatch.seconds() < 5


@given(st.data())
def test_any_damage_is_read_or_refused(data: st.DataObject) -> None:
    blob = bytearray(WHOLE)
    for _ in range(data.draw(st.integers(1, 6))):
        blob[data.draw(st.integers(0, 0x40 + 24 + 240 + 40 * 10))] = data.draw(st.integers(0, 255))
    try:
        found = uki.parse("uki", memoryview(blob)).select(compatible="x")
    except ImageError:
        return
    assert found.kernel.nbytes <= len(WHOLE)


@given(st.text(max_size=300))
@pytest.mark.slow
def test_any_properties_are_read(text: str) -> None:
    assert all(name.replace("_", "").isalnum() for name in uki.properties(text))


def test_os_release_is_read_as_a_shell_would() -> None:
    text = (
        '# comment\nID=debian\nPRETTY_NAME="Debian GNU/Linux \\"12\\""\nVERSION=\'12 (x)\'\nBROKEN="\n=x\n'
    )
    assert uki.properties(text) == {
        "ID": "debian",
        "PRETTY_NAME": 'Debian GNU/Linux "12"',
        "VERSION": "12 (x)",
        "BROKEN": '"',
    }


def test_unwrap_finds_the_kernel() -> None:
    """On arm64 the kernel in it may be an EFI zboot image, or a PE file itself: that is no image again."""
    kernel = FakeImage().build()
    file = FileData.from_bytes("uki", portable_executable([(".linux", kernel)], machine=ARM64))
    inner, wrappings = formats.unwrap(file)
    assert (bytes(inner.data[: len(kernel)]), wrappings) == (kernel, "unified kernel image")
    plain = FileData.from_bytes("kernel", portable_executable([(".text", b"x")]))
    assert formats.unwrap(plain) == (plain, "")
    assert formats.is_bundle(file)
    assert not formats.is_bundle(plain)


def test_open_bundle() -> None:
    file = FileData.from_bytes("uki", portable_executable([(".linux", KERNEL), *PROFILES]))
    extra = FileData.from_bytes("x.addon.efi", portable_executable([(".cmdline", b"more")]))
    found = formats.open_bundle(file, "reset", addons=[extra])
    assert (found.command_line, found.format) == ("reset more", "unified kernel image, profile @1 (reset)")
    with pytest.raises(ImageError, match="neither a unified kernel image nor a FIT image"):
        formats.open_bundle(FileData.from_bytes("kernel", KERNEL))
    with pytest.raises(ImageError, match="add-ons are for unified kernel images"):
        formats.open_bundle(FileData.from_bytes("kernel", KERNEL), addons=[extra])


def test_headers() -> None:
    found = pe.parse("x", memoryview(portable_executable([(".text", b"x")], subsystem=3)))
    assert found is not None
    assert (found.is_efi, found.machine_name, found.subsystem) == (False, "x86_64", 3)

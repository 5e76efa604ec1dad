"""Keys of encrypted volumes: read for an image in memory, refused with the reason, and never said."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pykexec.errors import FileError, PykexecError
from pykexec.kdump.capture import handover, image, keys, layers
from pykexec.kdump.capture.errors import Unsupported
from pykexec.kdump.config import debian, suse
from pykexec.kdump.config.fedora import read as read_fedora
from tests.unit.test_kdump_init import _CLOCK, _DISK, Capture

pytestmark = pytest.mark.programs

_LUKS = "1b4e28ba-2fa1-11d2-883f-b9a761bde3fb"
_UUID = f"CRYPT-LUKS2-{_LUKS.replace('-', '')}-my_dumps"
_KEY = "00112233445566778899aabbccddeeff" * 4
_TABLE = f"0 409600 crypt aes-xts-plain64 {_KEY} 0 254:18 32768 1 allow_discards"


@pytest.fixture
def sys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A volume on a partition, which dmsetup tells the table of."""
    sys = tmp_path / "before/sys"
    disk = sys / "devices/pci0000:00/0000:00:05.0/virtio2/block/vdb"
    (disk / "vdb2").mkdir(parents=True)
    (disk / "vdb2/partition").write_text("2\n")
    (disk / "device").symlink_to(disk.parent.parent)
    (disk.parent.parent / "subsystem").symlink_to(sys / "bus/virtio")
    volume = sys / "block/dm-0"
    (volume / "dm").mkdir(parents=True)
    (volume / "dm/uuid").write_text(f"{_UUID}\n")
    (volume / "dm/name").write_text("my_dumps\n")
    (volume / "slaves").mkdir()
    (volume / "slaves/vdb2").symlink_to(disk / "vdb2")
    _dmsetup(tmp_path, _TABLE)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/vdb2").write_bytes(_header())
    return sys


def _dmsetup(folder: Path, table: str) -> None:
    """Without --showkeys it has zeros in the place of a key, and names of keys nevertheless."""
    words = table.split(" ")
    if len(words) > 4 and not words[4].startswith(":"):
        words[4] = "0" * len(words[4])
    program = folder / "dmsetup"
    program.write_text(f"""#!/bin/sh
case $* in
    'table --showkeys -- my_dumps') echo '{table}' ;;
    'table -- my_dumps') echo '{" ".join(words)}' ;;
esac
""")
    program.chmod(0o755)


def _header(uuid: str = _LUKS) -> bytes:
    """LUKS on-disk format specification: the magic number, and the UUID at 168."""
    return b"LUKS\xba\xbe\0\2".ljust(168, b"\0") + uuid.encode().ljust(40, b"\0") + bytes(4096)


def test_a_volume_is_a_layer(sys: Path) -> None:
    stack = layers.below(sys / "block/dm-0", sys)
    assert [(layer.kind, layer.name) for layer in stack.layers] == [("crypt", _UUID)]
    assert "dm_crypt" in stack.modules
    keys.require([_UUID], allowed=True, sys=sys, dev=sys.parents[1] / "dev")


def _found(
    sys: Path, *, allowed: bool = True, has_key: handover.HasKey | None = None
) -> tuple[keys.Key, str]:
    """The way of the key, and the table for the capture system."""
    (key,) = keys.find([_UUID], allowed=allowed, has_key=has_key, sys=sys)
    (file,) = keys.tables([key])
    assert (file.path, file.mode) == (f"etc/pykdump.tables/{_UUID}", 0o600)
    return key, bytes(file.data).decode()


def test_the_table_is_for_root_and_has_the_key(sys: Path) -> None:
    key, table = _found(sys)
    assert table == f"{_TABLE.replace('254:18', 'DEVICE')}\n"
    assert keys.ways([key]) == "in the image in memory"
    assert keys.by_name([key]) == {}
    assert _KEY not in repr(key)


_USUAL = f"cryptsetup:{_LUKS}"


@pytest.mark.parametrize("allowed", [True, False])
@pytest.mark.parametrize(
    ("text", "there", "named"),
    [
        (_KEY, {_USUAL, "mine"}, _USUAL),
        (f":64:logon:cryptsetup:{_LUKS}-d0", {_USUAL}, _USUAL),
        (":64:logon:mine", {"mine"}, "mine"),
        (":64:user:mine", {_USUAL, "mine"}, _USUAL),
        (":64:logon:" + "x" * 127, {"x" * 127}, "x" * 127),
    ],
)
def test_the_kernel_hands_it_over(
    text: str, there: set[str], named: str, allowed: bool, sys: Path, tmp_path: Path
) -> None:
    """Where it can, though an image in memory may have the key; then no program sees that."""
    _dmsetup(tmp_path, _TABLE.replace(_KEY, text))
    key, table = _found(sys, allowed=allowed, has_key=there.__contains__)
    assert table == f"{_TABLE.replace(_KEY, f':64:user:{named}').replace('254:18', 'DEVICE')}\n"
    assert keys.ways([key]) == "handed over by the kernel"
    assert keys.by_name([key]) == {_LUKS.replace("-", ""): named}
    assert keys.ways([key, keys.Key("", "")]) == "handed over by the kernel or in the image in memory"


@pytest.mark.parametrize(
    "text",
    [
        *(f":64:logon:{each}" for each in ("x" * 128, "a\\\\b", "ä", "\udcff")),
        *(":0064:logon:", ":64:", "::", ":64:logon", f":{'9' * 5000}:logon:x", "-", ":-1:logon:x"),
    ],
)
def test_hostile_tables(text: str, sys: Path, tmp_path: Path) -> None:
    """What is not a plain name of a key is none, whatever a keyring has."""
    _dmsetup(tmp_path, _TABLE.replace(_KEY, text).encode("utf-8", "surrogateescape").decode("latin-1"))
    with pytest.raises(Unsupported) as error:
        _found(sys, allowed=False, has_key=lambda description: description != _USUAL)
    assert len(str(error.value).splitlines()) == 2


def test_keys_that_the_kernel_cannot_hand_over(sys: Path, tmp_path: Path) -> None:
    """Where a way is left, it is taken; else one refusal names what would do."""
    _dmsetup(tmp_path, _TABLE)
    assert not _found(sys, has_key=lambda description: False)[0].description
    link = f"cryptsetup open --link-vk-to-keyring @u::%logon:{_USUAL} /dev/vdb2 my_dumps"
    with pytest.raises(Unsupported, match=f"no logon key {_USUAL}") as error:
        _found(sys, allowed=False, has_key=lambda description: False)
    assert f"{link}, or " in str(error.value).replace("'", "")
    assert "PYKDUMP_HAND_OVER_KEYS=yes" in str(error.value)
    _dmsetup(tmp_path, _TABLE.replace(_KEY, f":64:logon:cryptsetup:{_LUKS}-d0"))
    with pytest.raises(Unsupported) as error:
        _found(sys, has_key=lambda description: False)
    for each in (link, "cryptsetup refresh --disable-keyring my_dumps"):
        assert each in str(error.value).replace("'", "")
    _dmsetup(tmp_path, _TABLE.replace(_KEY, f":257:logon:{_USUAL}"))
    with pytest.raises(Unsupported, match="has 257 bytes: the kernel hands over 256"):
        _found(sys, allowed=False, has_key=lambda description: True)
    _dmsetup(tmp_path, _TABLE.replace(_KEY, "00" * 257))
    assert not _found(sys, has_key=lambda description: True)[0].description


@pytest.mark.parametrize(
    ("table", "told"),
    [
        (
            _TABLE.replace(_KEY, f":64:logon:cryptsetup:{_LUKS}-d0"),
            "cryptsetup refresh --disable-keyring my_dumps",
        ),
        (f"{_TABLE}\n409600 8 crypt aes {_KEY} 0 254:18 0", "it is not one plain dm-crypt volume"),
        (f"0 8 linear {_KEY}", "it is not one plain dm-crypt volume"),
        ("", "it is not one plain dm-crypt volume"),
    ],
)
def test_keys_that_cannot_be_read(table: str, told: str, sys: Path, tmp_path: Path) -> None:
    _dmsetup(tmp_path, table)
    with pytest.raises(Unsupported) as error:
        _found(sys)
    assert told in str(error.value)
    assert _KEY not in str(error.value)


def test_keys_that_may_not_be_handed_over(sys: Path, tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="PYKDUMP_HAND_OVER_KEYS=yes"):
        keys.require([_UUID], allowed=False, sys=sys, dev=sys.parents[1] / "dev")
    with pytest.raises(Unsupported, match="PYKDUMP_HAND_OVER_KEYS=yes"):
        _found(sys, allowed=False)
    keys.require([], allowed=False, sys=sys)
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys/reuse").touch()
    keys.require([_UUID], allowed=False, sys=sys, dev=tmp_path / "dev", folder=tmp_path / "keys")


def test_another_device_may_have_any_name(sys: Path) -> None:
    """The device mapper takes all bytes."""
    folder = sys / "block/dm-00/dm"
    folder.mkdir(parents=True)
    for name in ("name", "uuid"):
        (folder / name).write_bytes(b"\xff\xfe\n")
    keys.require([_UUID], allowed=True, sys=sys, dev=sys.parents[1] / "dev")
    assert os.fsencode(layers.attribute(folder / "name")) == b"\xff\xfe"


def test_headers_that_are_elsewhere(sys: Path, tmp_path: Path) -> None:
    for content in (bytes(4096), _header(_LUKS.replace("1", "2"))):
        (tmp_path / "dev/vdb2").write_bytes(content)
        with pytest.raises(Unsupported, match="its LUKS header is not on vdb2"):
            keys.require([_UUID], allowed=True, sys=sys, dev=tmp_path / "dev")
    with pytest.raises(FileError, match="encrypted volume CRYPT-LUKS1-x is gone"):
        keys.require(["CRYPT-LUKS1-x"], allowed=True, sys=sys)


@pytest.mark.parametrize("uuid", ["CRYPT-PLAIN-x", "CRYPT-VERITY-1-x", f"{_UUID}/../x", "CRYPT-SUBDEV-x"])
def test_other_volumes(uuid: str, sys: Path) -> None:
    (sys / "block/dm-0/dm/uuid").write_text(f"{uuid}\n")
    with pytest.raises(Unsupported, match="putting together my_dumps, which "):
        layers.below(sys / "block/dm-0", sys)


def test_how_it_is_unlocked_after_the_crash(sys: Path, tmp_path: Path) -> None:
    """Under another name and number; a part of an array that has the same header is none."""
    after, asked = tmp_path / "after", tmp_path / "after/asked"
    for name in ("sda", "sdb", "sdc"):
        (after / "sys/class/block" / name / "holders").mkdir(parents=True)
        (after / "dev").mkdir(exist_ok=True)
        (after / "dev" / name).write_bytes(_header() if name != "sda" else bytes(4096))
    (after / "sys/class/block/sdb/holders/md0").touch()
    (file,) = keys.tables(keys.find([_UUID], allowed=True, has_key=None, sys=sys))
    place = after / file.path
    place.parent.mkdir(parents=True)
    place.write_bytes(file.data)
    said = _assembled(after, layers.below(sys / "block/dm-0", sys))
    assert said[-1] == "done"
    assert asked.read_text() == (
        f"create pykdump-1 --uuid {_UUID} --noudevsync --noudevrules --table"
        f" {_TABLE.replace('254:18', f'{after}/dev/sdc')}\n"
    )
    assert not any(_KEY in line for line in said)


# Of configfs, whose folder is there then.
_MOUNT = """mount() {
    [ "$*" = "-t configfs configfs ROOT/sys/kernel/config" ] && mkdir -p "$4/crash_dm_crypt_keys"
}"""


def test_how_it_is_unlocked_with_a_key_of_the_kernel(sys: Path, tmp_path: Path) -> None:
    after = tmp_path / "after"
    (after / "sys/class/block/sda/holders").mkdir(parents=True)
    (after / "dev").mkdir()
    (after / "dev/sda").write_bytes(_header())
    (file,) = keys.tables(keys.find([_UUID], allowed=False, has_key=_USUAL.__eq__, sys=sys))
    place = after / file.path
    place.parent.mkdir(parents=True)
    place.write_bytes(file.data)
    assert _assembled(after, layers.below(sys / "block/dm-0", sys))[-1] == "done"
    assert (after / "sys/kernel/config/crash_dm_crypt_keys/restore").read_text() == "yes\n"
    table = _TABLE.replace(_KEY, f":64:user:{_USUAL}").replace("254:18", f"{after}/dev/sda")
    assert (after / "asked").read_text().endswith(f" --table {table}\n")


def _assembled(root: Path, stack: layers.Stack) -> Sequence[str]:
    dmsetup = 'dmsetup() { [ "$1" = create ] && echo "$*" >> ROOT/asked; }'
    assert _DISK.device is not None
    to = replace(_DISK, device=replace(_DISK.device, stack=stack))
    assert str(to).endswith("), encrypted")
    assert image._encrypted([to, _DISK, to]) == (_UUID,)
    return Capture(root, to=to, replaced=f"{_CLOCK}\n{dmsetup}\n{_MOUNT}").run("assemble && echo done")


def test_who_allows_it() -> None:
    """A key of ours, in the files that shells source; no tool of the others minds it, nor do we."""
    line = "PYKDUMP_HAND_OVER_KEYS={}\n"
    for read in (debian.read, suse.read, lambda text: read_fedora("", text)):
        for value, allowed in (("yes", True), ("no", False), ('""', False)):
            settings = read(line.format(value))
            assert (settings.hand_over_keys, settings.warnings) == (allowed, read("").warnings)
        with pytest.raises(PykexecError, match="PYKDUMP_HAND_OVER_KEYS"):
            read(line.format("perhaps"))

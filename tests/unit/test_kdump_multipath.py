"""Multipath maps: what start reads of them in sysfs, and what /init makes of it in the capture system."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec.kdump.capture import image, layers
from pykexec.kdump.capture.errors import Unsupported
from pykexec.kdump.capture.layers import Layer, Stack
from pykexec.kdump.config.settings import Dialect, Settings
from tests.unit.test_kdump_init import _CLOCK, _DISK, Capture

pytestmark = pytest.mark.programs

_SECTORS = 409600
_WWID = {"device/wwid": "naa.5000c50015ea71ac\n"}

Files = Mapping[str, str | bytes]
"""Contents, by path."""


@dataclass(frozen=True)
class Sysfs:
    """Disks below a root, and what is made of them."""

    root: Path
    size: int = _SECTORS

    def disk(self, name: str, files: Files, *, opens: bool = True) -> Path:
        folder = self.root / "sys/block" / name
        for path, content in {
            "dev": f"8:{ord(name[-1]) - ord('a')}",
            "size": str(self.size),
            **files,
        }.items():
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content if isinstance(content, bytes) else content.encode())
        (folder / "device").mkdir(exist_ok=True)
        (folder / "device/subsystem").symlink_to(self.root / "sys/bus/scsi")
        node = self.root / "dev" / name
        node.parent.mkdir(exist_ok=True)
        if opens:
            node.touch()
        return folder

    def mapped(self, name: str, uuid: str, below: Sequence[Path], *, of: str = "a-name") -> Path:
        folder = self.disk(name, {"dm/uuid": f"{uuid}\n", "dm/name": f"{of}\n"})
        for each in below:
            link = folder / "slaves" / each.name
            link.parent.mkdir(exist_ok=True)
            link.symlink_to(each)
        return folder

    def two_paths(self, files: Files) -> Stack:
        """What is to be done for a map of two disks, which both have these files."""
        paths = [self.disk(name, files) for name in ("sda", "sdb")]
        return layers.below(self.mapped("dm-3", "mpath-36000", paths))


@dataclass(frozen=True)
class After:
    """The capture system of a machine whose dumps go to that stack, with a clock that goes on by itself."""

    root: Path
    stack: Stack
    clock: str = _CLOCK
    said: list[str] = field(default_factory=list)

    def tables(self) -> Sequence[str]:
        """What dmsetup is told to make."""
        asked = self.root / "asked"
        asked.unlink(missing_ok=True)
        dmsetup = 'dmsetup() { [ "$1" = create ] && echo "$*" >> ROOT/asked; }'
        assert _DISK.device is not None
        to = replace(_DISK, device=replace(_DISK.device, stack=self.stack))
        capture = Capture(self.root, to=to, replaced=f"{self.clock}\n{dmsetup}")
        self.said.extend(capture.run("assemble && echo done"))
        return asked.read_text().splitlines() if asked.exists() else ()


def test_every_path_has_a_group(tmp_path: Path) -> None:
    """Names and numbers are the capture kernel's; another disk is none of them."""
    stack = Sysfs(tmp_path / "before").two_paths(_WWID)
    assert [layer.kind for layer in stack.layers] == ["multipath"]
    after = Sysfs(tmp_path / "after")
    after.disk("sda", {"device/wwid": "naa.5000c50015ea71ad\n"})
    after.disk("sdb", _WWID)
    after.disk("sdc", _WWID)
    (table,) = After(tmp_path / "after", stack).tables()
    assert table == (
        "create pykdump-1 --uuid mpath-36000 --noudevsync --noudevrules --table"
        f" 0 {_SECTORS} multipath 0 0 2 1 service-time 0 1 0 8:1 service-time 0 1 0 8:2"
    )


# What the kernel shows of SCSI disks (wwid, access_state: drivers/scsi/scsi_sysfs.c), NVMe and DASD.
@pytest.mark.parametrize(
    ("name", "content", "another"),
    [
        (
            "device/wwid",
            b"t10.ATA     QEMU HARDDISK,   QM0*0001   \n",
            b"t10.ATA     QEMU HARDDISK,   QM0*0002   \n",
        ),
        ("device/wwid", b"t10.\xffX  \n", b"t10.\xffX \n"),
        ("wwid", b"eui.0025385b71b02be5\n", b"eui.0025385b71b02be6\n"),
        ("device/uid", b"IBM.750000000DX111.2420.2b\n", b"IBM.750000000DX111.2420.2c\n"),
        ("device/vpd_pg80", b"\0\x80\0\x04LUN1", b"\0\x80\0\x04LUN2"),
    ],
)
def test_what_a_disk_is_known_by(name: str, content: bytes, another: bytes, tmp_path: Path) -> None:
    stack = Sysfs(tmp_path / "before").two_paths({name: content})
    after = Sysfs(tmp_path / "after")
    after.disk("sdd", {name: content})
    after.disk("sde", {name: content})
    after.disk("sdf", {name: another})
    (table,) = After(tmp_path / "after", stack).tables()
    assert table.endswith("service-time 0 1 0 8:3 service-time 0 1 0 8:4")


@given(st.binary(max_size=64))
def test_an_identity_is_a_word(content: bytes) -> None:
    word = layers.as_word(content.decode("latin-1"))
    assert len(word) == len(content)
    assert not set(word) & set(" ,*?[\n'\"\\$")


def test_a_path_that_is_better(tmp_path: Path) -> None:
    """An array with handlers: the standby path is taken when there is no other."""
    files = {**_WWID, "device/dh_state": "alua\n"}
    stack = Sysfs(tmp_path / "before").two_paths(files)
    assert stack.modules[0] == "scsi_dh_alua"
    after = Sysfs(tmp_path / "after")
    after.disk("sda", {**files, "device/access_state": "standby\n"})
    after.disk("sdb", {**files, "device/access_state": "active/optimized\n"})
    (table,) = After(tmp_path / "after", stack).tables()
    assert table.endswith("multipath 0 1 alua 2 1 service-time 0 1 0 8:1 service-time 0 1 0 8:0")


@pytest.mark.parametrize("how", ["gone", "offline", "small"])
def test_a_path_that_is_dead(how: str, tmp_path: Path) -> None:
    """The other is waited for, but not as long as for a disk."""
    stack = Sysfs(tmp_path / "before").two_paths(_WWID)
    Sysfs(tmp_path / "after").disk("sdb", _WWID)
    if how != "gone":
        size = 0 if how == "small" else _SECTORS
        Sysfs(tmp_path / "after", size).disk("sda", _WWID, opens=how == "small")
    after = After(tmp_path / "after", stack)
    (table,) = after.tables()
    assert table.endswith("multipath 0 0 1 1 service-time 0 1 0 8:1")
    assert "1 of 2 paths are there" in after.said
    waited = float((tmp_path / "after/proc/uptime").read_text().split()[0]) - 100
    assert 10 <= waited <= 20


def test_no_path(tmp_path: Path) -> None:
    stack = Sysfs(tmp_path / "before").two_paths(_WWID)
    Sysfs(tmp_path / "after").disk("sda", {"device/wwid": "naa.1\n"})
    after = After(tmp_path / "after", stack)
    assert after.tables() == ()
    assert any("it cannot be put together" in line for line in after.said)


def test_a_map_that_is_there(tmp_path: Path) -> None:
    """From an attempt with another target."""
    stack = Sysfs(tmp_path / "before").two_paths(_WWID)
    Sysfs(tmp_path / "after").mapped("dm-0", "mpath-36000", ())
    after = After(tmp_path / "after", stack)
    assert after.tables() == ()
    assert after.said[-1] == "done"


@pytest.mark.parametrize("files", [[{}, {}], [{"wwid": "a"}, {"wwid": "b"}], [{"wwid": "a"}, {}]])
def test_paths_that_cannot_be_told_from_others(files: list[dict[str, str]], tmp_path: Path) -> None:
    sysfs = Sysfs(tmp_path)
    paths = [sysfs.disk(name, each) for name, each in zip(("sda", "sdb"), files, strict=True)]
    with pytest.raises(Unsupported, match="finding the paths of a-name again"):
        layers.below(sysfs.mapped("dm-0", "mpath-36000", paths))


# Partitions of maps and volumes

_DMSETUP = "#!/bin/sh\n[ \"$*\" = 'table -- a-name1' ] && echo '{table}'\n"


@pytest.fixture
def dmsetup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "bin/dmsetup"
    file.parent.mkdir()
    file.write_text(_DMSETUP.format(table="0 2048 linear 253:3 34"))
    file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{file.parent}:/usr/bin:/bin")
    return file


def _partition(sysfs: Sysfs, uuid: str = "mpath-36000", part: str = "part1-mpath-36000") -> Stack:
    paths = [sysfs.disk(name, _WWID) for name in ("sda", "sdb")]
    whole = sysfs.mapped("dm-3", uuid, paths)
    return layers.below(sysfs.mapped("dm-4", part, [whole], of="a-name1"))


@pytest.mark.usefixtures("dmsetup")
def test_a_partition_of_a_map(tmp_path: Path) -> None:
    stack = _partition(Sysfs(tmp_path / "before"))
    assert stack.layers[1] == Layer("part", "part1-mpath-36000,2048,34")
    Sysfs(tmp_path / "after").mapped("dm-0", "mpath-36000", ())
    (table,) = After(tmp_path / "after", stack).tables()
    assert table.endswith(f"--table 0 2048 linear {tmp_path}/after/dev/dm-0 34")


@pytest.mark.usefixtures("dmsetup")
def test_a_partition_of_a_volume(tmp_path: Path) -> None:
    stack = _partition(Sysfs(tmp_path), "LVM-abc", "part1-LVM-abc")
    assert [layer.kind for layer in stack.layers] == ["lvm", "part"]


def test_partitions_that_are_none(dmsetup: Path, tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="putting together a-name1, which the device mapper calls"):
        _partition(Sysfs(tmp_path / "one"), "mpath-1")
    dmsetup.write_text(_DMSETUP.format(table="0 2048 linear 253:3 34\n2048 8 linear 253:3 9999"))
    with pytest.raises(Unsupported, match="a-name1, which is no plain partition"):
        _partition(Sysfs(tmp_path / "two"))


def test_what_an_image_takes_for_it(tmp_path: Path) -> None:
    """A disk without layers has nothing of it."""
    assert _DISK.device is not None
    stack = Sysfs(tmp_path).two_paths(_WWID)
    to = replace(_DISK, device=replace(_DISK.device, stack=stack))
    assert image.more_of_init([_DISK]) == []
    assert [part.name for part in image.more_of_init([to, to])] == ["devicemapper", "layers"]
    names = image.program_names(
        Settings(Dialect.FEDORA),
        ways=[to.way],
        assemblers=[each.kind for each in stack.layers],
    )
    assert "dmsetup" in names

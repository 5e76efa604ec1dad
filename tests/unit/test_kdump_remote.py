"""Disks that servers have: what start reads of the sessions in sysfs, and how /init begins them again."""

import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from pykexec.errors import FileError
from pykexec.kdump.capture import destination, image, layers
from pykexec.kdump.capture import network as networks
from pykexec.kdump.capture.errors import Unsupported
from pykexec.kdump.capture.links import Card, Links
from pykexec.kdump.capture.network import Network
from tests.unit.test_kdump_init import _CLOCK, _DISK, Capture

_NVME: Mapping[str, str] = {
    "transport": "tcp",
    "address": "traddr=192.0.2.1,trsvcid=4420,src_addr=192.0.2.7",
    "subsysnqn": "nqn.2026-01.lab:dump",
    "hostnqn": "nqn.2014-08.org.nvmexpress:uuid:1b4e28ba-2fa1-11d2-883f-b9a761bde3fb",
    "hostid": "1b4e28ba-2fa1-11d2-883f-b9a761bde3fb",
    "dhchap_secret": "none",
}
_SESSION: Mapping[str, str] = {
    "targetname": "iqn.2026-01.lab:dump",
    "tpgt": "1",
    "initiatorname": "iqn.1993-08.org.debian:01:abc",
    "username": "(null)",
}
_CHAP = {"username": "a user", "password": 'it\'s "$(secret)"', "username_in": "back", "password_in": "\\n"}
_CONNECTION: Mapping[str, str] = {"persistent_address": "192.0.2.1", "persistent_port": "3260"}


def _write(folder: Path, files: Mapping[str, str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(f"{content}\n")
    return folder


def _nvme(sys: Path, more: Mapping[str, str] = {}) -> Path:
    controller = _write(sys / "devices/virtual/nvme-fabrics/ctl/nvme0", {**_NVME, **more})
    return _write(controller / "nvme0n1", {})


def _iscsi(sys: Path, more: Mapping[str, str] = {}, host: str = "platform/host6") -> Path:
    _write(sys / "class/iscsi_session/session3", {**_SESSION, **more})
    _write(sys / "class/iscsi_connection/connection3:0", _CONNECTION)
    return _write(sys / "devices" / host / "session3/target6:0:0/6:0:0:0/block/sda", {})


def test_a_disk_by_nvme(tmp_path: Path) -> None:
    (layer,) = layers.below(_nvme(tmp_path), tmp_path).layers
    words = ["nqn.2026-01.lab:dump", "192.0.2.1", "4420", _NVME["hostnqn"], _NVME["hostid"]]
    assert (layer.kind, layer.name.split(",")) == ("nvme", words)


def test_a_disk_by_nvme_that_has_several_paths(tmp_path: Path) -> None:
    """The kernel's own multipath: the disk is the subsystem's, and one session is enough."""
    controller = _nvme(tmp_path).parent
    disk = _write(tmp_path / "devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1", {})
    (disk / "device").symlink_to(disk.parent)
    (disk.parent / "subsystem").symlink_to(tmp_path / "class/nvme-subsystem")
    (disk.parent / "nvme0").symlink_to(controller)
    (disk.parent / "nvme1").symlink_to(controller)
    assert [layer.kind for layer in layers.below(disk, tmp_path).layers] == ["nvme"]
    _write(controller, {"transport": "pcie"})
    found = layers.below(disk, tmp_path)
    assert (found.layers, found.disks) == ((), (disk,))


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"transport": "rdma"}, "by NVMe over rdma"),
        ({"dhchap_secret": "DHHC-1:00:ia6zGodOr4SEG0Zzaw398rpY0wqipUWj4jWjUh4HWUz6aQ2n:"}, "with secrets"),
        ({"subsysnqn": "nqn.2026-01.lab:a dump"}, "whose session has 'nqn.2026-01.lab:a dump'"),
        ({"address": ""}, "whose session has ''"),
    ],
)
def test_sessions_that_are_not_begun_again(more: Mapping[str, str], told: str, tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match=told) as error:
        layers.below(_nvme(tmp_path, more), tmp_path)
    assert "DHHC" not in str(error.value)


def test_a_disk_by_iscsi(tmp_path: Path) -> None:
    (layer,) = layers.below(_iscsi(tmp_path, _CHAP), tmp_path).layers
    words = ["iqn.2026-01.lab:dump", "192.0.2.1", "3260", "1", "iqn.1993-08.org.debian:01:abc"]
    assert (layer.kind, layer.name.split(",")) == ("iscsi", words)
    with pytest.raises(Unsupported, match=r"iqn\.2026-01\.lab:dump by a card that speaks it itself"):
        layers.below(_iscsi(tmp_path, host="pci0000:00/0000:00:05.0/host6"), tmp_path)


def test_a_secret_that_cannot_be_read(tmp_path: Path) -> None:
    """Without it the login would fail after the crash."""
    for more in ({"username": "u", "password": "(null)"}, {**_CHAP, "password_in": ""}):
        with pytest.raises(FileError, match="the secret of the iSCSI session with iqn"):
            layers.below(_iscsi(tmp_path, more), tmp_path)


def test_servers_that_are_reached_in_one_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = layers.joined(
        [layers.below(_nvme(tmp_path), tmp_path), layers.below(_iscsi(tmp_path), tmp_path)]
    )
    assert _DISK.device is not None
    device = replace(_DISK.device, stack=stack)
    cards = iter(["52:54:00:00:00:01"] * 3 + ["52:54:00:00:00:02"])

    def route_to(host: str, *_: object) -> Network:
        return Network(host, Links((Card(next(cards), "/devices/x"),)), "192.0.2.7/24")

    monkeypatch.setattr(networks, "route_to", route_to)
    way = destination._way_to_servers(device, tmp_path)
    assert way is not None
    assert way.server == "192.0.2.1"
    with pytest.raises(Unsupported, match="reaching the servers that have vda in different ways"):
        destination._way_to_servers(device, tmp_path)


@pytest.mark.programs
def test_how_a_session_is_begun_again(tmp_path: Path) -> None:
    """Again and again until the server is there; the network comes first, and once."""
    stack = layers.below(_nvme(tmp_path / "before"), tmp_path / "before")
    said, _ = _assembled(tmp_path, stack, "bring_up_network() { echo network; }")
    assert said[-1] == "done"
    assert said.count("network") == 1
    asked = (tmp_path / "dev/nvme-fabrics").read_text()
    assert asked == (
        "nqn=nqn.2026-01.lab:dump,transport=tcp,traddr=192.0.2.1,trsvcid=4420,"
        f"hostnqn={_NVME['hostnqn']},hostid={_NVME['hostid']},nr_io_queues=1,ctrl_loss_tmo=120\n"
    )


def _assembled(root: Path, stack: layers.Stack, replaced: str) -> tuple[list[str], str]:
    """What is said, and what the capture image tells of logins."""
    assert _DISK.device is not None
    to = replace(_DISK, device=replace(_DISK.device, stack=stack))
    logins = {entry.path: entry for entry in image._logins([to])}
    (root / "etc").mkdir(exist_ok=True)
    entry = logins["/etc/pykdump.login"]
    assert entry.mode == 0o600
    (root / "etc/pykdump.login").write_bytes(entry.data())
    said = Capture(root, to=to, replaced=f"{_CLOCK}\n{replaced}").run("assemble && echo done")
    return list(said), entry.data().decode()


@pytest.mark.programs
@pytest.mark.parametrize("login", [{}, _CHAP])
def test_how_a_login_is_told(login: Mapping[str, str], tmp_path: Path) -> None:
    """iscsistart(8); the secrets arrive as they are, and nothing says them."""
    stack = layers.below(_iscsi(tmp_path / "before", login), tmp_path / "before")
    told = 'timeout() { shift; for each in "$@"; do echo "$each" >> ROOT/asked; done; }'
    said, _ = _assembled(tmp_path, stack, told)
    words = ["iscsistart", "-t", _SESSION["targetname"], "-a", "192.0.2.1", "-p", "3260", "-g", "1"]
    words += ["-i", _SESSION["initiatorname"]]
    if login:
        words += ["-u", "a user", "-w", _CHAP["password"], "-U", "back", "-W", "\\n"]
    assert (tmp_path / "asked").read_text().splitlines() == words
    assert said[-1] == "done"
    assert not any("secret" in line for line in said)
    assert "secret" not in repr(stack)


@pytest.mark.programs
@pytest.mark.parametrize(
    ("state", "again"), [("LOGGED_IN", False), ("FAILED", True)], ids=["logged in", "half begun"]
)
def test_a_session_that_is_there(state: str, again: bool, tmp_path: Path) -> None:
    """From an attempt with another target. The states are those of drivers/scsi/scsi_transport_iscsi.c."""
    stack = layers.below(_iscsi(tmp_path / "before"), tmp_path / "before")
    session = {"targetname": stack.remote[0].words[0], "state": state}
    _write(tmp_path / "sys/class/iscsi_session/session9", session)
    said, _ = _assembled(tmp_path, stack, "timeout() { echo asked > ROOT/asked; }")
    assert said[-1] == "done"
    assert (tmp_path / "asked").exists() == again


@pytest.mark.programs
def test_a_controller_that_is_there(tmp_path: Path) -> None:
    stack = layers.below(_nvme(tmp_path / "before"), tmp_path / "before")
    _write(tmp_path / "sys/class/nvme/nvme0", {"subsysnqn": stack.remote[0].words[0]})
    assert _assembled(tmp_path, stack, "")[0][-1] == "done"
    assert not (tmp_path / "dev/nvme-fabrics").exists()


@pytest.mark.programs
def test_the_parts_of_init(tmp_path: Path) -> None:
    """None of it is in another image."""
    stack = layers.below(_iscsi(tmp_path), tmp_path)
    assert _DISK.device is not None
    to = replace(_DISK, device=replace(_DISK.device, stack=stack))
    assert [part.name for part in image.more_of_init([to])] == ["layers", "remote"]
    assert list(image._logins([_DISK])) == []
    (entry,) = image._logins([to])
    subprocess.run(["busybox", "sh", "-n"], input=entry.data(), check=True)

"""The order of the way down, and that nothing is touched before it is clear that there is a way."""

import errno
import fcntl
import os
import socket
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from pykexec import execute, syscalls
from pykexec.errors import PykexecError, SystemCallError
from pykexec.machine import Machine
from tests.support.machines import write


@pytest.fixture(autouse=True)
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What would have been done to this machine; nothing is."""
    calls: list[str] = []
    monkeypatch.setattr(os, "sync", lambda: calls.append("sync"))
    monkeypatch.setattr(execute, "take_interfaces_down", lambda: calls.append("ifdown"))
    monkeypatch.setattr(syscalls, "reboot_kexec", lambda: calls.append("jump"))
    monkeypatch.setattr(subprocess, "run", lambda command, **_: calls.append(" ".join(command)))
    return calls


def machine(top: Path, loaded: str | None = "1\n") -> Machine:
    if loaded is not None:
        write(top, "sys/kernel/kexec_loaded", loaded)
    return Machine.from_snapshot(top)


@pytest.mark.parametrize(
    ("sync", "ifdown", "expected"),
    [
        (True, True, ["sync", "ifdown", "jump"]),
        (False, True, ["ifdown", "jump"]),
        (True, False, ["sync", "jump"]),
        (False, False, ["jump"]),
    ],
)
def test_order(tmp_path: Path, done: list[str], sync: bool, ifdown: bool, expected: list[str]) -> None:
    execute.execute(machine(tmp_path), sync=sync, ifdown=ifdown)
    assert done == expected


def test_nothing_is_touched_when_nothing_is_loaded(tmp_path: Path, done: list[str]) -> None:
    facts = machine(tmp_path, "0\n")
    for leave in (execute.execute, execute.shut_down):
        with pytest.raises(PykexecError, match="Nothing has been loaded!") as caught:
            leave(facts)
        assert caught.value.exit_code == 1
    assert done == []


def test_a_kernel_without_kexec_is_left_alone(tmp_path: Path, done: list[str]) -> None:
    write(tmp_path, "sys/kernel/uevent_seqnum", "1\n")
    for leave in (execute.execute, execute.shut_down):
        with pytest.raises(PykexecError, match="has no kexec"):
            leave(machine(tmp_path, None))
    assert done == []


def test_refused_jump_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise OSError(errno.EBUSY, "busy")

    monkeypatch.setattr(syscalls, "reboot_kexec", refuse)
    with pytest.raises(SystemCallError, match="kexec failed: Device or resource busy"):
        execute.execute(machine(tmp_path))


def test_refused_jump_puts_the_interfaces_up_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    up: list[str] = []

    def refuse() -> None:
        raise OSError(errno.EBUSY, "busy")

    monkeypatch.setattr(syscalls, "reboot_kexec", refuse)
    monkeypatch.setattr(execute, "take_interfaces_down", lambda: ["eth0"])
    monkeypatch.setattr(execute, "put_interfaces_up", up.extend)
    with pytest.raises(SystemCallError):
        execute.execute(machine(tmp_path))
    assert up == ["eth0"]


def test_systemd_is_asked_where_it_runs(tmp_path: Path) -> None:
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    assert list(execute.shutdown_command(tmp_path)) == ["systemctl", "kexec"]


@pytest.mark.parametrize("folder", ["sbin", "etc", "bin"])  # where the C tool looks, too
def test_shutdown_is_found(tmp_path: Path, folder: str) -> None:
    write(tmp_path, f"{folder}/shutdown", "")
    (tmp_path / folder / "shutdown").chmod(0o755)
    assert list(execute.shutdown_command(tmp_path)) == [f"/{folder}/shutdown", "-r", "now"]


def test_no_shutdown_program(tmp_path: Path) -> None:
    with pytest.raises(PykexecError, match="no shutdown program"):
        execute.shutdown_command(tmp_path)


@pytest.mark.parametrize(
    "failure", [FileNotFoundError(errno.ENOENT, "gone"), subprocess.CalledProcessError(3, "shutdown")]
)
def test_failing_shutdown_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    def fail(command: Sequence[str], **_: object) -> None:
        raise failure

    monkeypatch.setattr(execute, "shutdown_command", lambda: ("shutdown", "-r", "now"))
    monkeypatch.setattr(subprocess, "run", fail)
    with pytest.raises(PykexecError, match="shutdown -r now failed") as caught:
        execute.shut_down(machine(tmp_path))
    assert "\n" not in caught.value.what


class Interfaces:
    """SIOCGIFFLAGS and SIOCSIFFLAGS on flags by name; struct ifreq as netdevice(7) draws it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, flags: dict[str, int], refuse: str = "") -> None:
        self.flags = flags
        self.refuse = refuse
        names = [*flags, "gone", "eth0:1"]
        monkeypatch.setattr(socket, "if_nameindex", lambda: list(enumerate(names)))
        monkeypatch.setattr(fcntl, "ioctl", self.ioctl)

    def ioctl(self, control: socket.socket, request: int, argument: bytes) -> bytes:
        name = argument[:16].split(b"\0")[0].decode()
        assert len(argument) >= 40
        if name not in self.flags:
            raise OSError(errno.ENODEV, "No such device")
        if request == 0x8914:
            if name == self.refuse:
                raise OSError(errno.EPERM, "Operation not permitted")
            (self.flags[name],) = struct.unpack_from("@H", argument, 16)
        else:
            assert request == 0x8913
        return argument[:16] + struct.pack("@H22x", self.flags[name])


REAL_TAKE_INTERFACES_DOWN = execute.take_interfaces_down


def test_interfaces_go_down_and_keep_their_other_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    interfaces = Interfaces(monkeypatch, {"lo": 0x49, "eth0": 0x1043, "wlan0": 0x9003, "eth1": 0x1002})
    REAL_TAKE_INTERFACES_DOWN()
    assert interfaces.flags == {"lo": 0x49, "eth0": 0x1042, "wlan0": 0x9002, "eth1": 0x1002}


def test_one_bad_interface_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    interfaces = Interfaces(monkeypatch, {"eth0": 0x1043, "eth1": 0x1043}, refuse="eth0")
    REAL_TAKE_INTERFACES_DOWN()
    assert interfaces.flags == {"eth0": 0x1043, "eth1": 0x1042}
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "interface eth0 stays as it is: Operation not permitted"),
        ("WARNING", "interface gone stays as it is: No such device"),
    ]


def test_real_kernel_understands_the_question(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    real_ioctl = fcntl.ioctl

    def only_ask(control: socket.socket, request: int, argument: bytes) -> bytes:
        assert request == 0x8913, "this test must not change anything"
        answer = real_ioctl(control, request, argument.replace(b"other", b"lo\0\0\0"))
        asked.append(struct.unpack_from("@H", answer, 16)[0])
        return answer[:16] + bytes(24)  # down, so that nothing is left to do

    # The loopback itself is never touched: ask for it under another name.
    monkeypatch.setattr(socket, "if_nameindex", lambda: [(1, "other")])
    monkeypatch.setattr(fcntl, "ioctl", only_ask)
    REAL_TAKE_INTERFACES_DOWN()
    told = int(Path("/sys/class/net/lo/flags").read_text(), 16)
    # Of the flags, IFF_UP and IFF_LOOPBACK are the same in both (netdevice(7)).
    assert [flags & 0x9 for flags in asked] == [told & 0x9]
    assert told & 0x8


def test_interfaces_that_cannot_be_listed_stop_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(socket, "if_nameindex", refuse)
    assert REAL_TAKE_INTERFACES_DOWN() == ()

"""Files are written whole or not at all, with their mode, and never through a link."""

import os
import signal
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec import writing
from pykexec.errors import FileError
from tests.support import faults

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another user")
_NOBODY = 65534


@pytest.fixture(params=(0, 0o022, 0o077, 0o777))
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def _names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize("mode", [0o600, 0o644, 0o755])
def test_the_mode_does_not_depend_on_the_umask(tmp_path: Path, mode: int) -> None:
    target = tmp_path / "a/b/file"
    writing.write_file(target, "text", mode=mode)
    assert target.read_text() == "text"
    assert (_mode(target), _mode(tmp_path / "a"), _mode(tmp_path / "a/b")) == (mode, 0o755, 0o755)


def test_nothing_is_left_of_a_failure(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("before")

    def fail() -> None:
        with writing.new_file(target, mode=0o600) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert target.read_text() == "before"
    assert _names(tmp_path) == ["file"]


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "file"
    target.write_text("before")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileError, match="file: No space left on device"):
        writing.write_file(target, "after", mode=0o600)
    assert target.read_text() == "before"
    assert _names(tmp_path) == ["file"]


def test_writers_do_not_share_an_unfinished_file(tmp_path: Path) -> None:
    target = tmp_path / "file"
    with writing.new_file(target, mode=0o600) as one, writing.new_file(target, mode=0o600) as two:
        one.write(b"one")
        two.write(b"two two")
    assert target.read_bytes() == b"one"  # the last to be done


def test_a_link_is_not_written_through(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    victim.chmod(0o666)
    (tmp_path / "link").symlink_to(victim)
    with pytest.raises(FileError, match=r"link: it is a link to .*victim"):
        writing.write_file(tmp_path / "link", "x", mode=0o600)
    assert (victim.read_text(), _mode(victim)) == ("precious", 0o666)


@needs_root
@pytest.mark.usefixtures("umask")
def test_a_change_keeps_what_is_no_content(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("before")
    target.chmod(0o640)
    os.chown(target, _NOBODY, 4)
    os.setxattr(target, "user.label", b"x")
    writing.change_file(target, "after")
    status = target.stat()
    assert (target.read_text(), _mode(target)) == ("after", 0o640)
    assert (status.st_uid, status.st_gid) == (_NOBODY, 4)
    assert os.getxattr(target, "user.label") == b"x"


def test_only_what_is_there_is_changed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("missing")
    for name in ("link", "missing"):
        with pytest.raises(FileError, match="cannot write"):
            writing.change_file(tmp_path / name, "after")
    assert _names(tmp_path) == ["link"]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_only_a_regular_file_is_replaced(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "it")
    with pytest.raises(FileError, match="it is no regular file"):
        writing.write_file(tmp_path / "it", "x", mode=0o600)


def test_a_nul_in_a_name_is_refused() -> None:
    with pytest.raises(FileError, match="cannot write"):
        writing.write_file("/tmp/a\0b", "x", mode=0o600)


@pytest.mark.parametrize("to", ["/outside", "../../outside", "../outside", "/../outside"])
def test_links_of_another_system_are_its_own(tmp_path: Path, to: str) -> None:
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/udev").symlink_to(to)
    writing.write_file(root / "etc/udev/rules.d/x", "x", mode=0o644, root=root)
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("x")] == ["root/outside/rules.d/x"]


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(FileError, match="too many links"):
        writing.write_file(tmp_path / "a/file", "x", mode=0o600)


def test_a_path_that_is_not_below_the_root_is_refused(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    with pytest.raises(FileError, match="is not below"):
        writing.write_file(tmp_path / "file", "x", mode=0o600, root=tmp_path / "root")
    with pytest.raises(FileError, match="names no file"):
        writing.write_file(tmp_path / "root/..", "x", mode=0o600, root=tmp_path / "root")


@needs_root
def test_a_link_planted_in_a_shared_folder_is_not_followed(tmp_path: Path) -> None:
    shared, victim = tmp_path / "shared", tmp_path / "victim"
    victim.mkdir()
    shared.mkdir()
    shared.chmod(0o1777)
    (shared / "folder").symlink_to(victim)
    os.lchown(shared / "folder", _NOBODY, _NOBODY)
    with pytest.raises(FileError, match="belongs to user 65534"):
        writing.write_file(shared / "folder/file", "x", mode=0o600)
    assert not _names(victim)
    os.lchown(shared / "folder", 0, 0)
    writing.write_file(shared / "folder/file", "x", mode=0o600)
    assert _names(victim) == ["file"]


_NAMES = st.sampled_from(["a", "b", "..", "c"])


@given(
    links=st.dictionaries(st.sampled_from(["a", "b", "c"]), st.lists(_NAMES, max_size=4).map("/".join)),
    absolute=st.booleans(),
    path=st.lists(_NAMES, min_size=1, max_size=5),
)
def test_nothing_leads_out_of_a_root(links: dict[str, str], absolute: bool, path: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "1/2/root")
        root.mkdir(parents=True)
        for name, to in links.items():
            if to or absolute:
                (root / name).symlink_to(f"/{to}" if absolute else to)
        try:
            writing.write_file(Path(root, *path, "file"), "x", mode=0o600, root=root)
        except FileError:
            return
        found = [each for each in Path(folder).rglob("file") if not each.is_symlink()]
        assert len(found) == 1
        assert found[0].resolve().is_relative_to(root.resolve())


@pytest.mark.usefixtures("umask")
def test_a_private_folder_is_its_owners(tmp_path: Path) -> None:
    writing.make_private_folder(tmp_path / "a")
    assert _mode(tmp_path / "a") == 0o700
    (tmp_path / "a").chmod(0o777)
    writing.make_private_folder(tmp_path / "a")
    assert _mode(tmp_path / "a") == 0o700


@needs_root
def test_a_private_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    os.chown(tmp_path / "a", _NOBODY, _NOBODY)
    with pytest.raises(FileError, match="belongs to user 65534"):
        writing.make_private_folder(tmp_path / "a")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(FileError, match="cannot make the folder"):
        writing.make_private_folder(tmp_path / "b")


def test_what_killed_writers_left_is_removed(tmp_path: Path) -> None:
    def end() -> int:
        with writing.new_file(tmp_path / "file", mode=0o600) as file:
            file.write(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
        return 0

    faults.run(end)
    kept = [".file.12345678x", ".other.12345678", "file"]
    for name in kept:
        (tmp_path / name).touch()
    assert len(_names(tmp_path)) == 4
    writing.remove_unfinished(tmp_path / "file")
    assert _names(tmp_path) == kept
    writing.remove_unfinished(tmp_path / "none/file")


def test_a_value_is_written_to_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "value").write_text("before")
    inode = (tmp_path / "value").stat().st_ino
    writing.write_value(tmp_path / "value", "x")
    assert (tmp_path / "value").read_text() == "xefore"
    assert (tmp_path / "value").stat().st_ino == inode
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to("../value")
    (root / "folder").symlink_to("..")
    for name in ("link", "none", "none/value", "../value", "folder/value", "a\0b"):
        with pytest.raises(FileError, match="cannot write"):
            writing.write_value(root / name, "y", root=root)
    assert _names(root) == ["folder", "link"]
    assert (tmp_path / "value").read_text() == "xefore"


def test_a_link_is_led_elsewhere_and_nothing_else_replaced(tmp_path: Path) -> None:
    writing.write_link(tmp_path / "a/link", "/one", root=tmp_path)
    writing.write_link(tmp_path / "a/link", "two", root=tmp_path)
    assert (tmp_path / "a/link").readlink() == Path("two")
    (tmp_path / "a/two").touch()
    with pytest.raises(FileError, match="two: it is no link"):
        writing.write_link(tmp_path / "a/two", "one")
    assert _names(tmp_path / "a") == ["link", "two"]


def test_a_move_takes_no_place_that_is_taken(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("old")
    (tmp_path / "new").symlink_to("nothing")
    with pytest.raises(FileError, match=r"new is there: .*old stays"):
        writing.move_file(tmp_path / "old", tmp_path / "new")
    with pytest.raises(FileError, match="No such file"):
        writing.move_file(tmp_path / "none", tmp_path / "other")
    writing.move_file(tmp_path / "old", tmp_path / "other")
    assert _names(tmp_path) == ["new", "other"]


def test_only_an_empty_folder_is_removed(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    for name in ("a", "none"):
        writing.remove_empty_folder(tmp_path / name)
    assert _names(tmp_path / "a") == ["b"]
    writing.remove_empty_folder(tmp_path / "a/b")
    assert not _names(tmp_path / "a")


def test_what_a_name_stands_for_in_a_root(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "usr/bin").mkdir(parents=True)
    outside.write_text("outside")
    (root / "bin").symlink_to("/usr/bin")
    (root / "usr/bin/tool").write_text("inside")
    for name, to in {"absolute": "/bin/tool", "relative": "../bin/tool", "circle": "circle"}.items():
        (root / "usr" / name).symlink_to(to)
    (root / "usr/out").symlink_to(outside)
    size = len("inside")
    for name, expected in {"absolute": size, "relative": size, "circle": None, "out": None}.items():
        found = writing.follow(root / "usr" / name, root=root)
        assert (None if found is None else found.status.st_size) == expected
    found = writing.look(root / "bin/../bin/tool", root=root)
    assert found is not None
    assert (found.status.st_size, found.link) == (size, None)
    assert writing.read_file(root / "bin/tool", root=root) == b"inside"
    assert writing.read_file(root / "usr/absolute", root=root) is None
    os.mkfifo(root / "pipe")
    assert writing.read_file(root / "pipe", root=root) is None  # and nobody waits for a writer


def test_a_check_makes_nothing(tmp_path: Path) -> None:
    writing.check_file(tmp_path / "a/b/file")
    assert not _names(tmp_path)
    (tmp_path / "a").touch()
    with pytest.raises(FileError, match="Not a directory"):
        writing.check_file(tmp_path / "a/file")
    (tmp_path / "link").symlink_to("a")
    with pytest.raises(FileError, match="it is a link to a"):
        writing.check_file(tmp_path / "link")


def test_removing_a_link_leaves_its_target(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "link").symlink_to("victim")
    assert writing.remove_file(tmp_path / "link")
    assert not writing.remove_file(tmp_path / "link")
    assert not writing.remove_file(tmp_path / "no/such")
    assert _names(tmp_path) == ["victim"]


@pytest.mark.slow
def test_whatever_fails_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    target = tmp_path / "folder/file"
    target.parent.mkdir()
    data = bytes(range(256)) * 100

    def write() -> int:
        writing.write_file(target, data, mode=0o600)
        return 0

    for fault in faults.possible(write):
        for left in target.parent.iterdir():
            left.unlink()
        target.write_bytes(b"before")
        ended = faults.run(write, fault)
        assert ended.status != 0 or target.read_bytes() == data, fault
        assert target.read_bytes() in (b"before", data), fault
        if fault.kind is not faults.Kind.KILLED:
            assert "FileError: cannot write" in ended.stderr, fault
            assert _names(target.parent) == ["file"], fault

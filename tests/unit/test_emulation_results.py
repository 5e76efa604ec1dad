"""Results are unpacked as they come, each once, and none before it is whole."""

import io
import sys
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec.emulation import EmulationError
from pykexec.emulation.results import Stream


def _archive(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


_FIRST = {"first/log": b"x" * 1000, f"first/{'long' * 40}": b"a long name", "first/empty": b""}
_STATUS = {"first/status": b"0\n"}
_SECOND = {"second/log": b"y" * 600}
_ARCHIVES = _archive(_FIRST) + _archive(_STATUS) + _archive(_SECOND)


@given(cuts=st.lists(st.integers(0, len(_ARCHIVES)), max_size=8))
def test_whatever_the_pieces(cuts: list[int]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        file, out = Path(scratch, "out.tar"), Path(scratch, "out")
        stream = Stream(file, out)
        for end in sorted([*cuts, len(_ARCHIVES)]):
            file.write_bytes(_ARCHIVES[:end])
            stream.unpack()
            there = {
                str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()
            }
            assert there.items() <= {**_FIRST, **_STATUS, **_SECOND}.items(), "what is there is whole"
            if "first/status" in there:
                assert _FIRST.keys() <= there.keys(), "what came before is there, too"
        assert there == {**_FIRST, **_STATUS, **_SECOND}


def test_what_was_unpacked_is_not_unpacked_again(tmp_path: Path) -> None:
    """Else a wait for results takes the time that the machine needs."""
    file, out = tmp_path / "out.tar", tmp_path / "out"
    stream = Stream(file, out)
    file.write_bytes(_archive(_FIRST))
    stream.unpack()
    (out / "first/log").unlink()
    stream.unpack()
    file.write_bytes(_ARCHIVES)
    stream.unpack()
    assert not (out / "first/log").exists()
    assert (out / "second/log").exists()


def test_nothing_has_come(tmp_path: Path) -> None:
    stream = Stream(tmp_path / "out.tar", tmp_path / "out")
    stream.unpack()
    (tmp_path / "out.tar").touch()
    stream.unpack()
    assert not (tmp_path / "out").exists()


# Later ones cannot do without what 3.11.4 brought.
_PYTHONS = [
    pytest.param(False, id="this Python"),
    *([pytest.param(True, id="Python 3.11.3")] if sys.version_info < (3, 12) else []),
]


def _hostile(name: str, kind: bytes, target: str = "") -> bytes:
    """An archive with something in whose place, or below which, a file follows."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for each in (name, f"{name}/in"):
            entry = tarfile.TarInfo(each)
            entry.type, entry.linkname, entry.mode = kind, target, 0o4777
            archive.addfile(entry)
            kind, target = tarfile.REGTYPE, ""
    return buffer.getvalue()


@pytest.mark.parametrize("is_old", _PYTHONS)
@pytest.mark.parametrize(
    ("name", "kind", "target"),
    [
        ("../up", tarfile.REGTYPE, ""),
        ("a/../../up", tarfile.REGTYPE, ""),
        ("{folder}/up", tarfile.REGTYPE, ""),
        ("link", tarfile.SYMTYPE, ".."),
        ("link", tarfile.SYMTYPE, "{folder}"),
        ("link", tarfile.LNKTYPE, "../secret"),
        ("device", tarfile.CHRTYPE, ""),
    ],
    ids=["up", "up later", "absolute", "link up", "absolute link", "hard link", "device"],
)
def test_a_guest_writes_into_its_folder_alone(
    name: str, kind: bytes, target: str, is_old: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_old:
        monkeypatch.delattr(tarfile, "data_filter", raising=False)
    (tmp_path / "secret").write_text("secret")
    archive = _hostile(name.format(folder=tmp_path), kind, target.format(folder=tmp_path))
    (tmp_path / "out.tar").write_bytes(archive)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(EmulationError, match="results have something else than files in them"):
        Stream(tmp_path / "out.tar", tmp_path / "out").unpack()
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("is_old", _PYTHONS)
def test_what_a_guest_writes_is_no_program_of_ours(
    is_old: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_old:
        monkeypatch.delattr(tarfile, "data_filter", raising=False)
    (tmp_path / "out.tar").write_bytes(_hostile("folder", tarfile.DIRTYPE))
    Stream(tmp_path / "out.tar", tmp_path / "out").unpack()
    assert not (tmp_path / "out/folder/in").stat().st_mode & 0o6000


def test_results_for_which_there_is_no_place(tmp_path: Path) -> None:
    (tmp_path / "out.tar").write_bytes(_archive({"a": b"", "a/b": b""}))
    with pytest.raises(EmulationError, match=r"results cannot be unpacked: .*Not a directory"):
        Stream(tmp_path / "out.tar", tmp_path / "out").unpack()

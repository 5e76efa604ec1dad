"""Results are unpacked as they come, each once, and none before it is whole."""

import io
import tarfile
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

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

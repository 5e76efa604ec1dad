"""Keys that the kernel hands over: what configfs is told before a load, and that no load is lost by it."""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec.errors import PykexecError
from pykexec.kdump.capture import handover
from tests.support.volume_keys import FakeKernel, running_kernel


@pytest.fixture
def kernel() -> Iterator[FakeKernel]:
    with running_kernel() as made:
        yield made


def _load(kernel: FakeKernel, keys: Mapping[str, str], loaded: str = "") -> str:
    with handover.arranged(keys, loaded, kernel.folder) as handed:
        kernel.load()
    return handed


def test_a_key_is_named_and_loaded(kernel: FakeKernel) -> None:
    kernel.keyring = {"cryptsetup:1", "cryptsetup:2"}
    assert _load(kernel, {"1": "cryptsetup:1"})
    assert (kernel.named, kernel.loaded) == ({"pykdump-1": "cryptsetup:1"}, ("cryptsetup:1",))
    assert _load(kernel, {"2": "cryptsetup:2"})
    assert kernel.loaded == ("cryptsetup:2",)
    assert _load(kernel, {}) == ""
    assert len(kernel.loaded) == 0


def test_what_others_have_named_stays(kernel: FakeKernel) -> None:
    kernel.keyring = {"cryptsetup:1", "cryptsetup:2"}
    kernel.mkdir(kernel.folder / "theirs")
    kernel.write(kernel.folder / "theirs/description", "cryptsetup:1")
    assert _load(kernel, {"1": "cryptsetup:1", "2": "cryptsetup:2"})
    assert kernel.named == {"theirs": "cryptsetup:1", "pykdump-2": "cryptsetup:2"}
    handover.forget(kernel.folder)
    assert kernel.named == {"theirs": "cryptsetup:1"}


def test_a_key_that_has_left_the_keyring(kernel: FakeKernel) -> None:
    """It is taken from the loaded kernel once, and no longer than that."""
    kernel.keyring = {"cryptsetup:1"}
    handed = _load(kernel, {"1": "cryptsetup:1"})
    kernel.keyring = set()
    assert handover.in_keyring_or_loaded(handed, kernel.folder)("cryptsetup:1")
    assert not handover.in_keyring_or_loaded("", kernel.folder)("cryptsetup:1")
    assert not handover.in_keyring_or_loaded(handed, kernel.folder)("cryptsetup:2")
    assert _load(kernel, {"1": "cryptsetup:1"}, handed) == handed
    assert (kernel.loaded, kernel.is_reusing) == (("cryptsetup:1",), False)


def test_a_key_that_is_nowhere_costs_nothing(kernel: FakeKernel) -> None:
    kernel.keyring = {"cryptsetup:1"}
    handed = _load(kernel, {"1": "cryptsetup:1"})
    before = kernel.named
    with pytest.raises(PykexecError, match="no logon key 'cryptsetup:2' is in root's keyring"):
        _load(kernel, {"2": "cryptsetup:2"}, handed)
    assert (kernel.named, kernel.loaded) == (before, ("cryptsetup:1",))


def test_keys_of_the_loaded_kernel_are_all_that_are_wanted_or_none(kernel: FakeKernel) -> None:
    """The kernel would copy more of them than there are."""
    kernel.keyring = {"cryptsetup:1", "cryptsetup:2"}
    handed = _load(kernel, {"1": "cryptsetup:1"})
    kernel.mkdir(kernel.folder / "theirs")
    kernel.write(kernel.folder / "theirs/description", "cryptsetup:2")
    kernel.keyring = {"cryptsetup:2"}
    with pytest.raises(PykexecError, match="no logon key 'cryptsetup:1'"):
        _load(kernel, {"1": "cryptsetup:1"}, handed)
    assert kernel.loaded == ("cryptsetup:1",)


def test_a_load_that_fails(kernel: FakeKernel) -> None:
    kernel.keyring = {"cryptsetup:1"}
    kernel.refuses = True
    with pytest.raises(OSError, match="Bad message"):
        _load(kernel, {"1": "cryptsetup:1"})
    assert kernel.named == {}


def test_a_load_with_keys_of_the_loaded_kernel_that_fails(kernel: FakeKernel) -> None:
    """The kernel has these keys, and hands over no others, until it has loaded them."""
    kernel.keyring = {"cryptsetup:1"}
    handed = _load(kernel, {"1": "cryptsetup:1"})
    kernel.keyring, kernel.refuses = {"cryptsetup:2"}, True
    with pytest.raises(OSError, match="Bad message"):
        _load(kernel, {"1": "cryptsetup:1"}, handed)
    assert (kernel.loaded, kernel.is_reusing) == (None, True)
    kernel.refuses = False
    with pytest.raises(PykexecError, match="other keys of encrypted volumes cannot be handed over"):
        _load(kernel, {"2": "cryptsetup:2"})
    _load(kernel, {"1": "cryptsetup:1"})
    assert (kernel.loaded, kernel.is_reusing) == (("cryptsetup:1",), False)
    _load(kernel, {"2": "cryptsetup:2"})
    assert kernel.loaded == ("cryptsetup:2",)


_HOSTILE = ["\x1b[2J", "$(reboot)", "a b", "' ; rm -r / ; '", "ä", "x" * 128, "x" * 5000, "DEVICE|"]


@pytest.mark.parametrize("text", ["(null)", "", *_HOSTILE])
@pytest.mark.parametrize("name", ["theirs", "the'irs; reboot", "\x1b[2J"])
def test_what_others_have_named_badly(text: str, name: str, kernel: FakeKernel) -> None:
    """The kernel would refuse the load once the loaded kernel is gone; whoever reads that is told where."""
    kernel.keyring = {"cryptsetup:1", "x" * 127}
    kernel.mkdir(kernel.folder / name)
    (kernel.folder / name / "description").write_text(text + "\n")
    before = kernel.named
    with pytest.raises(PykexecError) as error:
        _load(kernel, {"1": "cryptsetup:1"})
    assert (kernel.named, kernel.loaded) == (before, None)
    assert "rmdir " in str(error.value)
    assert len(str(error.value).splitlines()) == 2
    assert str(error.value).replace("\n", "").isprintable()
    if name.isprintable():
        words = shlex.split(str(error.value).partition("rmdir ")[2])
        assert words == [str(kernel.folder / name)]


def test_more_keys_than_the_kernel_takes(kernel: FakeKernel) -> None:
    keys = {str(number): f"cryptsetup:{number}" for number in range(129)}
    kernel.keyring = {*keys.values()}
    with pytest.raises(PykexecError, match="129 keys of encrypted volumes"):
        _load(kernel, keys)
    assert (kernel.named, kernel.loaded) == ({}, None)
    del keys["0"]
    _load(kernel, keys)
    assert len(kernel.loaded or ()) == 128


def test_what_keyrings_and_tables_take() -> None:
    for text in ("", "a b", "a\\b", "a\n", "ä", "\udcff", "x" * 128):
        assert not handover.fits(text)
    assert handover.fits("cryptsetup:1b4e28ba-2fa1-11d2-883f-b9a761bde3fb")
    assert handover.fits("x" * 127)


def test_kernels_without_it(tmp_path: Path) -> None:
    """And capture kernels, where there is nothing but `restore`."""
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys/restore").touch()
    for folder in (tmp_path / "none", tmp_path / "keys"):
        assert not handover.is_offered(folder)
        assert not handover.in_keyring_or_loaded("", folder)("cryptsetup:none-of-ours")
        with handover.arranged({}, "", folder) as handed:
            assert handed == ""
        handover.forget(folder)


_NAMES = st.sampled_from(["1", "2", "3"])
_DESCRIPTIONS = st.sampled_from(["cryptsetup:1", "cryptsetup:2", "cryptsetup:3"])
_STEPS = st.one_of(
    st.tuples(st.just("load"), st.sets(_NAMES)),
    st.tuples(st.just("fail"), st.sets(_NAMES)),
    st.tuples(st.just("keyring"), st.sets(_DESCRIPTIONS)),
    st.tuples(st.just("theirs"), st.sets(_DESCRIPTIONS, max_size=1)),
    st.tuples(st.just("unload"), st.just(set[str]())),
)


@given(st.lists(_STEPS, max_size=12))
def test_no_load_is_lost_for_a_key(steps: list[tuple[str, set[str]]]) -> None:
    """Whatever came before, a load gets what it asks for, or is refused while the old kernel is loaded."""
    with running_kernel() as kernel:
        handed = ""
        for step, names in steps:
            if step == "keyring":
                kernel.keyring = names
            elif step == "theirs":
                _name_theirs(kernel, names)
            elif step == "unload":
                kernel.loaded, handed = None, ""
            else:
                kernel.refuses = step == "fail"
                handed = _try(kernel, {name: f"cryptsetup:{name}" for name in names}, handed)


def _name_theirs(kernel: FakeKernel, descriptions: set[str]) -> None:
    folder = kernel.folder / "theirs"
    if folder.exists():
        kernel.rmdir(folder)
    for each in descriptions:
        kernel.mkdir(folder)
        kernel.write(folder / "description", each)


def _try(kernel: FakeKernel, keys: Mapping[str, str], handed: str) -> str:
    before = kernel.named, kernel.loaded
    try:
        made = _load(kernel, keys, handed)
    except PykexecError:
        assert (kernel.named, kernel.loaded) == before
        return handed
    except OSError:  # and where no key is asked for, others' may be missing
        assert kernel.refuses or not keys
        assert kernel.named == before[0]
        return ""
    assert {*keys.values()} <= {*(kernel.loaded or ())}
    assert not kernel.is_reusing or not kernel.loaded
    assert bool(made) == bool(keys)
    return made


@pytest.mark.programs
def test_keys_of_this_machine(tmp_path: Path) -> None:
    """One in the user's keyring is found from a session that has only its own; strace knows the calls."""
    name = f"pykexec-test:{os.getpid()}"
    program = f"from pykexec.kdump.capture import handover; print(handover.in_keyring({name!r}))"
    trace = tmp_path / "trace"
    strace = ["strace", "-qq", "-e", "trace=keyctl,request_key", "-o", str(trace)]
    ask = ["keyctl", "session", "-", *strace, sys.executable, "-c", program]
    assert subprocess.run(ask, capture_output=True, check=True).stdout == b"False\n"
    add = ["keyctl", "padd", "logon", name, "@u"]
    number = subprocess.run(add, input=b"secret", capture_output=True, check=True).stdout.strip()
    try:
        assert subprocess.run(ask, capture_output=True, check=True).stdout == b"True\n"
    finally:
        subprocess.run(["keyctl", "unlink", number, "@u"], check=True, capture_output=True)
    calls = trace.read_text()
    assert "keyctl(KEYCTL_LINK, KEY_SPEC_USER_KEYRING, KEY_SPEC_PROCESS_KEYRING) = 0\n" in calls
    assert f'request_key("logon", "{name}", NULL, 0) = {number.decode()}\n' in calls

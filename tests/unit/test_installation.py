"""Installing and removing: what an administrator has turned off stays off, and faults leave old or new."""

import os
import shlex
import stat
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import pytest

from pykexec.errors import PykexecError
from pykexec.integration import __main__ as integration
from pykexec.integration import commands, install, steps
from pykexec.integration.imports import PACKAGE
from pykexec.kdump.cli import exit_code as pykdump
from pykexec.kdump.service import installation
from tests.support import faults

UNIT = "etc/systemd/system/pykdump.service"
RULES = "etc/udev/rules.d/98-pykdump.rules"
HOOK = "etc/initramfs-tools/hooks/pykexec"
MODULE = "usr/lib/dracut/modules.d/90pykexec/module-setup.sh"


def pykdump_in(root: Path, command: str = "install") -> int:
    return pykdump([command, "--root", str(root)])


def hooks_in(root: Path, command: str = "install") -> int:
    return integration.run([command, "--root", str(root), "--dracut", "--initramfs-tools"])


INSTALLERS: Mapping[str, tuple[Callable[..., int], str, str]] = {
    "service": (pykdump_in, UNIT, RULES),
    "hooks": (hooks_in, MODULE, HOOK),
}


def contents(root: Path) -> dict[str, str | bytes]:
    """All files and links below a root."""
    return {
        str(path.relative_to(root)): str(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in root.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def put(path: Path, what: str | None) -> None:
    """A link to that, or an empty file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if what is None:
        path.touch()
    else:
        path.symlink_to(what)


@pytest.mark.parametrize("what", ["/dev/null", "{root}/dev/null", None])
@pytest.mark.parametrize("name", [UNIT, RULES])
def test_what_is_turned_off_stays_off(
    name: str, what: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As systemctl mask does, and as udev(7) says; nothing else is installed then, and no device changed."""
    null = tmp_path / "dev/null"
    null.parent.mkdir()
    null.touch(0o666)
    null.chmod(0o666)
    put(tmp_path / name, what and what.format(root=tmp_path))
    before = contents(tmp_path)
    assert pykdump_in(tmp_path) == 1
    told = capsys.readouterr()
    masked = f"pykdump: pykdump.service is masked: {tmp_path / UNIT} is"
    remedy = f"systemctl --root={tmp_path} unmask pykdump.service"
    if name == RULES:
        masked = f"pykdump: the rule 98-pykdump.rules is turned off: {tmp_path / RULES} is"
        remedy = f"rm {tmp_path / RULES}"
    assert told.err.startswith(masked)
    assert told.err.splitlines()[1].strip() == remedy
    assert (told.out, contents(tmp_path)) == ("", before)
    assert stat.S_IMODE(null.stat().st_mode) == 0o666
    for _ in range(2):
        assert pykdump_in(tmp_path, "remove") == 0
        assert capsys.readouterr().out.startswith(f"keep {tmp_path / name}: ")
        assert contents(tmp_path) == before


@pytest.mark.parametrize("how", INSTALLERS)
def test_a_link_in_the_place_of_a_file(how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    installed, first, second = INSTALLERS[how]
    victim = tmp_path / "victim"
    victim.write_text("precious pykexec")
    victim.chmod(0o666)
    root = tmp_path / "root"
    put(root / second, str(victim))
    assert installed(root) == 1
    assert f"cannot write {root / second}: it is a link to {victim}" in capsys.readouterr().err
    assert not (root / first).exists(), "nothing is half installed"
    assert installed(root, "remove") == 0
    assert (root / second).is_symlink()
    assert (victim.read_text(), stat.S_IMODE(victim.stat().st_mode)) == ("precious pykexec", 0o666)


@pytest.mark.parametrize("how", INSTALLERS)
@pytest.mark.parametrize("to", ["/outside", "{outside}", "../../../../../../../../outside"])
def test_links_do_not_lead_out_of_a_root(how: str, to: str, tmp_path: Path) -> None:
    installed, *_ = INSTALLERS[how]
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.mkdir()
    (root / "etc").mkdir(parents=True)
    (root / "usr/lib/dracut").mkdir(parents=True)
    for name in ("etc/udev", "etc/systemd", "etc/initramfs-tools", "usr/lib/dracut/modules.d"):
        (root / name).symlink_to(to.format(outside=outside))
    assert installed(root) == 0
    assert not list(outside.iterdir())
    assert len([path for path in root.rglob("*") if path.is_file() and not path.is_symlink()]) >= 2
    assert installed(root, "remove") == 0
    assert not [path for path in root.rglob("*") if path.is_file()]


@pytest.mark.parametrize("how", INSTALLERS)
def test_a_file_that_others_wrote_is_theirs(
    how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    installed, first, second = INSTALLERS[how]
    (tmp_path / second).parent.mkdir(parents=True)
    (tmp_path / second).write_text("somebody's\n")
    assert installed(tmp_path) == 1
    assert f"cannot write {tmp_path / second}: it is there, and not pykexec's" in capsys.readouterr().err
    assert not (tmp_path / first).exists()
    assert installed(tmp_path, "remove") == 0
    assert f"keep {tmp_path / second}: it is not pykexec's\n" in capsys.readouterr().out
    assert (tmp_path / second).read_text() == "somebody's\n"


def test_a_root_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("install", "remove"):
        assert pykdump_in(tmp_path / "none", command) == 1
        assert "does not exist" in capsys.readouterr().err


@pytest.mark.parametrize("how", INSTALLERS)
@pytest.mark.slow
def test_a_fault_leaves_old_or_new(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk, a damaged one, one that may not be written, and kill -9, at each point of an upgrade."""
    installed, *_ = INSTALLERS[how]
    # What it starts, the faults do not reach; and it takes its time.
    for module in (install, installation):
        monkeypatch.setattr(module, "command_of", lambda name: ("/usr/bin/python3", "-I", "-m", name))
    monkeypatch.setattr(commands, "command_of", None)
    new = tmp_path / "new"
    new.mkdir()
    assert installed(new) == 0
    expected = {path: (b"of an older pykexec\n", data) for path, data in contents(new).items()}

    def upgraded(number: int) -> Path:
        root = tmp_path / str(number)
        for path, (old, _) in expected.items():
            (root / path).parent.mkdir(parents=True)
            (root / path).write_bytes(old)
        return root

    for number, fault in enumerate(faults.spread(faults.possible(partial(installed, upgraded(0))), 40), 1):
        root = upgraded(number)
        ended = faults.run(partial(installed, root), fault)
        found = contents(root)
        for path, versions in expected.items():
            assert found.pop(path) in versions, f"{fault}: {path}"
        if fault.kind is faults.Kind.KILLED:
            assert all(Path(path).name.startswith(".") for path in found), f"{fault}: {found}"
            continue
        assert not found, f"{fault}: {found}"
        assert ended.status in (0, 1), f"{fault}: {ended}"
        assert "Traceback" not in ended.stderr, f"{fault}: {ended.stderr}"
        if ended.status:
            assert str(root) in ended.stderr or str(PACKAGE) in ended.stderr, f"{fault}: {ended.stderr}"
            assert len(ended.stderr.splitlines()) <= 2, f"{fault}: {ended.stderr}"


def test_a_full_disk_says_what_is_not_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(_: int) -> None:
        raise OSError(28, os.strerror(28))

    assert pykdump_in(tmp_path) == 0
    before = contents(tmp_path)
    capsys.readouterr()
    monkeypatch.setattr(os, "fsync", full)
    assert pykdump_in(tmp_path) == 1
    assert capsys.readouterr().err.splitlines() == [
        f"pykdump: cannot write {tmp_path / UNIT}: No space left on device",
        f"         not done: write {tmp_path / RULES}",
    ]
    assert contents(tmp_path) == before


def test_the_unit_starts_python_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is in its words: as systemd reads them (systemd.service(5)), they are what was meant."""
    words = ("/usr/bin/py thon", "-I", "-c", 'a\'b "c" $HOME %h \\n\\ \\\\', "${x}%%")
    monkeypatch.setattr(installation, "command_of", lambda _: words)
    assert pykdump_in(tmp_path) == 0
    unit = (tmp_path / UNIT).read_text()
    (line,) = (each for each in unit.splitlines() if each.startswith("ExecStop="))
    command = line.removeprefix("ExecStop=").replace("%%", "%").replace("$$", "$")
    assert "%%" in line
    assert tuple(shlex.split(command)) == (*words, "stop")


def test_another_root_without_what_the_unit_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It starts this Python, and this pykexec, by their paths."""
    needed = [sys.executable, str(PACKAGE)]
    for number, path in enumerate(needed):
        assert pykdump_in(tmp_path) == 0
        lacks = ", ".join(needed[number:])
        told = f"pykdump: warning: the unit starts what {tmp_path} does not have there: {lacks}\n"
        assert capsys.readouterr().err == told
        put(tmp_path / path.lstrip("/"), None)
    assert pykdump_in(tmp_path) == 0
    assert capsys.readouterr().err == ""


def test_a_command_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "_SECONDS", 0.2)
    with pytest.raises(PykexecError, match=r"sleep 60 did not end within 0\.2 seconds"):
        steps.Run(("sleep", "60")).do()


def test_nothing_is_done_where_a_later_step_cannot_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan: list[steps.Step] = [steps.Write(tmp_path / "file", "text"), steps.Run(("no-such-program",))]
    for dry_run in (True, False):
        with pytest.raises(PykexecError, match="there is no no-such-program here"):
            steps.perform(plan, dry_run=dry_run)
    assert (capsys.readouterr().out, contents(tmp_path)) == ("", {})


def test_isolation(tmp_path: Path) -> None:
    """-I is what makes the difference: the test of the hooks would see it missing."""
    words = list(commands.command_of("pykexec.kdump"))
    assert words[1] == "-I"
    (tmp_path / "sitecustomize.py").write_text("raise SystemExit(9)")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    for isolated, status in ((words, 0), (words[:1] + words[2:], 1)):
        command = [*isolated, "--version"]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)
        assert done.returncode == status

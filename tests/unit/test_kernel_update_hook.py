"""The hook that has new kernels rehearsed: off at first, and never in the way of an installation."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec.kdump.cli import exit_code
from pykexec.kdump.service import installation

RELEASE = "6.1.0-58-amd64"
SHELLS = [["dash"], pytest.param(["busybox", "ash"], marks=pytest.mark.programs)]
_SETTINGS = "/etc/default/pykdump"
# A stand-in: it tells what it was asked for.
_SYSTEMD_RUN = """\
#!/bin/sh
printf '%s\\0' "$@" > {asked}
echo "what apt has no use for" >&2
exit {status}
"""


@dataclass(frozen=True)
class Hooked:
    """What came of a call of the hook."""

    status: int
    output: str
    asked: tuple[str, ...] | None
    """The words for systemd-run; None where it was not called."""

    @property
    def unit(self) -> str:
        assert self.asked is not None
        (found,) = (each for each in self.asked if each.startswith("--unit="))
        return found.removeprefix("--unit=")


class Host:
    """A folder with the hook, its settings, and stand-ins of the programs that it calls."""

    def __init__(self, folder: Path, *, status: int = 0) -> None:
        self.folder = folder
        self.settings, self._asked = folder / "pykdump.default", folder / "asked"
        self.pykdump, self.systemd_run = folder / "bin/a pykdump", folder / "bin/systemd-run"
        self.pykdump.parent.mkdir(parents=True)
        self.pykdump.write_text("#!/bin/sh\n")
        self.systemd_run.write_text(_SYSTEMD_RUN.format(asked=self._asked, status=status))
        for each in (self.pykdump, self.systemd_run):
            each.chmod(0o755)
        (folder / "bin/grep").symlink_to("/usr/bin/grep")
        self.hook = folder / "hook"
        text = installation.hook([str(self.pykdump)], "Of a test.")
        assert text.count(_SETTINGS) == 1
        self.hook.write_text(text.replace(_SETTINGS, str(self.settings)))
        self.settings.write_text("PYKDUMP_REHEARSE_UPDATES=yes\n")

    def call(self, *arguments: str, shell: Sequence[str] = ("sh",)) -> Hooked:
        self._asked.unlink(missing_ok=True)
        done = subprocess.run(
            [f"/usr/bin/{shell[0]}", *shell[1:], str(self.hook), *arguments],
            env={"PATH": str(self.systemd_run.parent)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=10,
        )
        asked = self._asked.read_text().split("\0")[:-1] if self._asked.exists() else None
        return Hooked(done.returncode, done.stdout, None if asked is None else tuple(asked))


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path / "host")


@pytest.fixture
def kernel(tmp_path: Path) -> str:
    (tmp_path / "vmlinuz new").touch()
    return str(tmp_path / "vmlinuz new")


@pytest.mark.parametrize("shell", SHELLS)
def test_both_callers_have_the_same_rehearsed(shell: Sequence[str], host: Host, kernel: str) -> None:
    """Where both of them call it, systemd refuses the second unit of that name."""
    debian = host.call(RELEASE, kernel, shell=shell)
    systemd = host.call("add", RELEASE, "/boot/efi/x", kernel, "/boot/initrd", shell=shell)
    assert debian == systemd
    assert debian.asked is not None
    assert (debian.status, debian.output) == (0, "")
    assert debian.asked[-4:] == (str(host.pykdump), "rehearse", "--kernel", kernel)
    assert RELEASE in debian.unit


def test_it_runs_later_behind_all_others_and_not_for_ever(host: Host, kernel: str) -> None:
    asked = host.call(RELEASE, kernel).asked
    assert asked is not None
    options = dict(each.removeprefix("--property=").partition("=")[::2] for each in asked[:-4])
    assert {"--on-active", "RuntimeMaxSec", "Nice"} <= set(options)
    assert (options["CPUSchedulingPolicy"], options["IOSchedulingClass"]) == ("idle", "idle")


@pytest.mark.parametrize(
    ("settings", "is_on"),
    [
        ("PYKDUMP_REHEARSE_UPDATES=yes", True),
        ('PYKDUMP_ARGS="-x"\n  PYKDUMP_REHEARSE_UPDATES="yes" # slow\n', True),
        ("PYKDUMP_REHEARSE_UPDATES='yes'\n", True),
        (None, False),
        ("", False),
        ("#PYKDUMP_REHEARSE_UPDATES=yes\n", False),
        ("PYKDUMP_REHEARSE_UPDATES=no\n", False),
        ("PYKDUMP_REHEARSE_UPDATES=\n", False),
        ("PYKDUMP_REHEARSE_UPDATES=yes-but\n", False),
        ("PYKDUMP_REHEARSE_UPDATES='yes\n", False),
        ("MY_PYKDUMP_REHEARSE_UPDATES=yes\n", False),
    ],
)
def test_it_is_off_before_it_is_asked_for(
    settings: str | None, is_on: bool, host: Host, kernel: str
) -> None:
    host.settings.unlink()
    if settings is not None:
        host.settings.write_text(settings)
    found = host.call(RELEASE, kernel)
    assert (found.status, found.output, found.asked is not None) == (0, "", is_on)


def test_a_removed_kernel_is_not_rehearsed(host: Host) -> None:
    assert host.call("remove", RELEASE, "/boot/efi/x") == Hooked(0, "", None)


def test_where_no_kernel_is_named_it_is_looked_for(host: Host) -> None:
    for arguments in (["add", RELEASE, "/boot/efi/x"], [RELEASE], [RELEASE, "/no/such/vmlinuz"]):
        asked = host.call(*arguments).asked
        assert asked is not None
        assert asked[-1] == f"/usr/lib/modules/{RELEASE}/vmlinuz"


def test_no_installation_fails_for_it(tmp_path: Path, kernel: str) -> None:
    """Neither where systemd does not run, nor without systemd, nor where pykdump is gone."""
    host = Host(tmp_path / "host", status=1)
    found = host.call(RELEASE, kernel)
    assert (found.status, found.output.count("\n")) == (0, 1)
    assert "no rehearsal of" in found.output
    host.systemd_run.unlink()
    assert host.call(RELEASE, kernel) == Hooked(0, found.output, None)
    host.pykdump.unlink()
    found = host.call(RELEASE, kernel)
    assert (found.status, found.asked, found.output.count("\n")) == (0, None, 1)
    assert "remove this hook" in found.output
    host.settings.unlink()
    assert host.call(RELEASE, kernel) == Hooked(0, "", None)


_WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)


@given(release=_WORDS.filter(lambda text: text not in ("add", "remove")), image=_WORDS)
def test_what_callers_say_is_not_run(
    tmp_path_factory: pytest.TempPathFactory, release: str, image: str
) -> None:
    folder = tmp_path_factory.mktemp("host")
    found = Host(folder / "host").call(release, image)
    assert found.asked is not None
    assert (found.status, found.output, found.unit) == (0, "", f"pykdump-rehearse-{release}")
    assert len(found.asked) == len(Host(folder / "other").call(RELEASE, "x").asked or ())
    assert {each.name for each in folder.iterdir()} == {"host", "other"}


# Installation

PLACES = ("etc/kernel/postinst.d/zz-pykdump", "etc/kernel/install.d/95-pykdump.install")
CALLERS = ("etc/kernel/postinst.d", "usr/lib/kernel/install.d")


def hooks_in(root: Path) -> list[str]:
    return [each for each in PLACES if (root / each).is_file()]


@pytest.mark.parametrize("callers", [(), CALLERS[:1], CALLERS[1:], CALLERS])
def test_it_is_installed_where_somebody_would_call_it(callers: Sequence[str], tmp_path: Path) -> None:
    for each in callers:
        (tmp_path / each).mkdir(parents=True)
    for _ in range(2):
        assert exit_code(["install", "--root", str(tmp_path)]) == 0
        assert hooks_in(tmp_path) == [PLACES[CALLERS.index(each)] for each in callers]
    for each in hooks_in(tmp_path):
        assert (tmp_path / each).stat().st_mode & 0o777 == 0o755
        assert "@" not in (tmp_path / each).read_text().replace("$@", "")
        assert subprocess.run([tmp_path / each, RELEASE, "x"], capture_output=True, check=True).stdout == b""
    assert exit_code(["remove", "--root", str(tmp_path)]) == 0
    assert hooks_in(tmp_path) == []


def test_a_hook_that_is_turned_off_stays_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As kernel-install(8) says."""
    place = tmp_path / PLACES[1]
    place.parent.mkdir(parents=True)
    (tmp_path / CALLERS[1]).mkdir(parents=True)
    place.symlink_to("/dev/null")
    for command in ("install", "remove"):
        assert exit_code([command, "--root", str(tmp_path)]) == 0
        assert f"keep {place}: " in capsys.readouterr().out
        assert place.readlink() == Path("/dev/null")

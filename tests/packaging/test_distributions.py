"""The packages for distributions: what is in them, and what they leave when they come, change and go."""

import os
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from pykexec import __version__
from pykexec.kdump.files import STATE
from tests.support.packages import fake_deb, later_deb, run_in_layer
from tools.lab.debian import install_system
from tools.lab.host import CACHE, build_once, digest
from tools.packaging import build

HERE = Path(build.__file__).parent


FORMATS = ("deb", "rpm")


@dataclass(frozen=True, slots=True)
class Packages:
    """The files of one build."""

    sdist: Path
    deb: Path
    rpm: Path

    @classmethod
    def in_folder(cls, folder: Path) -> "Packages":
        return cls(*(next(folder.glob(f"*.{name}")) for name in ("tar.gz", *FORMATS)))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of all the processes that run these tests: what is made there is made once."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="module")
def packages(shared: Path) -> Packages:
    def make(target: Path) -> None:
        target.mkdir()
        build.build(FORMATS, target, sdist=build.make_sdist(target))

    return Packages.in_folder(build_once(shared / "packages", make))


def run(command: Sequence[str | Path]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_second_build_makes_the_same_bytes(
    packages: Packages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever folder, umask, language and time zone there is."""
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    before = os.umask(0o077)
    try:
        deb, rpm = build.build(FORMATS, tmp_path, sdist=packages.sdist)
    finally:
        os.umask(before)
    assert deb.read_bytes() == packages.deb.read_bytes()
    assert rpm.read_bytes() == packages.rpm.read_bytes()


def test_lintian(packages: Packages) -> None:
    fine = (
        "package-supports-alternative-init-but-no-init.d-script",  # it is systemd's alone
        "repeated-path-segment",  # the package's folder has Python's package
        "systemd-service-file-missing-documentation-key",  # systemd-analyze fails without man(1)
    )
    options = ["--allow-root", "--display-info", "--pedantic", f"--suppress-tags={','.join(fine)}"]
    assert run(["lintian", *options, packages.deb]) == ""


def test_rpmlint(packages: Packages, tmp_path: Path) -> None:
    spec = tmp_path / "pykexec.spec"
    spec.write_text(build.spec(__version__, 1_700_000_000))
    said = run(["rpmlint", "--strict", "--config", HERE / "rpmlint.toml", packages.rpm, spec])
    assert "1 packages and 1 specfiles checked; 0 errors, 0 warnings" in said


def files_of(deb: Path, folder: Path) -> Mapping[str, tarfile.TarInfo]:
    """The files of a package, without those of its documentation."""
    data = folder / "data.tar"
    with data.open("wb") as file:
        subprocess.run(["dpkg-deb", "--fsys-tarfile", deb], stdout=file, check=True)
    with tarfile.open(data) as archive:
        return {entry.name.removeprefix("."): entry for entry in archive if not entry.isdir()}


_ONLY_IN_ONE = ("/usr/share/doc/", "/usr/share/licenses/", "/usr/share/lintian/", "/usr/share/python3/")


def test_both_have_the_same_files(packages: Packages, tmp_path: Path) -> None:
    """But for their documentation, the folder in which zsh looks, and what Debian's kernels call."""
    deb = set(files_of(packages.deb, tmp_path)) - {"/etc/kernel/postinst.d/zz-pykdump"}
    rpm = {
        line.split()[-1]
        for line in run(["rpm", "-qlvp", packages.rpm]).splitlines()
        if not line.startswith("d")
    }
    deb, rpm = ({path for path in each if not path.startswith(_ONLY_IN_ONE)} for each in (deb, rpm))
    assert {path.replace("zsh/vendor-completions", "zsh/site-functions") for path in deb} == rpm
    assert {
        "/usr/sbin/pykexec",
        "/usr/sbin/pykdump",
        "/usr/lib/systemd/system/pykdump.service",
        "/usr/lib/udev/rules.d/98-pykdump.rules",
        "/usr/lib/kernel/install.d/95-pykdump.install",
        "/usr/lib/dracut/modules.d/90pykexec/module-setup.sh",
        "/usr/share/initramfs-tools/hooks/pykexec",
        "/usr/share/man/man8/pykdump.8.gz",
        "/usr/share/bash-completion/completions/pykdump",
        "/usr/lib/pykexec/fdt/header.py",
        "/etc/default/pykdump",
    } <= rpm


def test_nothing_is_where_a_program_of_others_is(packages: Packages, tmp_path: Path) -> None:
    """The names of kexec-tools are links that update-alternatives makes."""
    files = files_of(packages.deb, tmp_path)
    assert not {Path(path).name for path in files if "/sbin/" in path} - {"pykexec", "pykdump"}
    assert not {path for path in files if path.startswith("/usr/share/man") and "/vmcore-dmesg.8.gz" in path}
    assert all((entry.uid, entry.gid) == (0, 0) and not entry.mode & 0o022 for entry in files.values())


C_TOOLS = {"kexec": "C kexec", "vmcore-dmesg": "C vmcore-dmesg"}
_LOOK = """
look() {
    mkdir /exchange/$1
    { kexec --version || true; } > /exchange/$1/kexec 2>&1
    { vmcore-dmesg /nothing || true; } > /exchange/$1/log 2>&1
    { readlink /usr/sbin/kexec || true; } > /exchange/$1/link
    { update-alternatives --query vmcore-dmesg || true; } > /exchange/$1/log-query
    cp /var/lib/dpkg/diversions /exchange/$1/
    { cat /etc/default/pykdump || true; } > /exchange/$1/conffile 2>&1
    { readlink /etc/systemd/system/pykdump.service || true; } > /exchange/$1/unit
    (cd /changes; find . -name '*pyk*' -print -prune) | sort > /exchange/$1/ours
}
"""
_STORY = f"""{_LOOK}
dpkg --purge --force-all kexec-tools
dpkg -i /exchange/kexec-tools-1.deb
dpkg -i /exchange/pykexec.deb
look installed
find /usr/lib/pykexec -name '*.pyc' | wc -l > /exchange/installed/compiled
pykdump --version > /exchange/installed/pykdump
pykdump install > /exchange/installed/again
pykdump remove > /exchange/installed/removed
/usr/lib/pykexec/integration install --dracut > /exchange/installed/refused 2>&1 || true
for how in no static python; do
    export PYKEXEC_INITRAMFS=$how DESTDIR=/image-$how
    mkdir /image-$how
    /usr/share/initramfs-tools/hooks/pykexec
    chroot /image-$how /usr/sbin/kexec --version > /exchange/installed/image-$how || true
    rm -r /image-$how
done

# What an administrator does.
update-alternatives --set kexec "$(dpkg-divert --truename /sbin/kexec)"
mkdir -p /etc/systemd/system {STATE} /var/crash/dump
ln -s /dev/null /etc/systemd/system/pykdump.service
echo 'PYKDUMP_ARGS="--initrd /mine"' > /etc/default/pykdump
touch {STATE}/proven /var/crash/dump/vmcore
dpkg --force-confdef -i /exchange/later.deb
look upgraded

dpkg -i /exchange/kexec-tools-2.deb
look c-tool-upgraded
update-alternatives --auto kexec
dpkg --purge kexec-tools
look c-tool-purged
dpkg -i /exchange/kexec-tools-1.deb
look c-tool-back
dpkg --remove pykexec
look removed
dpkg --purge pykexec
look purged
cat /var/crash/dump/vmcore

dpkg --purge kexec-tools
dpkg -i /exchange/pykexec.deb
dpkg --purge pykexec
look nothing

dpkg -i /exchange/kexec-tools-1.deb
dpkg -i /exchange/pykexec.deb
rm -r /usr/lib/pykexec/pykexec
dpkg --purge pykexec
look damaged
"""


@pytest.fixture(
    scope="module",
    params=[
        "here",
        pytest.param("bookworm", marks=pytest.mark.further),
        pytest.param("trixie", marks=pytest.mark.further),
    ],
)
def story(request: pytest.FixtureRequest, packages: Packages, shared: Path) -> Path:
    """What was seen in a system, stage by stage: this one, or one of Debian's releases."""
    suite: str = request.param

    def make(exchange: Path) -> None:
        exchange.mkdir()
        (exchange / "pykexec.deb").write_bytes(packages.deb.read_bytes())
        later_deb(packages.deb, exchange)
        # In Debian 12 and in Debian 13.
        for version, folder in (("1", "/sbin"), ("2", "/usr/sbin")):
            programs = {f"{folder}/{name}": f"{text} {version}" for name, text in C_TOOLS.items()}
            fake_deb(exchange, "kexec-tools", version, programs)
        run_in_layer(_STORY, exchange, lower=Path("/") if suite == "here" else debian(suite))

    return build_once(shared / f"story-{suite}", make)


def debian(suite: str) -> Path:
    """A small Debian with what the package depends on."""
    needed = ("init-system-helpers", "python3", "python3-click", "python3-construct", "python3-pyelftools")
    return build_once(
        CACHE / "images" / f"root-{suite}-{digest(*needed)}",
        lambda target: install_system(suite, needed, target),
    )


def seen(story: Path, stage: str, what: str) -> str:
    return (story / stage / what).read_text()


PYKEXEC, C_1, C_2 = "pykexec", "C kexec 1\n", "C kexec 2\n"


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        ("installed", PYKEXEC),
        ("upgraded", C_1),
        ("c-tool-upgraded", C_2),
        ("c-tool-purged", PYKEXEC),
        ("c-tool-back", PYKEXEC),
        ("removed", C_1),
        ("purged", C_1),
        ("damaged", C_1),
    ],
)
def test_what_kexec_is(stage: str, expected: str, story: Path) -> None:
    """What the administrator chose stays, as long as it is there; pykexec does not take the C tool along.

    Nor does a package whose files are gone, which can be removed all the same.
    """
    said = seen(story, stage, "kexec")
    assert said == expected or (expected == PYKEXEC and "(pykexec " in said)
    assert bool(seen(story, stage, "link")) is (stage not in ("removed", "purged", "damaged"))


@pytest.mark.parametrize("stage", ["removed", "purged", "nothing", "damaged"])
def test_no_diversion_stays(stage: str, story: Path) -> None:
    assert "kexec" in seen(story, "installed", "diversions")
    assert "kexec" not in seen(story, stage, "diversions")


def test_the_c_tools_log_reader_comes_first(story: Path) -> None:
    assert seen(story, "installed", "log") == "C vmcore-dmesg 1\n"
    assert "/nothing" in seen(story, "c-tool-purged", "log")
    assert seen(story, "removed", "log") == "C vmcore-dmesg 1\n"
    for stage in ("installed", "upgraded", "c-tool-upgraded", "c-tool-purged"):
        assert "\nStatus: auto\n" in seen(story, stage, "log-query"), "nobody has chosen it"


def test_what_the_administrator_changed_stays(story: Path) -> None:
    for stage in ("upgraded", "removed"):
        assert seen(story, stage, "conffile") == 'PYKDUMP_ARGS="--initrd /mine"\n'
        assert seen(story, stage, "unit") == "/dev/null\n"
    assert seen(story, "purged", "unit") == "/dev/null\n"


def test_what_a_removal_leaves(story: Path) -> None:
    """The masked unit and the configuration; and what was made, before a purge."""
    files = (
        "./etc/systemd/system/pykdump.service",
        "./etc/default/pykdump",
        "./etc/kernel/postinst.d/zz-pykdump",
    )
    kept = {f".{STATE}", *files}
    left = set(seen(story, "removed", "ours").split())
    assert {path for path in left if not path.startswith(("./var/lib/dpkg", "./var/lib/systemd"))} == kept
    masked = {"./etc/systemd/system/pykdump.service"}
    assert set(seen(story, "purged", "ours").split()) == masked
    assert set(seen(story, "nothing", "ours").split()) == masked
    assert set(seen(story, "damaged", "ours").split()) == masked


def test_the_installed_commands(story: Path) -> None:
    assert int(seen(story, "installed", "compiled")) > 200, "byte code, which the service could not keep"
    assert seen(story, "installed", "pykdump").startswith("pykdump ")
    kept = (
        "keep /usr/lib/systemd/system/pykdump.service: the package has it\n"
        "keep /usr/lib/udev/rules.d/98-pykdump.rules: the package has it\n"
        "keep /etc/kernel/postinst.d/zz-pykdump: the package has it\n"
        "keep /usr/lib/kernel/install.d/95-pykdump.install: the package has it\n"
    )
    assert seen(story, "installed", "again").startswith(f"{kept}systemctl enable --now pykdump.service ")
    assert seen(story, "installed", "removed") == kept
    assert "the distribution's package has installed that" in seen(story, "installed", "refused")
    assert not seen(story, "installed", "refused").startswith("write ")


def test_an_initramfs_has_what_is_asked_for(story: Path) -> None:
    assert seen(story, "installed", "image-no") == ""
    assert "small helper" in seen(story, "installed", "image-static")
    assert "(pykexec " in seen(story, "installed", "image-python")


def test_scripts(packages: Packages, tmp_path: Path) -> None:
    """shellcheck(1) finds nothing in what dpkg and the generators of initramfs images run."""
    run(["dpkg-deb", "-R", packages.deb, tmp_path / "root"])
    hooks = (
        "DEBIAN/postinst",
        "DEBIAN/prerm",
        "DEBIAN/postrm",
        "usr/lib/dracut/modules.d/90pykexec/module-setup.sh",
        "usr/share/initramfs-tools/hooks/pykexec",
        "usr/lib/kernel/install.d/95-pykdump.install",
        "etc/kernel/postinst.d/zz-pykdump",
    )
    # Debhelper's own code has this one.
    run(["shellcheck", "--exclude=SC2086", *(tmp_path / "root" / each for each in hooks)])


def test_rpm(packages: Packages, tmp_path: Path) -> None:
    """It comes, and goes with all it made; a C tool that is another package's file stays kexec."""
    (tmp_path / "pykexec.rpm").write_bytes(packages.rpm.read_bytes())
    script = f"""{_LOOK}
    dpkg --purge --force-all kexec-tools
    rpm --initdb
    rpm --force-debian --nodeps -i /exchange/pykexec.rpm
    look installed
    find /usr/lib/pykexec -name '*.pyc' | wc -l > /exchange/installed/compiled
    rpm --force-debian --nodeps -e pykexec
    look removed
    echo 'echo C' > /usr/sbin/kexec
    chmod +x /usr/sbin/kexec
    rpm --force-debian --nodeps -i /exchange/pykexec.rpm
    look beside
    rpm --force-debian --nodeps -e pykexec
    look gone
    """
    run_in_layer(script, tmp_path)
    assert "(pykexec " in seen(tmp_path, "installed", "kexec")
    for stage in ("removed", "gone"):
        assert seen(tmp_path, stage, "ours") == ""
    for stage in ("beside", "gone"):
        assert seen(tmp_path, stage, "kexec") == "C\n"
        assert seen(tmp_path, stage, "link") == ""

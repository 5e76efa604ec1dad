"""Every way to get pykexec: wheel, sdist, editable install, and the checkout itself."""

import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

from pykexec import __version__
from tests.support.bzimage import FakeBzImage
from tests.support.machines import FOLDER

PROJECT = Path(__file__).parent.parent.parent
PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree, since building leaves files in it."""
    copy = tmp_path_factory.mktemp("source") / "pykexec"
    ignored = shutil.ignore_patterns(".git", ".cache", "crash", "__pycache__", ".*_cache", ".hypothesis")
    shutil.copytree(PROJECT, copy, symlinks=True, ignore=ignored)
    return copy


@pytest.fixture(scope="module")
def unpacked(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is in the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    backend = "from setuptools import build_meta; print(build_meta.build_sdist({!r}))"
    run([sys.executable, "-c", backend.format(str(folder))], cwd=source)
    (sdist,) = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as tar:
        tar.extractall(folder)
    return folder / sdist.name.removesuffix(".tar.gz")


@pytest.fixture(scope="module")
def wheel(unpacked: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the sdist, as an index would serve it."""
    folder = tmp_path_factory.mktemp("wheel")
    run([*PIP, "wheel", "--no-build-isolation", "--no-deps", "-w", str(folder), str(unpacked)])
    (built,) = folder.glob("*.whl")
    return built


def run(command: list[str], cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def environment(folder: Path) -> Path:
    """An empty virtual environment in which only the requirements are found; its interpreter."""
    run([sys.executable, "-m", "venv", "--without-pip", str(folder)])
    site = next(folder.glob("lib/python*/site-packages"))
    for name in ("click", "construct", "elftools", "fdt", "setuptools*", "_distutils_hack"):
        for place in Path(sysconfig.get_path("purelib")).glob(name):
            (site / place.name).symlink_to(place)
    return folder / "bin/python"


def works(python: Path, folder: Path) -> None:
    """The installed program plans, which takes the architecture's code and purgatory's blob."""
    kernel = folder / "vmlinuz"
    kernel.write_bytes(FakeBzImage().build())
    request = ["-p", str(kernel), "--machine", str(FOLDER / "qemu-6.1-1g.tar"), "--append", "quiet"]
    assert "elfcorehdr" in run([str(python), "-m", "pykexec", *request], cwd=folder)
    assert f"(pykexec {__version__})" in run([str(python.with_name("pykexec")), "--version"], cwd=folder)
    assert __version__ in run([str(python.with_name("pykdump")), "--version"], cwd=folder)
    assert not python.with_name("kexec").exists(), "an installation by pip does not change what kexec is"
    assert not python.with_name("vmcore-dmesg").exists()
    (folder / "root/usr/lib/kernel/install.d").mkdir(parents=True)
    run([str(python.with_name("pykdump")), "install", "--root", str(folder / "root")], cwd=folder)
    hook = (folder / "root/etc/kernel/install.d/95-pykdump.install").read_text()
    assert f"{python} -I -m pykexec.kdump rehearse " in hook
    unit = (folder / "root/etc/systemd/system/pykdump.service").read_text()
    assert f"ExecStart={python} -I -m pykexec.kdump start" in unit
    first = "import pykexec.kdump.capture.image as image; print(image.Entry('/init', image.INIT).data()[:2])"
    assert "b'#!'" in run([str(python), "-c", first], cwd=folder)
    first = "from pykexec.kdump.rehearsal import firstsystem; print(firstsystem.INIT.read_bytes()[:2])"
    assert "b'#!'" in run([str(python), "-c", first], cwd=folder)
    more = "import os; from pykexec.kdump.capture import image; print(*os.listdir(image.MORE_OF_INIT))"
    there = {each.name for each in (PROJECT / "pykexec/kdump/capture/init.d").iterdir()}
    assert set(run([str(python), "-c", more], cwd=folder).split()) == there
    listed = run([str(python), "-m", "pykexec.integration", "list", "--static"], cwd=folder)
    assert "/usr/sbin/kexec" in listed
    helper = run([str(python), "-c", "import pykexec.integration.files as f; print(f.helper())"], cwd=folder)
    assert "small helper" in run([helper.strip(), "--version"])
    run([str(python), "-c", "import pykexec.arch.x86_64, pykexec.purgatory"], cwd=folder)
    top_level = subprocess.run(
        [str(python), "-c", "import arch"], cwd=folder, capture_output=True, check=False
    )
    assert b"ModuleNotFoundError" in top_level.stderr


def test_wheel_from_sdist(wheel: Path, tmp_path: Path) -> None:
    python = environment(tmp_path / "venv")
    run([*PIP, "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)])
    works(python, tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
        assert not [name for name in archive.namelist() if name.endswith((".c", ".S", ".h", ".lds"))]
    assert {top for top in tops if not top.endswith(".dist-info")} == {"pykexec"}


def test_distributions_have_what_the_wheel_has(unpacked: Path, wheel: Path, tmp_path: Path) -> None:
    """Setuptools and the packages for distributions take the same files."""
    run([sys.executable, "-m", "tools.packaging.stage", str(tmp_path)], cwd=unpacked)
    own = tmp_path / "usr/lib/pykexec"
    staged = {str(path.relative_to(own)): path.read_bytes() for path in own.rglob("*/*") if path.is_file()}
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if ".dist-info/" not in name]
        assert staged == {name: archive.read(name) for name in names}


@pytest.mark.parametrize("tool", ["build-purgatory", "build-exec-helper", "compile-layouts"])
def test_the_sdist_has_the_sources_of_what_is_prebuilt(tool: str, unpacked: Path) -> None:
    """A distribution builds all that it ships."""
    cache = unpacked / ".cache"
    if (PROJECT / ".cache").exists() and not cache.exists():
        cache.symlink_to(PROJECT / ".cache")  # with the compilers that were fetched
    run([sys.executable, f"tools/{tool}", "--check"], cwd=unpacked)


def test_the_sdist_has_its_tests(unpacked: Path) -> None:
    """And all else that the repository has, but that is a package of its own there (see pyproject.toml)."""
    run([sys.executable, "-m", "pytest", "-q", "tests/unit/test_memory.py"], cwd=unpacked)
    if not (PROJECT / ".git").exists():
        pytest.skip("only the repository knows all its files")
    listed = run(["git", "ls-files"], cwd=PROJECT).split()
    missing = [
        name for name in listed if not any((unpacked / each / name).is_file() for each in ("", "pykexec"))
    ]
    assert missing == [".gitignore", "pykexec/arch", "pykexec/purgatory"]


def test_editable(source: Path, tmp_path: Path) -> None:
    python = environment(tmp_path / "venv")
    options = ["--no-deps", "--no-index", "--no-build-isolation", "-e"]
    run([*PIP, "--python", str(python), "install", *options, str(source)])
    works(python, tmp_path)


def test_checkout() -> None:
    assert __version__ in run([sys.executable, "-m", "pykexec", "--version"], cwd=PROJECT)

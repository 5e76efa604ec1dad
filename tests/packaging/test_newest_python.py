"""The newest Python that Debian has plans what the one that runs these tests plans."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
import construct
import elftools
import fdt
import pytest

from tests.support.arm64_image import FakeImage
from tests.support.bzimage import FakeBzImage
from tests.support.machines import FOLDER
from tools.lab import X86_64
from tools.lab.debian import fetch

PROJECT = Path(__file__).parent.parent.parent
REQUIREMENTS = (click, construct, elftools, fdt)
LIBRARIES = ("libc6", "libbz2-1.0", "libexpat1", "libffi8", "liblzma5", "libssl3t64", "libzstd1", "zlib1g")
KERNELS = {"qemu-6.1-1g": FakeBzImage().build, "qemu-arm64-6.1-1g": FakeImage().build}


@pytest.fixture(scope="module")
def newest(tmp_path_factory: pytest.TempPathFactory) -> tuple[Sequence[str], Mapping[str, str]]:
    """The command of that interpreter, with a C library of its own, and the variables it takes."""
    (default,) = fetch("sid", X86_64.debian, ["python3-minimal"])
    name = (default / "usr/bin/python3").readlink().name
    packages = [f"{name}-minimal", f"lib{name}-minimal", f"lib{name}-stdlib", *LIBRARIES]
    program, minimal, standard, *libraries = fetch("sid", X86_64.debian, packages)
    site = tmp_path_factory.mktemp("site")
    for each in REQUIREMENTS:
        folder = Path(str(each.__file__)).parent
        (site / folder.name).symlink_to(folder)
    modules = [standard / "usr/lib" / name, standard / "usr/lib" / name / "lib-dynload", site, PROJECT]
    environment = {
        "PYTHONHOME": str(minimal / "usr"),
        "PYTHONPATH": ":".join(map(str, modules)),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    folders = ":".join(str(each / "usr/lib/x86_64-linux-gnu") for each in libraries)
    loader = libraries[0] / "usr/lib64/ld-linux-x86-64.so.2"
    command = [str(loader), "--library-path", folders, str(program / "usr/bin" / name)]
    return command, environment


def run(command: Sequence[str], arguments: Sequence[str], environment: Mapping[str, str]) -> str:
    done = subprocess.run(
        [*command, *arguments], cwd=PROJECT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("purpose", ["-l", "-p"])
@pytest.mark.parametrize("machine", KERNELS)
def test_the_plan_is_the_same(
    machine: str, purpose: str, newest: tuple[Sequence[str], Mapping[str, str]], tmp_path: Path
) -> None:
    kernel = tmp_path / "kernel"
    kernel.write_bytes(KERNELS[machine]())
    facts = str(FOLDER / f"{machine}.tar")
    arguments = ["-m", "pykexec", purpose, str(kernel), "--machine", facts, "--append", "quiet", "--json"]
    command, environment = newest
    assert run(command, arguments, environment) == run([sys.executable], arguments, os.environ)


def test_values_are_explained_alike(newest: tuple[Sequence[str], Mapping[str, str]]) -> None:
    """From annotations, which are evaluated in another way since Python 3.14."""
    command, environment = newest
    program = (
        "import inspect; from pykexec import LoadPlan, Range, Request;"
        " print(inspect.signature(Range), *(each.__doc__ for each in (LoadPlan, Range, Request)))"
    )
    told = run(command, ["-c", program], environment)
    assert told == run([sys.executable], ["-c", program], os.environ)
    assert "initrd: FileData | None = None" in told

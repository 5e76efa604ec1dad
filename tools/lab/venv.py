"""The virtual environments in the cache: made once, and again when the project's requirements change."""

import functools
import importlib.util
import re
import sys
import tomllib
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .debian import interpreter
from .host import CACHE, PROJECT, apt_install, build_once, digest, locked, run

_FOLDER = CACHE / "venv"
_LOWEST = CACHE / "venv-lowest"
_TO_TEST = ("hypothesis", "jsonschema", "pytest", "pytest-timeout", "pytest-xdist")


@functools.cache
def python() -> Path:
    """The environment's interpreter, with all that the project and its tests need. Raises LabError."""
    project = _project()
    return _environment(_FOLDER, [*project["dependencies"], *project["optional-dependencies"]["test"]])


@functools.cache
def lowest() -> Path:
    """An interpreter with the lowest versions that the project allows of what it needs. Raises LabError."""
    return _environment(_LOWEST, [*_lowest(_project()), *_for_tests(_project())], pip=python())


@functools.cache
def of_suite(suite: str, architecture: str) -> Path:
    """A Debian suite's interpreter, with what the project needs as in `lowest`. Raises LabError."""
    project = _project()
    program = interpreter(suite, architecture)
    version = next(program.parent.parent.glob("lib/python3.*")).name.removeprefix("python")
    needed, tools = _lowest(project, compression=False), _for_tests(project)

    def install(target: Path) -> None:
        _pip(python(), ["--target", str(target), *needed])  # which are Python alone
        foreign = ("--python-version", version, "--only-binary=:all:")
        _pip(python(), ["--target", str(target), *foreign, *tools])

    # In a folder of its own: an environment variable would not reach programs that are started with -I.
    packages = build_once(CACHE / f"packages-{suite}-{digest(version, *needed, *tools)}", install)
    link = program.parent.parent / "lib/python3/dist-packages"
    with locked(link):
        if not link.is_symlink() or link.readlink() != packages:
            link.unlink(missing_ok=True)
            link.symlink_to(packages)
    return program


def pip_install(requirements: Sequence[str], *options: str) -> None:
    """Run the environment's `pip install`. Raises LabError."""
    _pip(python(), [*options, *requirements])


def _project() -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    return project


def _lowest(project: dict[str, Any], *, compression: bool = True) -> list[str]:
    optional = project["optional-dependencies"]["compression"] if compression else []
    return [each.replace(">=", "==") for each in (*project["dependencies"], *optional)]


def _for_tests(project: dict[str, Any]) -> list[str]:
    return [each for each in project["optional-dependencies"]["test"] if _name(each) in _TO_TEST]


def _name(requirement: str) -> str:
    return re.split("[<>=]", requirement)[0]


def _environment(folder: Path, requirements: Sequence[str], *, pip: Path | None = None) -> Path:
    """`pip` is an interpreter that has it; without, the environment gets it, which takes its time."""
    stamp = folder / f"complete-{digest(sys.version, *requirements)}"
    interpreter = folder / "bin/python"
    with locked(folder):
        if not stamp.exists():
            if pip is None:
                _create(folder)
                _pip(interpreter, requirements)
            else:
                venv.create(folder, clear=True)
                _pip(pip, requirements, into=interpreter)
            stamp.touch()
    return interpreter


def _create(folder: Path) -> None:
    # pip comes last.
    if (folder / "bin/pip").exists():
        return
    if importlib.util.find_spec("ensurepip") is None:
        # Debian's own Python comes without it.
        apt_install(["python3-venv"])
    venv.create(folder, with_pip=True, clear=True)


def _pip(interpreter: Path, arguments: Sequence[str], *, into: Path | None = None) -> None:
    """Install with that interpreter's pip. What is imported is compiled then: most of it never is."""
    where = () if into is None else ("--python", str(into))
    pip = (interpreter, "-m", "pip", "--quiet", "--disable-pip-version-check", *where)
    run([*pip, "install", "--no-compile", *arguments], "installing Python packages", retries=2)

"""The virtual environment in the cache: made once, and again when the project's requirements change."""

import functools
import importlib.util
import sys
import tomllib
import venv
from collections.abc import Sequence
from pathlib import Path

from .host import CACHE, PROJECT, apt_install, digest, locked, run

_FOLDER = CACHE / "venv"
_PYTHON = _FOLDER / "bin/python"


@functools.cache
def python() -> Path:
    """The environment's interpreter, with all that the project and its tests need. Raises LabError."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    requirements: list[str] = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    stamp = _FOLDER / f"complete-{digest(sys.version, *requirements)}"
    with locked(_FOLDER):
        if not stamp.exists():
            _create()
            _pip(requirements)
            stamp.touch()
    return _PYTHON


def pip_install(requirements: Sequence[str], *options: str) -> None:
    """Run the environment's `pip install`. Raises LabError."""
    python()
    _pip([*options, *requirements])


def _create() -> None:
    # pip comes last.
    if (_FOLDER / "bin/pip").exists():
        return
    if importlib.util.find_spec("ensurepip") is None:
        # Debian's own Python comes without it.
        apt_install(["python3-venv"])
    venv.create(_FOLDER, with_pip=True, clear=True)


def _pip(arguments: Sequence[str]) -> None:
    pip = (_PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    run([*pip, *arguments], "installing Python packages", retries=2)

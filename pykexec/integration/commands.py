"""Commands that run this package, whoever calls them.

The caller's folder and its environment variables for Python change nothing (python(1), -I).
"""

from __future__ import annotations

import sys
from pathlib import Path

from pykexec import children
from pykexec.errors import PykexecError
from pykexec.integration.imports import PACKAGE

_FROM_FOLDER = "import sys; sys.path.insert(0, {folder!r}); "
_RUN = "from runpy import run_module; run_module({module!r}, run_name='__main__', alter_sys=True)"
_FIND = "import click, pykexec; print(ascii(pykexec.__path__[0]))"
_SECONDS = 60.0
OWN = "/usr/lib/pykexec"
"""The folder of the programs that run this package; of the package itself, where a distribution's has it."""


def command_of(module: str) -> tuple[str, ...]:
    """Return the words of a command that runs a module of this package as a program.

    Raises PykexecError where the package works only in this process's environment.
    """
    if _finds_itself(""):
        return (sys.executable, "-I", "-m", module)
    # A checkout, or a folder that the environment names.
    path = _FROM_FOLDER.format(folder=str(PACKAGE.parent))
    if not _finds_itself(path):
        raise PykexecError(
            f"{sys.executable} -I finds no click, which pykexec needs",
            hint="install it for all users of this Python, or pykexec into a virtual environment",
        )
    return (sys.executable, "-I", "-c", path + _RUN.format(module=module))


def is_packaged(root: Path) -> bool:
    """Return whether that system has this code from its distribution's package."""
    return root == Path("/") and PACKAGE.parent == Path(OWN)


def _finds_itself(path: str) -> bool:
    done = children.run([sys.executable, "-I", "-c", path + _FIND], seconds=_SECONDS)
    return done.stdout.decode().strip() == ascii(str(PACKAGE))

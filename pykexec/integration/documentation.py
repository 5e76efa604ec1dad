"""Manual pages and completions, in the folders where `man` and the shells look for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pykexec import manpages


@dataclass(frozen=True, slots=True)
class Folders:
    """The folders, as paths below a root."""

    man: str
    bash: str
    zsh: str
    fish: str


_SHARE = "usr/local/share"
LOCAL = Folders(
    man=f"{_SHARE}/man",
    bash=f"{_SHARE}/bash-completion/completions",
    zsh=f"{_SHARE}/zsh/site-functions",
    # Not below _SHARE, where fish looks only if XDG_DATA_DIRS says so.
    fish="etc/fish/completions",
)
"""The folders for what no package manager installed."""
# Bash and fish read the file with the command's name, zsh reads all files.
_COMPLETED = {
    "bash": ("{}", ("pykexec", "pykdump", "kexec")),
    "zsh": ("_{}", ("pykexec", "pykdump")),
    "fish": ("{}.fish", ("pykexec", "pykdump", "kexec")),
}


def places(folders: Folders = LOCAL) -> Mapping[str, tuple[str, str]]:
    """Return the paths below a root, each with what `text` makes its contents of.

    That is the kind ("man", or the shell), and the name of the page or program.
    """
    manual = {f"{folders.man}/{page.file}": ("man", page.name) for page in manpages.PAGES}
    scripts = {
        f"{getattr(folders, shell)}/{file.format(name)}": (shell, name)
        for shell, (file, names) in _COMPLETED.items()
        for name in names
    }
    return manual | scripts


def text(kind: str, name: str) -> str:
    """Return the manual page or completion script for one of these places."""
    if kind == "man":
        return manpages.find(name).text()
    from pykexec import manual
    from pykexec.kdump import completion

    return completion.SCRIPTS[kind] if name == "pykdump" else manual.completion(kind)

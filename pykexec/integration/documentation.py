"""Manual pages and completions, in the folders where `man` and the shells look for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass


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
"""Those for what no package manager installed."""


def _pykexec() -> str:
    from pykexec import manual

    return manual.page()


def _pykdump() -> str:
    from pykexec.kdump import manual
    from pykexec.kdump.cli import group

    return manual.page(group)


def _vmcore_dmesg() -> str:
    from pykexec.kdump import manual

    return manual.vmcore_dmesg_page()


_PAGES: Mapping[str, Callable[[], str]] = {
    "pykexec.8": _pykexec,
    "pykdump.8": _pykdump,
    "vmcore-dmesg.8": _vmcore_dmesg,
}
"""All manual pages. The suffix of a name is the section."""
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
    pages = {f"{folders.man}/man{name.rpartition('.')[2]}/{name}": ("man", name) for name in _PAGES}
    scripts = {
        f"{getattr(folders, shell)}/{file.format(name)}": (shell, name)
        for shell, (file, names) in _COMPLETED.items()
        for name in names
    }
    return pages | scripts


def text(kind: str, name: str) -> str:
    """Return the manual page or completion script for one of these places."""
    from pykexec import manual
    from pykexec.kdump import manual as kdump
    from pykexec.kdump.cli import group

    if kind == "man":
        return _PAGES[name]()
    return kdump.completion(group, kind) if name == "pykdump" else manual.completion(kind)

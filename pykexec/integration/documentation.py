"""Manual pages and completions, in the folders for what no package manager installed."""

from __future__ import annotations

from collections.abc import Mapping

from pykexec import manpages

_SHARE = "usr/local/share"
# Bash and fish read the file with the command's name, zsh reads all files.
_COMPLETIONS = {
    "bash": (f"{_SHARE}/bash-completion/completions/{{}}", ("pykexec", "pykdump", "kexec")),
    "zsh": (f"{_SHARE}/zsh/site-functions/_{{}}", ("pykexec", "pykdump")),
    # Not below _SHARE, where fish looks only if XDG_DATA_DIRS says so.
    "fish": ("etc/fish/completions/{}.fish", ("pykexec", "pykdump", "kexec")),
}


def places() -> Mapping[str, tuple[str, str]]:
    """Return the paths below a root, each with (shell, or "man"; name of the program)."""
    manual = {f"{_SHARE}/man/{page.file}": ("man", page.name) for page in manpages.PAGES}
    scripts = {
        place.format(name): (shell, name) for shell, (place, names) in _COMPLETIONS.items() for name in names
    }
    return manual | scripts


def text(kind: str, name: str) -> str:
    """Return the manual page or completion script for one of these places."""
    if kind == "man":
        return manpages.find(name).text()
    from pykexec import manual
    from pykexec.kdump import completion

    return completion.SCRIPTS[kind] if name == "pykdump" else manual.completion(kind)

"""Manual pages and completions, in the folders for what no package manager installed."""

from __future__ import annotations

from collections.abc import Mapping

_SHARE = "usr/local/share"
_PAGES = ("pykexec", "pykdump", "vmcore-dmesg")
# Bash and fish read the file with the command's name, zsh reads all files.
_COMPLETIONS = {
    "bash": (f"{_SHARE}/bash-completion/completions/{{}}", ("pykexec", "pykdump", "kexec")),
    "zsh": (f"{_SHARE}/zsh/site-functions/_{{}}", ("pykexec", "pykdump")),
    # Not below _SHARE, where fish looks only if XDG_DATA_DIRS says so.
    "fish": ("etc/fish/completions/{}.fish", ("pykexec", "pykdump", "kexec")),
}


def places() -> Mapping[str, tuple[str, str]]:
    """Return the paths below a root, each with (shell, or "man"; name of the program)."""
    pages = {f"{_SHARE}/man/man8/{name}.8": ("man", name) for name in _PAGES}
    scripts = {
        place.format(name): (shell, name) for shell, (place, names) in _COMPLETIONS.items() for name in names
    }
    return pages | scripts


def text(kind: str, name: str) -> str:
    """Return the manual page or completion script for one of these places."""
    from pykexec import manual
    from pykexec.kdump import completion
    from pykexec.kdump import manual as kdump
    from pykexec.kdump.cli import group

    if kind == "man":
        pages = {"pykexec": manual.page, "pykdump": lambda: kdump.page(group)}
        return pages.get(name, kdump.vmcore_dmesg_page)()
    return completion.SCRIPTS[kind] if name == "pykdump" else manual.completion(kind)

"""The text of ``pykexec --help``, made from the table of options."""

import click

from pykexec import KEXEC_TOOLS, __version__
from pykexec.arch import all_architectures
from pykexec.options import (
    ACTIONS,
    GENERAL,
    IGNORED,
    LOADING,
    OPTIONS,
    OURS,
    STARTING,
    SYSTEM_CALL,
    X86,
    Option,
)
from pykexec.terminal import WIDTH

_WIDTH_MAX = 100
"""A wider text is harder to read."""
_GROUPS = (ACTIONS, LOADING, SYSTEM_CALL, STARTING, GENERAL, OURS, X86, IGNORED)


_AT_THE_END = (
    "Long options may be abbreviated, except those that kexec-tools does not have.",
    "Exit status: 0 done; 1 wrong usage, or nothing reserved or loaded; 253 -s cannot; 255 failed.",
)


def text(columns: int = WIDTH) -> str:
    """Return the whole text, that wide. Its first line is kexec-tools', for scripts that look for it."""
    formatter = click.HelpFormatter(width=min(columns, _WIDTH_MAX))
    formatter.write(f"kexec-tools {KEXEC_TOOLS} (pykexec {__version__})\n")
    formatter.write_usage("pykexec", "[OPTIONS] [KERNEL]")
    formatter.write("\n")
    with formatter.indentation():
        formatter.write_text("Load a second Linux kernel, and start it now or when the running one panics.")
        formatter.write_text("Without -l, -p, -e, -f or -u: load KERNEL, shut down, and start it.")
    for group in _GROUPS:
        with formatter.section(group):
            formatter.write_dl([_row(option) for option in OPTIONS if option.group == group])
    with formatter.section("Types of kernel (-t)"):
        formatter.write_dl([(arch.name, ", ".join(arch.formats)) for arch in all_architectures()])
    formatter.write_paragraph()
    for paragraph in _AT_THE_END:
        formatter.write_text(paragraph)
    return formatter.getvalue()


def _row(option: Option) -> tuple[str, str]:
    names = ", ".join(option.names)
    return (names if option.metavar is None else f"{names} {option.metavar}"), option.help

"""``python -m pykexec.integration``: see `main`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from pykexec import streams
from pykexec.errors import PykexecError
from pykexec.integration import files
from pykexec.integration import install as installer
from pykexec.integration.steps import perform

_STATIC = click.option("--static", is_flag=True, help="The small static kexec, without Python.")
_ROOT = click.option(
    "--root",
    type=click.Path(path_type=Path, exists=True, file_okay=False, resolve_path=True),
    default="/",
    show_default=True,
    help="The system to change.",
)
_DRACUT = click.option("--dracut", is_flag=True, help="The module for dracut.")
_INITRAMFS_TOOLS = click.option("--initramfs-tools", is_flag=True, help="The hook for initramfs-tools.")
_ALTERNATIVES = click.option(
    "--alternatives",
    is_flag=True,
    help="The commands kexec and vmcore-dmesg, with update-alternatives; the C tools stay beside them.",
)
_DOCUMENTATION = click.option(
    "--documentation", is_flag=True, help="Manual pages, and completions for bash, zsh and fish."
)
_PROGRAM = click.option(
    "--program",
    type=click.Path(path_type=Path),
    help="The program to install as kexec, instead of this Python's pykexec.",
)
_PACKAGE = click.option(
    "--package",
    help="With --alternatives: the Debian package whose diversions the C tools get.",
)
_DRY_RUN = click.option("--dry-run", is_flag=True, help="Only say what would be done.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Put pykexec into an initramfs, and install what does that when one is made."""


@main.command("list")
@_STATIC
def list_files(static: bool) -> None:
    """List the files an initramfs needs for loads with pykexec, with their sizes in bytes."""
    entries = _entries(static)
    for entry in entries:
        if not entry.folder:
            what = f"{len(entry.data):10}" if entry.link is None else f"{'link':>10}"
            print(f"{what} {entry.path}")
    print(files.summary(entries))


@main.command()
@_STATIC
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
def copy(static: bool, folder: Path) -> None:
    """Copy these files below FOLDER, from which an initramfs is made."""
    entries = _entries(static)
    files.copy(entries, folder)
    print(f"pykexec: {files.summary(entries)}")


@main.command()
@_ROOT
@_DRACUT
@_INITRAMFS_TOOLS
@_ALTERNATIVES
@_DOCUMENTATION
@_STATIC
@_PROGRAM
@_PACKAGE
@_DRY_RUN
def install(
    root: Path,
    dracut: bool,
    initramfs_tools: bool,
    alternatives: bool,
    documentation: bool,
    static: bool,
    program: Path | None,
    package: str | None,
    dry_run: bool,
) -> None:
    """Hook pykexec into a system. Without options for what: into the initramfs generators that are there."""
    wanted = installer.Wanted(
        root, dracut, initramfs_tools, alternatives, documentation, static, program, package
    ).found()
    steps = installer.installation(wanted)
    try:
        perform(steps, dry_run=dry_run)
    except PykexecError:
        if not dry_run:
            _recover(wanted)
        raise
    for line in installer.advice(wanted):
        print(f"next: {line}")


@main.command()
@_ROOT
@_DRACUT
@_INITRAMFS_TOOLS
@_ALTERNATIVES
@_DOCUMENTATION
@_PROGRAM
@_PACKAGE
@_DRY_RUN
def remove(
    root: Path,
    dracut: bool,
    initramfs_tools: bool,
    alternatives: bool,
    documentation: bool,
    program: Path | None,
    package: str | None,
    dry_run: bool,
) -> None:
    """Undo what install did. Without options for what: all of it."""
    wanted = installer.Wanted(
        root, dracut, initramfs_tools, alternatives, documentation, program=program, package=package
    ).installed()
    steps = installer.removal(wanted)
    perform(steps, dry_run=dry_run)
    if not steps:
        print(f"nothing of that is installed below {root}")


def _recover(wanted: installer.Wanted) -> None:
    try:
        perform(installer.recovery(wanted))
    except PykexecError as error:  # reported besides the error that came first
        streams.complain("pykexec", error.what, error.hint)


def _entries(static: bool) -> Sequence[files.Entry]:
    return files.static() if static else files.python()


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, and return the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    return streams.click_exit_code("python -m pykexec.integration", main, given, prefix="pykexec")


if __name__ == "__main__":
    sys.exit(run())

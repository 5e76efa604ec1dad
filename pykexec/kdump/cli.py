"""The command ``pykdump``, with its groups: service, reading dumps, diagnosis, sizing."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

import click

from pykexec import __version__, manpages, streams

_NAME = "pykdump"
_FAILED = 1  # as kdumpctl's, whatever status the same error has in pykexec

_MODULES = {
    "pykexec.kdump.setup.cli": ("setup",),
    "pykexec.kdump.service.cli": (
        "start", "stop", "restart", "reload", "status", "test", "mkinitrd", "install", "remove",
    ),
    "pykexec.kdump.rehearsal.cli": ("rehearse",),
    "pykexec.vmcore.cli": ("dmesg", "info"),
    "pykexec.kdump.doctor.cli": ("doctor", "snapshot"),
    "pykexec.kdump.reservation.sizing_cli": ("estimate", "crashkernel", "resize"),
}  # fmt: skip
"""The modules with the commands; each has its own in `COMMANDS`."""


class _Commands(click.Group):
    """A group that imports only the module of the command that is asked for."""

    def list_commands(self, context: click.Context) -> list[str]:
        """Return the names in the order in which people meet the commands."""
        del context
        return [name for names in _MODULES.values() for name in names]

    def get_command(self, context: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of that name; None where there is none."""
        del context
        for module, names in _MODULES.items():
            if cmd_name in names:
                commands: Sequence[click.Command] = import_module(module).COMMANDS
                return next(each for each in commands if each.name == cmd_name)
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the arguments begin with. Raises UsageError, which names a similar one."""
        names = self.list_commands(ctx)
        if args[0] not in names and not ctx.resilient_parsing:
            from difflib import get_close_matches

            for near in get_close_matches(args[0], names, n=1):
                ctx.fail(f"No such command {args[0]!r}. Did you mean {near!r}?")
        return super().resolve_command(ctx, args)


def _print_page(context: click.Context, _: click.Parameter, name: str | None) -> None:
    if name is not None and not context.resilient_parsing:
        print(manpages.find(name).text(), end="")
        context.exit()


def _print_completion(context: click.Context, _: click.Parameter, shell: str | None) -> None:
    if shell is not None and not context.resilient_parsing:
        from pykexec.kdump import completion

        print(completion.SCRIPTS[shell], end="")
        context.exit()


@click.group(
    cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, "-v", "--version", message="pykdump %(version)s")
@click.option(
    "--man",
    type=click.Choice([page.name for page in manpages.PAGES]),
    metavar="[PAGE]",
    is_flag=False,
    flag_value="pykdump",
    is_eager=True,
    expose_value=False,
    callback=_print_page,
    help="Print this manual page, or another one: pykdump --man pykdump.conf | man -l -",
)
@click.option(
    "--completion",
    type=click.Choice(("bash", "zsh", "fish")),
    is_eager=True,
    expose_value=False,
    callback=_print_completion,
    help="Print what completes commands and options in bash, zsh or fish.",
)
def group() -> None:
    """Crash dumps: how much memory they take, whether there will be one, and what is in it."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run as the script ``pykdump``, and exit."""
    sys.exit(exit_code(sys.argv[1:] if argv is None else argv))


def exit_code(argv: Sequence[str]) -> int:
    """Run, and return the exit status. Every expected failure becomes one or two lines and a status."""
    return streams.click_exit_code(_NAME, group, argv, failed=_FAILED)

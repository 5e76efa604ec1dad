"""Where a plan is shown: standard output, standard error, and a picture's file."""

from __future__ import annotations

import sys

from pykexec import report, streams, terminal
from pykexec.errors import UsageError
from pykexec.plan import LoadPlan
from pykexec.purpose import Purpose
from pykexec.report.surroundings import Surroundings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pykexec.machine import Machine
    from pykexec.options import Options
    from pykexec.plan import FileLoadPlan
    from pykexec.report.picture import Picture


def show(plan: FileLoadPlan | LoadPlan, machine: Machine, options: Options) -> bool:
    """Show the plan in each way that was asked for; return whether that told its warnings, too.

    Raises UsageError for a picture of a plan that leaves all to the kernel, FileError where its file cannot
    be written.
    """
    draws = options.map or options.svg is not None
    picture = _picture(plan, machine, options) if draws else None
    asked = options.dry_run or (options.machine is not None and not draws)
    as_text = (asked or options.debug) and not options.json
    if options.json:
        print(report.as_json(plan), end="")
    elif as_text:
        stream = sys.stdout if asked else sys.stderr
        around = Surroundings.of(machine) if _has_reservation(plan) else None
        print(report.as_text(plan, around, terminal.width(stream)), end="", file=stream)
    if picture is not None and options.map:
        _print_map(picture, after_text=asked)
    if picture is not None and options.svg is not None:
        _write_svg(picture, options.svg)
        if not options.json:
            print(f"{options.svg}: a picture of {picture.title}")
    return as_text


def _has_reservation(plan: FileLoadPlan | LoadPlan) -> bool:
    return isinstance(plan, LoadPlan) and plan.purpose is Purpose.CRASH


def _picture(plan: FileLoadPlan | LoadPlan, machine: Machine, options: Options) -> Picture:
    if not isinstance(plan, LoadPlan):
        option = "--map" if options.map else "--svg"
        raise UsageError(
            f"{option}: with kexec_file_load the kernel decides where things go",
            hint="draw the plan for kexec_load: use -c, or leave -s out",
        )
    from pykexec.report import picture

    return picture.of(plan, Surroundings.of(machine))


def _print_map(picture: Picture, *, after_text: bool) -> None:
    from pykexec.report import map as maps

    stream = sys.stdout
    if stream is None:  # it is closed
        return
    style = maps.style(stream.encoding or "ascii", colour=terminal.shows_colour(stream))
    text = maps.as_map(picture, terminal.width(stream), style)
    # Its colours would be escaped; texts of others in it are printable.
    print("\n" * after_text + text, end="", file=streams.unfiltered(stream))


def _write_svg(picture: Picture, path: str) -> None:
    from pykexec import writing
    from pykexec.report import svg

    with writing.new_file(path, mode=0o644, durable=False, make_folders=False) as file:
        file.write(svg.as_svg(picture).encode())

"""pykexec-plan(5): the layout of a plan's file, from its declaration."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pykexec import roff
from pykexec.planfile import declared, identity

_DATE = "2026-11-30"
"""The day of the last change of the texts here."""

_DESCRIPTION = (
    "pykexec --output writes a plan for the machine of a snapshot (--machine) as a file that needs nothing"
    " else: not the kernel, not the host that made it. On that machine pykexec --load-plan loads it with"
    " kexec_load(2), or the small static kexec does, where there is no Python.",
    "The file is for its owner alone, as the initial ramdisk in it may hold secrets. It has no fresh random"
    " numbers for the next kernel.",
)
_LAYOUT = (
    "The file is a header, then facts, then segments, then what the segments hold, each from a new page on."
    " Numbers are unsigned, have 64 bits and the byte order of the machine that the plan is for; the version"
    " tells which that is. Texts end with a zero byte and are filled up with those.",
)
_IDENTITY = (
    "A plan is loaded if the machine is still the one of the snapshot. Compared are what uname -m and"
    " uname -r print, the page size, the last region that is reserved for a crash kernel, and the facts:"
    " digests of files. Of /proc/iomem the lines about memory count, and of the device tree all but /chosen."
    " The boot itself is not compared: a plan for a boot serves at each boot in which these are the same.",
    "Facts of each plan are about these files, as far as machines of its architecture have them:",
)
_FOR_CRASHES = "Those of a plan for a panic are also about:"
_REFUSED = (
    "A file whose end is missing, that has another digest, or numbers that make no sense, is refused, and so"
    " is one with a fact that the program does not know. What was loaded before stays. A file with another"
    " version is refused, too: plans are made anew, not converted.",
)
_EXAMPLES = (
    (
        "Load a kernel on a machine that has no Python:",
        (
            "kexec --snapshot > target.tar   # there",
            "pykexec -l Image --initrd=initrd.img \\",
            "    --machine=target.tar --output=plan.kexec",
            "kexec --load-plan plan.kexec    # there",
        ),
    ),
)


def page() -> str:
    """Return the page, in roff."""
    lines = [
        roff.title("pykexec-plan", _DATE, section=5),
        *roff.section("Name", "pykexec\\-plan \\- a load of a kernel as a file"),
        *roff.section("Synopsis", *roff.lines(["pykexec --output=FILE", "pykexec --load-plan=FILE"])),
        *roff.section("Description", *roff.paragraphs(_DESCRIPTION)),
        *roff.section("Layout", *roff.paragraphs(_LAYOUT)),
        *_structure("Header", declared.HEADER),
        *_structure("Fact", declared.FACT),
        *_structure("Segment", declared.SEGMENT),
        *roff.section("Identity", *roff.paragraphs(_IDENTITY), *roff.listed(_paths(identity.ALWAYS))),
        *roff.paragraphs(["", _FOR_CRASHES]),
        *roff.listed(_paths(identity.FOR_CRASHES)),
        *roff.section("Errors", *roff.paragraphs(_REFUSED)),
        *roff.section("Examples", *roff.examples(_EXAMPLES)),
        *roff.section("See also", *roff.references("kexec_load(2)", "pykexec(8)")),
    ]
    return "\n".join(lines) + "\n"


def _paths(patterns: tuple[str, ...]) -> list[str]:
    return [f"/{pattern}" for pattern in patterns]


def _structure(name: str, layout: Any) -> Iterator[str]:
    yield from roff.subsection(f"{name}, {layout.sizeof()} bytes")
    offset, told = 0, []
    for field in layout.subcons:
        told.append((field.name, f"{field.docs} (offset {offset}, {field.sizeof()} bytes)"))
        offset += field.sizeof()
    yield from roff.definitions(told)

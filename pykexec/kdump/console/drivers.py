"""Find the drivers that may be the cause, in the console's log of a capture kernel that crashed or hangs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pykexec.kdump.console import signs as signs
from pykexec.kdump.console.lines import Line

_MODULE = re.compile(signs.MODULE)
_PLACE = re.compile(signs.PLACE)
_TROUBLES = tuple(re.compile(pattern) for pattern in signs.DRIVERS)
_ABOUT = re.compile(signs.ABOUT)

_TRACE_MAX = 200
"""The most lines of a kernel's report of an error: registers, modules, stack."""
_SHOWN_MAX = 4


@dataclass(frozen=True, slots=True)
class Trace:
    """The place that a kernel's report of an error names."""

    lines: tuple[Line, ...] = ()
    module: str = ""
    """The module; empty where the kernel itself was running, or nothing is known."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """A line about a driver, or its device, in trouble."""

    line: Line
    module: str = ""
    """The driver's module; empty where the line does not name it."""
    device: str = ""

    @property
    def name(self) -> str:
        """The module, or else the device, or nothing."""
        return self.module or self.device


def traced(lines: Sequence[Line], report: Line) -> Trace:
    """Return the instruction and the module that an error's report names; `report` is its first line."""
    begin = lines.index(report)
    report_lines = lines[begin : begin + _TRACE_MAX]
    place = next((line for line in report_lines if _PLACE.search(line.text)), None)
    named = [line for line in (place, *report_lines) if line is not None and _MODULE.search(line.text)]
    shown = tuple(line for line in (place, *named[:1]) if line is not None)
    return Trace(shown, _module(named[0]) if named else "")


def _module(line: Line) -> str:
    match = _MODULE.search(line.text)
    return "" if match is None else match["driver"]


def in_trouble(lines: Sequence[Line]) -> tuple[Trouble, ...]:
    """Return the first lines about trouble with a driver, one for each driver or device."""
    found: dict[str, Trouble] = {}
    for index, line in enumerate(lines):
        trouble = _trouble(line, lines, index)
        if trouble is not None:
            found.setdefault(trouble.name, trouble)
    return tuple(found.values())[:_SHOWN_MAX]


def _trouble(line: Line, lines: Sequence[Line], index: int) -> Trouble | None:
    for pattern in _TROUBLES:
        match = pattern.search(line.text)
        if match is None:
            continue
        groups = {name: text or "" for name, text in match.groupdict().items()}
        module, device = groups.get("driver", ""), groups.get("device", "")
        if not module and device:
            module = _driver_of(device, lines)
        elif not module:
            module = traced(lines[index:], line).module
        return Trouble(line, module, device)
    return None


def _driver_of(device: str, lines: Iterable[Line]) -> str:
    """Return the driver that says something about a PCI device; "" where none does."""
    address = re.compile(
        rf"(?:^|[\s\]])(?!pci |pcieport )([a-z][\w-]*) (?:[0-9a-f]{{4,8}}:)?{re.escape(device)}\b"
    )
    matches = (address.search(line.text) for line in lines)
    return next((match[1] for match in matches if match is not None), "")


def last_word(line: Line) -> tuple[Trouble, ...]:
    """Return the driver of the last line; none where it is not a driver's."""
    match = _ABOUT.search(line.text)
    return () if match is None else (Trouble(line, match["driver"]),)


def listed(troubles: Iterable[Trouble]) -> str:
    """Return the names of drivers and devices, for people."""
    return ", ".join(trouble.name for trouble in troubles if trouble.name)


def keep_out(modules: Sequence[str]) -> str:
    """Return how to keep modules out of the capture kernel; `signs` takes only plain names."""
    return (
        f"where the dump does not need {' or '.join(modules)}, keep it out: append"
        f" modprobe.blacklist={','.join(modules)} (KDUMP_COMMANDLINE_APPEND, KDUMP_CMDLINE_APPEND), or"
        f' dracut_args --omit-drivers "{" ".join(modules)}"'
    )


def remedy(troubles: Sequence[Trouble], *, resets_devices: bool) -> str:
    """Return what to do about drivers that hang."""
    modules = list(dict.fromkeys(trouble.module for trouble in troubles if trouble.module))
    devices = [trouble.device for trouble in troubles if trouble.device]
    advice = [
        "" if resets_devices else "add reset_devices",
        keep_out(modules)
        if modules
        else f"leave the driver of {devices[0] if devices else 'the last device'} out of the initramfs",
        "give it a chance with newer firmware, pcie_ports=compat or iommu=off",
    ]
    return "; ".join(each for each in advice if each)

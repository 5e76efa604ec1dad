"""What a crash costs with pykdump's capture image, and with Debian's kdump-tools on the same machine."""

import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from .. import distro, progress
from ..distro import Job
from ..host import LabError
from ..qemu import PANIC
from .guests import PANICKED
from .measure import MIB
from .table import Reference, Row

_CONFIGURED = """
{shrink}
{prepare}
begin=$(cut -d . -f 1 /proc/uptime)
{start}
echo $(($(cut -d . -f 1 /proc/uptime) - begin)) > seconds
stat -L -c %s {image} > image
cat /sys/kernel/kexec_crash_loaded > loaded
sync
"""
_SHRINK = "echo {size} > /sys/kernel/kexec_crash_size"
_TIMEOUT = 600
_ENOUGH, _STEP = 256 * MIB, 8 * MIB


_CONFIGURE_OURS = """
rm /etc/default/kdump-tools
printf '%s\\n' 'path /var/crash' 'core_collector makedumpfile -l -d 31' > /etc/kdump.conf
"""
# With its own kexec.
_CONFIGURE_THEIRS = """
sed -i '/^USE_KDUMP=\\|^MAKEDUMP_ARGS=/d' /etc/default/kdump-tools
printf '%s\\n' USE_KDUMP=1 'MAKEDUMP_ARGS="-l -d 31"' >> /etc/default/kdump-tools
python3 -m pykexec.integration remove
kdump-config unload
rm -f /var/lib/kdump/initrd*
"""


@dataclass(frozen=True, slots=True)
class _Tool:
    """One of the two."""

    prepare: str
    start: str
    """Makes the image and loads it."""
    image: str
    masked: tuple[str, ...] = ()
    """Units that do not start. The capture kernel's command line has the same words."""


_TOOLS: Mapping[str, _Tool] = {
    "pykdump": _Tool(
        _CONFIGURE_OURS, "pykdump start", "/var/lib/pykdump/initrd-*.img", ("kdump-tools.service",)
    ),
    "kdump-tools": _Tool(_CONFIGURE_THEIRS, "kdump-config load", "/var/lib/kdump/initrd.img"),
}
_SAVED = "The dumpfile is saved to "
"""makedumpfile says so."""
_COPIED = "copying all of memory"
"""Whoever says so had not enough memory for makedumpfile."""

_PANICKED = "panic"
_STAGES = {
    _PANICKED: PANICKED,
    "capture kernel": re.compile(rb"Linux version "),
    "its first process": re.compile(rb"Run /init as init process"),
    "reset": re.compile(rb"reboot: (Restarting system|machine restart)"),
}


@dataclass(frozen=True, slots=True)
class _Crash:
    """What one crash showed."""

    stages: Mapping[str, float]
    """Seconds from the panic on."""
    start: float
    image: int


class Stages:
    """When the console first showed a stage behind the one before."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0
        self._times: dict[str, float] = {}

    def look(self) -> None:
        """Note what is new."""
        if len(self._times) == len(_STAGES) or not self._path.exists():
            return
        name, pattern = list(_STAGES.items())[len(self._times)]
        with self._path.open("rb") as file:
            file.seek(self._position)
            found = pattern.search(file.read())
        if found:
            self._position += found.end()
            self._times[name] = time.monotonic()
            self.look()

    def since_panic(self) -> Mapping[str, float]:
        """Seconds from the panic to each stage. Raises LabError where one was not seen."""
        if len(self._times) < len(_STAGES):
            missing = list(_STAGES)[len(self._times)]
            raise LabError(f"the console does not show this stage of a crash: {missing}")
        return {
            name: seen - self._times[_PANICKED] for name, seen in self._times.items() if name != _PANICKED
        }


def _crash(tool: _Tool, shrink: str = "") -> _Crash | None:
    """Crash a machine; None where no dump came of it. Raises LabError where it did not come that far."""
    script = _CONFIGURED.format(shrink=shrink, start=tool.start, image=tool.image, prepare=tool.prepare)
    with tempfile.TemporaryDirectory(prefix="pykexec-bench-") as name:
        folder = Path(name)
        stages = Stages(folder / "console.log")
        jobs = {"first": Job(script, PANIC)}
        try:
            result = distro.boot(jobs, folder, masked=tool.masked, timeout=_TIMEOUT, look=stages.look)
        except LabError:
            if not shrink:
                raise
            return None
        first, console = result.stage("first"), result.console
        if _SAVED not in console or _COPIED in console:
            return None
        return _Crash(stages.since_panic(), float(first.read("seconds")), int(first.read("image")))


def crash(case: str, runs: int) -> Iterator[Row]:
    """From a panic to the reset, stage by stage; the image, and how long it takes to make and to load it."""
    found: dict[str, list[_Crash]] = {name: [] for name in _TOOLS}
    for number in range(runs):
        for name, tool in _TOOLS.items():
            with progress.step(f"Crashing a machine with {name} {number + 1}/{runs}"):
                done = _crash(tool)
            if done is None:
                raise LabError(f"no dump came of a crash with {name}")
            found[name].append(done)

    def row(what: str, unit: str, of: Callable[[_Crash], float], limit: float) -> Row:
        ours, theirs = (statistics.median(map(of, found[name])) for name in _TOOLS)
        return Row.against(case, what, unit, ours, Reference("kdump-tools", theirs), limit)

    for stage in found["pykdump"][0].stages:
        limit = 0.25 if stage == "reset" else 1.0
        yield row(f"panic to {stage}", "s", _seconds_to(stage), limit)
    yield row("start from nothing", "s", lambda each: each.start, 0.25)
    yield row("capture image", "B", lambda each: each.image, 0.5)


def _seconds_to(stage: str) -> Callable[[_Crash], float]:
    return lambda done: done.stages[stage]


def reservation(case: str, runs: int) -> Iterator[Row]:
    """The smallest reservation that a dump comes of, in steps of 8 MiB."""
    ours, theirs = (_smallest(name, tool) for name, tool in _TOOLS.items())
    yield Row.against(case, "smallest crashkernel=", "B", ours, Reference("kdump-tools", theirs), 0.7)


def _smallest(name: str, tool: _Tool) -> int:
    low, high = 0, _ENOUGH
    while high - low > _STEP:
        size = (low + high) // 2 // _STEP * _STEP
        with progress.step(f"Crashing a machine with {name} and {size // MIB}M"):
            works = _crash(tool, _SHRINK.format(size=size)) is not None
        low, high = (low, size) if works else (size, high)
    return high

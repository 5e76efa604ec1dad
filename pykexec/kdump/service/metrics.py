"""The service's state as metrics, for a textfile collector that Prometheus reads.

The text is valid in both of Prometheus' forms: node_exporter's collector reads the older one, in which the
line "# EOF" of OpenMetrics is a comment. So all metrics are gauges, and none has a timestamp, which the
collector refuses. What is not known has no sample: no value stands for it.

Sources: https://prometheus.io/docs/instrumenting/exposition_formats/ ("Text-based format"), and
https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pykexec import __version__, names
from pykexec.errors import MachineError, printable
from pykexec.kdump.service.state import State
from pykexec.machine import Machine


@dataclass(frozen=True, slots=True)
class Gauge:
    """A metric and its one sample."""

    name: str
    help: str
    value: float | None
    """None: not known."""
    labels: Mapping[str, str] = field(default_factory=dict)


def of_state(state: State, machine: Machine) -> Sequence[Gauge]:
    """Return the metrics of a state; sizes are in bytes, times in seconds since 1970."""
    told = state.is_rehearsed is not None
    return (
        Gauge("pykdump_info", "The machine, and what is loaded.", 1, _labels(state, machine)),
        Gauge("pykdump_armed", "Whether a panic now starts a capture kernel.", int(state.is_armed)),
        Gauge("pykdump_proven", "Whether a test has proven what is loaded.", _flag(state.is_proven)),
        Gauge(
            "pykdump_rehearsed",
            "Whether a rehearsal has shown that what is loaded leaves a dump.",
            _flag(state.is_rehearsed),
        ),
        Gauge(
            "pykdump_failing_new_kernels",
            "Newer kernels that are installed, and left no dump in a rehearsal.",
            sum(each.shows_none for each in state.rehearsals.newer) if told else None,
        ),
        Gauge("pykdump_reserved_bytes", "Memory that is reserved for the capture kernel.", state.reserved),
        Gauge("pykdump_expected_dump_size_bytes", "The size of a dump, roughly.", state.size),
        Gauge("pykdump_target_free_bytes", "What is free where dumps go.", state.free),
        *_dumps(state),
    )


def _dumps(state: State) -> Iterator[Gauge]:
    known = state.dumps_are_known
    newest = max(state.dumps, key=lambda dump: dump.time or 0, default=None)
    incomplete = sum(not dump.is_whole for dump in state.dumps)
    yield Gauge("pykdump_dumps", "Dumps that are there.", len(state.dumps) if known else None)
    yield Gauge("pykdump_incomplete_dumps", "Those that are not whole.", incomplete if known else None)
    yield Gauge(
        "pykdump_last_dump_timestamp_seconds",
        "When the last dump was written.",
        None if newest is None else newest.time,
    )
    yield Gauge("pykdump_last_dump_size_bytes", "Its size.", None if newest is None else newest.size)


def _labels(state: State, machine: Machine) -> dict[str, str]:
    loaded = state.receipt
    return {
        "version": __version__,
        "release": machine.kernel_release,
        "architecture": _architecture(machine),
        "kernel": "" if loaded is None else loaded.kernel,
        "target": "" if loaded is None else loaded.target,
    }


def _architecture(machine: Machine) -> str:
    try:
        return names.name_of_uname(machine.uname_machine)
    except MachineError:
        return ""


def _flag(value: bool | None) -> int | None:
    return None if value is None else int(value)


def as_text(gauges: Sequence[Gauge]) -> str:
    """Return the text: each metric that is known, with its help and its type."""
    return "\n".join(line for gauge in gauges for line in _lines(gauge)) + "\n# EOF\n"


def _lines(gauge: Gauge) -> Iterator[str]:
    if gauge.value is None:
        return
    labels = ",".join(f'{name}="{_escaped(value)}"' for name, value in gauge.labels.items())
    yield f"# HELP {gauge.name} {gauge.help}"
    yield f"# TYPE {gauge.name} gauge"
    # repr() of a float is exact, and in a form that both formats have.
    yield f"{gauge.name}{f'{{{labels}}}' if labels else ''} {gauge.value!r}"


def _escaped(value: str) -> str:
    r"""Return a label's value as it stands between quotes: only \ and " need an escape in printable text."""
    return printable(value).replace("\\", "\\\\").replace('"', '\\"')

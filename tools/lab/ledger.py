"""What the time went to: a line for each machine, test and step, written to a file as they end.

The file is named by the environment, which the processes of a test run share; without it nothing is written.
"""

import json
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

_VARIABLE = "PYKEXEC_LAB_LEDGER"
_LONGEST = 12

Line = Mapping[str, Any]


def open_for_this_run(path: Path) -> None:
    """Have this process, and those that it starts from now on, write to that file, which must exist."""
    os.environ[_VARIABLE] = os.fspath(path)


def note(kind: str, **values: Any) -> None:
    """Add a line, with the running test's name if there is one."""
    path = os.environ.get(_VARIABLE)
    if path is not None:
        test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" (")[0]
        with Path(path).open("a") as file:  # a single write: processes do not mix their lines
            file.write(json.dumps({"kind": kind, "test": test, **values}) + "\n")


def machine(start: str) -> Callable[[float], None]:
    """What notes the CPU seconds of a machine that has ended; `start` is how it was started."""
    return lambda cpu: note("machine", start=start, cpu=cpu)


def lines() -> list[Line]:
    """All lines of this run so far."""
    path = os.environ.get(_VARIABLE)
    return [] if path is None else [json.loads(line) for line in Path(path).read_text().splitlines()]


def report(lines: Iterable[Line]) -> Iterator[str]:
    """What the lines say, for people: the steps, the longest tests, and what each folder of tests took."""
    kinds = defaultdict(list)
    for line in lines:
        kinds[line["kind"]].append(line)
    yield from (_row(step["seconds"], step["title"]) for step in kinds["step"] if step["seconds"] >= 1)
    tests, machines = kinds["test"], kinds["machine"]
    if tests:
        yield "The longest tests:"
    longest = sorted(tests, key=lambda line: -line["seconds"])[:_LONGEST]
    yield from (_row(line["seconds"], line["test"]) for line in longest)
    if tests:
        yield "CPU seconds of tests, and of their emulators:"
    yield from _places(tests, machines)
    started = Counter(line["start"] for line in machines)
    if started:
        yield "Machines: " + ", ".join(f"{number} {start}" for start, number in sorted(started.items()))
    for line in kinds["remembered"]:
        yield f"Not run, as they passed before with the same contents: {line['count']} cases in machines"
    if kinds["refused"]:
        yield f"Saved machines that QEMU refused, so that others booted: {len(kinds['refused'])}"


def _places(tests: Iterable[Line], machines: Iterable[Line]) -> Iterator[str]:
    everything, emulators, boots = Counter[str](), Counter[str](), Counter[str]()
    for line in tests:
        everything[_place(line["test"])] += line["cpu"]
    for line in machines:
        emulators[_place(line["test"])] += line["cpu"]
        boots[_place(line["test"])] += 1
    for place, cpu in everything.most_common():
        text = _row(cpu - emulators[place], place)
        yield f"{text} and {emulators[place]:.1f} s in {boots[place]} machines" if boots[place] else text


def _row(seconds: float, what: str) -> str:
    return f"{seconds:8.1f} s  {what}"


def _place(test: str) -> str:
    """The file of a test in a machine, the folder of another one."""
    file = test.partition("::")[0]
    return file if file.startswith("tests/vm/") else file.rpartition("/")[0]

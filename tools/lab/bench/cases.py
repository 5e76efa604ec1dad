"""What is measured, and the targets."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ..arches.arm64 import ARCH as ARM64
from ..arches.x86_64 import ARCH as X86_64
from ..kernels import Kernel
from . import guests, instructions, kdump, machines
from .measure import MIB, bare_python, compressed_file, kexec, measure, pykexec
from .table import Reference, Row

_APPEND = "root=/dev/vda1 ro console=ttyS0,115200 quiet"


@dataclass(frozen=True, slots=True)
class Case:
    """A name, what gives its rows, and how often it is run unless --runs says otherwise."""

    name: str
    rows: Callable[[str, int], Iterator[Row]]
    runs: int

    def run(self, runs: int | None) -> list[Row]:
        """Measure. Raises LabError."""
        return [*self.rows(self.name, runs or self.runs)]


def _load(megabytes: int, limit: float) -> Callable[[str, int], Iterator[Row]]:
    """A load for a reboot, up to the system call; memory is a process's own, not the files' pages."""

    def rows(case: str, runs: int) -> Iterator[Row]:
        kernel, initrd = Kernel.get("6.1", X86_64).image, compressed_file(megabytes * MIB)
        arguments = ("-c", "-l", kernel, f"--initrd={initrd}", f"--append={_APPEND}")
        commands = [
            pykexec(*arguments, loads=initrd.stat().st_size),
            kexec(*arguments, loads=initrd.stat().st_size),
        ]
        ours, theirs = measure(f"Loading {megabytes} MiB", commands, runs, memory=True).values()
        what = f"`-l`, initrd of {megabytes} MiB"
        yield Row.against_kexec(case, what, "s", ours.median, theirs.median, limit)
        yield Row.against_kexec(case, f"{what}: memory", "B", ours.anonymous, theirs.anonymous, 0.3)

    return rows


def _command(option: str, status: int = 0) -> Callable[[str, int], Iterator[Row]]:
    """A command that has next to nothing to do, so that starting the interpreter is what it takes."""

    def rows(case: str, runs: int) -> Iterator[Row]:
        commands = [bare_python(), pykexec(option), kexec(option, statuses=(status,))]
        bare, ours, theirs = measure(f"Running {option}", commands, runs).values()
        python = Reference("python", bare.median)
        yield Row(case, f"`{option}`", "s", ours.median, 3.0, theirs.median, python)

    return rows


def _plan_memory(case: str, runs: int) -> Iterator[Row]:
    kernel, initrd = Kernel.get("6.1", X86_64).image, compressed_file(MIB)
    snapshot = machines.large()
    command = pykexec(
        "--machine", snapshot, "-p", kernel, f"--initrd={initrd}", "--append=quiet", "--dry-run"
    )
    (ours,) = measure("Planning for a large machine", [command], runs).values()
    what = f"plan, {machines.LINES:,} lines in iomem, {machines.CPUS} CPUs"
    yield Row(case, what, "s", ours.median, 1.0)


def _plan_tree(case: str, runs: int) -> Iterator[Row]:
    kernel = Kernel.get("6.1", ARM64).image
    snapshot = machines.with_large_tree()
    command = pykexec("--machine", snapshot, "-l", kernel, "--append=quiet", "--dry-run")
    (ours,) = measure("Changing a large device tree", [command], runs).values()
    yield Row(case, "plan, device tree of 1 MiB", "s", ours.median, 0.3)


CASES = (
    Case("load-30", _load(30, 0.40), 11),
    Case("load-100", _load(100, 0.25), 7),
    Case("load-512", _load(512, 0.10), 5),
    Case("version", _command("--version"), 21),
    Case("status", _command("-S"), 21),
    # reboot(2) does not come back, but here.
    Case("execute", _command("-e", status=255), 21),
    Case("unload", _command("-u"), 21),
    Case("plan-memory", _plan_memory, 5),
    Case("plan-tree", _plan_tree, 5),
    Case("guest-load", guests.crash_load, 5),
    Case("panic-x86_64", guests.panic(X86_64), 3),
    Case("panic-arm64", guests.panic(ARM64), 3),
    Case("purgatory", instructions.rows, 1),
)
KDUMP_CASES = (
    Case("kdump-crash", kdump.crash, 3),
    Case("kdump-reservation", kdump.reservation, 1),
)
"""What is compared with Debian's kdump-tools; they take long."""

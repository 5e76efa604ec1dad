"""What is measured in emulated machines: loading there, and the way from a panic into the capture kernel."""

import json
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from .. import demo, progress
from ..arches import Arch
from ..arches.x86_64 import ARCH as X86_64
from ..host import LabError
from ..kernels import Kernel
from ..machine import Guest, Machine
from ..qemu import PANIC, Running, run
from .measure import MIB, compressed_file
from .table import Row

_LOADERS = ("pykexec", "kexec")
_BOTH_CPUS = Machine(parallel=True, extra=("-cpu", "qemu64"))
"""pykexec hashes on all CPUs. QEMU's default model: OpenSSL takes AVX2 where a CPU has it, and QEMU 7.2
emulates that at half the speed of code without."""

_CAPTURE = (
    "root=/dev/vda1 ro console=ttyS0,115200 reset_devices systemd.unit=kdump-tools-dump.service nr_cpus=1"
)
# kdump-config load of kdump-tools, but for the -c.
_LOAD = """
import json, os, subprocess, time

def load(loader):
    started = time.perf_counter()
    options = ["--command-line={append}", "--initrd=/boot/capture.img"]
    subprocess.run([loader, "-c", "-p", *options, os.environ["KERNEL"]], check=True)
    return time.perf_counter() - started

loaders = {loaders}
seconds = {{loader: [] for loader in loaders}}
for number in range({runs} + 1):
    for loader in loaders if number % 2 else loaders[::-1]:
        taken = load(loader)
        if number:
            seconds[loader].append(taken)
with open(os.environ["OUT"] + "/seconds.json", "w") as file:
    json.dump(seconds, file)
"""

_INITRD_PADDING = 32 * MIB
_PANIC_LOAD = """
set -e
{loader} -c -p "$KERNEL" --initrd="$SECOND_IMAGE" --append="console={console} {early} panic=-1 nr_cpus=1"
"""
PANICKED = re.compile(rb"Kernel panic - not syncing: sysrq triggered crash")
CAPTURE_RUNS = re.compile(rb"early console in extract_kernel|Booting Linux on|Linux version ")
_TIMEOUT = 300


def crash_load(case: str, runs: int) -> Iterator[Row]:
    """A crash load as a distribution's service does it."""
    kernel, initrd = demo.prepare(X86_64, "6.1"), compressed_file(30 * MIB)
    script = _LOAD.format(append=_CAPTURE, loaders=_LOADERS, runs=runs)
    files = {"/boot/capture.img": initrd.read_bytes(), "/lab/load.py": script.encode()}
    guest = Guest(kernel, job="exec python3 /lab/load.py", files=files)
    with (
        tempfile.TemporaryDirectory(prefix="pykexec-bench-") as folder,
        progress.step("Loading a capture kernel in a guest"),
    ):
        stage = run(_BOTH_CPUS, guest, Path(folder), timeout=_TIMEOUT).stage("first")
        seconds = json.loads(stage.read("seconds.json"))
    ours, theirs = (statistics.median(seconds[loader]) for loader in _LOADERS)
    yield Row.against_kexec(case, "`-p` in a QEMU guest, initrd of 30 MiB", "s", ours, theirs, 1.0)


def panic(arch: Arch) -> Callable[[str, int], Iterator[Row]]:
    """From the panic to the first thing that the capture kernel writes: mostly purgatory's work."""

    def rows(case: str, runs: int) -> Iterator[Row]:
        kernel = demo.prepare(arch, "6.1")
        seconds: dict[str, list[float]] = {loader: [] for loader in _LOADERS}
        for number in range(runs):
            for loader in _LOADERS if number % 2 else _LOADERS[::-1]:
                title = f"From panic to capture kernel, {arch.name}, {loader} {number + 1}/{runs}"
                with progress.step(title):
                    seconds[loader].append(_panic(arch, kernel, loader))
        ours, theirs = (statistics.median(seconds[loader]) for loader in _LOADERS)
        what = f"panic to capture kernel in a {arch.name} QEMU guest"
        yield Row.against_kexec(case, what, "s", ours, theirs, 0.8)

    return rows


def _panic(arch: Arch, kernel: Kernel, loader: str) -> float:
    """Seconds between two pieces of text on the console, as this machine's clock has them."""
    emulation = arch.emulation
    job = _PANIC_LOAD.format(loader=loader, console=emulation.console, early=emulation.early_console)
    padding = {"/padding": compressed_file(_INITRD_PADDING).read_bytes()}
    # It waits, so that the clock does not start late.
    guest = Guest(kernel, job, f'read -r _ < "$GO"; {PANIC}', second_files=padding)
    with tempfile.TemporaryDirectory(prefix="pykexec-bench-") as name:
        folder = Path(name, "machine")
        with Running(Machine(arch), guest, folder, _TIMEOUT) as running:
            running.wait_for("first")
            console = Console(folder / "console.log")
            running.go()
            panicked = console.wait_for(PANICKED)
            return console.wait_for(CAPTURE_RUNS) - panicked


class Console:
    """The text of a serial console as it grows."""

    _INTERVAL = 0.002

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0
        self._deadline = time.monotonic() + _TIMEOUT

    def wait_for(self, pattern: re.Pattern[bytes]) -> float:
        """When the text behind what was found before first matched. Raises LabError after some minutes."""
        while True:
            now = time.monotonic()
            with self._path.open("rb") as file:
                file.seek(self._position)
                found = pattern.search(file.read())
            if found:
                self._position += found.end()
                return now
            if now > self._deadline:
                raise LabError(f"{pattern.pattern.decode()!r} did not appear on the console: {self._path}")
            time.sleep(self._INTERVAL)

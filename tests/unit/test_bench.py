"""tools/bench: the sandbox keeps calls from the kernel, machines are sound, the table tells the truth."""

import io
import json
import os
import signal
import struct
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import fdt
import pytest
from elftools.elf.elffile import ELFFile

from tools.lab import LabError
from tools.lab.bench import cases, command, guests, kdump, machines, sandbox, table
from tools.lab.bench.table import Reference, Row

_ROOT = Path(__file__).parents[2]
_IN_SANDBOX = """
import ctypes, json, os, sys
from tools.lab.bench import sandbox
from tools.lab.bench.sandbox import Command
listener = sandbox.install_filter()
libc = ctypes.CDLL(None, use_errno=True)
"""
_MEBIBYTE = 1 << 20
_TIMES = "\N{MULTIPLICATION SIGN}"


def in_sandbox(program: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a process with the filter; `listener` is its descriptor."""
    return subprocess.run(
        [sys.executable, "-c", _IN_SANDBOX + program],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def observed(program: str, *arguments: str, loads: int | None = None, statuses: Sequence[int] = (0,)) -> str:
    """What the sandbox says of a Python program that it runs: [seconds, anonymous, loaded], or its error."""
    argv = [sys.executable, "-c", program, *arguments]
    done = in_sandbox(f"""
try:
    seen = sandbox.run(Command("it", {argv!r}, {{}}, {statuses!r}, {loads!r}), listener, watch=True)
    print(json.dumps([seen.seconds, seen.anonymous, seen.loaded]))
except sandbox.LabError as error:
    print(error)
""")
    assert done.returncode == 0, done.stderr
    return done.stdout


# The numbers: arch/x86/entry/syscalls/syscall_64.tbl. Without a filter these arguments are errors.
def test_calls_that_would_load_or_reboot_do_nothing() -> None:
    found = observed(
        "import ctypes; libc = ctypes.CDLL(None);"
        "assert [libc.syscall(number, -1, -1, -1, -1, -1) for number in (246, 320, 169)] == [0, 0, 0];"
        "assert libc.getpid() > 1"
    )
    assert json.loads(found)[2] == 0


def test_a_sandbox_that_does_not_hold_is_noticed() -> None:
    ready, _ = os.pipe()
    with pytest.raises(LabError, match="does not hold"):
        sandbox.verify(ready)


@pytest.mark.parametrize(
    "code",
    [
        # mov $20 (getpid of i386), %eax; int $0x80; ret
        pytest.param("b814000000cd80c3", id="i386"),
        # mov $0x40000027 (getpid of x32), %eax; syscall; ret
        pytest.param("b8270000400f05c3", id="x32"),
    ],
)
def test_other_tables_of_system_calls_are_closed(code: str) -> None:
    done = in_sandbox(f"""
import mmap
memory = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
memory.write(bytes.fromhex("{code}"))
ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(memory)))()
""")
    assert done.returncode == -signal.SIGSYS


_LOADER = """
import ctypes, struct, sys
data = bytearray(int(sys.argv[1]))
data[::4096] = b"x" * len(data[::4096])
base = ctypes.addressof(ctypes.c_char.from_buffer(data))
# struct kexec_segment: two of them
table = ctypes.create_string_buffer(struct.pack("8Q", base, 4096, 0, 4096, base, 9, 8192, 1 << 30))
if ctypes.CDLL(None).syscall(246, ctypes.c_ulong(0), ctypes.c_ulong(2), table, ctypes.c_ulong(0)):
    sys.exit(1)
"""


def test_what_a_loader_takes_and_loads_is_seen() -> None:
    small, large = (json.loads(observed(_LOADER, str(size * _MEBIBYTE), loads=1)) for size in (1, 33))
    assert 31 * _MEBIBYTE < large[1] - small[1] < 33 * _MEBIBYTE
    assert large[2] == (1 << 30) + 4096
    assert 0 < large[0] < 60


def test_memory_that_is_free_again_when_the_call_comes_counts() -> None:
    program = "x = b'x' * (64 << 20); import time; time.sleep(0.1); del x\n"
    assert json.loads(observed(program + _LOADER, "4096"))[1] > 60 * _MEBIBYTE


@pytest.mark.slow
def test_a_loader_that_loads_too_little_or_fails_is_no_result() -> None:
    assert "would have loaded 1073745920 bytes" in observed(_LOADER, "4096", loads=2 << 30)
    assert "would have loaded None bytes" in observed("pass", loads=1)
    assert "status 3" in observed("print('because'); raise SystemExit(3)")
    assert "because" in observed("print('because'); raise SystemExit(3)")
    assert json.loads(observed("raise SystemExit(3)", statuses=[3]))[2] is None


def test_jobs_survive_the_way_to_the_sandbox() -> None:
    job = sandbox.Job([sandbox.Command("a", ["/bin/true", "é"], {"B": "c"}, [0, 255], 7)], 3, memory=True)
    assert sandbox.Job.from_json(job.as_json()) == job


def row(pykexec: float, limit: float, kexec: float | None = 2.0, unit: str = "s") -> Row:
    return Row("case", "`-l`", unit, pykexec, limit, kexec, Reference("C", kexec) if kexec else None)


@pytest.mark.parametrize(
    ("each", "met"),
    [
        (row(1.0, 0.5), True),
        (row(1.001, 0.5), False),  # though it is shown as 0.50
        (row(0.3, 0.3, None), True),
        (row(0.31, 0.3, None), False),
    ],
)
def test_a_target_is_met_or_missed_before_rounding(each: Row, met: bool) -> None:
    assert each.met is met
    assert ("missed" in table.as_text([each])) is not met
    assert json.loads(table.as_json([each]))[0]["met"] is met


def test_the_table_says_the_same_in_all_forms() -> None:
    rows = [row(0.0123, 0.4, 0.1), row(8.8e6, 0.3, 45.9e6, "B"), row(0.25, 1.0, None)]
    text, markdown = table.as_text(rows).splitlines(), table.as_markdown(rows).splitlines()
    assert text[1].split() == ["-l", "12.3", "ms", "100", "ms", "0.12", _TIMES, "C", "≤", "0.40"]
    assert markdown[2] == f"| `-l` | 12.3 ms | 100 ms | 0.12 {_TIMES} C | ≤ 0.40 |"
    assert "8.80 MB" in text[2]
    assert "45.9 MB" in markdown[3]
    assert text[3].split() == ["-l", "250", "ms", "≤", "1.00", "s"]
    assert len({line.count("|") for line in markdown}) == 1
    parsed = json.loads(table.as_json(rows))
    assert [each["pykexec"] for each in parsed] == [0.0123, 8.8e6, 0.25]
    assert parsed[0]["ratio"] == pytest.approx(0.123)


def test_a_table_beside_another_program() -> None:
    rows = [Row.against("case", "image", "B", 2.3e6, Reference("kdump-tools", 6.4e6), 0.5)]
    heading, line = table.as_text(rows).splitlines()
    assert heading.split() == ["case", "pykexec", "kdump-tools", "ratio", "target"]
    assert line.split() == ["image", "2.30", "MB", "6.40", "MB", "0.36", _TIMES, "kdump-tools", "≤", "0.50"]


def test_stages_of_a_crash(tmp_path: Path) -> None:
    """Those of the kernel before the panic do not count; and a crash that ends early has no time."""
    console = tmp_path / "console.log"
    stages = kdump.Stages(console)
    stages.look()
    boot = "Linux version 6.1\nRun /init as init process\n"
    console.write_text(f"{boot}Kernel panic - not syncing: sysrq triggered crash\n{boot}")
    stages.look()
    with pytest.raises(LabError, match="stage of a crash: reset"):
        stages.since_panic()
    with console.open("a") as file:
        file.write("reboot: Restarting system\n")
    stages.look()
    first, *others = stages.since_panic().values()
    assert 0 <= first <= others[0] <= others[1]


@pytest.mark.parametrize(
    ("value", "shown"), [(0.9999, "1000 ms"), (1.0, "1.00 s"), (99.96, "100 s"), (9.996, "10.0 s")]
)
def test_quantities_have_three_digits(value: float, shown: str) -> None:
    assert table.quantity(value, "s") == shown


def case(name: str, *rows: Row, error: str | None = None) -> cases.Case:
    def measured(case: str, runs: int) -> Sequence[Row]:
        if error:
            raise LabError(error)
        return rows

    return cases.Case(name, lambda case, runs: iter(measured(case, runs)), 1)


@pytest.mark.parametrize(
    ("chosen", "status", "said"),
    [
        ([case("good", row(1, 1))], 0, ""),
        ([case("case", row(3, 1)), case("good", row(1, 1))], 1, "targets missed: case"),
        ([case("bad", error="no machine"), case("good", row(1, 1))], 1, "bad: no machine"),
    ],
)
def test_exit_status(
    chosen: list[cases.Case],
    status: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(command, "CASES", chosen)
    assert command.main([]) == status
    printed = capsys.readouterr()
    assert said in printed.err
    assert ("1.00 s" in printed.out) is any(each.name == "good" for each in chosen)


@pytest.mark.parametrize("arguments", [["--only", "nonsense"], ["--runs", "0"], ["--json", "--markdown"]])
def test_wrong_arguments(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        command.main(arguments)
    assert exit_.value.code == 2
    assert "usage" in capsys.readouterr().err


@pytest.mark.further
def test_device_tree_is_one_of_a_mebibyte() -> None:
    blob = machines.device_tree()
    assert len(blob) == _MEBIBYTE
    struct_size = struct.unpack_from(">I", blob, 36)[0]
    assert struct_size > 0.95 * _MEBIBYTE
    tree = fdt.parse_dtb(blob)
    devices = tree.get_node("/soc").nodes
    assert len({device.name for device in devices}) == len(devices) > 4000
    last = devices[-1]
    assert list(last.get_property("reg").data)[1] == int(last.name.partition("@")[2], 16)
    assert tree.get_property("method", "/psci").value == "hvc"


@pytest.mark.further
def test_large_machine_is_as_large_as_it_says() -> None:
    with tarfile.open(machines.large()) as tar:
        files = {member.name: member for member in tar}

        def content(name: str) -> bytes:
            file = tar.extractfile(files[name])
            assert file is not None
            return file.read()

        lines = content("proc/iomem").decode().splitlines()
        kcore = ELFFile(io.BytesIO(content("proc/kcore")))
    assert len(lines) == 100_000
    assert sum("crash_notes_size" in name for name in files) == 8192
    mapped = {(each["p_paddr"], each["p_memsz"]) for each in kcore.iter_segments("PT_LOAD")}
    added = [line for line in lines if line.endswith(": System RAM") and len(line) > 34]
    ranges = [tuple(int(part, 16) for part in line.partition(" : ")[0].split("-")) for line in added]
    assert len(ranges) > 20_000
    assert {(start, last + 1 - start) for start, last in ranges} <= mapped
    (notes,) = kcore.iter_segments("PT_NOTE")
    assert b"VMCOREINFO" in notes.data()


def test_the_time_of_a_text_on_the_console(tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    log.write_bytes(b"Linux version 1\r\n")
    started = time.monotonic()

    def write() -> None:
        with log.open("ab") as file:
            for text in (
                b"Kernel panic - not",
                b" syncing: sysrq triggered crash\r\n",
                b"Linux version 2\r\n",
            ):
                time.sleep(0.1)
                file.write(text)
                file.flush()

    writer = threading.Thread(target=write)
    writer.start()
    console = guests.Console(log)
    panicked = console.wait_for(guests.PANICKED)
    assert panicked - started >= 0.2
    assert console.wait_for(guests.CAPTURE_RUNS) - panicked >= 0.05
    writer.join()

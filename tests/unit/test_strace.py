"""What strace writes is read whole when threads come between."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import strace

_TRACE = """\
101 execve("/usr/bin/kexec", ["kexec"], 0x7ffd /* 10 vars */) = 0
101 kexec_load(0x3fff, 2, [{buf="(= 0"}], KEXEC_ARCH_X86_64 <unfinished ...>
102 +++ exited with 0 +++
103 close(3 <unfinished ...>
101 <... kexec_load resumed>)             = 0
103 <... close resumed>)                  = -1 EBADF (Bad file descriptor)
101 --- SIGCHLD {si_signo=SIGCHLD} ---
101 exit_group(0)                           = ?
101 +++ exited with 0 +++
"""


def test_calls_that_are_told_in_two_lines() -> None:
    assert strace.calls(_TRACE) == [
        'execve("/usr/bin/kexec", ["kexec"], 0x7ffd /* 10 vars */) = 0',
        'kexec_load(0x3fff, 2, [{buf="(= 0"}], KEXEC_ARCH_X86_64) = 0',
        "close(3) = -1 EBADF (Bad file descriptor)",
        "exit_group(0) = ?",
    ]


_SLEEPERS = """
import threading, time
threads = [threading.Thread(target=time.sleep, args=(0.2 + number / 10,)) for number in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


@pytest.mark.programs
def test_calls_of_threads(tmp_path: Path) -> None:
    """All of them begin before the first one ends."""
    trace = tmp_path / "trace"
    strace_it = ["strace", "-f", "-qq", "-e", "trace=clock_nanosleep", "-o", str(trace)]
    subprocess.run([*strace_it, sys.executable, "-c", _SLEEPERS], check=True)
    assert "resumed>" in trace.read_text()
    found = strace.calls(trace.read_text())
    assert len(found) == 4
    assert all(call.startswith("clock_nanosleep(") and call.endswith(" = 0") for call in found)

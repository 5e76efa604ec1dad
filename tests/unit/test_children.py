"""Programs that are run to their end, or to their time's."""

import os
import signal
import sys
import threading
import time

import pytest

from pykexec import children
from pykexec.children import ChildError


def test_status_and_output() -> None:
    script = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"
    done = children.run([sys.executable, "-c", script], seconds=60)
    assert (done.returncode, done.stdout, done.stderr) == (3, b"out\n", b"err\n")


def test_a_program_that_is_not_there_is_named() -> None:
    with pytest.raises(ChildError, match="cannot run /no/such: No such file"):
        children.run(["/no/such"], seconds=1)


def test_what_it_has_started_ends_with_it() -> None:
    script = "import os,time; print(os.getpid() if os.fork() else os.getpid(), flush=True); time.sleep(300)"
    read, write = os.pipe()
    with os.fdopen(read) as pids:
        command = [
            sys.executable,
            "-c",
            script.replace("print(", f"os.write({write}, b'%d\\n' % (").replace(", flush=True)", "))"),
        ]
        with pytest.raises(ChildError, match="did not end within 2 seconds") as caught:
            children.run(command, seconds=2, pass_fds=[write])
        os.close(write)
        started = [int(line) for line in pids]  # to the end: nobody holds the other side any more
    assert len(started) == 2
    assert caught.value.hint


def test_an_interrupt_ends_it() -> None:
    # What is started in the background of a script ignores it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    read, write = os.pipe()
    with os.fdopen(read) as end:
        timer = threading.Timer(1, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        begun = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            children.run(
                [sys.executable, "-c", "import time; time.sleep(300)"], seconds=300, pass_fds=[write]
            )
        os.close(write)
        assert end.read() == ""
        assert time.monotonic() - begun < 100
        timer.join()
    signal.signal(signal.SIGINT, before)


def test_it_has_no_terminal_to_ask_on() -> None:
    script = "open('/dev/tty')"
    done = children.run([sys.executable, "-c", script], seconds=60)
    assert done.returncode == 1
    assert b"No such device or address" in done.stderr

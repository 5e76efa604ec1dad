"""Other programs, run to their end and not longer than they may."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress

from pykexec.errors import PykexecError

_SHOWN_MAX = 200
_LAST_WAIT = 2.0


class ChildError(PykexecError):
    """A program could not be started, or did not end in time."""


def run(
    command: Sequence[str],
    *,
    seconds: float,
    stdin: int = subprocess.DEVNULL,
    pass_fds: Sequence[int] = (),
) -> subprocess.CompletedProcess[bytes]:
    """Run a program and return its exit status and what it wrote; nothing of it is left after `seconds`.

    `command` is not for a shell. A status other than 0 is no error here. Raises ChildError.
    """
    program = command[0]
    try:
        child = subprocess.Popen(
            command,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=pass_fds,
            # A session of its own: what it starts can be killed with it, and it has no terminal to ask on.
            start_new_session=True,
        )
    except OSError as error:
        raise ChildError(f"cannot run {program}: {error.strerror}") from error
    try:
        out, err = child.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        _kill(child)
        raise ChildError(
            f"{shlex.join(command)[:_SHOWN_MAX]} did not end within {seconds:g} seconds",
            hint=f"try it by hand: {program} may wait for a disk, a server, or a lock",
        ) from None
    except BaseException:  # for instance Ctrl-C, which only our own group gets
        _kill(child)
        raise
    return subprocess.CompletedProcess(command, child.returncode, out, err)


def _kill(child: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    for stream in (child.stdout, child.stderr):
        if stream is not None:
            stream.close()
    # A process that waits for a disk that is gone (state D) ends only when the kernel lets it.
    with suppress(subprocess.TimeoutExpired):
        child.wait(_LAST_WAIT)

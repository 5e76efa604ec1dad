"""What a command does with its streams, and what becomes of its failures: one or two lines and a number."""

from __future__ import annotations

import _thread
import errno
import os
import sys

from pykexec.errors import PykexecError, UsageError, printable, printable_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import TextIO

    import click

_SIGBUS = 7  # include/uapi/asm-generic/signal.h, and x86's; importing the name takes longer
_INTERRUPTED = 128 + 2  # as a shell tells a SIGINT
_OF_THE_OUTPUT = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)


class PrintableStream:
    """A text stream that lets nothing pass which a terminal would act on, whoever the text comes from.

    A write that fails does not stop what is being done: the rest goes nowhere, and `failure` keeps why.
    What is no text, or has made itself safe, asks for `unfiltered`.
    """

    def __init__(self, beneath: TextIO) -> None:
        self.beneath = beneath
        self.buffer = _PrintableBytes(self)
        self.failure: OSError | None = None

    def write(self, text: str) -> int:
        """Write the text; what is unprintable in it as Python escapes it."""
        try:
            self.beneath.write(printable_text(text))
        except OSError as error:
            self._give_up(error)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each of them."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Hand on what is buffered."""
        try:
            self.beneath.flush()
        except OSError as error:
            self._give_up(error)

    def fileno(self) -> int:
        """Return the descriptor's number."""
        return self.beneath.fileno()

    def isatty(self) -> bool:
        """Return whether it is a terminal."""
        return self.beneath.isatty()

    @property
    def encoding(self) -> str:
        """How text becomes bytes."""
        return self.beneath.encoding

    @property
    def errors(self) -> str | None:
        """What becomes of text that has no bytes there."""
        return self.beneath.errors

    def _give_up(self, error: OSError) -> None:
        self.failure = self.failure or error
        abandon(self.beneath)


class _PrintableBytes:
    """Where click writes text that it has made bytes of."""

    closed = False

    def __init__(self, text: PrintableStream) -> None:
        self._text = text

    def write(self, data: bytes) -> int:
        self._text.write(bytes(data).decode("utf-8", "surrogateescape"))
        return len(data)

    def flush(self) -> None:
        self._text.flush()

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False


def unfiltered(stream: TextIO) -> TextIO:
    """Return the stream itself, for what is no text, or has nothing of others in it."""
    return stream.beneath if isinstance(stream, PrintableStream) else stream


def complain(program: str, what: str, hint: str | None = None) -> None:
    """Write to standard error, if it is there: what is done does not depend on who listens."""
    lines = [f"{program}: {printable(what)}"]
    if hint:
        lines.append(f"{' ' * len(program)}  {printable(hint)}")
    try:
        if sys.stderr is not None:  # print() would take standard output instead
            print("\n".join(lines), file=sys.stderr, flush=True)
    except OSError:
        abandon(sys.stderr)


def exit_code(program: str, work: Callable[[], int], failed: int | None = None) -> int:
    """Do the work of that program and return the exit status, `work`'s or that of an expected failure.

    `failed` is the status of every failure; without it each error has its own, as the C ``kexec``'s do.
    All that is printed meanwhile is printable (see `PrintableStream`).
    """
    before = sys.stdout, sys.stderr
    output, sys.stderr = _printable_stream(sys.stdout), _printable_stream(sys.stderr)
    sys.stdout = output
    try:
        return _with_output(program, output, _status(program, work, failed), failed)
    finally:
        sys.stdout, sys.stderr = before


def _printable_stream(stream: TextIO) -> TextIO:
    if stream is None or isinstance(stream, PrintableStream):
        return stream
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:  # there may be letters that its encoding does not have
        reconfigure(errors="backslashreplace")
    return PrintableStream(stream)  # type: ignore[return-value] # all of TextIO that is used


def _status(program: str, work: Callable[[], int], failed: int | None) -> int:
    try:
        return work()
    except PykexecError as error:
        complain(program, error.what, error.hint)
        return failed or error.exit_code
    except KeyboardInterrupt:
        return _INTERRUPTED
    except MemoryError:
        complain(program, "there is not enough memory for this")
        return failed or PykexecError.exit_code
    except BrokenPipeError:  # whoever read the output has seen enough
        abandon(sys.stdout)
        return 1
    except OSError as error:
        is_output = error.filename is None and error.errno in _OF_THE_OUTPUT
        place = "cannot write the output" if is_output else error.filename or "unexpected error"
        if is_output:
            abandon(sys.stdout)
        complain(program, f"{place}: {error.strerror}")
        return failed or PykexecError.exit_code


def _with_output(program: str, output: TextIO, status: int, failed: int | None) -> int:
    """Flush the output, and return the status of the work and of that."""
    if not isinstance(output, PrintableStream):
        return status
    output.flush()
    if output.failure is None:
        return status
    if isinstance(output.failure, BrokenPipeError):
        return status or 1
    complain(program, f"cannot write the output: {output.failure.strerror}")
    return failed or PykexecError.exit_code


def click_exit_code(
    program: str,
    group: click.Group,
    arguments: Sequence[str],
    *,
    prefix: str = "",
    failed: int | None = None,
) -> int:
    """The same for a group of click's, whose commands return their status; wrong usage is one line, too.

    `prefix` is what messages begin with, if not the program's name.
    """
    import click

    def work() -> int:
        try:
            status = int(group.main(list(arguments), prog_name=program, standalone_mode=False) or 0)
            return status if arguments else UsageError.exit_code  # click before 8.2 has printed the help
        except click.ClickException as error:
            if not arguments:  # since then the help is an error's message
                print(error.format_message())
                return UsageError.exit_code
            what = " ".join(error.format_message().split())
            asked = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else program
            raise UsageError(what, hint=f"see {asked} --help") from error
        except click.Abort:
            raise KeyboardInterrupt from None
        except SystemExit as end:  # what click answers to EPIPE, and to a shell that asks for completions
            return end.code if isinstance(end.code, int) else 0

    with CutFiles(prefix or program, failed):
        return exit_code(prefix or program, work, failed)


class CutFiles:
    """While this is in force, a mapped file that somebody cuts ends the process with a word.

    The kernel's word for it, SIGBUS, comes in the middle of whatever reads the file: a handler of Python's
    own would wait for that to go on, which it never does.
    """

    def __init__(self, program: str, status: int | None = None) -> None:
        self._status = status or PykexecError.exit_code
        self._text = f"{program}: a file was cut while it was being read\n".encode()
        self._told = _thread.allocate_lock()

    def __enter__(self) -> None:
        import ctypes

        self._handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(self._tell)
        self._signal = ctypes.CDLL(None).signal
        self._signal.restype = ctypes.c_void_p
        self._before = self._signal(_SIGBUS, self._handler)

    def __exit__(self, *_: object) -> None:
        import ctypes

        self._signal(_SIGBUS, ctypes.c_void_p(self._before))

    def _tell(self, _: int) -> None:
        self._told.acquire()  # never released: of threads that read at the same time, the first one tells
        os.write(2, self._text)
        os._exit(self._status)


def abandon(stream: TextIO | None) -> None:
    """The interpreter flushes its streams at the end: what cannot be written must not fail once more."""
    try:
        if stream is not None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except OSError:
        pass  # no descriptor left, or no /dev: who wrote is not told of that

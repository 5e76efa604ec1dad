"""How a command ends: printable output, one or two lines for a failure, and an exit code."""

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
_INTERRUPTED = 128 + 2  # the exit code that shells give for SIGINT
_OF_THE_OUTPUT = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)


class PrintableStream:
    """A text stream that escapes everything a terminal would act on, whoever the text comes from.

    A write that fails does not stop the command: the rest of the output is dropped, and `failure` keeps the
    error. Output that is no text, or that is already safe, goes to `unfiltered`.
    """

    def __init__(self, beneath: TextIO) -> None:
        self.beneath = beneath
        self.buffer = _PrintableBytes(self)
        self.failure: OSError | None = None

    def write(self, text: str) -> int:
        """Write the text; unprintable characters are escaped as in Python."""
        try:
            self.beneath.write(printable_text(text))
        except OSError as error:
            self._give_up(error)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each of the lines."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Write out what is buffered."""
        try:
            self.beneath.flush()
        except OSError as error:
            self._give_up(error)

    def fileno(self) -> int:
        """Return the number of the descriptor."""
        return self.beneath.fileno()

    def isatty(self) -> bool:
        """Return whether it is a terminal."""
        return self.beneath.isatty()

    @property
    def encoding(self) -> str:
        """The encoding of the stream."""
        return self.beneath.encoding

    @property
    def errors(self) -> str | None:
        """The handling of characters that the encoding does not have."""
        return self.beneath.errors

    def _give_up(self, error: OSError) -> None:
        self.failure = self.failure or error
        abandon(self.beneath)


class _PrintableBytes:
    """The binary side of the stream: click writes encoded text here."""

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
    """Return the stream itself, for output that is no text, or has no text of others in it."""
    return stream.beneath if isinstance(stream, PrintableStream) else stream


def complain(program: str, what: str, hint: str | None = None) -> None:
    """Write a message to standard error, if there is one. Failures are ignored: the work goes on."""
    indent = " " * (len(program) + 2)
    lines = [f"{program}: {printable(what)}"]
    if hint:
        lines.append(indent + printable(hint))
    try:
        if sys.stderr is not None:  # print() would take standard output instead
            print("\n".join(fitting(lines, sys.stderr, indent)), file=sys.stderr, flush=True)
    except OSError:
        abandon(sys.stderr)


def can_ask() -> bool:
    """Return whether there is somebody to ask: standard input, which may be closed (None), is a terminal."""
    return sys.stdin is not None and sys.stdin.isatty()


def fitting(lines: Sequence[str], stream: TextIO, indent: str) -> list[str]:
    """Return lines as a terminal shows them: folded, with `indent` before what follows of each.

    Elsewhere they stay as they are: who reads a log looks for lines.
    """
    if not stream.isatty():
        return list(lines)
    from pykexec import terminal

    columns = terminal.width(stream)
    return [part for line in lines for part in terminal.folded(line, columns, indent=indent)]


def exit_code(program: str, work: Callable[[], int], failed: int | None = None) -> int:
    """Do a program's work and return the exit code: `work`'s, or that of an expected failure.

    `failed` is the code of every failure; without it each error has its own, as in the C ``kexec``. All
    output meanwhile is printable (see `PrintableStream`).
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
    if reconfigure is not None:  # the text may have letters that its encoding lacks
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
    """Flush the output; return the code of the work, or of a failed output."""
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
    """Do the same for a click group, whose commands return their exit code; wrong usage is one line, too.

    `prefix` begins each message; without it the program's name does.
    """
    import click

    def work() -> int:
        try:
            status = int(group.main(list(arguments), prog_name=program, standalone_mode=False) or 0)
            return status if arguments else UsageError.exit_code  # click before 8.2 has printed the help
        except click.ClickException as error:
            if not arguments:  # since click 8.2 the help is an error's message
                print(error.format_message())
                return UsageError.exit_code
            what = " ".join(error.format_message().split())
            asked = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else program
            raise UsageError(what, hint=f"see {asked} --help") from error
        except click.Abort:
            raise KeyboardInterrupt from None
        except SystemExit as end:  # click's answer to EPIPE, and to a shell that asks for completions
            return end.code if isinstance(end.code, int) else 0

    with CutFiles(prefix or program, failed):
        return exit_code(prefix or program, work, failed)


class CutFiles:
    """While active, ends the process with a message when somebody cuts a mapped file.

    The kernel then sends SIGBUS in the middle of the code that reads the file. A Python signal handler would
    run only after that code, which never gets on.
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
        self._told.acquire()  # never released: where several threads read, the first one tells
        os.write(2, self._text)
        os._exit(self._status)


def abandon(stream: TextIO | None) -> None:
    """Send the rest of a stream to /dev/null, so that the interpreter's flush at exit cannot fail again."""
    try:
        if stream is not None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except OSError:
        pass  # no descriptor left, or no /dev: who wrote is not told of that

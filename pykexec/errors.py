"""The one family of exceptions.

Every error that a user can cause or meet is a `PykexecError`. It says what was wrong and where, may carry a
hint that says what to do, and has the exit code that the C ``kexec`` gives in the same situation, because
scripts look at it (255: the load failed, 1: usage or a precondition).
"""

import os

_LINE_MAX = 1000
_HEAD, _TAIL = 600, 300


def printable(text: str) -> str:
    """Return the text as one line that does nothing to a terminal: unprintable characters are escaped.

    They are escaped as in Python. File names, and names and texts in files, may contain any character.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else _escaped(each) for each in text)


def printable_text(text: str) -> str:
    """Escape unprintable characters as `printable` does, but keep newlines and tabs."""
    if text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return "".join(each if each.isprintable() or each in "\n\t" else _escaped(each) for each in text)


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a byte that is no text (PEP 383)
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


def _line(text: str) -> str:
    """Return both ends of a text that is too long: the place is at its beginning, the fault at its end."""
    line = printable(text)
    return line if len(line) <= _LINE_MAX else f"{line[:_HEAD]} ... {line[-_TAIL:]}"


def privilege_hint(error: OSError) -> str | None:
    """Return what to do where the system has refused something to a user who is not root."""
    return "run as root" if isinstance(error, PermissionError) and os.geteuid() != 0 else None


class PykexecError(Exception):
    """The base of all errors that pykexec raises on purpose.

    `what` names the fault and its place (a file and offset, an option, a path below /proc or /sys). `hint`,
    when given, says what to do about it. Both are made single lines, whatever they contain.
    """

    exit_code = 255

    def __init__(self, what: str, *, hint: str | None = None) -> None:
        self.what = _line(what)
        self.hint = None if hint is None else _line(hint)
        super().__init__(self.what)

    def add_hint(self, text: str) -> None:
        """Append a text to the hint."""
        self.hint = _line(f"{self.hint}; {text}" if self.hint else text)

    def __str__(self) -> str:
        return f"{self.what}\n{self.hint}" if self.hint else self.what


class UsageError(PykexecError):
    """The command line (or a `Request`) asks for something contradictory, unknown or impossible."""

    exit_code = 1


class FileError(PykexecError):
    """A file named by the user cannot be opened or read."""

    exit_code = 1


class ImageError(PykexecError):
    """A kernel image is not one, is damaged, or cannot be started on this machine."""


class PlanFileError(PykexecError):
    """A plan's file is none, is damaged, or is not for this machine as it is now."""


class MachineError(PykexecError):
    """A fact about the machine is missing or makes no sense (/proc/iomem read without privilege)."""


class DeviceTreeError(MachineError):
    """A device tree is damaged, or cannot say what it has to."""


class NoCrashMemoryError(MachineError):
    """The running kernel has reserved no memory, so it cannot hold a crash kernel."""

    exit_code = 1


class PlacementError(PykexecError):
    """There is no room for a segment where it has to go.

    At least `missing` bytes are missing; 0: not known.
    """

    exit_code = 1

    def __init__(self, what: str, *, hint: str | None = None, missing: int = 0) -> None:
        super().__init__(what, hint=hint)
        self.missing = missing


class PurgatoryError(PykexecError):
    """The purgatory blob is missing, does not fit this version, or cannot hold what it has to."""


class SystemCallError(PykexecError):
    """The kernel refused. `errno` is its answer; the text says what that means here."""

    def __init__(self, what: str, *, errno: int, hint: str | None = None) -> None:
        super().__init__(what, hint=hint)
        self.errno = errno


class FileLoadUnavailable(SystemCallError):
    """kexec_file_load was asked for, but it is missing or cannot load such a kernel."""

    exit_code = 253

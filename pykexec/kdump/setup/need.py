"""How much memory has to be reserved, and command lines that do that."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pykexec.errors import UsageError
from pykexec.kdump.reservation import crashkernel
from pykexec.kdump.reservation.crashkernel import PARAMETER
from pykexec.kdump.reservation.support import CrashkernelSupport
from pykexec.parameters import parameters

_WORD = re.compile(rf"(?<!\S){re.escape(PARAMETER)}\S*")
_END_OF_PARAMETERS = re.compile(r"(?<!\S)--(?!\S)")


@dataclass(frozen=True, slots=True)
class Need:
    """The memory that a capture kernel needs on a machine; sizes are in bytes."""

    value: str
    """The value of crashkernel= that is recommended."""
    least: int
    """The size below which a reservation is too small."""
    total_memory: int
    support: CrashkernelSupport
    remark: str = ""
    """What was assumed."""

    @property
    def parameter(self) -> str:
        """The parameter that is recommended."""
        return f"{PARAMETER}{self.value}"

    def is_met_by(self, command_line: str) -> bool:
        """Return whether a boot with that line reserves enough. Raises MachineError."""
        found = crashkernel.reservation(command_line, self.total_memory, self.support)
        return found.size >= self.least

    def put_into(self, command_line: str) -> str:
        """Return the line with the recommended crashkernel= as its only one.

        It takes the place of the first one, or comes at the end. Raises UsageError where another one has
        quotes, or is a part of some other parameter: the kernel finds it there, too; and for a quotation
        that does not end.
        """
        if command_line.count('"') % 2:
            raise UsageError("a quotation that does not end")
        for word in parameters(command_line):
            if PARAMETER in word and (not word.startswith(PARAMETER) or '"' in word):
                raise UsageError(f"{word!r} has a {PARAMETER} in it that cannot be replaced")
        first = _WORD.search(command_line)
        if first is None:
            return _appended(command_line, self.parameter)
        rest = re.sub(rf"[ \t]*{_WORD.pattern}", "", command_line[first.end() :])
        return f"{command_line[: first.start()]}{self.parameter}{rest}"


def _appended(command_line: str, parameter: str) -> str:
    # What stands behind -- is for init (parse_args() in kernel/params.c).
    for end in _END_OF_PARAMETERS.finditer(command_line):
        if command_line.count('"', 0, end.start()) % 2 == 0:
            return f"{command_line[: end.start()]}{parameter} {command_line[end.start() :]}"
    separator = "" if not command_line or command_line[-1] in " \t" else " "
    return f"{command_line}{separator}{parameter}"

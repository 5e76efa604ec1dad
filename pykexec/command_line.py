"""The kernel's command line: which parameters of the running one a load reuses."""

import os

from pykexec.errors import UsageError
from pykexec.parameters import name_of, parameters, value_of
from pykexec.plan import Purpose, Request

__all__ = ["JUMP_BACK_ENTRY", "for_request", "name_of", "parameters", "value_of", "without"]

JUMP_BACK_ENTRY = "kexec_jump_back_entry"
"""The parameter that tells a kernel's user space where the previous kernel waits for the jump back."""

_OF_THIS_BOOT: tuple[str, ...] = ("BOOT_IMAGE", JUMP_BACK_ENTRY, "elfcorehdr")
"""Written by the boot loader or by kexec for the running kernel alone; wrong for the next one."""

_OF_A_MACHINE_NOT_YET_CRASHED: tuple[str, ...] = ("crashkernel",)
"""A capture kernel lives in that reservation; it must not make its own."""


def without(command_line: str, names: tuple[str, ...]) -> str:
    """Return the command line without the parameters of these names."""
    return " ".join(each for each in parameters(command_line) if name_of(each) not in names)


def for_request(request: Request, running: str) -> str:
    """Return the command line that the request asks for; `running` is the running kernel's.

    Raises UsageError if it has a NUL character in it, or is no text.
    """
    parts = []
    if request.reuse_command_line:
        dropped = _OF_THIS_BOOT
        if request.purpose is Purpose.CRASH:
            dropped += _OF_A_MACHINE_NOT_YET_CRASHED
        parts.append(without(running, dropped))
    if request.append is not None:
        parts.append(request.append)
    if any("\0" in part for part in parts):
        raise UsageError("the command line has a NUL character in it; the kernel would stop reading there")
    line = " ".join(filter(None, parts))
    try:
        os.fsencode(line)
    except UnicodeEncodeError as error:
        raise UsageError(
            f"the command line has what is no text in it: {line[error.start : error.end]}"
        ) from None
    return line

"""The engine's own error."""

from pykexec.errors import PykexecError


class EmulationError(PykexecError):
    """A virtual machine cannot be started, did not end in time, or its emulator failed."""

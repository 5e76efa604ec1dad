"""The error for what our own capture image cannot do, though the distribution's may."""

from __future__ import annotations

from pykexec.errors import PykexecError


class Unsupported(PykexecError):
    """An error for settings that pykdump's own capture image cannot follow."""

    exit_code = 1

    def __init__(self, what: str, *, instead: str = "") -> None:
        other = "use the distribution's image: pykdump start --initrd FILE"
        super().__init__(
            f"pykdump's own capture image cannot do this: {what}",
            hint=f"{instead}, or {other}" if instead else other,
        )

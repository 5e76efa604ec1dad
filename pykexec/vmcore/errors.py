"""The errors of reading a dump."""

from pykexec.errors import PykexecError


class DumpError(PykexecError):
    """A dump is damaged, or does not hold what is asked of it.

    `status` is the exit status of the C ``vmcore-dmesg`` in the same situation.
    """

    exit_code = 1

    def __init__(self, what: str, *, hint: str | None = None, status: int = 1) -> None:
        super().__init__(what, hint=hint)
        self.status = status


class NotInDumpError(DumpError):
    """The dump is sound, but the memory at `address` is not in it: a hole, left out, or lost."""

    def __init__(self, what: str, *, address: int, hint: str | None = None) -> None:
        super().__init__(what, hint=hint, status=30)
        self.address = address

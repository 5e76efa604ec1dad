"""/proc/kallsyms: where the running kernel begins, for kernels that have no /proc/kcore."""

from pykexec.errors import MachineError
from pykexec.machine.root import Root, unreadable

PATH = "proc/kallsyms"
_TEXT = b" _stext"


def text_start(root: Root) -> int | None:
    """Return the virtual address of `_stext`; None where there is no such line, or addresses are hidden.

    Raises MachineError for a file that cannot be read, or is damaged.
    """
    file = root.open(PATH)
    if file is None:
        return None
    with file:
        try:
            line = next((line for line in file if line.rstrip().endswith(_TEXT)), b"0")
            return int(line.split()[0], 16) or None
        except OSError as error:
            raise unreadable(f"/{PATH}", error) from error
        except ValueError:
            raise MachineError(f"/{PATH}: a line without an address: {line[:40]!r}") from None


def without_most(given: bytes) -> bytes:
    """Return of a file's lines those that `text_start` looks for: all others only tell where things are."""
    return b"".join(line + b"\n" for line in given.splitlines() if line.rstrip().endswith(_TEXT))

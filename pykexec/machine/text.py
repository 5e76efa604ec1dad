"""Small files of one number or one line, as sysfs has them."""

from pykexec.errors import MachineError
from pykexec.machine.root import Root, unreadable

_FILE_MAX = 64 << 20
_PIECE = 64 << 10


def read(root: Root, path: str) -> bytes | None:
    """A whole file, or None where there is none.

    Raises MachineError when it cannot be read or has more than 64 MiB (no fact is nearly as large).
    """
    file = root.open(path)
    if file is None:
        return None
    data = bytearray()
    with file:
        try:
            # In pieces: /proc/sys answers ENOMEM to a very large read (fs/proc/proc_sysctl.c).
            while piece := file.read(_PIECE):
                data += piece
                if len(data) > _FILE_MAX:
                    raise MachineError(f"/{path} has more than {_FILE_MAX} bytes")
        except OSError as error:
            raise unreadable(f"/{path}", error) from error
    return bytes(data)


def read_text(root: Root, path: str) -> str | None:
    """A file's text without the white space around it."""
    data = read(root, path)
    return None if data is None else data.decode("utf-8", "surrogateescape").strip()


def read_number(root: Root, path: str, base: int = 0) -> int | None:
    """A file's one number, of 64 bits, with or without a sign; base 0 lets 0x in front count.

    Raises MachineError when it is none.
    """
    text = read_text(root, path)
    if text is None:
        return None
    try:
        return number(text, base)
    except ValueError:
        raise MachineError(f"/{path} does not hold a number: {text[:40]!r}") from None


def number(text: str, base: int) -> int:
    """As kernels print them: other than int(), no underscores, no other scripts' digits, 64 bits at most.

    Raises ValueError.
    """
    if not text.isascii() or "_" in text:
        raise ValueError(f"not a number: {text[:40]!r}")
    value = int(text, base)
    if not -(1 << 63) <= value < 1 << 64:
        raise ValueError(f"not a number of 64 bits: {text[:40]}")
    return value

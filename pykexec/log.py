"""The story of a load, told through `logging` to whoever listens to the logger "pykexec"."""

from __future__ import annotations

import sys


def debug(message: str, *arguments: object) -> None:
    """Tell one step. Nobody listens while nobody has imported `logging`, which takes as long as a plan."""
    logging = sys.modules.get("logging")
    if logging is not None:
        logging.getLogger("pykexec").debug(message, *arguments)


def warning(message: str, *arguments: object) -> None:
    """Tell what went wrong without stopping anything; it reaches standard error if nobody listens."""
    import logging

    logging.getLogger("pykexec").warning(message, *arguments)

"""The steps of a load, logged for whoever listens to the logger "pykexec"."""

from __future__ import annotations

import sys


def debug(message: str, *arguments: object) -> None:
    """Log one step, if somebody has imported `logging`. Importing it takes as long as a plan."""
    logging = sys.modules.get("logging")
    if logging is not None:
        logging.getLogger("pykexec").debug(message, *arguments)


def warning(message: str, *arguments: object) -> None:
    """Log a failure that stops nothing; it reaches standard error if nobody listens."""
    import logging

    logging.getLogger("pykexec").warning(message, *arguments)

"""The steps of a load, logged for whoever listens to the logger "pykexec"."""

from __future__ import annotations

import sys


def debug(message: str, *arguments: object) -> None:
    """Log one step, if somebody has imported `logging`. Importing it takes as long as a plan."""
    logging = sys.modules.get("logging")
    if logging is not None:
        logging.getLogger("pykexec").debug(message, *arguments)


class Told:
    """While this is in force, standard error has each step, as a line that begins with its name."""

    def __init__(self, program: str) -> None:
        self._program = program

    def __enter__(self) -> None:
        import logging

        from pykexec import streams

        program = self._program

        class ToStandardError(logging.Handler):
            """To what it is at the time; a step that cannot be told is none that fails."""

            def emit(self, record: logging.LogRecord) -> None:
                try:
                    if sys.stderr is not None:  # print() would take standard output instead
                        indent = " " * (len(program) + 2)
                        line = f"{program}: {record.getMessage()}"
                        print("\n".join(streams.fitting([line], sys.stderr, indent)), file=sys.stderr)
                except OSError:
                    pass

        self._logger = logging.getLogger("pykexec")
        self._handler, self._level = ToStandardError(), self._logger.level
        self._logger.addHandler(self._handler)
        self._logger.setLevel(logging.DEBUG)

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self._handler)
        self._logger.setLevel(self._level)


def warning(message: str, *arguments: object) -> None:
    """Log a failure that stops nothing; it reaches standard error if nobody listens."""
    import logging

    logging.getLogger("pykexec").warning(message, *arguments)

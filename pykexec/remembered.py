"""A property that is computed once, even if it fails: `functools.cached_property` forgets failures."""

from __future__ import annotations

from pykexec.errors import PykexecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_FAILURES = "_remembered_failures"


class _Remembered:
    """Keeps the value in the instance's __dict__, where it is found first, and a PykexecError beside it."""

    def __init__(self, compute: Callable[[Any], object]) -> None:
        self.__doc__ = compute.__doc__
        self._compute = compute
        self._name = compute.__name__

    def __get__(self, instance: Any, owner: type[Any]) -> object:
        if instance is None:
            return self
        failures: dict[str, PykexecError] = instance.__dict__.setdefault(_FAILURES, {})
        if self._name in failures:
            raise _copy(failures[self._name])
        try:
            value = self._compute(instance)
        except PykexecError as error:
            failures[self._name] = _copy(error)
            raise
        instance.__dict__[self._name] = value
        return value


def _copy(error: PykexecError) -> PykexecError:
    """Return a copy, because whoever catches it may add to it, without the frames that a traceback keeps."""
    made = error.__class__.__new__(error.__class__, *error.args)
    made.__dict__.update(error.__dict__)
    return made


if TYPE_CHECKING:
    from functools import cached_property as remembered
else:
    remembered = _Remembered

__all__ = ["remembered"]

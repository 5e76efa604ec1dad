"""A file's variables by name. Each is checked when it is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pykexec.kdump.config import shell, targets, values
from pykexec.kdump.config.names import HAND_OVER_KEYS, OURS, Format

_YES = ("yes", "true", "1")
_SHIPPED: Mapping[str, tuple[str, ...]] = {
    "VMCORE_CREATION_NOTIFICATION": _YES,
    "KDUMP_COPY_KERNEL": _YES,
    "KDUMP_UPDATE_BOOTLOADER": _YES,
    "KDUMP_CRASHKERNEL": ("auto",),
    "KDUMP_VERBOSE": ("0", "3"),  # openSUSE's kdump 2.1, and SLE 15's
}
"""The values that distributions' own files have."""


class Variables:
    """A file's variables.

    Methods raise ConfigError with the place of a bad value; a missing one is the default.
    """

    def __init__(self, text: str, form: Format) -> None:
        """Read `text`, the contents of a file of that format."""
        self._assignments = shell.parse(text, f"/{form.file}", form.names | OURS)
        self.unknown = tuple(self._assignments.unknown(form))
        """Warnings of names that the tool ignores."""

    def assigned(self, name: str) -> shell.Assignment | None:
        """Return a variable's assignment; None where there is none, or its value is empty."""
        assignment = self._assignments.get(name)
        return assignment if assignment is not None and assignment.value else None

    def is_set(self, name: str) -> bool:
        """Return whether a variable was given a value, even an empty one."""
        return self._assignments.get(name) is not None

    def text(self, name: str, default: str = "") -> str:
        assignment = self.assigned(name)
        return values.plain(assignment.value, name, assignment.where) if assignment else default

    def without_effect(self, *names: str) -> Iterator[str]:
        """Yield a warning for each of these variables that has another value than tools ship."""
        for name in names:
            found = self.assigned(name)
            if found is not None and found.value.lower() not in _SHIPPED.get(name, ()):
                yield f"{found.where}: {name} has no effect on pykdump"

    def checked(self, kind: type[str], name: str) -> str:
        """Return the value as a type of `targets`; "" where there is none."""
        assignment = self.assigned(name)
        return values.checked(kind, assignment.value, name, assignment.where) if assignment else ""

    def path(self, name: str) -> str:
        return self.checked(targets.AbsolutePath, name)

    def programs(self, name: str) -> tuple[str, ...]:
        assignment = self.assigned(name)
        return tuple(
            values.checked(targets.Program, word, name, assignment.where)
            for word in self.words(name)
            if assignment
        )

    def words(self, name: str) -> tuple[str, ...]:
        assignment = self.assigned(name)
        return values.words(assignment.value, name, assignment.where) if assignment else ()

    def choice(self, name: str, allowed: Mapping[str, values.T], default: values.T) -> values.T:
        assignment = self.assigned(name)
        return values.choice(allowed, assignment.value, name, assignment.where) if assignment else default

    @property
    def hands_over_keys(self) -> bool:
        return self.choice(HAND_OVER_KEYS, {"yes": True, "no": False}, default=False)

    def number(self, name: str, default: int, *, least: int = 0, most: int = 1 << 31) -> int:
        assignment = self.assigned(name)
        if assignment is None:
            return default
        return values.number(assignment.value, name, assignment.where, least=least, most=most)

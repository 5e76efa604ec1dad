"""Which of its architecture's formats a kernel is in (-t)."""

from __future__ import annotations

from collections.abc import Sequence

from pykexec.errors import ImageError, UsageError


def require(path: str, wanted: str | None, found: str | None, known: Sequence[str]) -> None:
    """Hold the format that is asked for against what the file is; the names are kexec-tools'.

    Raises UsageError for a format that is none of those known, ImageError where the file is in another one.
    """
    if wanted in (None, found):
        return
    if wanted not in known:
        raise UsageError(
            f"Unsupported kernel type {wanted}", hint=f"the types that can be loaded: {', '.join(known)}"
        )
    if found is None:
        raise ImageError(f"Cannot determine the file type of {path}; it is not of type {wanted}")
    raise ImageError(f"{path}: Wrong file type {wanted}, file matches type {found}", hint="leave out --type")

"""Check the format that the user asks for (-t) against the file's."""

from __future__ import annotations

from collections.abc import Sequence

from pykexec.errors import ImageError, UsageError


def require(path: str, wanted: str | None, found: str | None, known: Sequence[str]) -> None:
    """Compare the format that is asked for with the file's; the names are kexec-tools'.

    Raises UsageError for a format that is not in `known`, ImageError where the file has another one.
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

"""Keys of encrypted volumes that the running kernel hands over to a capture kernel (CONFIG_CRASH_DM_CRYPT).

Configfs says which: a folder for each key, with its description. kexec_file_load for a crash kernel takes
the logon keys of these descriptions from the keyrings of the calling process, and fails where one is
missing; no program sees a key (kernel/crash_dump_dm_crypt.c). In the capture kernel they are user keys, in
root's keyring.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from pykexec import syscalls, writing
from pykexec.errors import FileError, PykexecError
from pykexec.kexec_file import VOLUME_KEYS

FOLDER = Path("/", VOLUME_KEYS)
KEY_MAX = 256
"""The bytes of a key (KEY_SIZE_MAX)."""
_OURS = "pykdump-"
_KEYS_MAX = 128
_DESCRIPTION_MAX = 127  # bytes: the kernel writes 128, and loads with 127 of them (strscpy())
_NO_DESCRIPTION = "(null)"

HasKey = Callable[[str], bool]
"""A function that tells whether there is a logon key of that description."""


def is_offered(folder: Path) -> bool:
    """Return whether the running kernel hands keys over, and configfs is mounted."""
    return (folder / "reuse").exists()  # a capture kernel has only `restore`


def fits(description: str) -> bool:
    """Return whether a key of that description can be handed over, and named in a table of dm-crypt."""
    return re.fullmatch(r"[!-\[\]-~]+", description) is not None and _length(description) <= _DESCRIPTION_MAX


def in_keyring(description: str) -> bool:
    """Return whether kexec_file_load would find that logon key in this process."""
    try:
        syscalls.request_key("logon", description)
    except OSError:
        return False
    return True


def in_keyring_or_loaded(loaded: str, folder: Path) -> HasKey:
    """Return a function for keys that kexec_file_load finds, and those of the loaded kernel: see `arranged`.

    Raises FileError.
    """
    named = _named(folder)
    kept = named.values() if named and loaded == _digest(named) else ()
    return lambda description: description in kept or in_keyring(description)


@contextmanager
def arranged(keys: Mapping[str, str], loaded: str, folder: Path) -> Iterator[str]:
    """Have the kernel hand over these keys, their descriptions by names, in a load during the block.

    Yield what stands for all keys that it hands over; "" for none. `loaded` is that of the loaded capture
    kernel: where keys have left the keyrings since, and no others are wanted, the kernel takes those again.
    After an error all is as it was before. Raises PykexecError where the load would fail.
    """
    before = _named(folder)
    if not keys and not any(name.startswith(_OURS) for name in before):
        yield ""
        return
    after = _with(before, keys)
    is_reusing = _is_reusing(folder)
    reuse = False
    if keys:
        _require_usable(after, folder)
        reuse = not is_reusing and _must_reuse(after, folder, is_loaded=loaded == _digest(after))
    if is_reusing and after and before != after:
        raise PykexecError(
            "other keys of encrypted volumes cannot be handed over: the kernel keeps to those of a load that"
            f" failed ({folder / 'reuse'} is 1)",
            hint="reboot; or load with those that were handed over then",
        )
    try:
        _change(folder, before, after)
        if reuse:
            writing.write_value(folder / "reuse", "1\n")
        yield _digest(after) if keys else ""
    except BaseException:
        with suppress(FileError):
            _change(folder, _named(folder), before)
        raise
    finally:
        if reuse or is_reusing:
            # It would stay so. While nothing is loaded the kernel refuses that.
            with suppress(FileError):
                writing.write_value(folder / "reuse", "0\n")


def forget(folder: Path) -> None:
    """Hand over no more keys of ours. Raises FileError."""
    before = _named(folder)
    _change(folder, before, _with(before, {}))


def _named(folder: Path) -> Mapping[str, str]:
    """Return the descriptions of all keys that are to be handed over, by name. Raises FileError."""
    if not is_offered(folder):
        return {}
    try:
        return {
            each.name: (each / "description").read_text("utf-8", "surrogateescape").removesuffix("\n")
            for each in sorted(folder.iterdir())
            if each.is_dir()
        }
    except OSError as error:
        raise FileError(f"cannot read {error.filename}: {error.strerror}") from error


def _with(named: Mapping[str, str], keys: Mapping[str, str]) -> Mapping[str, str]:
    """Return what is to be handed over: others' keys, and of ours these that are not among them."""
    others = {name: text for name, text in named.items() if not name.startswith(_OURS)}
    ours = {f"{_OURS}{name}": text for name, text in keys.items() if text not in others.values()}
    return {**others, **ours}


def _require_usable(named: Mapping[str, str], folder: Path) -> None:
    """Raise PykexecError for what the kernel would refuse only once the loaded kernel is gone."""
    if len(named) > _KEYS_MAX:
        raise PykexecError(
            f"{len(named)} keys of encrypted volumes are to be handed over, the kernel takes {_KEYS_MAX}",
            hint=f"remove those in {folder} that no dump needs",
        )
    for name, description in named.items():
        fault = ""
        if description in ("", _NO_DESCRIPTION):
            fault = "has no description"
        elif _length(description) > _DESCRIPTION_MAX:
            fault = f"has a description of more than {_DESCRIPTION_MAX} bytes"
        if fault:
            raise PykexecError(f"the key {folder / name} {fault}", hint=_remove(folder / name))


def _must_reuse(named: Mapping[str, str], folder: Path, *, is_loaded: bool) -> bool:
    """Return whether keys have to be taken from what is loaded. Raises PykexecError where they are not."""
    missing = [name for name, description in named.items() if not in_keyring(description)]
    if missing and not is_loaded:
        raise PykexecError(
            f"no logon key {named[missing[0]]!r} is in root's keyring (keyctl show @u), and the kernel is to"
            " hand it over",
            hint=f"put it there as it was, or {_remove(folder / missing[0])}",
        )
    return bool(missing)


def _remove(folder: Path) -> str:
    return f"hand it over no more: rmdir {shlex.quote(os.fspath(folder))}"


def _length(description: str) -> int:
    return len(os.fsencode(description))


def _digest(named: Mapping[str, str]) -> str:
    words = (f"{name}\0{description}" for name, description in sorted(named.items()))
    return hashlib.sha256("\0".join(words).encode("utf-8", "surrogateescape")).hexdigest()


def _is_reusing(folder: Path) -> bool:
    """Return whether the kernel goes on taking keys of an earlier load, and cannot be told otherwise."""
    try:
        if (folder / "reuse").read_text().strip() in ("", "0"):
            return False
    except OSError:
        return False
    try:
        writing.write_value(folder / "reuse", "0\n")
    except FileError:
        return True
    return False


def _change(folder: Path, before: Mapping[str, str], after: Mapping[str, str]) -> None:
    """Make and remove folders. Raises FileError."""
    try:
        for name in sorted(before.keys() - after.keys()):
            (folder / name).rmdir()
        for name in sorted(after.keys() - before.keys()):
            (folder / name).mkdir()
    except OSError as error:
        raise FileError(f"cannot change {error.filename}: {error.strerror}") from error
    for name, description in after.items():
        if before.get(name) != description:
            writing.write_value(folder / name / "description", description)

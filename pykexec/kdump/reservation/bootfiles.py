"""The crashkernel= that the next boot will have, as boot loaders' configuration files say."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pykexec.bootpaths import GRUB_CONFIGS
from pykexec.machine.root import Root
from pykexec.machine.sysfs import read_text

_FILES = ("etc/default/grub", "etc/kernel/cmdline", *GRUB_CONFIGS)
_FOLDERS = ("etc/default/grub.d", "boot/loader/entries")
_TEXT_MAX = 2 << 20  # bytes


def configured(root: Root) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield each file with crashkernel= below a root, and the values in it that are no comments.

    Raises MachineError for a file that cannot be read.
    """
    paths = list(_FILES)
    for folder in _FOLDERS:
        paths += [f"{folder}/{name}" for name in root.names(folder)]
    for path in paths:
        lines = (read_text(root, path, _TEXT_MAX) or "").splitlines()
        text = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
        if found := re.findall(r"""crashkernel=([^\s"']+)""", text):
            yield path, tuple(found)

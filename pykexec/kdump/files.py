"""The paths of files that kdump loads and leaves behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pykexec.kdump.config.settings import KernelChoice

STATE = Path("/var/lib/pykdump")
"""The folder of what outlasts a boot: capture images, and what has been proven."""


def image_path(release: str) -> Path:
    """Return the path of our own capture image for a kernel."""
    return STATE / f"initrd-{release}.img"


def kernel_candidates(choice: KernelChoice, running: str) -> Iterator[str]:
    """Yield the paths where the capture kernel may be, the most likely one first."""
    if choice.path:
        yield choice.path
        return
    version = choice.version or running
    for folder in [choice.folder] if choice.folder else ["/boot", "/boot/efi", "/efi"]:
        yield f"{folder}/{choice.image}-{version}{choice.extension}"
    if not choice.folder:
        yield f"/boot/Image-{version}{choice.extension}"
        yield f"/usr/lib/modules/{version}/vmlinuz"

"""The contents of a container that holds more than a kernel: a unified kernel image, a FIT image."""

from pykexec.values import dataclass


@dataclass(frozen=True, slots=True)
class Bundle:
    """A kernel and what belongs to it. The views are parts of the file where nothing had to be unpacked."""

    format: str
    """The container and which part of it: "unified kernel image", "FIT image, configuration conf-1"."""
    kernel: memoryview
    """The kernel, perhaps compressed or in another container."""
    initrds: tuple[memoryview, ...] = ()
    """The initrds, in the order in which the kernel has to unpack them."""
    command_line: str | None = None
    """None where the container has none (it may have an empty one)."""
    device_tree: memoryview | None = None
    overlays: tuple[memoryview, ...] = ()
    """Overlays for the device tree, in the order in which they apply."""
    release: str | None = None
    """What ``uname -r`` will show."""
    notes: tuple[str, ...] = ()
    """Warnings about what was left out or not checked."""

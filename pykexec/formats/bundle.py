"""What a container has that holds more than a kernel: a unified kernel image, a FIT image."""

from pykexec.values import dataclass


@dataclass(frozen=True, slots=True)
class Bundle:
    """A kernel and what belongs to it; the views are parts of the file where nothing had to be unpacked."""

    format: str
    """What it is and which part was taken: "unified kernel image", "FIT image, configuration conf-1"."""
    kernel: memoryview
    """Perhaps compressed, perhaps in a container again."""
    initrds: tuple[memoryview, ...] = ()
    """In the order in which the kernel shall unpack them."""
    command_line: str | None = None
    """None where the container has none (an empty one is one)."""
    device_tree: memoryview | None = None
    overlays: tuple[memoryview, ...] = ()
    """Changes to the device tree, in the order in which they apply."""
    release: str | None = None
    """What ``uname -r`` will say."""
    notes: tuple[str, ...] = ()
    """What was left out or not checked, for whoever reads warnings."""

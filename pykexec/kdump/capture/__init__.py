"""The capture system: a small initramfs of our own that finds the dump target again and saves to it."""

from __future__ import annotations

from pykexec.kdump.capture.destination import Destination, Way
from pykexec.kdump.capture.image import Contents, Entry, build, contents

__all__ = ["Contents", "Destination", "Entry", "Way", "build", "contents"]

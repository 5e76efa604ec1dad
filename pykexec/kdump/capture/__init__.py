"""The capture system: a small initramfs of our own that finds the dump target again and saves to it."""

from __future__ import annotations

from pykexec.kdump.capture.destination import Destination, Transport
from pykexec.kdump.capture.image import Contents, Entry, build, contents, listing, packed

__all__ = ["Contents", "Destination", "Entry", "Transport", "build", "contents", "listing", "packed"]

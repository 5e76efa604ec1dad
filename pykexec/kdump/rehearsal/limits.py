"""What a rehearsal cannot show."""

from __future__ import annotations

from collections.abc import Iterator

from pykexec import emulation
from pykexec.emulation import Accelerator, devices
from pykexec.emulation.devices import Device
from pykexec.kdump.rehearsal.asked import Rehearsal
from pykexec.kdump.rehearsal.captureimage import CaptureImage
from pykexec.kdump.rehearsal.verdict import Found
from pykexec.memory import MIB


def unproven(
    asked: Rehearsal,
    image: CaptureImage,
    disk: Device,
    accelerated: Accelerator,
    dump: Found | None,
) -> Iterator[str]:
    """Yield what a rehearsal of that does not show, for people."""
    yield "the machine's own firmware and devices: how they get over the crash"
    _, bus = emulation.find(asked.arch).virtio
    own = {*image.hardware, *asked.controllers} - {bus}
    if untried := devices.unproven(own, [disk]):
        yield f"drivers whose devices the emulated machine does not have: {', '.join(untried)}"
    yield f"its memory: here it is {asked.memory // MIB} MiB, and more of it takes more to save"
    yield "kexec_file_load, where start uses it: here it is kexec_load"
    if image.layers:
        yield "the volumes and arrays as they are: here it is one disk, with a plain volume or a mirror"
    if asked.room is None:
        yield "the room on the target: the scratch disk has enough for all of memory"
    if dump is not None and not dump.was_read:
        yield "what is in the dump: it is packed, and here it is not unpacked"
    if accelerated.why:
        yield f"the time that it takes: the processors are emulated, as {accelerated.why}"

"""Find out how much memory this machine's capture kernel needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from pykexec.errors import FileError, MachineError
from pykexec.files import FileData
from pykexec.kdump import capture
from pykexec.kdump.capture import destination
from pykexec.kdump.capture.image import refuse_what_cannot_be
from pykexec.kdump.config import capture_line
from pykexec.kdump.config.settings import Settings, TargetKind
from pykexec.kdump.files import kernel_candidates
from pykexec.kdump.reservation import crashkernel, estimate, sizing
from pykexec.kdump.reservation.crashkernel import size_text
from pykexec.kdump.reservation.estimate import Unpacked
from pykexec.kdump.setup.need import Need
from pykexec.machine import Machine
from pykexec.memory import MIB

_ASSUMED_IMAGE = Unpacked(16 * MIB, 40 * MIB, 200)
"""What is assumed of a capture image that cannot be made yet; Debian 12's takes half of that."""


def need(machine: Machine, settings: Settings, *, can_make_image: bool) -> Need:
    """Return what the kernel and the image need that start would load on this machine.

    `can_make_image`: whether the programs for the image are there; else its size is assumed. Raises
    PykexecError, also where that much cannot be reserved.
    """
    release = settings.kernel.version or machine.kernel_release
    kernel = _kernel(settings, release)
    line = capture_line.build(settings, capture_line.read_facts(machine, kernel, release)).text
    network = settings.target.kind in (TargetKind.SSH, TargetKind.NFS)
    file, remark = FileData.open(kernel, "kernel"), ""
    if settings.initrd or can_make_image:
        with _image(settings, release) as image:
            inputs = sizing.read_inputs(machine, file, image, line, network=network)
    else:
        # What would refuse an image is told before anything is installed for it.
        refuse_what_cannot_be(settings)
        destination.resolve(settings)
        inputs = sizing.read_inputs(machine, file, None, line, network=network)
        inputs = replace(inputs, initrd=_ASSUMED_IMAGE, left_out=())
        remark = f"a capture image of {size_text(_ASSUMED_IMAGE.size)} is assumed: none can be made yet"
    found = estimate.estimate(inputs)
    total, support = machine.iomem.system_ram.size, sizing.support_of(machine)
    result = Need(found.parameter, found.needed, total, support, remark)
    outcome = crashkernel.reservation(result.parameter, total, support)
    if not outcome.size:
        raise MachineError(
            f"{result.parameter} is needed, and would reserve nothing: {outcome.why_nothing}",
            hint="pykdump estimate says what takes how much",
        )
    return result


@contextmanager
def _image(settings: Settings, release: str) -> Iterator[FileData]:
    """Open the configured capture image, or one made as start would make it. Raises PykexecError."""
    if settings.initrd:
        yield FileData.open(settings.initrd, "initrd")
        return
    with TemporaryDirectory(prefix="pykdump-") as folder:
        path = Path(folder, "image")
        capture.build(capture.contents(settings, release), path)
        yield FileData.open(str(path), "initrd")


def _kernel(settings: Settings, release: str) -> str:
    """Return the path of the kernel that start loads. Raises FileError where it is not there."""
    candidates = list(kernel_candidates(settings.kernel, release))
    for path in candidates:
        if Path(path).is_file():
            return path
    raise FileError(
        f"the capture kernel is not there: {', '.join(candidates)}",
        hint="pykdump start would not find it either: KDUMP_KERNELVER and its like say which one it is",
    )

"""Kernels with any bytes changed and any end cut off."""

import contextlib
from collections.abc import Sequence

from hypothesis import strategies as st

from pykexec.arch import Arch
from pykexec.booting.kernel import KernelFacts, inspect
from pykexec.errors import ImageError
from pykexec.files import FileData


def check_any_damage(data: st.DataObject, kernels: Sequence[bytes], arch: Arch) -> None:
    """It is told, or refused with an error for users."""
    blob = bytearray(data.draw(st.sampled_from(kernels)))
    for _ in range(data.draw(st.integers(1, 8))):
        blob[data.draw(st.integers(0, 0x200))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(blob)) | st.just(len(blob)))
    with contextlib.suppress(ImageError):
        found = inspect(FileData.from_bytes("/boot/vmlinuz", bytes(blob[:end])), arch)
        assert found is None or isinstance(found, KernelFacts)

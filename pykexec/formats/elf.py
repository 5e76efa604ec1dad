"""vmlinux: a kernel as the linker made it."""

import io
from typing import IO

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from pykexec.errors import ImageError
from pykexec.memory import MIB

_PADDING_MAX = 64 * MIB
"""Between segments, which are aligned to a few MiB at most; more would be memory for nothing."""
_SEGMENTS_MAX = 256  # a kernel has about five


def flatten(path: str, data: memoryview) -> bytearray:
    """Its loadable segments as one piece of memory, as ``objcopy -O binary`` makes an Image of it.

    Raises ImageError when it is damaged.
    """
    try:
        stream: IO[bytes] = io.BytesIO(data)
        file = ELFFile(stream)
        if file.num_segments() > _SEGMENTS_MAX:
            raise ImageError(f"{path}: damaged ELF file: {file.num_segments()} program headers")
        loads = [each for each in file.iter_segments() if each["p_type"] == "PT_LOAD" and each["p_filesz"]]
        if not loads:
            raise ImageError(f"{path}: an ELF file without anything to load")
        start = min(each["p_vaddr"] for each in loads)
        end = max(each["p_vaddr"] + each["p_filesz"] for each in loads)
        if end - start > data.nbytes + _PADDING_MAX:
            raise ImageError(f"{path}: its segments lie {end - start:#x} bytes apart, which no kernel's do")
        memory = bytearray(end - start)
        for each in loads:
            if each["p_offset"] + each["p_filesz"] > data.nbytes:
                raise ImageError(f"{path}: truncated: a segment ends beyond the file's {data.nbytes} bytes")
            place = each["p_vaddr"] - start
            memory[place : place + each["p_filesz"]] = data[
                each["p_offset"] : each["p_offset"] + each["p_filesz"]
            ]
        return memory
    except (ELFError, ValueError, OverflowError) as error:
        raise ImageError(f"{path}: damaged ELF file: {error}") from error

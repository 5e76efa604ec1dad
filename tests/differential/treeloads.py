"""What a load of a machine with a device tree tells the next kernel, and what two loads say differently."""

import io
import struct
from collections.abc import Mapping

from elftools.elf.elffile import ELFFile

from tests.differential.ckexec import Loaded


def has_initrd(loaded: Loaded, chosen: dict[str, bytes], initrd: bytes) -> bool:
    """Take the initrd's place out of /chosen, and return whether that initrd is there."""
    start, end = (int.from_bytes(chosen.pop(f"linux,initrd-{which}")) for which in ("start", "end"))
    return any(s[0] == start and s[2][: end - start] == initrd for s in loaded.segments)


def without_seeds(chosen: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return /chosen with the length of each seed instead of the seed, which is fresh in each load."""
    seeds = {name: b"%d bytes" % len(chosen[name]) for name in ("kaslr-seed", "rng-seed") if name in chosen}
    return {**chosen, **seeds}


def core(loaded: Loaded, chosen: dict[str, bytes], *, has_text: bool = True) -> dict[str, object]:
    """Take the core headers' place out of /chosen, and return what they say, if there are any.

    `has_text`: whether the first part of memory is the kernel's own mapping.
    """
    if "linux,elfcorehdr" not in chosen:
        return {}
    start, size = struct.unpack(">QQ", chosen.pop("linux,elfcorehdr"))
    (headers,) = (s[2] for s in loaded.segments if s[0] == start and s[1] >= size)
    elf = ELFFile(io.BytesIO(headers))
    segments = [segment.header for segment in elf.iter_segments()]
    loads = [h for h in segments if h["p_type"] == "PT_LOAD"]
    memory = [(h["p_paddr"], h["p_vaddr"], h["p_memsz"], h["p_offset"]) for h in loads]
    return {
        "core: class": elf.elfclass,
        "core: notes": [(h["p_paddr"], h["p_memsz"]) for h in segments if h["p_type"] == "PT_NOTE"],
        "core: kernel text": memory[:has_text],
        "core: memory": sorted(memory[has_text:]),
    }


def differing(theirs: Mapping[str, object], ours: Mapping[str, object]) -> dict[str, object]:
    """Return what is not the same, as pairs."""
    return {
        what: (theirs.get(what), ours.get(what))
        for what in theirs.keys() | ours.keys()
        if theirs.get(what) != ours.get(what)
    }

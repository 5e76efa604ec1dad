"""Extract the vmlinux from a bzImage with only the compressors' own programs.

Like the kernel's scripts/extract-vmlinux: what looks like compressed data is unpacked until an ELF file
comes out.
"""

import re
import subprocess
from pathlib import Path

_TOOLS = {
    b"\xfd7zXZ\0": ["xz", "-dc", "--single-stream"],
    b"\x28\xb5\x2f\xfd": ["zstd", "-dcqq"],
    b"\x1f\x8b\x08": ["gzip", "-dcq"],
    b"\x02\x21\x4c\x18": ["lz4", "-dcq"],
}


def extract(image: Path) -> bytes:
    """Return the kernel as the linker made it, stripped."""
    data = image.read_bytes()
    for magic, command in _TOOLS.items():
        for found in re.finditer(re.escape(magic), data):
            # The tools complain about what follows the compressed data, after they have written all of it.
            done = subprocess.run(command, input=data[found.start() :], capture_output=True, check=False)
            if done.stdout.startswith(b"\x7fELF"):
                return done.stdout
    raise AssertionError(f"{image} has no vmlinux in it that is packed in a way known here")

"""Little data that unpacks to much."""

import zlib


def gzip_of_zeros(mebibytes: int) -> bytes:
    """Return so much in about a KiB for each MiB, without an end: whoever reads it has long given up."""
    packer = zlib.compressobj(9, wbits=zlib.MAX_WBITS | 16)
    first, next_one = (packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    return first + next_one * (mebibytes - 1)

"""ppc64le: POWER of 64 bits, little-endian. What it shares with the other byte order is in arch/powerpc."""

from pykexec.arch.powerpc import arch64

ARCH = arch64("ppc64le")

"""ppc64: POWER of 64 bits, big-endian. What it shares with the other byte order is in arch/powerpc."""

from pykexec.arch.powerpc import arch64

ARCH = arch64("ppc64")

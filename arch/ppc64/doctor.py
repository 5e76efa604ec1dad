"""The doctor's checks that depend on the architecture, for ppc64."""

from pykexec.arch.powerpc.doctor import PART

__all__ = ["PART"]

"""Why kernels of ppc64 refuse what others do not."""

from pykexec.arch.powerpc.explain import PART

__all__ = ["PART"]

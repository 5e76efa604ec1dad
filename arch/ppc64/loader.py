"""Plans for ppc64 kernels."""

from pykexec.arch.powerpc import loader
from pykexec.arch.ppc64 import image
from pykexec.booting.part import LoaderPart
from pykexec.machine import Machine
from pykexec.plan import LoadPlan, Request


def plan(machine: Machine, request: Request) -> LoadPlan:
    """Return a plan for that request on that machine. Raises PykexecError."""
    return loader.plan(image.KIND, machine, request)


PART = LoaderPart(plan)

"""Plans for ppc64le kernels."""

from pykexec.arch.powerpc import loader
from pykexec.arch.ppc64le import image
from pykexec.booting.part import LoaderPart
from pykexec.machine import Machine
from pykexec.plan import LoadPlan, Request


def plan(machine: Machine, request: Request) -> LoadPlan:
    """Return a plan for that request on that machine. Raises PykexecError."""
    return loader.plan(image.KIND, machine, request)


PART = LoaderPart(plan)

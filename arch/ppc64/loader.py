"""Plans for ppc64 kernels."""

from pykexec.arch.powerpc import loader
from pykexec.arch.powerpc.loader import PowerBoot
from pykexec.arch.ppc64 import image
from pykexec.booting.part import LoaderPart
from pykexec.machine import Machine
from pykexec.plan import LoadPlan, Request

_BOOT = PowerBoot(image.KIND, linear_start=0xC000000000000000)  # CONFIG_PAGE_OFFSET


def plan(machine: Machine, request: Request) -> LoadPlan:
    """Return a plan for that request on that machine. Raises PykexecError."""
    return loader.plan(_BOOT, machine, request)


PART = LoaderPart(plan)

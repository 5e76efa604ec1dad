"""Plans for x86_64's kernels: all of it is x86's."""

from functools import partial

from pykexec.arch.x86 import loader
from pykexec.arch.x86_64 import ARCH
from pykexec.booting.part import LoaderPart

PART = LoaderPart(partial(loader.plan, ARCH))

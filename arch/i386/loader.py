"""Plans for i386's kernels: all of it is x86's."""

from functools import partial

from pykexec.arch.i386 import ARCH
from pykexec.arch.x86 import loader
from pykexec.booting.part import LoaderPart

PART = LoaderPart(partial(loader.plan, ARCH))

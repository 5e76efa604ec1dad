"""What files of kernels for i386 tell."""

from pykexec.arch.i386 import ARCH
from pykexec.arch.x86 import image
from pykexec.booting.kernel import ImagePart, KernelFacts
from pykexec.files import FileData


def inspect(kernel: FileData) -> KernelFacts | None:
    """Return what a kernel tells; None for another file. Raises ImageError for a damaged one."""
    return image.inspect(kernel, ARCH.name)


PART = ImagePart(inspect)

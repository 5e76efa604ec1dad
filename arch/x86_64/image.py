"""The facts in files of kernels for x86_64."""

from pykexec.arch.x86 import image
from pykexec.arch.x86_64 import ARCH
from pykexec.booting.kernel import ImagePart, KernelFacts
from pykexec.files import FileData


def inspect(kernel: FileData) -> KernelFacts | None:
    """Return the facts of a kernel; None for another file. Raises ImageError for a damaged kernel."""
    return image.inspect(kernel, ARCH.name)


PART = ImagePart(inspect)

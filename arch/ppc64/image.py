"""What files of kernels for ppc64 tell."""

from pykexec.arch.powerpc.image import VmlinuxKind
from pykexec.arch.ppc64 import ARCH
from pykexec.booting.kernel import ImagePart

KIND = VmlinuxKind(
    arch=ARCH,
    line_limit=2047,  # COMMAND_LINE_SIZE in arch/powerpc/include/uapi/asm/setup.h, less the NUL
    type="elf-ppc64",
)
PART = ImagePart(KIND.inspect)

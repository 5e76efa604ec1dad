"""What files of kernels for ppc64 tell."""

from pykexec.arch.powerpc.image import VmlinuxKind
from pykexec.arch.ppc64 import ARCH
from pykexec.booting.kernel import ImagePart

KIND = VmlinuxKind(ARCH)
PART = ImagePart(KIND.inspect)

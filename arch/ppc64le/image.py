"""What files of kernels for ppc64le tell."""

from pykexec.arch.powerpc.image import VmlinuxKind
from pykexec.arch.ppc64le import ARCH
from pykexec.booting.kernel import ImagePart

KIND = VmlinuxKind(ARCH)
PART = ImagePart(KIND.inspect)

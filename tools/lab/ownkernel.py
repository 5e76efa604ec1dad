"""A small kernel built of Debian's sources, for what no kernel of Debian's has: CONFIG_KEXEC_JUMP."""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .arches.x86_64 import ARCH as X86_64
from .debian import fetch_file
from .host import CACHE, build_once, digest, ensure_commands, run
from .kernels import Kernel

_VERSION, _SUITE = "6.12", "trixie"
_SOURCE = f"linux-source-{_VERSION}"
_CONFIG = Path(__file__).with_name("ownkernel.config")
_TOOLS = {
    "bc": "bc",
    "bison": "bison",
    "flex": "flex",
    "gcc": "gcc",
    "make": "make",
    "/usr/include/libelf.h": "libelf-dev",
    "xz": "xz-utils",
}


def jump_kernel() -> Kernel:
    """The kernel, built if need be, which takes minutes. Raises LabError."""
    key = digest(Path(__file__).read_bytes(), _CONFIG.read_bytes())
    folder = build_once(CACHE / "images" / f"jump-kernel-{key}", _build)
    (modules,) = (folder / "lib/modules").iterdir()
    return Kernel(X86_64, _VERSION, modules.name, folder / "bzImage", (folder,))


def _build(target: Path) -> None:
    ensure_commands(_TOOLS)
    archive = fetch_file(_SUITE, X86_64.debian, _SOURCE, f"usr/src/{_SOURCE}.tar.xz")
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        run(["tar", "-xf", archive, "-C", scratch], "unpacking the kernel's sources")
        source = Path(scratch, _SOURCE)
        make: Sequence[str | Path] = ["make", "-s", "-C", source, "-j2"]
        run([*make, f"KCONFIG_ALLCONFIG={_CONFIG}", "allnoconfig"], "configuring a kernel")
        run([*make, "bzImage"], "building a kernel")
        release = run([*make, "kernelrelease"], "naming the kernel").strip()
        modules = target / "lib/modules" / release
        modules.mkdir(parents=True)
        shutil.copy(source / "modules.builtin", modules)
        shutil.copy(source / "arch/x86/boot/bzImage", target)

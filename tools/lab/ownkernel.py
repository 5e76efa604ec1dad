"""Small kernels built of Debian's sources, for what no kernel of Debian's can."""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from . import debian
from .host import CACHE, build_once, digest, ensure_commands, run
from .packages import Build

_CONFIGS = Path(__file__).with_name("kernelconfigs")
_TOOLS = {
    "bc": "bc",
    "bison": "bison",
    "flex": "flex",
    "gcc": "gcc",
    "make": "make",
    "/usr/include/libelf.h": "libelf-dev",
    "/usr/include/openssl/ssl.h": "libssl-dev",
    "xz": "xz-utils",
}


def build(recipe: Build) -> tuple[str, Path]:
    """Build it if need be, which takes minutes: its release, and the folder of its image and its modules.

    Raises LabError.
    """
    configs = [_CONFIGS / name for name in recipe.configs]
    key = digest(
        Path(__file__).read_bytes(), repr(recipe).encode(), *(each.read_bytes() for each in configs)
    )
    folder = build_once(
        CACHE / "images" / f"kernel-{recipe.make}-{key}", lambda target: _build(recipe, configs, target)
    )
    (modules,) = (folder / "lib/modules").iterdir()
    return modules.name, folder


def _build(recipe: Build, configs: Sequence[Path], target: Path) -> None:
    ensure_commands(_TOOLS)
    tools = _cross_tools(recipe)
    name = f"linux-source-{recipe.version}"
    archive = debian.fetch_file(recipe.suite, debian.architecture(), name, f"usr/src/{name}.tar.xz")
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        run(["tar", "-xf", archive, "-C", scratch], "unpacking the kernel's sources")
        source = Path(scratch, name)
        make: Sequence[str | Path] = ["make", "-s", "-C", source, "-j2", f"ARCH={recipe.make}", *tools]
        _configure(make, source, recipe.base, "".join(each.read_text() for each in configs))
        run([*make, Path(recipe.image).name], "building a kernel")
        release = run([*make, "kernelrelease"], "naming the kernel").strip()
        modules = target / "lib/modules" / release
        modules.mkdir(parents=True)
        shutil.copy(source / "modules.builtin", modules)
        shutil.copy(source / recipe.image, target)


def _configure(make: Sequence[str | Path], source: Path, base: str, wanted: str) -> None:
    """Write .config: what is wanted over that base. Raises LabError."""
    if base == "allnoconfig":  # which takes wishes, and leaves out all else, also what they bring up
        (source / "wanted.config").write_text(wanted)
        run([*make, f"KCONFIG_ALLCONFIG={source}/wanted.config", base], "configuring a kernel")
        return
    run([*make, base], "configuring a kernel")
    with (source / ".config").open("a") as file:
        file.write(wanted)
    run([*make, "olddefconfig"], "configuring a kernel")


def _cross_tools(recipe: Build) -> Sequence[str]:
    """What make is told of the compiler. Raises LabError without one."""
    if not recipe.prefix:
        return ()
    prefix = recipe.prefix
    if recipe.unpacked:
        suite = recipe.cross_suite or recipe.suite
        prefix = f"{debian.programs(suite, debian.architecture(), recipe.unpacked)}/{prefix}"
    else:
        ensure_commands({f"{prefix}gcc": f"gcc-{prefix.removesuffix('-')}"})
    return (f"CROSS_COMPILE={prefix}", f"CC={prefix}{recipe.compiler}")

"""Find the Python modules that a load needs: from the sources, then in an interpreter that starts bare.

An import inside a function counts like one at the top, so that nothing is missing on a path that was not
taken here.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pykexec.errors import PykexecError

PACKAGE = Path(__file__).parent.parent
"""The folder of this package."""

# Imported through __import__(), because older type checkers do not know the module.
_BY_NAME = ("compression.zstd",)

_TIMEOUT = 60.0


@dataclass(frozen=True, slots=True)
class Module:
    """A module that was imported from a file."""

    name: str
    file: Path
    """The source, or the machine code."""


@dataclass(frozen=True, slots=True)
class Import:
    """One import statement: ``import module`` or ``from module import names``."""

    module: str
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Seen:
    """The modules that an interpreter had imported at its end."""

    interpreter: Path
    """The program itself, not an environment's link to it."""
    modules: tuple[Module, ...]
    library: Path
    """The folder of the standard library."""
    extensions: Path
    """The folder of the library's machine code, which the interpreter looks for when it starts."""
    paths: tuple[Path, ...]
    """The folders of other packages, including this one."""


def trace(arch: str | None = None) -> Seen:
    """Return what a load on a machine of that architecture (default: this one's) imports.

    Raises PykexecError when the package cannot be imported without its environment.
    """
    return _watch(*reachable(arch or own_architecture()))


def own_architecture() -> str:
    """Return the name of this machine's folder in arch/. Raises PykexecError where there is none."""
    from pykexec.arch import find

    machine = platform.machine()
    found = find(machine)
    if found is not None:
        return found.name
    raise PykexecError(f"no loader for machine type {machine}", hint="nothing could be loaded with it")


def reachable(arch: str) -> tuple[Sequence[str], Sequence[Import]]:
    """Return this package's modules that the command line may import, and their imports from elsewhere."""
    waiting = ["pykexec.__main__", "pykexec.cli", f"pykexec.arch.{arch}"]
    own: dict[str, None] = {}
    foreign: dict[Import, None] = {}
    while waiting:
        name = waiting.pop()
        file = _source(name)
        if name in own or file is None:
            continue
        own[name] = None
        package = name if file.name == "__init__.py" else name.rpartition(".")[0]
        nodes = list(_nodes(ast.parse(file.read_bytes())))
        waiting += [f"pykexec.arch.{arch}.{kind}" for kind in _parts(nodes)]
        for found in _imports(nodes, package):
            if found.module.split(".")[0] != "pykexec":
                foreign[found] = None
                continue
            parts = found.module.split(".")
            waiting += [".".join(parts[:count]) for count in range(1, len(parts) + 1)]
            waiting += [f"{found.module}.{each}" for each in found.names]
    # It is started as a program, never imported.
    del own["pykexec.__main__"]
    return sorted(own), sorted(foreign, key=lambda each: (each.module, each.names))


def _nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes of a tree except those for type checkers."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
        else:
            waiting += ast.iter_child_nodes(node)


def _parts(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Yield the files of an architecture's folder that the code asks for: ``part(arch, "x", default)``."""
    for node in nodes:
        match node:
            case ast.Call(
                func=ast.Name(id="part") | ast.Attribute(attr="part"),
                args=[_, ast.Constant(value=str(kind)), *_],
            ):
                yield kind


def _source(name: str) -> Path | None:
    """Return the source of one of this package's modules; None for what is no module."""
    place = PACKAGE.joinpath(*name.split(".")[1:])
    for file in (place / "__init__.py", place.with_name(f"{place.name}.py")):
        if file.is_file():
            return file
    return None


def _imports(nodes: Iterable[ast.AST], package: str) -> Iterator[Import]:
    """Yield all imports among the nodes; relative ones are made absolute."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (Import(alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            yield Import(module, tuple(alias.name for alias in node.names))
        elif isinstance(node, ast.Call):
            yield from _named_in_call(node)


def _named_in_call(node: ast.Call) -> Iterator[Import]:
    """Yield the imports in ``__import__("x")``, ``import_module("x")``, and of ``x.decode("y")`` a codec."""
    match node:
        case ast.Call(
            func=ast.Name(id="__import__") | ast.Attribute(attr="import_module"),
            args=[ast.Constant(value=str(name)), *_],
        ):
            yield Import(name)
        case ast.Call(
            func=ast.Attribute(attr="encode" | "decode"), args=[ast.Constant(value=str(codec)), *_]
        ):
            yield Import(f"encodings.{codec.lower().replace('-', '_')}")


_PROGRAM = """
import sys
blocked, paths, own, foreign, optional = {blocked!r}, {paths!r}, {own!r}, {foreign!r}, {optional!r}
# The library as a zip file, as a folder, and its machine code.
extensions = sys.path[-1]
sys.path += paths
for name in blocked:
    sys.modules[name] = None
for name in own:
    __import__(name)
for name, members in foreign:
    try:
        module = __import__(name, fromlist=["*"])
        for member in members:
            hasattr(module, member)
    except ImportError:
        pass
for name in optional:
    try:
        __import__(name)
    except ImportError:
        pass
# What its libraries import as late as this.
output, sys.stdout = sys.stdout, None
from pykexec.cli import exit_code
exit_code(["--version"])
from pykexec import help
help.text()
found = [(name, module) for name, module in sys.modules.items() if module is not None]
import os
for name, module in found:
    spec = getattr(module, "__spec__", None)
    if spec is not None and spec.has_location and spec.origin:
        print(name, spec.origin, sep="\\t", file=output)
print(os.path.dirname(os.__file__), os.path.realpath(sys.executable), file=output, sep="\\t")
print(extensions, file=output)
"""


def _watch(own: Sequence[str], foreign: Sequence[Import]) -> Seen:
    paths = _package_paths()
    program = _PROGRAM.format(
        blocked=_blocked(),
        paths=[str(path) for path in paths],
        own=own,
        foreign=[(each.module, each.names) for each in foreign],
        optional=_BY_NAME,
    )
    interpreter = getattr(sys, "_base_executable", sys.executable)
    # As in the initramfs: no environment variables, no site-packages, no .pth files.
    command = [interpreter, "-I", "-S", "-B", "-c", program]
    environment = {"PATH": os.defpath}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT, env=environment, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PykexecError(f"{interpreter} cannot be started bare: {error}") from error
    if done.returncode != 0:
        last = next(reversed(done.stderr.splitlines()), "no message")
        raise PykexecError(f"pykexec cannot be imported by a bare {interpreter}: {last}")
    *lines, where, extensions = done.stdout.splitlines()
    library, _, program_file = where.partition("\t")
    modules = [Module(name, Path(file)) for name, _, file in (line.partition("\t") for line in lines)]
    return Seen(
        interpreter=Path(program_file),
        modules=tuple(each for each in modules if not _of_another(each.name, own)),
        library=Path(library),
        extensions=Path(extensions),
        paths=paths,
    )


def _of_another(name: str, own: Sequence[str]) -> bool:
    """Return whether the module is another architecture's, which the help has imported to name it."""
    return name.startswith("pykexec.arch.") and name not in own


def _package_paths() -> tuple[Path, ...]:
    """Return the folders of this package and of those it needs, without the interpreter's own library."""
    library = Path(os.__file__).parent
    own = (library, library / "lib-dynload")
    # The first one may be only the folder in which `python -m` was called.
    called_from = sys.path[:1] == [str(Path.cwd())]
    others = [Path(each) for each in sys.path[called_from:] if each]
    found = [each for each in others if each.is_dir() and each not in own]
    return tuple(dict.fromkeys([*found, PACKAGE.parent]))


def _blocked() -> Sequence[str]:
    """Return the modules to do without: OpenSSL's digests, where Python has its own, far smaller ones."""
    builtin = any(importlib.util.find_spec(name) for name in ("_sha2", "_sha256"))
    return ["_hashlib"] if builtin else []

"""No module imports itself by way of others, as it is imported."""

import ast
import graphlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]


def _modules() -> Mapping[str, Path]:
    """All of pykexec's by their names; some of its folders are links (arch, purgatory)."""
    found = {}
    for folder, _, names in os.walk(_ROOT / "pykexec", followlinks=True):
        for name in names:
            path = Path(folder, name)
            if path.suffix == ".py":
                *above, last = path.relative_to(_ROOT).with_suffix("").parts
                found[".".join(above if last == "__init__" else [*above, last])] = path
    return found


MODULES = _modules()


def _imports(tree: ast.AST, *, everywhere: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """Those that are executed with the module, or `everywhere`: in functions and for type checkers, too."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif everywhere or not (isinstance(node, ast.FunctionDef) or _is_for_type_checkers(node)):
            yield from _imports(node, everywhere=everywhere)


def _is_for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def _names(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    """The modules that an import means; it executes the packages that they are in, too."""
    if isinstance(node, ast.Import):
        yield from (each.name for each in node.names)
        return
    assert not node.level, "imports are absolute"
    for each in node.names:
        whole = f"{node.module}.{each.name}"
        yield whole if whole in MODULES else str(node.module)


def _packages(name: str) -> Iterator[str]:
    """The packages a module is in, and itself."""
    parts = name.split(".")
    yield from (".".join(parts[:count]) for count in range(1, len(parts) + 1))


def _imported(source: str, module: str, *, everywhere: bool = False) -> set[str]:
    """What a module imports. That it executes the packages it is in itself does not count: a package may
    import what is in it."""
    nodes = _imports(ast.parse(source), everywhere=everywhere)
    meant = {name for node in nodes for name in _names(node)}
    executed = {part for name in meant for part in _packages(name)} - set(_packages(module))
    return (meant | executed) & MODULES.keys()


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = {name: _imported(path.read_text(), name) for name, path in MODULES.items()}
    assert len(graph) > 200
    assert "pykexec.formats.elfheader" in graph["pykexec.arch.x86.multiboot_header"]
    order = tuple(graphlib.TopologicalSorter(graph).static_order())  # CycleError names the modules
    assert set(order) == MODULES.keys()


@pytest.mark.parametrize(
    ("source", "everywhere", "expected"),
    [
        ("import pykexec.formats.pe", False, {"pykexec.formats", "pykexec.formats.pe"}),
        ("from pykexec.formats import pe", False, {"pykexec.formats", "pykexec.formats.pe"}),
        ("from pykexec.formats import unwrap", False, {"pykexec.formats"}),
        ("from pykexec import CHECKED", False, {"pykexec"}),
        ("try:\n import pykexec.log\nexcept OSError:\n pass", False, {"pykexec.log"}),
        ("class A:\n from pykexec import log", False, {"pykexec.log"}),
        ("def f():\n from pykexec import log", False, set()),
        ("if TYPE_CHECKING:\n from pykexec import log", False, set()),
        ("def f():\n from pykexec import log\nif TYPE_CHECKING:\n import pykexec.plan", True, None),
    ],
)
def test_what_counts(source: str, everywhere: bool, expected: set[str] | None) -> None:
    found = _imported(source, "pykexec.cli", everywhere=everywhere)
    assert found == ({"pykexec.log", "pykexec.plan"} if expected is None else expected)


def test_compression_and_zstd_do_not_need_each_other() -> None:
    """Not even for type checkers."""
    path = MODULES["pykexec.formats.zstd"]
    found = _imported(path.read_text(), "pykexec.formats.zstd", everywhere=True)
    assert "pykexec.formats.decompressor" in found
    assert "pykexec.formats.compression" not in found

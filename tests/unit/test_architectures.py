"""Code names an architecture in its own folder, and in the tables of names: nowhere else."""

import ast
import functools
import re
from collections.abc import Iterator, Set
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec import arch, names

_ROOT = Path(__file__).parents[2]

_DISTRIBUTIONS = {"armel", "armhf", "loong64", "ppc64el", "powerpc"}
_OF_ONE_ALONE = {"HdrS", "ttyAMA"}
_WORDS = {
    *(
        word
        for row in names.ALL
        for word in (row.name, row.usual_uname, *row.uname.split())
        if len(word) > 3
    ),
    *_DISTRIBUTIONS,
    *_OF_ONE_ALONE,
    "x86",
}
"""Names of architectures, and of what only one has, that mean it wherever they stand."""
_TEXTS = {row.name for row in names.ALL}
"""Names that mean an architecture where there is nothing else: "arm", "sh"."""
_PATTERN = re.compile(
    "|".join(
        rf"(?<![a-z0-9]){re.escape(word)}(?![a-z0-9])"
        for word in sorted(map(str.lower, _WORDS), key=len, reverse=True)
    )
)

_LABORATORY = "the machine that a case is about if it does not say which"
_ALLOWED = {
    "pykexec/formats/identify.py": (
        {"arm64", "hdrs", "s390x", "x86"},
        "what any file is, told on any machine: a table of first bytes",
    ),
    "pykexec/help.py": ({"x86"}, "the name of a group of options"),
    "pykexec/initramfs.py": (
        {"x86"},
        "where microcode lies in an initramfs, made on any machine",
    ),
    "pykexec/kdump/capture/image.py": ({"sh"}, "the shell"),
    "pykexec/kdump/console/diagnosis.py": ({"arm64"}, "a console's log is read without its machine"),
    "pykexec/kdump/makedumpfile.py": ({"arm64", "riscv64"}, "a table of commits, with what each is for"),
    "pykexec/machine/serial.py": ({"ttyama"}, "a table of drivers, which any machine may have"),
    "pykexec/options.py": ({"x86"}, "kexec-tools' options that are for x86 alone"),
    "pykexec/plan.py": ({"x86"}, "what is said of such an option elsewhere"),
    "pykexec/vmcore/others.py": ({"x86"}, "a table of others' formats, some of which are of x86 alone"),
    "tools/lab/__init__.py": ({"arm64", "x86_64"}, _LABORATORY),
    "tools/lab/debian.py": ({"sh"}, "the shell"),
    "tools/lab/demo.py": ({"x86_64"}, _LABORATORY),
    "tools/lab/distro.py": ({"amd64", "x86_64"}, _LABORATORY),
    "tools/lab/machine.py": ({"x86_64"}, _LABORATORY),
    "tools/lab/testing.py": ({"x86_64"}, _LABORATORY),
}
"""Who names which, and why that is no knowledge of an architecture."""


@functools.cache
def named_in(text: str) -> Set[str]:
    """Return the architectures that a text or an identifier names, in lower case."""
    if text in _TEXTS or (text.startswith("EM_") and text != "EM_"):
        return {text}
    return set(_PATTERN.findall(re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])", "_", text).lower()))


def named_by(code: str) -> set[str]:
    """Return the architectures that Python code names in texts and identifiers; docstrings are neither."""
    nodes = list(ast.walk(ast.parse(code)))
    docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    texts = (text for node in nodes if id(node) not in docstrings for text in _texts_of(node))
    return set().union(*map(named_in, {*texts}))


def _texts_of(node: ast.AST) -> Iterator[str]:
    for _, value in ast.iter_fields(node):
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, str):
                yield each
            elif isinstance(each, bytes):
                yield each.decode("latin-1")


def _shared_code() -> Iterator[Path]:
    own = ("pykexec/arch/", "pykexec/purgatory/", "pykexec/names.py")
    for path in _ROOT.glob("pykexec/**/*.py"):
        if not path.relative_to(_ROOT).as_posix().startswith(own):
            yield path
    for pattern in ("arch/*.py", "purgatory/*.py", "tools/lab/*.py"):
        yield from _ROOT.glob(pattern)


def test_nothing_else_names_an_architecture() -> None:
    found = {path.relative_to(_ROOT).as_posix(): named_by(path.read_text()) for path in _shared_code()}
    assert len(found) > 150, "the files are looked at"
    assert {path: which for path, which in found.items() if which} == {
        path: which for path, (which, _) in _ALLOWED.items()
    }, "move it into the folder, or take it off the list"


_SHARED_FOLDER = "x86"


@given(st.text() | st.sampled_from([_SHARED_FOLDER, "__init__", "x86_64.loader", "..os", "a/b", "\0"]))
def test_what_a_foreign_machine_calls_itself_imports_nothing(name: str) -> None:
    known = {row.name for row in names.ALL}
    for kind in ("vmcore", "kdump", "doctor", "explain"):
        assert arch.part_of(name, kind, None) is None or name in known


@pytest.mark.parametrize(
    ("code", "which"),
    [
        ("if machine == 'aarch64': pass", {"aarch64"}),
        ("_ARM64_CMA = 64", {"arm64"}),
        ("def _is_x86(): pass", {"x86"}),
        ("class Ppc64leLoader: pass", {"ppc64le"}),
        ("x = elf.EM_S390", {"EM_S390"}),
        ("from pykexec.arch.x86_64 import loader", {"x86_64"}),
        ("found(data[0x202:], b'HdrS')", {"hdrs"}),
        ("{'sh': 1, 'i386': 2, 'arm': 3}", {"sh", "i386", "arm"}),
        ("f'qemu-system-{x} on riscv64'", {"riscv64"}),
        ("run('/bin/sh', 'alarm', 'arms', 'x8664')", set()),
        ("'''What arm64 does.'''\nx = 1  # and x86_64\n'''On s390x.'''", set()),
    ],
)
def test_what_names_one(code: str, which: set[str]) -> None:
    assert named_by(code) == which

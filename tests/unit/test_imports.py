"""What each way through the command line imports: nothing that it does not use.

Each runs in an interpreter of its own and tells what it has imported beyond what that has at its start.
"""

import ast
import subprocess
import sys
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from pykexec import initramfs
from tests.support.arm64_image import FakeImage
from tests.support.bzimage import FakeBzImage
from tests.support.machines import FOLDER
from tests.support.uimage import uimage
from tests.support.zboot import zboot

_ROOT = Path(__file__).parents[2]

# The first argument is a folder that stands for /; nothing reaches the kernel.
_PROGRAM = """
import sys
at_start = set(sys.modules)
import os
from pykexec import cli
root, *arguments = sys.argv[1:]
if root:
    from pykexec.machine import Folder, Machine
    Machine.live = lambda: Machine(Folder(root), is_live=True)
    os.sync = lambda: None
def stub(module, *names):
    for name in names:
        assert hasattr(module, name)
        setattr(module, name, lambda *_, **__: None)
if {"-u", "-e", "-l", "-p"} & {*arguments}:
    from pykexec import syscalls
    stub(syscalls, "kexec_load", "kexec_file_load", "kexec_unload", "kexec_file_unload", "reboot_kexec")
if "-e" in arguments:
    from pykexec import execute
    stub(execute, "take_interfaces_down")
status = cli.exit_code(arguments)
print(status, sorted({*sys.modules} - at_start), file=sys.stderr)
"""

_SLOW = {
    "argparse", "asyncio", "bz2", "concurrent", "contextlib", "ctypes", "dataclasses", "datetime",
    "email", "fnmatch", "gettext", "gzip", "hashlib", "http", "inspect", "json", "locale", "logging",
    "lzma", "multiprocessing", "pathlib", "platform", "random", "re", "shutil", "socket", "ssl",
    "subprocess", "tarfile", "tempfile", "textwrap", "threading", "typing", "unittest", "urllib",
    "uuid", "zipfile", "zlib",
}  # fmt: skip
"""Modules of Python itself that take a millisecond or more; the interpreter itself takes ten."""

_CTYPES = {"ctypes", "threading"} if sys.version_info >= (3, 14) else {"ctypes"}
"""With what it imports by itself: since Python 3.14 sysconfig, and that threading."""


FOR_OTHER_FILES = {
    *("bootentries", "formats.compression", "formats.fit", "formats.identify", "formats.uki"),
    *("initramfs", "kernelconfig", "runningkernel", "sources"),
}
"""Not for a kernel as kernels are built, with one initrd as distributions build them."""


def initrd(folder: Path) -> Path:
    """Early files, as microcode comes in, then something compressed."""
    path = folder / "initrd"
    early = initramfs.newc([initramfs.Addition("kernel/x", memoryview(b"x"))])
    path.write_bytes(early + b"\x28\xb5\x2f\xfd")
    return path


@dataclass(frozen=True)
class Imported:
    """Names of top-level modules."""

    status: int
    third_party: frozenset[str]
    slow: frozenset[str]
    own: frozenset[str]
    """Modules of pykexec, with their full names."""


def imported(arguments: Sequence[str | Path], root: Path | None = None) -> Imported:
    command = [sys.executable, "-c", _PROGRAM, str(root or ""), *map(str, arguments)]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    status, _, names = done.stderr.splitlines()[-1].partition(" ")
    modules = frozenset(ast.literal_eval(names))
    top = frozenset(name.partition(".")[0] for name in modules)
    assert not any(name.startswith("pykexec.emulation") for name in modules), "no load boots a machine"
    return Imported(
        int(status),
        third_party=top - frozenset(sys.stdlib_module_names) - {"pykexec"},
        slow=top & _SLOW,
        own=frozenset(name for name in modules if name.startswith("pykexec")),
    )


@pytest.fixture
def running(tmp_path: Path) -> Path:
    """The root of a machine with a kernel to start, whose user is root."""
    root = tmp_path / "root"
    with tarfile.open(FOLDER / "qemu-6.1-1g.tar") as tar:
        tar.extractall(root)
    (root / "sys/kernel/kexec_loaded").write_text("1\n")
    (root / "proc/self").mkdir()
    (root / "proc/self/status").write_text("CapEff:\t000001ffffffffff\n")
    return root


def test_what_boots_machines_needs_python_alone() -> None:
    modules = " ".join(f"pykexec.emulation.{path.stem}," for path in _ROOT.glob("pykexec/emulation/*.py"))
    without_packages = [
        sys.executable,
        "-I",
        "-S",
        "-c",
        f"import sys; sys.path.append('.'); import {modules[:-1]}",
    ]
    done = subprocess.run(without_packages, cwd=_ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_version() -> None:
    found = imported(["--version"])
    assert found.status == 0
    assert found.third_party == set()
    assert found.slow == set()
    assert "pykexec.machine" not in found.own


@pytest.mark.parametrize(
    ("option", "slow"),
    [("-S", set()), ("-e", _CTYPES), ("-u", _CTYPES)],
    ids=lambda value: value,
)
def test_what_needs_no_plan(option: str, slow: set[str], running: Path) -> None:
    found = imported([option], running)
    assert found.status == 0
    assert found.third_party == set()
    assert found.slow <= slow
    assert not found.own & {"pykexec.plan", "pykexec.arch", "pykexec.purgatory", "pykexec.machine.iomem"}


@pytest.mark.parametrize("action", ["-l", "-p"])
def test_load_of_a_bzimage(action: str, running: Path, tmp_path: Path) -> None:
    kernel = tmp_path / "vmlinuz"
    kernel.write_bytes(b"MZ" + FakeBzImage().build()[2:])  # with an EFI stub
    found = imported(["-c", action, kernel, f"--initrd={initrd(tmp_path)}"], running)
    assert found.status == 0
    assert found.third_party == set()
    assert found.slow <= {"ctypes", "hashlib", "threading"}
    others = {
        "arch.arm64.loader",
        "arch.x86.declared",
        "arch.x86.multiboot",
        "devicetree",
        "explain",
        "report",
        *FOR_OTHER_FILES,
    }
    assert not found.own & {f"pykexec.{name}" for name in others}


@pytest.mark.parametrize(
    "wrap", [uimage, lambda kernel: zboot(kernel, b"none")], ids=["uImage", "EFI zboot"]
)
def test_plan_for_what_is_wrapped(wrap: Callable[[bytes], bytes], tmp_path: Path) -> None:
    kernel = tmp_path / "kernel"
    kernel.write_bytes(wrap(FakeImage().build()))
    machine = FOLDER / "qemu-arm64-6.1-1g.tar"
    found = imported(["-l", kernel, f"--initrd={initrd(tmp_path)}", "--machine", machine, "--dry-run"])
    assert found.status == 0
    assert found.third_party == {"fdt"}
    assert not found.own & {"pykexec.formats.declared", "pykexec.explain"}


def test_load_by_the_kernel(running: Path, tmp_path: Path) -> None:
    kernel = tmp_path / "vmlinuz"
    kernel.write_bytes(b"MZ" + FakeBzImage().build()[2:])  # with an EFI stub
    found = imported(["-s", "-l", kernel, f"--initrd={initrd(tmp_path)}"], running)
    assert found.status == 0
    assert found.third_party == set()
    assert found.slow <= _CTYPES
    others = {"arch.x86_64.loader", "elfcore", "explain", "purgatory", "report", *FOR_OTHER_FILES}
    assert not found.own & {f"pykexec.{name}" for name in others}


@pytest.mark.parametrize("action", ["-l", "-p"])
def test_plan_for_an_arm64_image(action: str, tmp_path: Path) -> None:
    kernel = tmp_path / "Image"
    kernel.write_bytes(FakeImage().build())
    machine = FOLDER / "qemu-arm64-6.1-1g.tar"
    found = imported([action, kernel, f"--initrd={initrd(tmp_path)}", "--machine", machine, "--dry-run"])
    assert found.status == 0
    assert found.third_party == {"fdt"}
    others = {
        "arch.arm64.declared",
        "arch.x86_64.loader",
        "explain",
        "report.map",
        "report.picture",
        "report.svg",
    }
    assert not found.own & {f"pykexec.{name}" for name in others}

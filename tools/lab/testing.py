"""What tools/test does: set up, then run every check there is."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from . import demo, ledger, ownkernel, progress
from .arches import ARCHES
from .host import PROJECT, LabError, ensure_commands
from .kernels import SUITES
from .venv import lowest, of_suite, python

_USAGE = """Usage: tools/test [--quick | --all] [--saved] [PYTEST ARGUMENTS]

Without arguments, as CI runs it: style, types, the purgatory's build, and the tests.
--quick  only what is fast and needs neither QEMU nor Debian packages; installs nothing
--all    also the cases marked "further": what others show, on further kernels and machines, and what takes
         a kernel built for it; more than twice as long
--saved  machines that have booted once are saved below .cache, and further cases go on from there
With pytest arguments, such as -k crash-6.1: only the tests that they select.
"""
_SLOW = ("tests/vm", "tests/differential", "tests/packaging")
FROM_PACKAGES = {
    "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu",
    "/usr/lib/python3/dist-packages/kdumpfile/__init__.py": "python3-libkdumpfile",
    "/usr/lib/x86_64-linux-gnu/ganesha/libfsalvfs.so": "nfs-ganesha-vfs",
    "busybox": "busybox",
    "/usr/share/bash-completion/bash_completion": "bash-completion",
    "bzip2": "bzip2",
    "cpio": "cpio",
    "crash": "crash",
    "debootstrap": "debootstrap",
    "debugfs": "e2fsprogs",
    "depmod": "kmod",
    "dracut": "dracut-core",
    "drgn": "python3-drgn",
    "dtc": "device-tree-compiler",
    "fdtput": "device-tree-compiler",
    "fish": "fish",
    "ganesha.nfsd": "nfs-ganesha",
    "groff": "groff",
    "ip": "iproute2",
    "lz4": "lz4",
    "makedumpfile": "makedumpfile",
    "man": "man-db",
    "mandoc": "mandoc",
    "mkfs.btrfs": "btrfs-progs",
    "mkfs.xfs": "xfsprogs",
    "mkimage": "u-boot-tools",
    "mkinitramfs": "initramfs-tools-core",
    "openssl": "openssl",
    "qemu-aarch64-static": "qemu-user-static",
    "sbsign": "sbsigntool",
    "shellcheck": "shellcheck",
    "ssh-keygen": "openssh-client",
    "/usr/sbin/sshd": "openssh-server",
    "strace": "strace",
    "sysctl": "procps",
    "xz": "xz-utils",
    "zsh": "zsh",
    "zstd": "zstd",
}
"""What the tests run, by the Debian package that has it."""

COMMAND_LINES = (
    *("tests/unit/test_cli.py", "tests/unit/test_options.py", "tests/unit/test_kdump_cli.py"),
    *("tests/unit/test_manual.py", "tests/unit/test_streams.py", "tests/unit/test_installation.py"),
)
"""What also runs with the lowest versions that pyproject.toml allows, on this Python and on a newer one.
What the libraries do differently shows in command lines.
"""
_NEWER = "trixie"

_TYPED = ("pykexec", "tools.lab", "tests")


def main() -> int:
    """The command line of tools/test. Returns the exit status."""
    arguments = sys.argv[1:]
    if arguments in (["-h"], ["--help"]):
        print(_USAGE, end="")
        return 0
    quick, further = "--quick" in arguments, "--all" in arguments
    if "--saved" in arguments:
        os.environ["PYKEXEC_LAB_SAVED"] = "1"  # tests/vm/jobs.py
    selection = [each for each in arguments if each not in ("--quick", "--all", "--saved")]
    with tempfile.NamedTemporaryFile(prefix="pykexec-ledger-") as file:
        ledger.open_for_this_run(Path(file.name))
        try:
            return _run_tests(quick, further, selection)
        except LabError as error:
            print(f"tools/test: {error}", file=sys.stderr)
            return 1


def _run_tests(quick: bool, further: bool, selection: list[str]) -> int:
    interpreter = _set_up(quick, further)
    checks = [] if selection else _checks(interpreter, quick)
    if not (selection or quick):
        checks += _lowest_versions()
    failed = [name for name, command in checks if not _passes(name, command)]
    if failed:
        print(f"tools/test: these checks failed: {', '.join(failed)}; now the tests")
    # Its closing line ends the output, behind what the ledger has.
    unmarked = _unmarked(quick, further or bool(selection))
    return _run([*_pytest(interpreter), *unmarked, *selection]) or len(failed)


def _set_up(quick: bool, further: bool) -> str:
    with progress.step("Setting up the virtual environment"):
        interpreter = os.fspath(python())
    if not quick:
        with progress.step("Installing what the tests run"):
            compiler = {"gcc": "gcc", "ld": "binutils", "/usr/include/stdio.h": "libc6-dev"}
            ensure_commands({**compiler, **FROM_PACKAGES})
        with progress.step("Setting up the lowest versions"):
            _lowest_versions()
        for arch in ARCHES.values():
            for version in SUITES:
                demo.prepare(arch, version)
        if further:  # else a test that wants it does that
            with progress.step("Building a kernel that can be gone back to"):
                ownkernel.jump_kernel()
    return interpreter


def _checks(interpreter: str, quick: bool) -> list[tuple[str, list[str]]]:
    module = [interpreter, "-m"]
    checks = [
        ("style", [*module, "ruff", "check", "--quiet"]),
        ("format", [*module, "ruff", "format", "--check", "--quiet"]),
        ("types", [*module, "mypy", "--strict", "--no-error-summary", *(f"-p{name}" for name in _TYPED)]),
    ]
    checks.append(("layouts", [interpreter, "tools/compile-layouts", "--check"]))
    if not quick:
        checks.append(("purgatory", [interpreter, "tools/build-purgatory", "--check"]))
        checks.append(("exec helper", [interpreter, "tools/build-exec-helper", "--check"]))
    return checks


def _lowest_versions() -> list[tuple[str, list[str]]]:
    programs = {
        "lowest versions": lowest(),
        f"lowest versions with {_NEWER}'s Python": of_suite(_NEWER, ARCHES["x86_64"].debian),
    }
    # What failed there did not fail here; and what is deprecated in what is old is no news.
    options = ("-p", "no:cacheprovider", "-W", "ignore::DeprecationWarning")
    return [
        (name, [*_pytest(os.fspath(program)), *options, *COMMAND_LINES])
        for name, program in programs.items()
    ]


def _pytest(interpreter: str) -> list[str]:
    # Two machines at a time; the long cases are evened out.
    return [interpreter, "-m", "pytest", "-q", "-n", "2", "--dist", "worksteal"]


def _unmarked(quick: bool, further: bool) -> list[str]:
    """Options that leave out what is not asked for. What is selected by name runs, whatever its marks."""
    if quick:
        return [*(f"--ignore={folder}" for folder in _SLOW), "-m", "not (programs or slow)"]
    return [] if further else ["-m", "not further"]


def _passes(name: str, command: list[str]) -> bool:
    with progress.step(f"Checking {name}"):
        return _run(command) == 0


def _run(command: list[str]) -> int:
    sys.stdout.flush()
    return subprocess.run(command, cwd=PROJECT, stdin=subprocess.DEVNULL).returncode

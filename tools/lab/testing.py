"""What tools/test does: set up, then run every check there is."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE, STDOUT

from . import ledger, progress
from .arches import ARCHES
from .debian import INSTALLER, architecture
from .host import CACHE, PROJECT, LabError, ensure_commands, locked
from .venv import lowest, of_suite, python

_Check = tuple[str, Sequence[str]]
"""A title and a command."""

_USAGE = """Usage: tools/test [--quick | --all] [--fresh] [PYTEST ARGUMENTS]

Without arguments, as CI runs it: style, types, and the tests.
--quick  only what is fast and needs neither QEMU nor Debian packages; installs nothing
--all    also the cases marked "further": what others show, on further kernels and machines, and what takes
         a kernel built for it; and of each crash a dump; more than twice as long
--fresh  also the cases in machines that have passed on this machine with the same contents
With pytest arguments, such as -k crash-6.1: only the tests that they select, and those always.
"""
_QUICK = "not (programs or slow or further)"
SLOW = ("tests/vm", "tests/differential", "tests/packaging")
"""Folders whose tests all run programs, and take seconds."""
FROM_PACKAGES = {
    "/usr/lib/kernel/install.d/90-loaderentry.install": "systemd",
    "/usr/lib/python3/dist-packages/kdumpfile/__init__.py": "python3-libkdumpfile",
    "/usr/lib/x86_64-linux-gnu/ganesha/libfsalvfs.so": "nfs-ganesha-vfs",
    "busybox": "busybox",
    "/usr/lib/python3/dist-packages/click/__init__.py": "python3-click",
    "/usr/lib/python3/dist-packages/construct/__init__.py": "python3-construct",
    "/usr/lib/python3/dist-packages/elftools/__init__.py": "python3-pyelftools",
    "/usr/share/bash-completion/bash_completion": "bash-completion",
    "bzip2": "bzip2",
    "cpio": "cpio",
    "crash": "crash",
    "debugfs": "e2fsprogs",
    "depmod": "kmod",
    "dh": "debhelper",
    "dh_python3": "dh-python",
    "dpkg-buildpackage": "dpkg-dev",
    "dracut": "dracut-core",
    "drgn": "python3-drgn",
    "dtc": "device-tree-compiler",
    "fdtput": "device-tree-compiler",
    "fish": "fish",
    "ganesha.nfsd": "nfs-ganesha",
    "groff": "groff",
    "ip": "iproute2",
    "keyctl": "keyutils",
    "lintian": "lintian",
    "lz4": "lz4",
    "makedumpfile": "makedumpfile",
    "man": "man-db",
    "mandoc": "mandoc",
    "mkfs.btrfs": "btrfs-progs",
    "mdadm": "mdadm",
    "mkfs.xfs": "xfsprogs",
    "mkimage": "u-boot-tools",
    "mkinitramfs": "initramfs-tools-core",
    **INSTALLER,
    "openssl": "openssl",
    "pvck": "lvm2",
    "rpmbuild": "rpm",
    "rpmlint": "rpmlint",
    "sbsign": "sbsigntool",
    "shellcheck": "shellcheck",
    "ssh-keygen": "openssh-client",
    "/usr/sbin/sshd": "openssh-server",
    "strace": "strace",
    "sysctl": "procps",
    "tgtd": "tgt",
    "xz": "xz-utils",
    "zsh": "zsh",
    "zstd": "zstd",
    **{name: package for arch in ARCHES.values() for name, package in arch.programs.items()},
}
"""What the tests run, by the Debian package that has it."""

_PARSED = (
    *("tests/unit/test_cli.py", "tests/unit/test_options.py", "tests/unit/test_kdump_cli.py"),
    "tests/unit/test_manual.py::test_page_of_pykdump_has_what_its_help_has",
)
COMMAND_LINES = (
    *_PARSED,
    "tests/unit/test_manual.py::test_zsh_finds_what_is_installed",
    "tests/unit/test_streams.py",
    "tests/unit/test_installation.py::test_what_is_turned_off_stays_off",
)
"""What also runs with the lowest versions that pyproject.toml allows.

What the libraries do differently shows in command lines.
"""
_NEWER = "trixie"
NEWER_PYTHON = (*_PARSED, "tests/unit/test_streams.py::test_without_arguments_there_is_help")
"""What also runs with them on a newer Python, which they were not made for."""

_TYPED = ("pykexec", "tools.lab", "tools.packaging", "tests")


def main() -> int:
    """The command line of tools/test. Returns the exit status."""
    if sys.argv[1:] in (["-h"], ["--help"]):
        print(_USAGE, end="")
        return 0
    options, selection = _Options.of(sys.argv[1:])
    # Without byte code each process that a test starts takes four times as long to begin.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.NamedTemporaryFile(prefix="pykexec-ledger-") as file:
        ledger.open_for_this_run(Path(file.name))
        try:
            return _run_tests(options, selection)
        except LabError as error:
            print(f"tools/test: {error}", file=sys.stderr)
            return 1


@dataclass(frozen=True, slots=True)
class _Options:
    quick: bool
    further: bool
    fresh: bool

    @classmethod
    def of(cls, arguments: Sequence[str]) -> tuple["_Options", Sequence[str]]:
        """The options, and what is for pytest."""
        own = ("--quick", "--all", "--fresh")
        given = (name in arguments for name in own)
        return cls(*given), [argument for argument in arguments if argument not in own]


def _run_tests(options: _Options, selection: Sequence[str]) -> int:
    with progress.step("Setting up the virtual environment"):
        interpreter = os.fspath(python())
    if options.further:
        os.environ["PYKEXEC_TEST_ALL"] = "1"
    if not (options.quick or selection):
        with progress.step("Installing what the tests run"):
            install_programs()
    # Two machines at a time; the long cases are evened out.
    command = [interpreter, "-m", "pytest", "-q", "-n", "2", "--dist", "worksteal"]
    with ThreadPoolExecutor(1) as pool:
        # Beside the tests, which wait for programs and for each other now and then.
        checked = None if selection else pool.submit(_failed_checks, interpreter, options.quick)
        status = _run([*command, *_chosen(options, selection)])
        told = len(ledger.lines())
        failed = {} if checked is None else checked.result()
    # Where all is well and done, the closing line of the tests ends the output, behind what the ledger has.
    for row in ledger.report(ledger.lines()[told:]):
        print(row)
    for name, said in failed.items():
        print(f"{said.rstrip()}\ntools/test: this check failed: {name}", flush=True)
    return status or len(failed)


def _failed_checks(interpreter: str, quick: bool) -> Mapping[str, str]:
    """Return what those checks say that fail."""
    failed = _failures(_checks(interpreter, quick))
    if quick:
        return failed
    try:
        with progress.silent_step("Setting up the lowest versions"):
            more = _lowest_versions()
    except LabError as error:
        return {**failed, "lowest versions": str(error)}
    return {**failed, **_failures(more)}


def install_programs() -> None:
    """Install what those tests run that are not quick. Raises LabError.

    Kernels and systems are fetched and built by the first test that needs them.
    """
    compiler = {"gcc": "gcc", "ld": "binutils", "/usr/include/stdio.h": "libc6-dev"}
    with locked(CACHE / "programs"):
        ensure_commands({**compiler, **FROM_PACKAGES})


def _checks(interpreter: str, quick: bool) -> Sequence[_Check]:
    module = [interpreter, "-m"]
    checks = [
        ("style", [*module, "ruff", "check", "--quiet"]),
        ("format", [*module, "ruff", "format", "--check", "--quiet"]),
        ("types", [*module, "mypy", "--strict", "--no-error-summary", *(f"-p{name}" for name in _TYPED)]),
    ]
    # tests/packaging checks this, and what needs a compiler, in what is distributed.
    return [*checks, ("layouts", [interpreter, "tools/compile-layouts", "--check"])] if quick else checks


def _lowest_versions() -> Sequence[_Check]:
    runs = (
        (f"lowest versions with {_NEWER}'s Python", of_suite(_NEWER, architecture()), NEWER_PYTHON),
        ("lowest versions", lowest(), COMMAND_LINES),
    )
    # What failed there did not fail here; and what is deprecated in what is old is no news.
    options = ("-p", "no:cacheprovider", "-W", "ignore::DeprecationWarning", "-m", "not further")
    return [
        (name, [os.fspath(program), "-m", "pytest", "-q", *options, *tests]) for name, program, tests in runs
    ]


def _chosen(options: _Options, selection: Sequence[str]) -> list[str]:
    """Options that leave out what is not asked for. What is selected by name runs, whatever its marks."""
    if options.quick:
        return [
            *(f"--ignore={folder}" for folder in SLOW),
            "-m",
            _QUICK,
            *selection,
        ]
    if selection:
        return ["--install", *selection]
    return [*([] if options.fresh else ["--remember"]), *([] if options.further else ["-m", "not further"])]


def _failures(checks: Sequence[_Check]) -> Mapping[str, str]:
    """Run checks, and return what those say that fail."""
    failed = {}
    for name, command in checks:
        with progress.silent_step(f"Checking {name}"):
            done = subprocess.run(command, cwd=PROJECT, stdin=subprocess.DEVNULL, stdout=PIPE, stderr=STDOUT)
        if done.returncode != 0:
            failed[name] = done.stdout.decode(errors="replace")
    return failed


def _run(command: list[str]) -> int:
    sys.stdout.flush()
    return subprocess.run(command, cwd=PROJECT, stdin=subprocess.DEVNULL).returncode

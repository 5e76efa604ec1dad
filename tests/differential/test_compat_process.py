"""The calls of a 32-bit Python on a 64-bit kernel, as strace decodes what such a process passes.

strace answers in the kernel's place: no call reaches it.
"""

import os
import re
import subprocess
from pathlib import Path

from tests.support import strace
from tools.lab.arches.i386 import ARCH as I386
from tools.lab.debian import fetch
from tools.lab.host import PROJECT

_PROGRAM = """
from pykexec import loader, syscalls
from pykexec.errors import PykexecError
from pykexec.machine import Machine
from pykexec.machine.root import Folder
from pykexec.plan import Purpose, Segment
from sys import argv

data = memoryview(bytes(100))
segments = [Segment("low", 0x5000, 0x1000, data, ""), Segment("top", 0xFFFFF000, 0x1000, data[1:], "")]
syscalls.kexec_load(0x1234000, segments, 62 << 16)
loader.unload(Purpose.CRASH, Machine(Folder(argv[1]), is_live=True), system_call="load")
try:
    syscalls.kexec_load(0, [*segments, Segment("high", 1 << 32, 0x1000, data, "")], 62 << 16)
except PykexecError as error:
    print(error.what)
"""


def _python(python: str = I386.userland.python) -> tuple[list[str], str]:
    """A 32-bit Python that runs here, and where its own modules are."""
    wanted = (*I386.userland.small, *I386.userland.full)
    packages = [folder for each in wanted for folder in fetch(each.suite, I386.debian, [each.name])]
    libraries = [path for each in packages for path in each.glob("**/lib/i386-linux-gnu")]
    (linker,) = (path for each in packages for path in each.glob("lib/ld-linux.so.2"))
    modules = [path for each in packages for path in each.glob(f"usr/lib/python{python}")]
    modules += [path / "lib-dynload" for path in modules]
    (program,) = (path for each in packages for path in each.glob(f"usr/bin/python{python}"))
    command = [linker, "--library-path", ":".join(map(str, libraries)), program, "-S"]
    return list(map(str, command)), ":".join(map(str, modules))


def test_a_file_that_is_too_large_to_map(tmp_path: Path) -> None:
    (tmp_path / "initrd").touch()
    os.truncate(tmp_path / "initrd", 3 << 30)
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cmdline").touch()
    command, modules = _python()
    arguments = ["-m", "pykexec", "--dry-run", "-l", str(tmp_path / "initrd"), "--machine", str(tmp_path)]
    done = subprocess.run(
        [*command, *arguments], env=_environment(modules), capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"pykexec: cannot read the kernel {tmp_path}/initrd: its 3221225472 bytes are too many for a 32-bit"
        " process",
        "         take a smaller one, or run pykexec with a 64-bit Python",
    ]


def _environment(modules: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{PROJECT}:{modules}", "PYTHONDONTWRITEBYTECODE": "1"}


def test_segments_are_four_words_of_32_bits(tmp_path: Path) -> None:
    arch = tmp_path / "proc/sys/kernel/arch"
    arch.parent.mkdir(parents=True)
    arch.write_text("x86_64\n")
    trace = tmp_path / "trace"
    command, modules = _python()
    tracer = ["strace", "-f", "-o", str(trace), "-e", "trace=kexec_load", "-e", "inject=kexec_load:retval=0"]
    done = subprocess.run(
        [*tracer, *command, "-c", _PROGRAM, str(tmp_path)],
        env=_environment(modules),
        check=True,
        capture_output=True,
        text=True,
    )
    load, unload = (re.sub("buf=0x[0-9a-f]+", "buf", each) for each in strace.calls(trace.read_text()))
    segments = "[{buf, bufsz=100, mem=0x5000, memsz=4096}, {buf, bufsz=99, mem=0xfffff000, memsz=4096}]"
    assert load == f"kexec_load(0x1234000, 2, {segments}, KEXEC_ARCH_X86_64) = 0 (INJECTED)"
    assert unload == "kexec_load(NULL, 0, [], KEXEC_ARCH_X86_64|KEXEC_ON_CRASH) = 0 (INJECTED)"
    assert done.stdout == (
        "kexec_load: segment high ends at 0x100001000, beyond the addresses of a 32-bit process\n"
    )

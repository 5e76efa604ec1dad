"""The static helper, run where / is a folder of the test's own."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support import strace

PREBUILT = Path(__file__).parents[2] / "pykexec/purgatory/exec/prebuilt"
EMULATORS = {
    "arm": "qemu-arm-static",
    "arm64": "qemu-aarch64-static",
    "i386": "",
    "loongarch64": "qemu-loongarch64-static",
    "ppc": "qemu-ppc-static",
    "ppc64": "qemu-ppc64-static",
    "ppc64le": "qemu-ppc64le-static",
    "riscv64": "qemu-riscv64-static",
    "s390x": "qemu-s390x-static",
    "sh": "qemu-sh4-static",
}
"""What runs the helper for another architecture than this machine's; this one runs i386's itself."""
ARCHES = ("x86_64", *EMULATORS)


def system_call_numbers(arch: str) -> Mapping[str, int]:
    """Return those that its source has; -1, for none, is left out."""
    purgatory = PREBUILT.parents[1]
    command = ["gcc", "-E", "-P", f"-I{purgatory}/exec", str(purgatory / arch / "syscalls.h")]
    source = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {name: int(number) for name, number in re.findall(r"\bNR_(\w+) = (\d+)", source)}


@dataclass(frozen=True)
class Done:
    """What it did."""

    status: int
    stdout: bytes
    stderr: str
    loads: Sequence[str]
    """The calls of kexec_load, which reach no kernel; an emulator refuses them (ENOSYS) by itself."""


class Root:
    """A folder that is / for the helper of one architecture."""

    def __init__(self, folder: Path, arch: str) -> None:
        self.folder = folder
        for name in ("proc", "sys"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        shutil.copy(PREBUILT / f"{arch}.elf", folder / "kexec")
        self._command = ["/kexec"]
        emulator = EMULATORS.get(arch, "")
        if emulator:
            program = shutil.which(emulator)
            assert program is not None, f"{emulator} is missing"
            shutil.copy(program, folder / "emulator")
            self._command.insert(0, "/emulator")

    def run(self, *options: str, traced: bool = False) -> Done:
        """Run it; `traced`: under strace, which lets its loads succeed."""
        trace = self.folder.with_name(f"{self.folder.name}.trace")
        inject = ("-e", "trace=kexec_load", "-e", "inject=kexec_load:retval=0")
        watched = ["strace", "-f", "-qq", "-s", "4096", "-o", str(trace), *inject] if traced else []
        user = [] if os.geteuid() == 0 else ["unshare", "--map-root-user"]
        done = subprocess.run(
            [*watched, *user, "chroot", self.folder, *self._command, *options],
            capture_output=True,
            check=False,
            timeout=60,
        )
        loads = strace.calls(trace.read_text()) if traced else []
        return Done(done.returncode, done.stdout, done.stderr.decode(), loads)

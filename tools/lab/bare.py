"""Guests without a userland: a kernel, bareinit.c as /init, and the static kexec. All is on the console.

For architectures of 32 bits for which Debian has no packages, or none that run.
"""

import base64
import stat
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.crossbuild import FLAGS, PURGATORY, find_tool, targets
from tools.crossbuild import run as build

from . import cpio
from .arches import Arch
from .host import CACHE, LabError, build_once, digest
from .machine import emulator

_SOURCE = Path(__file__).with_name("bareinit.c")
_HELPER = PURGATORY / "exec"
_QUIET = "quiet loglevel=0"
"""No line of the kernel's between those of /init."""
_PAGE = 4096


@dataclass(frozen=True, slots=True)
class Answer:
    """What a line of a script came to."""

    command: str
    text: str
    status: int | None
    """What the program, or the kernel, said; negative: an errno. None: there the machine went elsewhere."""

    @property
    def data(self) -> bytes:
        """The contents of a file that was shown. Raises LabError where there is none."""
        self._require_success()
        return base64.b64decode(self.text)

    @property
    def pages(self) -> bytes:
        """The contents of a file whose pages were, in full. Raises LabError where there is none."""
        self._require_success()
        *pieces, (size, _) = _pieces(self.text)
        found = bytearray(size)
        for at, data in pieces:
            found[at : at + len(data)] = data
        return bytes(found)

    def _require_success(self) -> None:
        if self.status != 0:
            raise LabError(f"{self.command}: status {self.status}: {self.text}")


def _pieces(text: str) -> Iterator[tuple[int, bytes]]:
    for piece in text.split("@")[1:]:
        at, _, data = piece.partition("\n")
        yield int(at), base64.b64decode(data)


@dataclass(frozen=True, slots=True)
class Result:
    """What was written to the console of a machine that has ended."""

    console: str

    @property
    def answers(self) -> Sequence[Answer]:
        """Those of all kernels' scripts, one after the other."""
        return [_answer(each) for each in self.console.split("\n>>> ")[1:]]

    def answer(self, command: str) -> Answer:
        """The last one to that line. Raises LabError where there is none."""
        found = [each for each in self.answers if each.command == command]
        if not found:
            raise LabError(f"nothing was said to {command!r}; the console:\n{self.console[-4000:]}")
        return found[-1]


def _answer(part: str) -> Answer:
    command, _, rest = part.partition("\n")
    text, ended, status = rest.partition("\n<<< ")
    return Answer(command, text, int(status.split()[0]) if ended else None)


def image(arch: Arch, script: Sequence[str], files: Mapping[str, bytes] | None = None) -> bytes:
    """An initramfs that runs these lines, with the static kexec as /kexec. Raises LabError."""
    kexec = (_HELPER / f"prebuilt/{arch.name}.elf").read_bytes()
    entries = [
        *(cpio.Entry(name, stat.S_IFDIR | 0o755) for name in ("proc", "sys")),
        cpio.file("init", _init(arch.name), executable=True),
        cpio.file("kexec", kexec, executable=True),
        cpio.file("script", "\n".join(script)),
        *(cpio.file(name, data) for name, data in (files or {}).items()),
    ]
    return cpio.archive(entries)


def _init(name: str) -> bytes:
    (target,) = (each for each in targets() if each.name == name)
    own = PURGATORY / name
    sources = [_SOURCE, _HELPER / "text.c", _HELPER / "files.c", own / "exec.S"]
    headers = [_HELPER / "helper.h", *own.glob("*.h"), own / "build.toml"]
    flags = [*FLAGS, "-Os", "-fno-pie", "-no-pie", "-static", *target.flags, f"-I{_HELPER}", f"-I{own}"]

    def compile_it(program: Path) -> None:
        layout = f"-Wl,-T,{_HELPER / 'helper.lds'}"
        build([find_tool(target, "gcc"), *flags, layout, "-o", str(program), *map(str, sources)], PURGATORY)

    key = digest(*flags, *(path.read_bytes() for path in (*sources, *headers)))
    return build_once(CACHE / "images" / f"bare-init-{name}-{key}", compile_it).read_bytes()


def run(
    arch: Arch, kernel: Path, initrd: bytes, append: str, folder: Path, *, timeout: float = 600
) -> Result:
    """Run a machine until it ends by itself. `folder` gets the console's text. Raises LabError."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "initrd.img").write_bytes(initrd)
    log = folder / "console.log"
    command = [
        *emulator(arch),
        *arch.emulation.machine,
        *(("-m", arch.memory) if arch.memory is not None else ()),
        *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"),
        *("-chardev", f"file,id=console,path={log}", *arch.emulation.serial),
        *("-kernel", str(kernel), "-initrd", str(folder / "initrd.img")),
        *("-append", line(arch, append)),
    ]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout)
    except subprocess.TimeoutExpired as error:
        tail = log.read_text(errors="replace")[-2000:]
        raise LabError(f"the machine did not end within {timeout:g} s\n{tail}") from error
    if done.returncode:
        raise LabError(f"QEMU ended with status {done.returncode}: {done.stderr.decode(errors='replace')}")
    return Result(log.read_text(errors="replace").replace("\r", ""))


def line(arch: Arch, append: str) -> str:
    """A kernel's command line: it writes nothing between the lines of /init, and a panic ends QEMU."""
    return f"{arch.line} {_QUIET} {append}"

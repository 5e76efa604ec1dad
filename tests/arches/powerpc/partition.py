"""A processor of a bare QEMU partition (pseries), as the old kernel leaves it on entry to purgatory.

Unicorn's PPC64 has no 64-bit instructions (2.1.4). Here the hypervisor's calls are QEMU's own. Instead of
firmware a few instructions at 0x100, where the processor starts, enter purgatory.
"""

import json
import re
import socket
import struct
import subprocess
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

CPU = 8
"""The number that the old kernel enters purgatory with."""
TERMINAL = 0x71000000  # QEMU, hw/ppc/spapr_vio.c
OPAL, REBOOTED = 0x500000, 0x50003C
"""Where a routine takes the calls of OPAL, and where it stops when it is to reset the machine."""
LOG = 0x700000
"""Where it notes them: the end of what is noted, then token, first argument, byte and length of each."""
MSR_SF, MSR_LE = 1 << 63, 1

_START = 0x100
_SECONDS_MAX = 60
_LINES = struct.Struct(">4Q")


def _words(*instructions: int) -> bytes:
    return b"".join(each.to_bytes(4) for each in instructions)


_OPAL = _words(
    0x3D600070,  # lis   r11, 0x70        LOG
    0xE98B0000,  # ld    r12, 0(r11)
    0x398C0020,  # addi  r12, r12, 32
    0xF98B0000,  # std   r12, 0(r11)
    0x7D8C5A14,  # add   r12, r12, r11
    0xF80C0000,  # std   r0, 0(r12)
    0xF86C0008,  # std   r3, 8(r12)
    0x39400000,  # li    r10, 0
    0x2C200001,  # cmpdi r0, 1            OPAL_CONSOLE_WRITE
    0x40820010,  # bne   .+16
    0x89450000,  # lbz   r10, 0(r5)
    0xE9240000,  # ld    r9, 0(r4)
    0xF92C0018,  # std   r9, 24(r12)
    0xF94C0010,  # std   r10, 16(r12)
    0x2C200006,  # cmpdi r0, 6            OPAL_CEC_REBOOT
    0x41820000,  # beq   .
    0x38600000,  # li    r3, 0
    0x4E800020,  # blr
)


def _enter(entry: int, is_little: bool) -> bytes:
    return _words(
        0x3CA00000 | entry >> 16,  # lis    r5, entry@h
        0x60A50000 | entry & 0xFFFF,  # ori  r5, r5, entry@l
        0x38C0FFFF,  # li     r6, -1
        0x78C60004,  # clrrdi r6, r6, 63    MSR_SF
        0x60C60000 | (MSR_LE if is_little else 0),  # ori r6, r6, MSR_LE
        0x7CBA03A6,  # mtsrr0 r5
        0x7CDB03A6,  # mtsrr1 r6
        0x38600000 | CPU,  # li r3, CPU
        0x4C000024,  # rfid
    )


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    at: int
    """The address where the processor is."""
    registers: tuple[int, ...]
    msr: int
    memory: Mapping[int, bytes]
    """What was given, as it is now."""
    console: str
    calls: list[tuple[int, ...]]
    """What OPAL was called with: token, first argument, byte, length."""


def run(
    memory: Mapping[int, bytes], entry: int, stops: Collection[int], folder: Path, *, is_little: bool
) -> Outcome:
    """Execute from `entry` until the processor is at one of `stops`, where an instruction keeps it."""
    folder.mkdir(exist_ok=True)
    firmware = _enter(entry, is_little).rjust(_START + len(_enter(entry, is_little)), b"\0")
    given = {0: firmware, OPAL: _OPAL, LOG: bytes(1 << 16), **memory}
    command = ["qemu-system-ppc64", "-M", "pseries", "-cpu", "power8", "-m", "512M", "-nodefaults"]
    command += ["-display", "none", "-bios", str(write_file(folder, "bios", firmware))]
    for address, content in given.items():
        file = write_file(folder, f"{address:x}", content)
        command += ["-device", f"loader,file={file},addr={address:#x},force-raw=on"]
    command += ["-chardev", f"file,id=console,path={folder}/console", "-serial", "chardev:console"]
    ours, theirs = socket.socketpair()
    command += [
        "-chardev",
        f"socket,id=control,fd={theirs.fileno()}",
        "-mon",
        "chardev=control,mode=control",
    ]
    with (
        ours,
        theirs,
        subprocess.Popen(
            command, pass_fds=[theirs.fileno()], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as emulator,
    ):
        try:
            monitor = Monitor(ours)
            at, text = _wait(monitor, stops)
            now = {address: monitor.saved(address, len(data), folder) for address, data in given.items()}
        finally:
            emulator.kill()
    end = int.from_bytes(now[LOG][:8])
    return Outcome(
        at,
        tuple(int(each, 16) for each in re.findall(r"[0-9a-f]{16}", " ".join(re.findall("GPR.*", text)))),
        int(re.findall(r"MSR ([0-9a-f]+)", text)[0], 16),
        now,
        (folder / "console").read_bytes().decode("ascii"),
        list(_LINES.iter_unpack(now[LOG][_LINES.size : end + _LINES.size])) if end else [],
    )


def write_file(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def _wait(monitor: "Monitor", stops: Collection[int]) -> tuple[int, str]:
    """Return where the processor stopped, and the monitor's text about its registers."""
    deadline = time.monotonic() + _SECONDS_MAX
    while True:
        text = monitor.command("info registers")
        at = int(re.findall(r"NIP ([0-9a-f]+)", text)[0], 16)
        if at in stops:
            return at, text
        assert time.monotonic() < deadline, f"still running:\n{text}"
        time.sleep(0.01)


class Monitor:
    """QEMU's monitor (QMP)."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(_SECONDS_MAX)
        self._stream = connection.makefile("rw")
        self._stream.readline()
        self._execute("qmp_capabilities", {})

    def command(self, line: str) -> str:
        return str(self._execute("human-monitor-command", {"command-line": line}))

    def saved(self, address: int, size: int, folder: Path) -> bytes:
        path = folder / "saved"
        self.command(f'pmemsave {address:#x} {size:#x} "{path}"')
        return path.read_bytes()

    def _execute(self, command: str, arguments: Mapping[str, str]) -> object:
        self._stream.write(json.dumps({"execute": command, "arguments": arguments}))
        self._stream.flush()
        while "return" not in (answer := json.loads(self._stream.readline())):
            assert "error" not in answer, answer
        return answer["return"]

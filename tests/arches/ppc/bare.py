"""A bare e500 core of QEMU's mpc8544ds, as the old kernel leaves it on entry to purgatory.

Memory from address 0 on is mapped to itself by one entry of TLB1, as QEMU starts all kernels; devices, which
lie beyond, are not. Instead of a kernel a few instructions enter purgatory.
"""

import re
import socket
import struct
import subprocess
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.arches.powerpc.partition import Monitor, write_file

CPU = 3
"""The number that the old kernel enters purgatory with."""
SERIAL = 0xE0004500  # QEMU, hw/ppc/e500.c
RSTCR = 0xE00E00B0  # hw/ppc/mpc8544_guts.c
MAPPED = 64 << 20
AFTER_RESET = -1

_START = 0x100
_SECONDS_MAX = 60


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    at: int
    """The address where the processor is, or `AFTER_RESET`."""
    registers: tuple[int, ...]
    memory: Mapping[int, bytes]
    """What was given, as it is now."""
    console: str


def run(memory: Mapping[int, bytes], entry: int, stops: Collection[int], folder: Path) -> Outcome:
    """Execute from `entry` until the processor is at one of `stops`, where an instruction keeps it."""
    folder.mkdir(exist_ok=True)
    command = ["qemu-system-ppc", "-M", "mpc8544ds", "-cpu", "e500v2", "-m", "128M", "-nodefaults"]
    command += [
        "-display",
        "none",
        "-no-reboot",
        "-no-shutdown",
        "-kernel",
        str(write_file(folder, "kernel", _enter(entry))),
    ]
    for address, content in memory.items():
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
    emulator = subprocess.Popen(
        command, pass_fds=[theirs.fileno()], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    theirs.close()
    with ours, emulator:
        try:
            at, registers, now = _watch(ours, stops, memory, folder)
        finally:
            emulator.kill()
    return Outcome(at, registers, now, (folder / "console").read_bytes().decode("ascii"))


def _enter(entry: int) -> bytes:
    """An ELF file of the instructions that enter purgatory."""
    code = struct.pack(
        ">4I",
        0x3C800000 | entry >> 16,  # lis  r4, entry@h
        0x60840000 | entry & 0xFFFF,  # ori r4, r4, entry@l
        0x7C8803A6,  # mtlr r4
        0x38600000 | CPU,  # li   r3, CPU
    ) + struct.pack(">I", 0x4E800020)  # blr
    header = struct.pack(
        ">16sHHIIIIIHHHHHH", b"\x7fELF\1\2\1", 2, 20, 1, _START, 52, 0, 0, 52, 32, 1, 0, 0, 0
    )
    segment = struct.pack(">8I", 1, 84, _START, _START, len(code), len(code), 5, 4)
    return header + segment + code


def _watch(
    control: socket.socket, stops: Collection[int], memory: Mapping[int, bytes], folder: Path
) -> tuple[int, tuple[int, ...], Mapping[int, bytes]]:
    """Return where the processor stopped, its registers, and the memory."""
    deadline = time.monotonic() + _SECONDS_MAX
    monitor = Monitor(control)
    while True:
        is_reset = "shutdown" in monitor.command("info status")
        text = monitor.command("info registers")
        at = AFTER_RESET if is_reset else int(re.findall(r"NIP ([0-9a-f]+)", text)[0], 16)
        if is_reset or at in stops:
            break
        assert time.monotonic() < deadline, f"still running:\n{text}"
        time.sleep(0.01)
    registers = re.findall(r"[0-9a-f]{16}", " ".join(re.findall("GPR.*", text)))
    now = {address: monitor.saved(address, len(data), folder) for address, data in memory.items()}
    return at, tuple(int(each, 16) for each in registers), now

"""Boards made by hand: the files of a running 32-bit powerpc kernel, with its unpacked device tree."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pykexec.machine import Machine
from tests.arches.powerpc.board import files_of, u32
from tests.support.dtb import Tree
from tests.support.elf import kcore
from tests.support.machines import write

MIB = 1 << 20
LINKED = 0xC0000000
CRASH = 64 * MIB, 128 * MIB
SERIAL, RSTCR = 0xE0004500, 0xE00E00B0
UART = {"type": "4", "io_type": "2", "iomem_base": f"{SERIAL:#x}", "iomem_reg_shift": "0", "port": "0x0"}


@dataclass(frozen=True)
class Board:
    """By default an e500 as QEMU has it; addresses and sizes in its tree are of so many cells."""

    cells: tuple[int, int] = (2, 2)
    cpu: str | None = "e500v2"
    """As /proc/cpuinfo names it."""
    node: str = "memory"
    ram: Sequence[tuple[int, int]] = ((0, 512 * MIB),)
    """Starts and sizes."""
    lowmem: int = 512 * MIB
    crash: tuple[int, int] | None = CRASH
    crash_bytes: int = 4
    """The width of the properties that tell of it."""
    root: Mapping[str, Tree | bytes] = field(default_factory=dict)
    """More nodes and properties."""
    more: Mapping[str, str | bytes] = field(default_factory=dict)
    """More files."""

    def reg(self, parts: Sequence[tuple[int, int]]) -> bytes:
        """Return what memory nodes have."""
        widths = [4 * each for each in self.cells]
        return b"".join(
            number.to_bytes(width) for part in parts for number, width in zip(part, widths, strict=True)
        )

    @property
    def tree(self) -> Tree:
        reserved = {
            f"linux,crashkernel-{name}": number.to_bytes(self.crash_bytes)
            for name, number in zip(("base", "size"), self.crash or (), strict=False)
        }
        utilities: Tree = {"reg": u32(0xE0000, 0x1000), "fsl,has-rstcr": b""}
        bus = 0xE0000000.to_bytes(4 * self.cells[0])
        return {
            "#address-cells": u32(self.cells[0]),
            "#size-cells": u32(self.cells[1]),
            "model": b"MPC8544DS\0",
            "chosen": {
                "bootargs": b"of the running kernel\0",
                "linux,kernel-end": u32(0x410000),
                "linux,memory-limit": bytes(8),
                "linux,initrd-start": u32(0x3000000),
                "linux,initrd-end": u32(0x3800000),
                **reserved,
            },
            "cpus": {"PowerPC,8544@0": {"reg": u32(0), "device_type": b"cpu\0"}},
            "soc@e0000000": {
                "#address-cells": u32(1),
                "#size-cells": u32(1),
                "ranges": u32(0) + bus + u32(0x100000),
                "global-utilities@e0000": utilities,
            },
            self.node: {"device_type": b"memory\0", "reg": self.reg(self.ram)},
            **self.root,
        }

    def machine(self, folder: Path) -> Machine:
        """Return it, from files in that folder."""
        iomem = "".join(f"{start:08x}-{start + size - 1:08x} : System RAM\n" for start, size in self.ram)
        mappings = [(LINKED, 0, self.lowmem), (0xF1000000, 0xFFFFFFFF, 0x1000000)]
        cpu = "" if self.cpu is None else f"processor\t: 0\ncpu\t\t: {self.cpu}\nclock\t\t: 400.0MHz\n"
        files: dict[str, str | bytes] = {
            "pykexec-snapshot.json": '{"machine": "ppc", "page_size": 4096}',
            "proc/cmdline": "of the running kernel\n",
            "proc/cpuinfo": cpu,
            "proc/iomem": iomem,
            "proc/kcore": kcore(mappings, bits=32, big_endian=True, machine=20),
            "sys/kernel/vmcoreinfo": "84a000 1024\n",
            "sys/devices/system/cpu/cpu0/crash_notes": "1fbeae00\n",
            "sys/devices/system/cpu/cpu0/crash_notes_size": "300\n",
            "sys/class/tty/console/active": "ttyS0\n",
            **{f"sys/class/tty/ttyS0/{name}": f"{value}\n" for name, value in UART.items()},
            **{f"proc/device-tree/{path}": data for path, data in files_of(self.tree)},
            **self.more,
        }
        for path, content in files.items():
            write(folder, path, content)
        return Machine.from_snapshot(folder)

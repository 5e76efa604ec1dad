"""Partitions made by hand: the files of a running 64-bit powerpc kernel, with its unpacked device tree."""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pykexec.machine import Machine
from tests.support.dtb import Tree
from tests.support.machines import write

MIB = 1 << 20
KERNEL_END = 0x2880000
CRASH = 0x20000000, 0x18000000
RTAS, RTAS_SIZE = 0x2FFF0000, 0x83C
"""Within the reservation, as QEMU has it."""
TERMINAL = 0x71000000


def u32(*values: int) -> bytes:
    return struct.pack(f">{len(values)}I", *values)


def u64(*values: int) -> bytes:
    return struct.pack(f">{len(values)}Q", *values)


def memory(*parts: tuple[int, int], **more: bytes) -> Tree:
    return {"device_type": b"memory\0", "reg": u64(*(number for part in parts for number in part)), **more}


@dataclass(frozen=True)
class Board:
    """A partition of PowerVM or QEMU, in whose tree nodes and properties may be others."""

    name: str = "ppc64le"
    page_size: int = 65536
    nodes: Mapping[str, Tree] = field(default_factory=lambda: {"memory@0": memory((0, 0x80000000))})
    """Those of memory, and more."""
    chosen: Mapping[str, bytes] = field(default_factory=dict)
    root: Mapping[str, bytes] = field(default_factory=dict)
    rtas: Tree | None = None
    crash: tuple[int, int] | None = CRASH
    ram: Sequence[tuple[int, int]] = ((0, 0x80000000),)
    """Starts and sizes in /proc/iomem."""

    @property
    def tree(self) -> Tree:
        reserved: dict[str, bytes] = {}
        if self.crash:
            names = ("linux,crashkernel-base", "linux,crashkernel-size")
            reserved = dict(zip(names, map(u64, self.crash), strict=True))
        rtas: Tree = {
            "linux,rtas-base": u32(RTAS),
            "linux,rtas-entry": u32(RTAS),
            "rtas-size": u32(RTAS_SIZE),
            "system-reboot": u32(0x2001),
        }
        return {
            "#address-cells": u32(2),
            "#size-cells": u32(2),
            "model": b"IBM pSeries (emulated by qemu)\0",
            **self.root,
            "chosen": {
                "bootargs": b"of the running kernel\0",
                "linux,kernel-end": u64(KERNEL_END),
                "linux,memory-limit": u64(0),
                "linux,initrd-start": u64(0x3000000),
                "linux,initrd-end": u64(0x3800000),
                "stdout-path": b"/vdevice/vty@71000000\0",
                **reserved,
                **self.chosen,
            },
            "cpus": {f"PowerPC,POWER9@{cpu:x}": {"reg": u32(cpu)} for cpu in (0x10, 0x8, 0)},
            "rtas": rtas if self.rtas is None else self.rtas,
            "vdevice": {
                "vty@71000000": {
                    "compatible": b"hvterm1\0",
                    "reg": u32(TERMINAL),
                    "device_type": b"serial\0",
                }
            },
            **self.nodes,
        }

    def machine(self, folder: Path, more: Mapping[str, str | bytes] | None = None) -> Machine:
        """Return it, from files in that folder."""
        iomem = "".join(f"{start:08x}-{start + size - 1:08x} : System RAM\n" for start, size in self.ram)
        files: dict[str, str | bytes] = {
            "pykexec-snapshot.json": f'{{"machine": "{self.name}", "page_size": {self.page_size}}}',
            "proc/cmdline": "of the running kernel\n",
            "proc/iomem": iomem,
            "sys/kernel/vmcoreinfo": "60c0000 10024\n",
            "sys/devices/system/cpu/cpu0/crash_notes": "7ffd5a00\n",
            "sys/devices/system/cpu/cpu0/crash_notes_size": "536\n",
            **{f"proc/device-tree/{path}": data for path, data in files_of(self.tree)},
            **(more or {}),
        }
        for path, content in files.items():
            write(folder, path, content)
        return Machine.from_snapshot(folder)


def files_of(tree: Tree) -> Iterator[tuple[str, bytes]]:
    for name, value in tree.items():
        if isinstance(value, bytes):
            yield name, value
        else:
            yield f"{name}/name", name.partition("@")[0].encode() + b"\0"
            yield from ((f"{name}/{path}", data) for path, data in files_of(value))

"""Rare machines, as the files that a kernel shows: memory, mappings and CPUs.

The texts of /proc/iomem are those of kernel/resource.c. Their names are those of arch/x86/kernel/e820.c,
arch/arm64/kernel/setup.c, drivers/dax/kmem.c, drivers/nvdimm, drivers/cxl and drivers/acpi/hmat.
"""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

from pykexec.machine import Machine
from pykexec.machine.root import Root
from tests.support.dtb import Blob, Tree
from tests.support.elf import NO_ADDRESS, kcore

KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40
RAM, CRASH = "System RAM", "Crash kernel"


@dataclass(frozen=True)
class Line:
    """A line of /proc/iomem: first and last address, name, and depth of nesting."""

    first: int
    last: int
    name: str
    depth: int = 0

    def __contains__(self, address: int) -> bool:
        return self.first <= address <= self.last

    def __str__(self) -> str:
        return f"{'  ' * self.depth}{self.first:08x}-{self.last:08x} : {self.name}\n"


def line(first: int, size: int, name: str, depth: int = 0) -> Line:
    return Line(first, first + size - 1, name, depth)


@dataclass(frozen=True)
class OddMachine:
    """A machine; `lines` are in the kernel's order."""

    lines: Sequence[Line]
    arch: str = "x86_64"
    page_size: int = 4096
    cpus: Sequence[int] = (0, 1)
    linear_base: int = 0xFFFF888000000000
    """The distance from physical to virtual addresses in the linear map."""
    text: tuple[int, int, int] | None = (0xFFFFFFFF81000000, 0x1000000, 0x2000000)
    """The kernel's own mapping: virtual and physical address, size; None: it runs in the linear map."""
    mapped_end: int = 1 << 64
    """Where the linear map ends (physical); below 4 GiB the kernel has 32 bits."""
    vmcoreinfo: str = ""
    cma: Sequence[tuple[int, int]] = ()
    """First and last addresses of the ranges of crashkernel=...,cma."""
    firmware: bool = True
    """Whether the kernel shows the firmware's map."""
    protected: Sequence[tuple[int, int]] = ()
    """First and last addresses of memory that the firmware has for itself, by the device tree, or that is
    offline."""
    more: Mapping[str, str | bytes] = field(default_factory=dict)

    @property
    def firmware_lines(self) -> Sequence[Line]:
        """The lines of firmware's map."""
        return [each for each in self.lines if not each.depth and each.name in _FIRMWARE]

    @property
    def notes(self) -> Sequence[int]:
        """The addresses of the CPUs' notes."""
        return [0x3000000 + 0x1000 * cpu for cpu in sorted(self.cpus)]

    def files(self) -> dict[str, bytes]:
        """Return the files by path."""
        files: dict[str, str | bytes] = {
            "pykexec-snapshot.json": json.dumps({"machine": self.arch, "page_size": self.page_size}),
            "proc/cmdline": "quiet\n",
            "proc/iomem": "".join(map(str, self.lines)),
            "sys/kernel/vmcoreinfo": "2a05000 1024\n",
            "sys/kernel/kexec/crash_cma_ranges": "".join(f"{a:08x}-{b:08x}\n" for a, b in self.cma),
        }
        if self.arch in WITHOUT_KCORE:
            files["proc/kallsyms"] = f"{0xC0300000:08x} T _stext\n"
        else:
            files["proc/kcore"] = self._kcore32() if self.mapped_end < 1 << 32 else self._kcore64()
        for cpu, address in zip(sorted(self.cpus), self.notes, strict=True):
            files[f"sys/devices/system/cpu/cpu{cpu}/crash_notes"] = f"{address:x}\n"
            files[f"sys/devices/system/cpu/cpu{cpu}/crash_notes_size"] = "368\n"
        if self.arch in WITH_TREE:
            files["sys/firmware/fdt"] = _tree(self.protected)
        elif self.firmware:
            for number, each in enumerate(self.firmware_lines):
                folder = f"sys/firmware/memmap/{number}"
                files |= {f"{folder}/start": f"{each.first:#x}\n", f"{folder}/end": f"{each.last:#x}\n"}
                files[f"{folder}/type"] = f"{each.name}\n"
        files |= self.more
        return {path: data if isinstance(data, bytes) else data.encode() for path, data in files.items()}

    def _kcore64(self) -> bytes:
        ram = [
            ((self.linear_base + each.first) % (1 << 64), each.first, each.last + 1 - each.first)
            for each in self.lines
            if RAM in each.name
        ]
        assert self.text is not None
        info = f"PAGESIZE={self.page_size}\nSYMBOL(_stext)={self.text[0]:x}\n{self.vmcoreinfo}"
        return kcore(
            [self.text, *ram],
            vmcoreinfo=info,
            machine=_ELF_MACHINES[self.arch],
            big_endian=self.arch in BY_PARAMETERS,
        )

    def _kcore32(self) -> bytes:
        """All lowmem in one mapping, and vmalloc space, of which no addresses are told (fs/proc/kcore.c)."""
        vmalloc = (0xF8800000, NO_ADDRESS & 0xFFFFFFFF, 64 * MIB)
        info = (
            f"PAGESIZE={self.page_size}\nSYMBOL(_stext)={self.linear_base + 16 * MIB:x}\n{self.vmcoreinfo}"
        )
        mappings = [vmalloc, (self.linear_base, 0, self.mapped_end)]
        return kcore(mappings, vmcoreinfo=info, bits=32, machine=3)

    def machine(self) -> Machine:
        return Machine(Memory(self.files()))


_ELF_MACHINES = {"x86_64": 62, "aarch64": 183, "riscv64": 243, "loongarch64": 258, "s390x": 22}
WITH_TREE = ("aarch64", "armv7l", "riscv64")
"""What boots with a device tree."""
BY_LINE = ("loongarch64",)
"""What boots with a command line alone."""
BY_NODES = ("ppc64le", "ppc64", "ppc")
"""What is told of memory by nodes of the tree for it, and shows reservations there alone."""
BY_PARAMETERS = ("s390x",)
"""What is told all in its image, and makes its core headers itself."""
BY_PAGE = ("sh4",)
"""What boots with a page of parameters in which that line is."""
WITHOUT_KCORE = ("armv7l",)
_FIRMWARE = {
    "System RAM", "Reserved", "ACPI Tables", "ACPI Non-volatile Storage", "Persistent Memory",
    "Persistent Memory (legacy)", "Soft Reserved", "Unusable memory",
}  # fmt: skip


def _tree(protected: Sequence[tuple[int, int]]) -> bytes:
    cells = (2).to_bytes(4)
    nodes = {
        f"mmode_resv{number}@{first:x}": {"reg": first.to_bytes(8) + (last + 1 - first).to_bytes(8)}
        for number, (first, last) in enumerate(protected)
    }
    tree: Tree = {"#address-cells": cells, "#size-cells": cells, "chosen": {}, "reserved-memory": nodes}
    return Blob(tree).build()


class Memory(Root):
    """A root without a file system."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files
        self._folders: dict[str, set[str]] = {}
        for path in files:
            while path:
                folder, _, name = path.rpartition("/")
                self._folders.setdefault(folder, set()).add(name)
                path = folder

    def open(self, path: str) -> IO[bytes] | None:
        return io.BytesIO(self._files[path]) if path in self._files else None

    def names(self, path: str) -> list[str]:
        return sorted(self._folders.get(path, ()))


LOW = [line(0, 4 * KIB, "Reserved"), line(4 * KIB, 636 * KIB, RAM), line(640 * KIB, 384 * KIB, "Reserved")]
CODE = line(0x1000000, 0x2000000, "Kernel code", 1)


def x86(*lines: Line, below: int = 2 * GIB, crash: int = GIB, **settings: object) -> OddMachine:
    """Return a PC with those lines, too.

    It has RAM up to `below`, with the kernel in it, and 256 MiB reserved at `crash`.
    """
    main = [line(MIB, below - MIB, RAM), CODE]
    main += [line(crash, 256 * MIB, CRASH, 1)] if crash else []
    return OddMachine([*LOW, *main, *lines], **settings)  # type: ignore[arg-type]


def arm64(*lines: Line, size: int = 2 * GIB, crash: int = 0x60000000, **settings: object) -> OddMachine:
    """Return an arm64 machine with those lines, too.

    It has RAM from 1 GiB on, with the kernel in it, and 256 MiB reserved at `crash`.
    """
    base = 0x40000000
    main = [
        line(base, size, RAM),
        line(base + 0x200000, 0x1A00000, "Kernel code", 1),
        line(base + 0x1C00000, 0x200000, "reserved", 1),
        line(base + 0x1E00000, 0x100000, "Kernel data", 1),
        line(base + 0x8000000, 0x10000, "reserved", 1),
        line(crash, 256 * MIB, CRASH, 1),
    ]
    values: dict[str, object] = {
        "arch": "aarch64",
        "linear_base": 0xFFFF000000000000 - base,
        "text": (0xFFFF800080000000, base + 0x200000, 0x1D00000),
        **settings,
    }
    return OddMachine([*main, *lines], **values)  # type: ignore[arg-type]


def arm(
    *lines: Line, base: int = 0x40000000, size: int = GIB, crash: int = 0x58000000, **settings: object
) -> OddMachine:
    """Return an arm machine with those lines, too.

    It has RAM from `base` on, with the kernel in it, and 256 MiB reserved at `crash`.
    """
    main = [
        line(base, size, RAM),
        line(base + 0x208000, 0xFF8000, "Kernel code", 1),
        line(base + 0x1400000, 0x207588, "Kernel data", 1),
        line(crash, 256 * MIB, CRASH, 1),
    ]
    values: dict[str, object] = {
        "arch": "armv7l",
        "linear_base": 0xC0000000 - base,
        "text": None,
        "mapped_end": base + 760 * MIB,  # below it 240 MiB of vmalloc space
        **settings,
    }
    return OddMachine([*main, *lines], **values)  # type: ignore[arg-type]


def riscv64(*lines: Line, size: int = 2 * GIB, crash: int = 0xA0000000, **settings: object) -> OddMachine:
    """RAM from 2 GiB on, with firmware and then the kernel in it and 256 MiB reserved at `crash`, then those
    lines."""
    base = 0x80000000
    main = [
        line(base, size, RAM),
        line(base, 0x80000, "Reserved", 1),
        line(base + 0x202000, 0x239E000, "Kernel image", 1),
        line(base + 0x202000, 0xDD0000, "Kernel code", 2),
        line(base + 0x1400000, 0xC00000, "Kernel rodata", 2),
        line(base + 0x2200000, 0x2F5000, "Kernel data", 2),
        line(base + 0x24F5000, 0xAB000, "Kernel bss", 2),
        line(base + 0x25A0000, 0x60000, "Reserved", 1),
        line(crash, 256 * MIB, CRASH, 1),
    ]
    values: dict[str, object] = {
        "arch": "riscv64",
        "linear_base": 0xFFFFAF8000000000 - base,
        "text": (0xFFFFFFFF80002000, base + 0x202000, 0x239E000),
        "protected": [(base, base + 0x7FFFF)],
        **settings,
    }
    return OddMachine([*main, *lines], **values)  # type: ignore[arg-type]


def loongarch64(
    *lines: Line, size: int = 2 * GIB, crash: int = 0xA0000000, **settings: object
) -> OddMachine:
    """Return a loongarch64 machine with those lines, too.

    It has 256 MiB of RAM with the kernel in it, and RAM from 2 GiB on, with 256 MiB reserved at `crash`.
    """
    main = [
        line(0, 256 * MIB, RAM),
        line(0, 2 * MIB, "Reserved", 1),
        line(0x200000, 0x1100000, "Kernel code", 1),
        line(0x1300000, 0x813A00, "Kernel data", 1),
        line(0x1B13A00, 0xEB470, "Kernel bss", 1),
        line(0x1BFEE70, 0x1190, "Reserved", 1),
        line(0x1C00000, 0xC4000, "Reserved", 1),
        line(0x80000000, size, RAM),
        line(0x80000000, 128 * MIB, "Reserved", 1),
        line(crash, 256 * MIB, CRASH, 1),
    ]
    values: dict[str, object] = {
        "arch": "loongarch64",
        "page_size": 16384,
        "linear_base": 0x9000000000000000,
        "text": (0x9000000000000000, 0, 256 * MIB),
        "firmware": False,
        **settings,
    }
    return OddMachine([*main, *lines], **values)  # type: ignore[arg-type]


def s390x(*lines: Line, size: int = 1792 * MIB, crash: int | None = None, **settings: object) -> OddMachine:
    """Return an s390x machine with those lines, too.

    It has RAM from 0 on, with the kernel in it, and 256 MiB reserved at `crash`: None is behind that.
    """
    main = [
        line(0, size, RAM),
        line(MIB, 0x9E1000, "Kernel code", 1),
        line(0xAE1000, 0x428000, "Kernel data", 1),
        line(0x128E000, 0xAD000, "Kernel bss", 1),
        line(size if crash is None else crash, 256 * MIB, CRASH),
    ]
    values: dict[str, object] = {
        "arch": "s390x",
        "linear_base": 0,
        "text": (0, 0, size),
        "firmware": False,
        **settings,
    }
    return OddMachine([*main, *lines], **values)  # type: ignore[arg-type]


def _offline(*blocks: int) -> dict[str, Any]:
    """Return settings for a machine of 32 blocks of 256 MiB, of which these are offline."""
    folder, size = "sys/devices/system/memory", 256 * MIB
    states = {number: "offline" if number in blocks else "online" for number in range(32)}
    return {
        "protected": [(number * size, (number + 1) * size - 1) for number in blocks],
        "more": {
            f"{folder}/block_size_bytes": f"{size:x}\n",
            **{f"{folder}/memory{number}/state": f"{state}\n" for number, state in states.items()},
        },
    }


def _pieces(first: int, count: int, size: int, step: int, name: str = RAM) -> list[Line]:
    return [line(first + number * step, size, name) for number in range(count)]


ODD = {
    "arm-highmem": arm(line(0x50000000, MIB, "reserved", 1), size=3 * GIB - 64 * KIB),
    "arm-lpae": arm(line(0x1_0000_0000, GIB, RAM), line(0x8_0000_0000, 4 * GIB, RAM), size=2 * GIB),
    "arm-not-aligned": arm(base=0x41000000, crash=0x59200000),
    "5-level": x86(
        line(200 * TIB, 16 * GIB, RAM),
        linear_base=0xFF11000000000000,
        vmcoreinfo="NUMBER(pgtable_l5_enabled)=1\n",
    ),
    "terabytes-with-holes": x86(*_pieces(TIB, 8, 900 * GIB, TIB)),
    "no-firmware-map": x86(line(4 * GIB, GIB, RAM), firmware=False),
    "e820-of-700": x86(
        *sorted(
            [
                *_pieces(4 * GIB, 350, 1 * MIB, 4 * MIB),
                *_pieces(4 * GIB + MIB, 350, 64 * KIB, 4 * MIB, "Reserved"),
            ],
            key=lambda each: each.first,
        )
    ),
    "1500-ranges": x86(*_pieces(4 * GIB, 1500, 128 * MIB, 256 * MIB)),
    "hotplugged": x86(
        line(4 * GIB, 2 * GIB, RAM), line(8 * GIB, 2 * GIB, "System RAM (virtio_mem)"), line(TIB, GIB, RAM)
    ),
    "persistent": x86(
        line(4 * GIB, 4 * GIB, "Persistent Memory"),
        line(4 * GIB, 4 * GIB, "namespace0.0", 1),
        line(4 * GIB + 2 * MIB, 2 * GIB, "dax0.0", 2),
        line(4 * GIB + 2 * MIB, 2 * GIB, "System RAM (kmem)", 3),
    ),
    "soft-reserved": x86(
        line(4 * GIB, 8 * GIB, "Soft Reserved"),
        line(4 * GIB, 8 * GIB, "hmem.0", 1),
        line(4 * GIB, 4 * GIB, "dax0.0", 2),
        line(4 * GIB, 4 * GIB, "System RAM (kmem)", 3),
    ),
    "cxl": x86(
        line(4 * GIB, 2 * GIB, RAM),
        line(16 * GIB, 64 * GIB, "CXL Window 0"),
        line(16 * GIB, 32 * GIB, "region0", 1),
        line(16 * GIB, 32 * GIB, "dax0.0", 2),
        line(16 * GIB, 32 * GIB, "System RAM (kmem)", 3),
    ),
    "4096-cpus-with-gaps": x86(cpus=[cpu for cpu in range(8192) if cpu % 16 < 8]),
    "crash-low-and-high": x86(line(4 * GIB, 8 * GIB, RAM), line(6 * GIB, GIB, CRASH, 1)),
    "crash-in-three": x86(
        line(4 * GIB, 8 * GIB, RAM),
        line(5 * GIB, 256 * MIB, CRASH, 1),
        line(6 * GIB, 512 * MIB, CRASH, 1),
    ),
    "crash-cma": x86(
        line(4 * GIB, 8 * GIB, RAM), cma=[(5 * GIB, 5 * GIB + 512 * MIB - 1), (0x70000000, 0x73FFFFFF)]
    ),
    "arm64-64k-pages": arm64(line(0x100000000, 8 * GIB, RAM), page_size=65536),
    "arm64-16k-pages": arm64(page_size=16384),
    "arm64-terabytes": arm64(*_pieces(TIB, 4, 700 * GIB, TIB)),
    "arm64-low-and-high": arm64(line(4 * GIB, 8 * GIB, RAM), line(6 * GIB, GIB, CRASH, 1)),
    "arm64-many-reserved": arm64(
        line(4 * GIB, 2 * GIB, RAM),
        *(line(4 * GIB + number * MIB, 64 * KIB, "reserved", 1) for number in range(1200)),
    ),
    "riscv64-low-and-high": riscv64(line(4 * GIB, 8 * GIB, RAM), line(6 * GIB, GIB, CRASH, 1)),
    "riscv64-firmware-in-two": riscv64(
        line(4 * GIB, GIB, RAM),
        protected=[(0x80000000, 0x8003FFFF), (0x80040000, 0x8007FFFF), (0x120000000, 0x12000FFFF)],
    ),
    "riscv64-5-level": riscv64(line(TIB, 16 * GIB, RAM), linear_base=0xFF60000000000000 - 0x80000000),
    "loongarch64-4k-pages": loongarch64(page_size=4096),
    "loongarch64-low-and-high": loongarch64(line(4 * GIB, 8 * GIB, RAM), line(6 * GIB, GIB, CRASH, 1)),
    "loongarch64-cma": loongarch64(
        line(4 * GIB, 8 * GIB, RAM), cma=[(8 * GIB, 8 * GIB + 256 * MIB - 1), (0x90000000, 0x93FFFFFF)]
    ),
    "s390x": s390x(),
    "s390x-standby-memory": s390x(line(2 * GIB, 6 * GIB, RAM), **_offline(*range(8, 32))),
    "s390x-offline-below-2g": s390x(**_offline(3, 5, 6)),
    "s390x-terabytes": s390x(*_pieces(TIB, 4, 700 * GIB, TIB), size=8 * GIB),
    "s390x-reserved-high": s390x(size=6 * GIB),
    "arm64-cma": arm64(
        line(4 * GIB, 8 * GIB, RAM),
        line(6 * GIB, GIB, CRASH, 1),
        cma=[(8 * GIB, 8 * GIB + 256 * MIB - 1)],
    ),
}

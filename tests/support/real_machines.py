"""Snapshots of real guests for `brute_force`, read without any of pykexec's readers."""

import io
import json
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from elftools.elf.elffile import ELFFile

from tests.support.odd_machines import CRASH, RAM, Line


@dataclass(frozen=True)
class RealMachine:
    """A machine from a snapshot; see `OddMachine`."""

    lines: Sequence[Line]
    firmware_lines: Sequence[Line]
    arch: str
    page_size: int
    notes: Sequence[int]
    linear_base: int
    text: tuple[int, int, int] | None
    mapped_end: int
    cma: Sequence[tuple[int, int]]
    protected: Sequence[tuple[int, int]]


def read(path: Path) -> RealMachine:
    with tarfile.open(path) as tar:
        files = {each.name: _content(tar, each) for each in tar if each.isfile()}
    identity = json.loads(files["pykexec-snapshot.json"])
    lines = [*_lines(files["proc/iomem"].decode()), *_in_tree(files)]
    ram = [each for each in lines if each.name == RAM]
    bits, linear, text = _mappings(files, ram) if "proc/kcore" in files else _lowmem(files, ram)
    cma = files.get("sys/kernel/kexec/crash_cma_ranges", b"").decode().split()
    return RealMachine(
        lines,
        _firmware(files),
        identity["machine"],
        identity["page_size"],
        [address for _, address in sorted(_notes(files))],
        linear[0] - linear[1],
        text,
        1 << 64 if bits == 64 else linear[1] + linear[2],
        [(int(first, 16), int(last, 16)) for first, last in (each.split("-") for each in cma)],
        list(_protected(files)),
    )


_Mapping = tuple[int, int, int]
"""Virtual and physical address, size."""


def _mappings(files: dict[str, bytes], ram: Sequence[Line]) -> tuple[int, _Mapping, _Mapping | None]:
    """Return the word size, the linear map, and what the kernel runs in if that is another one."""
    bits, loads, info = _kcore(files["proc/kcore"])
    stext = int(info["SYMBOL(_stext)"], 16)
    text = next(each for each in loads if each[0] <= stext < each[0] + each[2])
    linear = max(
        (each for each in loads if any(each[1] <= line.last and line.first < sum(each[1:]) for line in ram)),
        key=lambda each: each[2],
    )
    return bits, linear, None if text == linear else text


def _lowmem(files: dict[str, bytes], ram: Sequence[Line]) -> tuple[int, _Mapping, None]:
    """Return the same where there is no /proc/kcore: the kernel is in the first 32 MiB of memory."""
    stext = int(files["proc/kallsyms"].split()[0], 16)
    return 32, (stext & -0x2000000, ram[0].first, 760 << 20), None


def _in_tree(files: dict[str, bytes]) -> Iterator[Line]:
    """What powerpc's kernels tell of memory beside /proc/iomem."""
    chosen = "proc/device-tree/chosen/linux"
    if f"{chosen},crashkernel-base" in files:
        start, size = (int.from_bytes(files[f"{chosen},crashkernel-{which}"]) for which in ("base", "size"))
        yield Line(start, start + size - 1, CRASH, 1)
    if len(files.get(f"{chosen},kernel-end", b"")) == 8:  # those of 32 bits do not mind being overwritten
        yield Line(0, int.from_bytes(files[f"{chosen},kernel-end"]) - 1, "reserved", 1)


def _protected(files: dict[str, bytes]) -> Iterator[tuple[int, int]]:
    """As the kernel shows it unpacked, in cells of 64 bits; RTAS in one of 32."""
    if "proc/device-tree/rtas/rtas-size" in files:
        names = ("linux,rtas-base", "rtas-size")
        first, size = (int.from_bytes(files[f"proc/device-tree/rtas/{name}"]) for name in names)
        yield first, first + size - 1
    for path, data in files.items():
        if re.fullmatch(r"proc/device-tree/reserved-memory/mmode_resv[^/]*/reg", path):
            first, size = int.from_bytes(data[:8]), int.from_bytes(data[8:])
            yield first, first + size - 1


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    assert file is not None
    return file.read()


def _lines(iomem: str) -> list[Line]:
    found = re.findall(r"^( *)([0-9a-f]+)-([0-9a-f]+) : (.*)$", iomem, re.MULTILINE)
    return [Line(int(first, 16), int(last, 16), name, len(space) // 2) for space, first, last, name in found]


def _firmware(files: dict[str, bytes]) -> list[Line]:
    folders = {path.rpartition("/")[0] for path in files if path.startswith("sys/firmware/memmap/")}
    return [
        Line(
            int(files[f"{folder}/start"], 16),
            int(files[f"{folder}/end"], 16),
            files[f"{folder}/type"].decode().strip(),
        )
        for folder in folders
    ]


def _notes(files: dict[str, bytes]) -> list[tuple[int, int]]:
    """Return the CPUs, each with the address of its notes."""
    pattern = re.compile(r"sys/devices/system/cpu/cpu(\d+)/crash_notes")
    found = ((pattern.fullmatch(path), data) for path, data in files.items())
    return [(int(match[1]), int(data, 16)) for match, data in found if match]


def _kcore(data: bytes) -> tuple[int, list[tuple[int, int, int]], dict[str, str]]:
    """Return the word size, the mappings (virtual and physical address, size), and VMCOREINFO."""
    elf = ELFFile(io.BytesIO(data))
    headers = [each.header for each in elf.iter_segments() if each["p_type"] == "PT_LOAD"]
    (note,) = (each for each in elf.iter_segments() if each["p_type"] == "PT_NOTE")
    words = re.findall(r"^(\S+)=(.*)$", note.data().decode("latin-1"), re.MULTILINE)
    loads = [(each["p_vaddr"], each["p_paddr"], each["p_memsz"]) for each in headers]
    return elf.elfclass, loads, dict(words)

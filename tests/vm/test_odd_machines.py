"""Rare machines as far as QEMU has them: what is dumped and what is handed on is what the kernels say.

The unit tests have more of them, made up, with an oracle (test_odd_machines.py there).
"""

from collections.abc import Iterable
from dataclasses import replace

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.segments import NoteSegment

from tests.vm import jobs
from tests.vm.conftest import RunGuest
from tests.vm.test_crash import crash
from tools.lab import ARM64, PANIC, X86_64, Guest, Kernel, Machine, Result, images
from tools.lab.packages import kernels

MIB, GIB, TIB = 1 << 20, 1 << 30, 1 << 40
_HEAD = 'dd if=/proc/vmcore of="$OUT/vmcore.head" bs=64k count=4\n'
"""The headers stand at the beginning; the notes follow within the first pages."""


def head(result: Result, stage: str = "second") -> ELFFile:
    return ELFFile((result.stage(stage).folder / "vmcore.head").open("rb"))


def check_dumped(core: ELFFile, ram: Iterable[range], left_out: Iterable[range]) -> None:
    """What the capture kernel has to dump are the ranges that the first kernel had as RAM, and no others."""
    headers = [each.header for each in core.iter_segments() if each["p_type"] == "PT_LOAD"]
    dumped = [range(each["p_paddr"], each["p_paddr"] + each["p_memsz"]) for each in headers[1:]]
    ram, left_out = list(ram), list(left_out)
    for address in {end for part in (*ram, *left_out, *dumped) for end in (part.start, part.stop)}:
        wanted = any(address in part for part in ram) and not any(address in part for part in left_out)
        assert sum(address in part for part in dumped) == wanted, f"{address:#x}"


def check_notes(core: ELFFile, cpus: int) -> None:
    """Every processor has its note."""
    segments = [each for each in core.iter_segments() if isinstance(each, NoteSegment)]
    notes = [note for each in segments for note in each.iter_notes()]
    assert [note["n_type"] for note in notes].count("NT_PRSTATUS") == cpus
    assert [note["n_name"] for note in notes].count("VMCOREINFO") == 1


_NODES = (
    *("-object", "memory-backend-ram,id=near,size=512M", "-numa", "node,nodeid=0,cpus=0-1,memdev=near"),
    *("-object", "memory-backend-ram,id=far,size=512M", "-numa", "node,nodeid=1,cpus=2-3,memdev=far"),
    *("-object", "memory-backend-ram,id=plugged,size=512M", "-device"),
)
"""Two nodes, and a DIMM in a slot for hotplugged ones."""


def test_nodes_and_a_plugged_dimm(kernel: Kernel, loader: str, run_guest: RunGuest) -> None:
    append = "crashkernel=256M memmap=64M!768M"
    extra = (*_NODES, "pc-dimm,memdev=plugged,node=1")
    machine = Machine(memory="1G,slots=4,maxmem=8G", cpus=4, append=append, extra=extra)
    result = crash(kernel, loader, run_guest, machine, capture=_HEAD, saved=True)
    iomem = result.stage("first").read("iomem")
    ram, reserved = (jobs.ranges(iomem, name) for name in ("System RAM", "Crash kernel"))
    assert jobs.ranges(iomem, "Persistent Memory (legacy)") == [range(768 * MIB, 832 * MIB)], iomem
    assert any(part.start >= 4 * GIB for part in ram), iomem
    check_dumped(head(result), ram, reserved)
    check_notes(head(result), machine.cpus)


@jobs.FURTHER
def test_arm64_memory_beyond_a_terabyte(loader: str, run_guest: RunGuest) -> None:
    """And with ACPI, which is what knows of the node and the DIMM."""
    extra = (*_NODES, f"pc-dimm,memdev=plugged,node=1,addr={3 * TIB // 2:#x}", *jobs.WITH_ITS)
    machine = Machine(ARM64, memory="1G,slots=4,maxmem=4T", cpus=4, uefi=True, extra=extra)
    # makedumpfile takes all of the DIMM for in use, and there is no room for that.
    result = crash(Kernel.get("6.1", ARM64), loader, run_guest, machine, capture=_HEAD, saved=False)
    iomem = result.stage("first").read("iomem")
    ram, reserved = (jobs.ranges(iomem, name) for name in ("System RAM", "Crash kernel"))
    assert any(part.start == 3 * TIB // 2 for part in ram), iomem
    check_dumped(head(result), ram, reserved)
    check_notes(head(result), machine.cpus)


_KMEM = """
modprobe -a device_dax dax_hmem kmem
echo dax0.0 > /sys/bus/dax/drivers/device_dax/unbind
echo dax0.0 > /sys/bus/dax/drivers/kmem/new_id
"""


@jobs.FURTHER
def test_soft_reserved_memory_as_ram(kernel: Kernel, loader: str, run_guest: RunGuest) -> None:
    """It is dumped, and the capture kernel is not told that it might have it."""
    place = range(512 * MIB, 768 * MIB)
    soft = f"memmap={len(place) >> 20}M%{place.start:#x}-1+0xefffffff"
    machine = Machine(append=f"crashkernel=192M {soft}")
    files = kernel.module_folder(["device_dax", "dax_hmem", "kmem"])
    result = crash(kernel, loader, run_guest, machine, prepare=_KMEM, files=files, capture=_HEAD, saved=True)
    iomem = result.stage("first").read("iomem")
    assert jobs.ranges(iomem, "Soft Reserved") == [place], iomem
    names = ("System RAM", r"System RAM (kmem)")
    ram, kmem = (jobs.ranges(iomem, name) for name in names)
    assert kmem, iomem
    check_dumped(head(result), [*ram, *kmem], jobs.ranges(iomem, "Crash kernel"))
    assert "Soft Reserved" not in result.stage("second").read("iomem")


_CXL = (
    *("-machine", "cxl=on,cxl-fmw.0.targets.0=bridge,cxl-fmw.0.size=4G"),
    *("-object", "memory-backend-ram,id=memory,share=on,size=256M"),
    *("-object", "memory-backend-ram,id=labels,share=on,size=256M"),
    *("-device", "pxb-cxl,bus_nr=12,bus=pcie.0,id=bridge"),
    *("-device", "cxl-rp,port=0,bus=bridge,id=root,chassis=0,slot=2"),
    *("-device", "cxl-type3,bus=root,memdev=memory,lsa=labels"),
)


@jobs.FURTHER
def test_a_window_for_cxl_is_not_dumped(kernel: Kernel, loader: str, run_guest: RunGuest) -> None:
    files = kernel.module_folder(["cxl_acpi"])
    machine = Machine(extra=_CXL)
    prepare = "modprobe cxl_acpi\n"
    result = crash(
        kernel, loader, run_guest, machine, prepare=prepare, files=files, capture=_HEAD, saved=True
    )
    iomem = result.stage("first").read("iomem")
    assert jobs.ranges(iomem, "CXL Window 0"), iomem
    check_dumped(head(result), jobs.ranges(iomem, "System RAM"), jobs.ranges(iomem, "Crash kernel"))


def test_memory_of_cma(loader: str, run_guest: RunGuest) -> None:
    """On arm64 Linux 7.2 does not know crashkernel=SIZE,cma."""
    look = 'cp /sys/kernel/kexec/crash_cma_ranges "$OUT/cma"\n'
    machine = Machine(append="crashkernel=192M crashkernel=96M,cma")
    result = crash(
        Kernel.get("7.2", X86_64), loader, run_guest, machine, prepare=look, capture=_HEAD, saved=True
    )
    told = (line.split("-") for line in result.stage("first").read("cma").split())
    cma = [range(int(start, 16), int(last, 16) + 1) for start, last in told]
    assert sum(map(len, cma)) == 96 * MIB
    iomem = result.stage("first").read("iomem")
    check_dumped(head(result), jobs.ranges(iomem, "System RAM"), [*jobs.ranges(iomem, "Crash kernel"), *cma])
    ram = jobs.ranges(result.stage("second").read("iomem"), "System RAM")
    assert all(any(part.start in each and part.stop - 1 in each for each in ram) for part in cma)


@jobs.FURTHER
def test_arm64_pages_of_16k(loader: str, run_guest: RunGuest) -> None:
    kernel = Kernel.get("7.2", replace(ARM64, kernels=kernels("linux-image-arm64-16k")))
    result = crash(kernel, loader, run_guest, Machine(ARM64), capture=_HEAD, saved=True)
    iomem = result.stage("first").read("iomem")
    check_dumped(head(result), jobs.ranges(iomem, "System RAM"), jobs.ranges(iomem, "Crash kernel"))


_PIECES = 256 * MIB
_STEP, _HOLE = 512 << 10, 4 << 10
_MAP = f"""
import pathlib, sys
first, behind = {_PIECES}, {_PIECES} + int(sys.argv[1]) * {_STEP}
old, new = pathlib.Path("/sys/firmware/memmap"), pathlib.Path("/tmp/memmap")
entries = []
for each in old.iterdir():
    start, end = (int((each / name).read_text(), 16) for name in ("start", "end"))
    kind = (each / "type").read_text()
    if not (start < first and behind < end):
        entries.append((start, end, kind))
        continue
    entries.append((start, first - 1, kind))
    for at in range(first, behind, {_STEP}):
        entries += [(at, at + {_HOLE} - 1, "Reserved\\n"), (at + {_HOLE}, at + {_STEP} - 1, kind)]
    # Loaders and kernels join what adjoins.
    entries += [(behind, behind + {_HOLE} - 1, "Reserved\\n"), (behind + {_HOLE}, end, kind)]
for number, (start, end, kind) in enumerate(entries):
    folder = new / str(number)
    folder.mkdir(parents=True)
    (folder / "start").write_text(f"{{start:#x}}\\n")
    (folder / "end").write_text(f"{{end:#x}}\\n")
    (folder / "type").write_text(kind)
"""
_SHOW_MAP = """
import os, pathlib
names = "start", "end", "type"
folders = pathlib.Path("/sys/firmware/memmap").iterdir()
lines = [" ".join((each / name).read_text().strip() for name in names) for each in folders]
pathlib.Path(os.environ["OUT"], "memmap").write_text("".join(f"{line}\\n" for line in sorted(lines)))
"""
_SHOW = {"/show.py": _SHOW_MAP.encode()}


@pytest.mark.parametrize("pieces", [100, jobs.further(1024, id="1024")])
def test_a_map_of_hundreds_and_of_thousands(
    pieces: int, kernel: Kernel, loader: str, run_guest: RunGuest
) -> None:
    """The second kernel knows each of the entries, and what it leaves when it crashes is all there."""
    third = images.small(kernel.arch) + kernel.modules()
    third += images.overlay("third", jobs.capture(kernel, saved=True) + _HEAD, {})
    line = f"{X86_64.line} earlyprintk=ttyS0 "
    load = f'{loader} -l "$KERNEL" --initrd "$SECOND_IMAGE" --append "{line}crashkernel=256M"\n'
    guest = Guest(
        kernel,
        f"set -e\npython3 /map.py {pieces}\nmount --bind /tmp/memmap /sys/firmware/memmap\n"
        f"python3 /show.py\n{load}",
        f"{loader} -e",
        second_job=f'set -e\ncp /proc/iomem "$OUT"\npython3 /show.py\n'
        f'{loader} -p /boot/vmlinuz --initrd /boot/third.img --append "{line}nr_cpus=1"\n',
        second_files={**_SHOW, "/boot/vmlinuz": kernel.image.read_bytes(), "/boot/third.img": third},
        second_then=PANIC,
        files={**_SHOW, "/map.py": _MAP.encode()},
    )
    result = run_guest(guest, Machine(append="", memory="2G"))
    second = result.stage("second")
    assert second.read("memmap") == result.stage("first").read("memmap")
    assert second.read("memmap").count("\n") > 2 * pieces
    ram = jobs.ranges(second.read("iomem"), "System RAM")
    assert len(ram) > pieces
    check_dumped(head(result, "third"), ram, jobs.ranges(second.read("iomem"), "Crash kernel"))

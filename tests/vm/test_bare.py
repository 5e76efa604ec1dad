"""Machines without a userland: plans are made here from what they tell of themselves, and loaded there."""

import dataclasses
import gzip
import io
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from pykexec import loader, planfile
from pykexec.errors import NoCrashMemoryError
from pykexec.files import FileData
from pykexec.formats import elf
from pykexec.machine import Machine as Facts
from pykexec.plan import LoadPlan, Purpose, Request
from pykexec.vmcore import Dump
from pykexec.vmcore.log import KernelLog
from tests.support.uimage import uimage
from tests.vm import jobs
from tools.lab import Arch, Kernel, bare
from tools.lab.arches.ppc import ARCH as PPC
from tools.lab.arches.sh import ARCH as SH

pytestmark = jobs.FURTHER

_BOOT = {SH: ["6.1"], PPC: ["6.1"]}
_CRASH = {SH: ["6.1"], PPC: ["6.1"]}
_CAPTURE = "capture"
"""What a kernel that runs in the reserved memory only is called, behind its version. Others run anywhere."""
_LOAD = "run /kexec {option} --load-plan /plan"
_PANIC = "write /proc/sysrq-trigger c"


@dataclasses.dataclass(frozen=True)
class Lab:
    """A kernel, and what its machine tells of itself: the same at each boot of that kernel."""

    kernel: Kernel
    folder: Path

    @property
    def arch(self) -> Arch:
        return self.kernel.arch

    def run(
        self, name: str, script: Sequence[str], files: Mapping[str, bytes], reservation: str = ""
    ) -> bare.Result:
        """Boot, and do what these lines say."""
        image = bare.image(self.arch, script, files)
        append = f"crashkernel={reservation or self.arch.reservation}"
        return bare.run(self.arch, self.kernel.image, image, append, self.folder / name)

    def facts(self, reservation: str = "") -> Facts:
        script = ["into /machine.tar /kexec --snapshot", "show /machine.tar"]
        path = self.folder / "machine.tar"
        path.write_bytes(self.run("asked", script, {}, reservation).answer(script[1]).data)
        return Facts.from_snapshot(path)

    def load(self, name: str, plan: LoadPlan, facts: Facts, then: Sequence[str]) -> bare.Result:
        """Boot, load that plan, and go on."""
        option = "-p" if plan.purpose is Purpose.CRASH else "-l"
        data = planfile.build(plan, planfile.identify(facts, plan.purpose))
        return self.run(name, [_LOAD.format(option=option), *then], {"plan": data})


@pytest.fixture
def lab(arch: Arch, version: str, tmp_path: Path) -> Lab:
    return Lab(Kernel.get(version, arch), tmp_path)


def planned(facts: Facts, request: Request) -> LoadPlan:
    plan = loader.plan(facts, request, "load")
    assert isinstance(plan, LoadPlan)
    return plan


def initrd(arch: Arch, script: Sequence[str], files: Mapping[str, bytes]) -> FileData:
    return FileData.from_bytes("initrd", bare.image(arch, script, files))


def damaged(plan: LoadPlan, name: str) -> LoadPlan:
    """Flip a bit of a segment behind purgatory's back; the plan's file knows of it."""
    data = bytearray(plan.segment(name).data)
    data[len(data) // 2] ^= 1
    segments = (
        dataclasses.replace(each, data=memoryview(bytes(data))) if each.name == name else each
        for each in plan.segments
    )
    return dataclasses.replace(plan, segments=tuple(segments))


@pytest.mark.parametrize(("arch", "version"), jobs.cases("bare-boot", _BOOT))
def test_boot(lab: Lab) -> None:
    """The second kernel has its command line, its initrd, and all memory; a damaged one does not start."""
    facts, content = lab.facts(), secrets.token_bytes(100_000)
    line = bare.line(lab.arch, f"marker={secrets.token_hex(8)}")
    second = initrd(
        lab.arch, ["show /proc/cmdline", "show /proc/meminfo", "show /content"], {"content": content}
    )
    request = Request(FileData.open(lab.kernel.image, "kernel"), initrd=second, append=line)
    plan = planned(facts, request)
    result = lab.load("loads", plan, facts, ["show /proc/meminfo", "run /kexec -e"])
    assert "purgatory: starting the kernel" in result.console
    assert result.answer("show /proc/cmdline").data.decode() == f"{line}\n"
    assert result.answer("show /content").data == content
    before, after = (each for each in result.answers if each.command == "show /proc/meminfo")
    reserved = facts.crash_regions[0].size
    totals = [jobs.memory_total(each.data.decode()) for each in (before, after)]
    assert totals[1] - totals[0] == pytest.approx(reserved, abs=1 << 20)

    for name in ("initrd", "kernel"):
        console = lab.load(name, damaged(plan, name), facts, ["run /kexec -e"]).console
        assert f"purgatory: region {name} is damaged" in console
        assert console.endswith("purgatory: resetting the machine\n")


@pytest.mark.parametrize(("arch", "version"), jobs.cases("bare-crash", _CRASH))
def test_crash(lab: Lab) -> None:
    """The dump has the first kernel's memory, where that had it, and its log."""
    facts, marker = lab.facts(), secrets.token_hex(8)
    own = f"{lab.kernel.version}-{_CAPTURE}"
    capture = Kernel.get(own, lab.arch) if own in lab.arch.built else lab.kernel
    script = ["show /proc/cmdline", "show /proc/meminfo", "pages /proc/vmcore"]
    line = bare.line(lab.arch, f"marker={marker}")
    request = Request(
        FileData.open(capture.image, "kernel"), Purpose.CRASH, initrd(lab.arch, script, {}), append=line
    )
    plan = planned(facts, request)
    then = ["show /proc/iomem", f"write /dev/kmsg marker {marker}", _PANIC]
    result = lab.load("loads", plan, facts, then)
    assert "purgatory: starting the kernel" in result.console
    assert result.answer("show /proc/cmdline").data.decode() == f"{plan.command_line}\n"
    path = lab.folder / "vmcore"
    path.write_bytes(result.answer(script[-1]).pages)
    check_headers(path.read_bytes(), facts, result.answer("show /proc/iomem").data.decode())
    dump = Dump.open(path)
    assert dump.vmcoreinfo.lines["OSRELEASE"] == lab.kernel.release
    log = b"\n".join(record.text for record in KernelLog(dump))
    assert f"marker {marker}".encode() in log
    assert b"Kernel panic - not syncing: sysrq triggered crash" in log

    console = lab.load("damaged", damaged(plan, "kernel"), facts, [_PANIC]).console
    assert "purgatory: region kernel is damaged" in console
    assert console.endswith("purgatory: resetting the machine\n")


def check_headers(dump: bytes, facts: Facts, iomem: str) -> None:
    """All RAM but what was reserved is there once, at its place in the linear map."""
    file = ELFFile(io.BytesIO(dump))
    headers = [each.header for each in file.iter_segments() if each["p_type"] == "PT_LOAD"]
    found = sorted((each["p_paddr"], each["p_paddr"] + each["p_memsz"]) for each in headers)
    (ram,), (reserved,) = jobs.ranges(iomem, "System RAM"), facts.crash_regions
    assert found == [(ram.start, reserved.start), (reserved.end, ram.stop)]
    for each in headers:
        assert each["p_vaddr"] == facts.kcore.virtual_of(each["p_paddr"])


@pytest.mark.parametrize(("arch", "version"), jobs.cases("bare-uimage", {PPC: ["6.1"]}))
def test_a_uimage_boots(lab: Lab) -> None:
    """A raw kernel, as U-Boot takes it: what is told of it is where it goes, in the header before it."""
    facts, line = lab.facts(), bare.line(lab.arch, f"marker={secrets.token_hex(8)}")
    file = FileData.open(lab.kernel.image, "kernel")
    program = elf.parse(file.path, file.data)
    whole = elf.flatten(file.path, program.pieces)
    image = uimage(gzip.compress(whole.data, 1), arch=7, load=whole.address, entry=program.physical_entry())
    second = initrd(lab.arch, ["show /proc/cmdline"], {})
    plan = planned(facts, Request(FileData.from_bytes("uImage", image), initrd=second, append=line))
    result = lab.load("loads", plan, facts, ["run /kexec -e"])
    assert result.answer("show /proc/cmdline").data.decode() == f"{line}\n"


@pytest.mark.parametrize(("arch", "version"), jobs.cases("bare-unaligned", {PPC: ["6.1"]}))
def test_an_unaligned_reservation_is_refused(lab: Lab) -> None:
    """Where the kernel itself puts it, at 32 MiB, no e500 kernel starts: with the C tool's plan it dies."""
    facts = lab.facts("128M")
    request = Request(FileData.open(lab.kernel.image, "kernel"), Purpose.CRASH)
    with pytest.raises(NoCrashMemoryError, match="begins at 32 MiB") as refused:
        loader.plan(facts, request, "load")
    assert refused.value.hint == "boot with crashkernel=128M@64M"

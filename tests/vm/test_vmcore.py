"""Real dumps: of Debian's kernels, by makedumpfile and QEMU, read here and by the C programs."""

import bisect
import ctypes
import gzip
import hashlib
import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from pykexec.vmcore import Dump, DumpError, NotInDumpError, info, pages, styles
from pykexec.vmcore.log import KernelLog
from tests.support import vmcore
from tests.support.effort import examples
from tests.support.vmcore_log import PHYSICAL, Characters, Lockless, Memory, Records
from tests.vm import jobs
from tests.vm.conftest import RunGuest
from tools.lab import ARM64, PANIC, X86_64, Arch, Guest, Kernel, Machine, Stage
from tools.lab.arches.arm import ARCH as ARM
from tools.lab.arches.riscv64 import ARCH as RISCV64
from tools.lab.debian import fetch
from tools.lab.host import PROJECT

# The messages come around in the log's ring, and fill blocks of 32 bytes: since Linux 6.18 one of them ends
# exactly with the ring. The console is kept out of it, which would take minutes.
FILL = """
cp /proc/kallsyms "$OUT"
dmesg -n 1
i=10000
while [ $i -lt 15000 ]; do echo "filler $i aaaaaaaaa" > /dev/kmsg; i=$((i+1)); done
printf 'tab\\there \\033[31m utf8 \\303\\244 end\\n' > /dev/kmsg
printf 'line one\\nline two\\n\\nline four\\n' > /dev/kmsg
printf '\\n' > /dev/kmsg
"""
CAPTURE = """
set -e
vmcore-dmesg /proc/vmcore > "$OUT/vmcore-dmesg"
makedumpfile -l -d 31 /proc/vmcore "$OUT/lzo" > /dev/null
makedumpfile --dump-dmesg "$OUT/lzo" "$OUT/makedumpfile"
makedumpfile -c -d 31 "$OUT/lzo" "$OUT/zlib" > /dev/null
"""
OTHERS = """
makedumpfile -F -E -d 31 /proc/vmcore | gzip -1 > "$OUT/elf.gz"
makedumpfile -F -c -d 31 "$OUT/lzo" > "$OUT/zlib.flat"
makedumpfile --split -l -d 31 "$OUT/lzo" "$OUT/split.1" "$OUT/split.2" "$OUT/split.3" > /dev/null
"""
APPEND = "crashkernel=384M printk.devkmsg=on"
KERNELS = {X86_64: ("6.1",)}
FURTHER_KERNELS = {X86_64: ("5.10", "6.12", "7.2"), ARM64: ("5.10", "6.1")}


def lines_of(path: Path, style: Callable[[Dump], styles.Style]) -> list[bytes]:
    dump = Dump.open(path)
    log = KernelLog(dump)
    text = b"".join(map(style(dump), log))
    assert log.damage == []
    return text.split(b"\n")


def as_vmcore_dmesg(dump: Dump) -> styles.Style:
    del dump
    return styles.vmcore_dmesg


def as_makedumpfile(dump: Dump) -> styles.Style:
    return styles.makedumpfile(char_is_signed=dump.part.char_is_signed)


@pytest.mark.parametrize(("arch", "version"), jobs.cases("dump", KERNELS, FURTHER_KERNELS))
def test_dumps_are_read_as_the_c_programs_read_them(
    arch: Arch, version: str, loader: str, run_guest: RunGuest
) -> None:
    kernel = Kernel.get(version, arch)
    more = OTHERS if version == "6.1" and jobs.all_are_asked_for() else ""
    guest = Guest(kernel, jobs.crash_load(loader, "marker", kernel) + FILL, PANIC, CAPTURE + more)
    result = run_guest(guest, Machine(arch, append=APPEND))
    second = result.stage("second")
    files = [second.folder / "lzo", second.folder / "zlib"]
    if more:
        files += [unpacked(second.folder / "elf.gz"), second.folder / "zlib.flat"]
    for style, name in ((as_vmcore_dmesg, "vmcore-dmesg"), (as_makedumpfile, "makedumpfile")):
        expected = (second.folder / name).read_bytes().split(b"\n")
        for file in files:
            found = lines_of(file, style)
            assert_alike(found, expected, exact=version != "7.2")
            fillers = [int(line.split()[-2]) for line in found if b"] filler " in line]
            assert len(fillers) > 3000
            assert fillers == list(range(fillers[0], 15000)), "none is there twice, none is missing"
    compare_memory([Dump.open(file) for file in files])
    if more:
        check_split(second, Dump.open(files[0]))
    check_info(Dump.open(files[0]), arch, kernel)
    check_processors(Dump.open(files[0]), result.stage("first").folder / "kallsyms")


def assert_alike(found: list[bytes], expected: list[bytes], *, exact: bool) -> None:
    """Since Linux 6.18 the C programs look for a text that ends with the ring at the ring's start."""
    assert len(found) == len(expected)
    different = [pair for pair in zip(found, expected, strict=True) if pair[0] != pair[1]]
    assert len(different) <= (0 if exact else 1), different


def unpacked(packed: Path) -> Path:
    target = packed.with_suffix("")
    with gzip.open(packed) as source, target.open("wb") as file:
        shutil.copyfileobj(source, file)
    return target


def compare_memory(dumps: list[Dump]) -> None:
    """Pages picked at random are the same in all of them, or in none."""
    chance = random.Random(1)
    places = [chance.randrange(part.start, part.end) & -4096 for part in dumps[0].memory for _ in range(700)]
    contents = [[page_or_none(dump, place) for place in places] for dump in dumps]
    assert sum(each is not None for each in contents[0]) > 100
    for other in contents[1:]:
        # An ELF dump has, at the end of a segment, pages that others leave out.
        assert all(one == two for one, two in zip(contents[0], other, strict=True) if one and two)
        assert sum((one is None) != (two is None) for one, two in zip(contents[0], other, strict=True)) < 50


def page_or_none(dump: Dump, address: int) -> bytes | None:
    try:
        return dump.read_physical(address, 4096)
    except NotInDumpError:
        return None


def check_split(stage: Stage, whole: Dump) -> None:
    parts = [stage.folder / f"split.{number}" for number in (1, 2, 3)]
    together = Dump.open(*parts)
    assert together.contents.damage == ()
    compare_memory([whole, together])
    assert list(KernelLog(together)) == list(KernelLog(whole))
    alone = [Dump.open(part) for part in parts]
    assert all(each.contents.is_part for each in alone)
    for place in (part.start for part in whole.memory):
        assert sum(page_or_none(each, place) is not None for each in alone) <= 1


def check_info(dump: Dump, arch: Arch, kernel: Kernel) -> None:
    """Where Debian 12's makedumpfile does not know the kernel, pages are missing."""
    found = json.loads(info.as_json(info.gather(dump)))
    assert (found["arch"], found["release"], found["page_size"]) == (arch.name, kernel.release, 4096)
    known = kernel.version in ("5.10", "6.1")
    assert found["complete"] == known
    assert known or "pages that are needed are missing" in found["damage"][0]
    assert found["dump_level"] == 31
    assert found["panic"] == "Kernel panic - not syncing: sysrq triggered crash"
    assert found["first_sign"] == "sysrq: Trigger a crash"
    assert time.time() - 3600 < found["crash_time"] < time.time() + 3600
    here = arch is X86_64 and known
    assert all(each["can_read"] for each in found["readers"].values()) == here
    assert len(found["processors"]) == 2


def check_processors(dump: Dump, kallsyms: Path) -> None:
    """One of them crashed, in the process that the log names."""
    symbols = sorted(
        (int(address, 16), name)
        for address, kind, name, *_ in map(str.split, kallsyms.read_text().splitlines())
        if kind in "tT"
    )
    functions = {}
    for each in dump.processors:
        assert each.pc is not None
        functions[each.process] = symbols[bisect.bisect(symbols, (each.pc + 1, "")) - 1][1]
    log = b"\n".join(record.text for record in KernelLog(dump))
    (process,) = set(re.findall(rb"\bPID: (\d+) Comm: \S+ ", log))
    assert functions[int(process)] == "__crash_kexec"


# In the capture kernel itself, where the dump is /proc/vmcore.
LIVE = """
import itertools, random, sys
from pykexec.vmcore import Dump, cli
assert cli.show_log(["/proc/vmcore"]) == 0
dump = Dump.open("/proc/vmcore")
tables, headers, entry = dump._tables, dump.contents.physical_of, dump._entry
assert tables.levels == int(sys.argv[1]), tables
count = 0
mapped = (each for each in dump.contents._loads if each.virtual % 4096 == 0)
for each in itertools.islice(mapped, 8):
    for _ in range(200):
        virtual = each.virtual + random.randrange(each.memory_size) & -4096
        physical = headers(virtual)[0]
        place = tables.translate(virtual, entry)
        # The kernel takes what nobody may read out of the linear map.
        if place is not None:
            assert place.physical == physical, (hex(virtual), hex(physical), place)
            count += 1
assert count > 200
"""


@pytest.mark.parametrize(
    ("arch", "version", "levels"),
    [
        pytest.param(ARM64, "7.2", 5, id="arm64-7.2"),
        jobs.further(X86_64, "6.12", 5, id="x86_64-6.12"),
        jobs.further(RISCV64, "7.2", 4, id="riscv64-7.2"),
        jobs.further(ARM, "6.1", 2, id="arm-6.1"),
        jobs.further(ARM, "6.1-lpae", 3, id="arm-6.1-lpae"),
    ],
)
def test_proc_vmcore_and_page_tables(
    arch: Arch, version: str, levels: int, loader: str, run_guest: RunGuest
) -> None:
    """With five levels of page tables: on arm64 those of 52-bit addresses (LPA2)."""
    kernel = Kernel.get(version, arch)
    job = f"""
set -e
vmcore-dmesg /proc/vmcore > "$OUT/theirs"
python3 /live.py {levels} > "$OUT/ours"
"""
    files = {"/live.py": LIVE.encode()}
    guest = Guest(
        kernel, jobs.crash_load(loader, "marker", kernel), PANIC, job, second_files=files, second_then="true"
    )
    second = run_guest(guest, Machine(arch, append="crashkernel=384M")).stage("second")
    assert second.read("ours") == second.read("theirs")
    assert "Kernel panic - not syncing: sysrq triggered crash" in second.read("ours")


# Without a guest: the C vmcore-dmesg reads the logs that the unit tests are made of.


@pytest.fixture(scope="module")
def c_vmcore_dmesg() -> Path:
    (package,) = fetch("bookworm", "amd64", ["kexec-tools"])
    return next(package.rglob("sbin/vmcore-dmesg"))


def run_c(program: Path, dump: Path) -> tuple[int, bytes]:
    done = subprocess.run([program, dump], capture_output=True, timeout=10)
    return done.returncode, done.stdout


TEXTS = [b"message %d %s" % (number, b"x" * (number * 7 % 40)) for number in range(60)] + [
    b"", b"two\nlines", b"\x1b[0m tab\t \xc3\xa4 \x7f", b"after it",
]  # fmt: skip
MACHINES: list[tuple[str, int, vmcore.Order]] = [
    ("x86_64", 8, "little"), ("i386", 4, "little"), ("ppc64", 8, "big"), ("arm", 4, "big"),
]  # fmt: skip


@pytest.mark.parametrize(("machine", "word", "order"), MACHINES, ids=lambda value: str(value))
@pytest.mark.parametrize("layout", ["lockless", "records", "characters"])
@pytest.mark.parametrize("count", [1, 5, 64])
def test_logs_made_by_hand_are_what_the_c_program_takes_them_for(
    machine: str,
    word: int,
    order: vmcore.Order,
    layout: str,
    count: int,
    c_vmcore_dmesg: Path,
    tmp_path: Path,
) -> None:
    ring: Lockless | Records | Characters
    if layout == "lockless":
        ring = Lockless(4, 10, word=word, order=order)
        for number, text in enumerate(TEXTS[-count:]):
            ring.write(number * 1_234_567_890, text)
    elif layout == "records":
        ring = Records(1024, order=order)
        for number, text in enumerate(TEXTS[-count:]):
            ring.write(number * 1_234_567_890, text, b"SUBSYSTEM=test")
    else:
        ring = Characters(1024)
        for text in TEXTS[-count:]:
            ring.write(b"<6>" + text + b"\n")
    memory = Memory(order, word) if word == 8 else Memory(order, word, 0xC010_0000)
    notes = vmcore.vmcoreinfo_note(ring.place(memory), order)
    path = tmp_path / "vmcore"
    path.write_bytes(
        vmcore.elf(memory.parts(), notes=notes, machine=machine, elf_class=8 * word, order=order)
    )
    status, theirs = run_c(c_vmcore_dmesg, path)
    ours = b"".join(map(styles.vmcore_dmesg, KernelLog(Dump.open(path))))
    # It takes the mark at the end of the buffer, which says that the log goes on at the start, for a record.
    at_the_end = (
        theirs.replace(b"[    0.000000] \n", b"", 1) if layout == "records" and count == 64 else theirs
    )
    assert (status, at_the_end) == (0, ours)


def test_damaged_logs_end_with_the_same_status(c_vmcore_dmesg: Path, tmp_path: Path) -> None:
    from pykexec.vmcore.cli import vmcore_dmesg

    ring = Records(1024)
    for number, text in enumerate(TEXTS):
        ring.write(number, text)
    good = Memory()
    lines = ring.place(good)
    whole = vmcore.elf(good.parts(), notes=vmcore.vmcoreinfo_note(lines))
    ring.buffer[ring.first + 8 : ring.first + 10] = b"\xff\xff"
    memory = Memory()
    bad = vmcore.elf(memory.parts(), notes=vmcore.vmcoreinfo_note(ring.place(memory)))
    path = tmp_path / "vmcore"
    cases = {
        "damaged": bad, "cut short": whole[:10], "no ELF": b"x" * 100,
        "class": whole[:4] + b"\x09" + whole[5:],
        "order": whole[:5] + b"\x09" + whole[6:], "version": whole[:6] + b"\x09" + whole[7:],
        "header": whole[:30], "headers": whole[:80], "version 2": whole[:20] + b"\x09" + whole[21:],
        "header size": whole[:54] + b"\x09" + whole[55:],
        "no memory": vmcore.elf([], notes=vmcore.vmcoreinfo_note(lines)),
    }  # fmt: skip
    for name, content in cases.items():
        path.write_bytes(content)
        status, _ = run_c(c_vmcore_dmesg, path)
        assert vmcore_dmesg([str(path)]) == status != 0, name
    path.unlink()
    assert vmcore_dmesg([str(path)]) == run_c(c_vmcore_dmesg, path)[0] == 2


# Another reader of the formats: libkdumpfile, through Debian's binding, which is for Debian's Python.
_PYTHON = "/usr/bin/python3"
_PAGES = """
import hashlib, sys
from kdumpfile import KDUMP_MACHPHYSADDR, exceptions, kdumpfile
dump = kdumpfile(sys.argv[1])
for address in map(int, sys.stdin):
    try:
        print(hashlib.sha256(dump.read(KDUMP_MACHPHYSADDR, address, 4096)).hexdigest())
    except exceptions.KDumpBaseException:
        print()
"""
_THROUGH_IT = """
import sys
from pykexec.vmcore import Dump, library, styles
from pykexec.vmcore.log import KernelLog
log = KernelLog(Dump(library.LibraryDump(sys.argv[1])))
sys.stdout.buffer.writelines(map(styles.vmcore_dmesg, log))
"""


def compare_with_libkdumpfile(path: Path) -> None:
    """It reads the same pages; and with it in the place of our own reader the log is the same."""
    dump, chance = Dump.open(path), random.Random(2)
    places = [chance.randrange(part.start, part.end) & -4096 for part in dump.memory for _ in range(3000)]
    given = "".join(f"{place}\n" for place in places)
    done = subprocess.run(
        [_PYTHON, "-c", _PAGES, path], input=given, capture_output=True, text=True, check=True
    )
    found = [page_or_none(dump, place) for place in places]
    digests = ["" if page is None else hashlib.sha256(page).hexdigest() for page in found]
    pairs = list(zip(digests, done.stdout.split("\n"), strict=False))
    assert [ours for ours, theirs in pairs if ours and theirs] == [
        theirs for ours, theirs in pairs if ours and theirs
    ]
    assert sum(bool(ours and theirs) for ours, theirs in pairs) > 100
    # Of an ELF dump it takes what was left out for zeros.
    assert not [ours for ours, theirs in pairs if ours and not theirs]
    paths = [os.fspath(PROJECT), *(each for each in sys.path if each.endswith("site-packages"))]
    log = subprocess.run(
        [_PYTHON, "-c", _THROUGH_IT, path],
        env={"PYTHONPATH": ":".join(paths)},
        capture_output=True,
        check=True,
    )
    assert log.stdout.split(b"\n") == lines_of(path, as_vmcore_dmesg)


@pytest.mark.parametrize("kind", ["elf", "zlib", "zstd"])
def test_libkdumpfile_reads_the_same(kind: str, tmp_path: Path) -> None:
    ring = Lockless(12, 17)
    for number in range(5000):
        ring.write(number * 10**6, b"message %d" % number)
    memory = Memory(virtual=0xFFFF_FFFF_8100_0000)  # in the kernel's image, for which phys_base will do
    log = {"OSRELEASE": "6.1.0-test", "PAGESIZE": 4096, "NUMBER(phys_base)": PHYSICAL - 0x100_0000}
    log |= ring.place(memory)
    parts = memory.parts()
    path = tmp_path / "vmcore"
    if kind == "elf":
        path.write_bytes(vmcore.elf(parts, notes=vmcore.vmcoreinfo_note(log)))
    else:
        flag, compress = (
            (vmcore.ZSTD, zstandard.compress) if kind == "zstd" else (vmcore.ZLIB, vmcore.deflate)
        )
        holes = frozenset(range(PHYSICAL // 4096))
        dump = vmcore.Kdump(
            vmcore.pages_of(parts),
            holes,
            lines=log,
            notes=vmcore.vmcoreinfo_note(log),
            flag=flag,
            compress=compress,
        )
        path.write_bytes(dump.build())
    compare_with_libkdumpfile(path)


# Another writer of the formats: QEMU.


class Monitor:
    """QEMU's machine protocol (qapi/)."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        deadline = time.monotonic() + 20
        while True:
            try:
                self._socket.connect(os.fspath(path))
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        self._file: IO[str] = self._socket.makefile("rw")
        self._file.readline()
        self.execute("qmp_capabilities")

    def execute(self, command: str, **arguments: object) -> Any:
        self._file.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._file.flush()
        while True:
            answer = json.loads(self._file.readline())
            if "return" in answer or "error" in answer:
                return answer["return"]


@pytest.fixture(scope="module")
def stopped_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Monitor, bytes, Path]]:
    """A machine that never ran, with known contents in its memory."""
    folder = tmp_path_factory.mktemp("qemu")
    content = random.Random(1).randbytes(9000) + bytes(9000) + b"the same again and again, " * 500
    (folder / "content").write_bytes(content)
    command = [
        "qemu-system-x86_64", "-M", "q35", "-accel", "tcg", "-m", "32M", "-S", "-nodefaults",
        "-display", "none", "-qmp", f"unix:{folder}/qmp,server,wait=off",
        "-device", f"loader,file={folder}/content,addr=0x123456,force-raw=on",
    ]  # fmt: skip
    with subprocess.Popen(["timeout", "60", *command]) as process:
        try:
            yield Monitor(folder / "qmp"), content, folder
        finally:
            process.terminate()


def test_dumps_of_qemu(stopped_machine: tuple[Monitor, bytes, Path]) -> None:
    monitor, content, folder = stopped_machine
    known = set(monitor.execute("query-dump-guest-memory-capability")["formats"])
    assert {"elf", "kdump-zlib"} <= known
    for form in known - {"win-dmp"}:  # which takes Windows
        monitor.execute("dump-guest-memory", paging=False, protocol=f"file:{folder / form}", format=form)
        dump = Dump.open(folder / form)
        assert dump.read_physical(0x123456, len(content)) == content
        assert dump.memory[0].size == 32 << 20
        assert dump.contents.damage == ()
        assert dump.contents.format.startswith("ELF" if form == "elf" else "kdump-compressed, version 6")


def test_a_dump_that_was_cut_off(stopped_machine: tuple[Monitor, bytes, Path], tmp_path: Path) -> None:
    """Nothing wrong is read of what is left of it."""
    monitor, content, folder = stopped_machine
    path = folder / "whole"
    monitor.execute("dump-guest-memory", paging=False, protocol=f"file:{path}", format="kdump-zlib")
    whole = path.read_bytes()
    read = 0
    for size in range(0, len(whole), len(whole) // 60):
        (tmp_path / "short").write_bytes(whole[:size])
        with suppress(DumpError):
            dump = Dump.open(tmp_path / "short")
            assert any("truncated" in each for each in dump.contents.damage)
            assert dump.read_physical(0x123456, len(content)) == content
            read += 1
    assert read, "the content is not at the dump's end"


# The compressors that makedumpfile uses.


Compress = Callable[[bytes], bytes]


@pytest.fixture(scope="module")
def compressors() -> dict[str, Compress]:
    folders = fetch("bookworm", "amd64", ["liblzo2-2", "libsnappy1v5", "libstdc++6"])
    found = {
        name: next(f.rglob(name))
        for f, name in zip(folders, ("liblzo2.so.2", "libsnappy.so.1", "libstdc++.so.6"), strict=True)
    }
    ctypes.CDLL(str(found["libstdc++.so.6"]), ctypes.RTLD_GLOBAL)
    lzo, snappy = ctypes.CDLL(str(found["liblzo2.so.2"])), ctypes.CDLL(str(found["libsnappy.so.1"]))

    def with_lzo(level: str) -> Compress:
        def compress(data: bytes) -> bytes:
            output, size = ctypes.create_string_buffer(2 * len(data) + 100), ctypes.c_ulong()
            memory = ctypes.create_string_buffer(1 << 19)
            function = getattr(lzo, f"lzo1x_{level}_compress")
            assert function(data, ctypes.c_ulong(len(data)), output, ctypes.byref(size), memory) == 0
            return output.raw[: size.value]

        return compress

    def with_snappy(data: bytes) -> bytes:
        size = ctypes.c_size_t(2 * len(data) + 100)
        output = ctypes.create_string_buffer(size.value)
        assert snappy.snappy_compress(data, ctypes.c_size_t(len(data)), output, ctypes.byref(size)) == 0
        return output.raw[: size.value]

    return {"lzo": with_lzo("1"), "lzo, best": with_lzo("999"), "snappy": with_snappy}


@settings(max_examples=examples(150), deadline=None)
@given(
    st.lists(
        st.one_of(
            st.binary(min_size=1, max_size=300),
            st.tuples(st.integers(1, 60_000), st.integers(2, 4000)),
        ),
        min_size=1,
        max_size=40,
    )
)
def test_what_the_real_compressors_make(
    compressors: dict[str, Compress], parts: list[bytes | tuple[int, int]]
) -> None:
    page = bytearray()
    for part in parts:
        if isinstance(part, bytes):
            page += part
        else:  # something from before
            distance, length = part
            start = max(len(page) - distance, 0)
            page += page[start : start + length]
    content = bytes(page) or b"x"
    for name, compress in compressors.items():
        assert pages.unpack(name.partition(",")[0], compress(content), len(content)) == content

"""Rehearsals without their machines: what is read of an image, the disk, the console, and what is said."""

import gzip
import shlex
import stat
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec import emulation, initramfs
from pykexec.emulation import KVM, SOFTWARE, Accelerator, devices
from pykexec.emulation.room import make_sparse
from pykexec.errors import PykexecError, UsageError
from pykexec.files import FileData
from pykexec.initramfs import Addition, newc
from pykexec.kdump.capture import init_settings
from pykexec.kdump.capture.blockdevice import UUID_AT, BlockDevice, Superblock, parse_superblock
from pykexec.kdump.capture.destination import Destination, Transport
from pykexec.kdump.capture.layers import Layer, Stack
from pykexec.kdump.capture.modules import Index
from pykexec.kdump.cli import exit_code
from pykexec.kdump.config.settings import Dialect, Settings
from pykexec.kdump.console.diagnosis import Ending, Line, Stage
from pykexec.kdump.rehearsal import (
    captureimage,
    firstsystem,
    limits,
    report,
    scratch,
    source,
    verdict,
    volumes,
)
from pykexec.kdump.rehearsal.asked import Rehearsal
from pykexec.kdump.rehearsal.captureimage import CaptureImage
from pykexec.kdump.rehearsal.report import Report
from pykexec.kdump.rehearsal.scratch import Scratch
from pykexec.kdump.rehearsal.smallest import STEP, smallest
from pykexec.kdump.rehearsal.source import Named
from pykexec.kdump.rehearsal.verdict import Found, Milestone, Passed, Result, Timeline
from pykexec.kdump.service.plan import ServicePlan
from pykexec.machine import Machine
from pykexec.memory import MIB
from tests.support.arm64_image import FakeImage
from tests.support.schemas import require_valid
from tests.unit.test_kdump_json import RESERVED, booted

UUID = "12345678-9abc-4def-8123-456789abcdef"


def image_of(settings: bytes, modules: str = "virtio_blk.ko \n", *, packed: bool = True) -> FileData:
    files = {
        "etc/pykdump.conf": settings,
        "lib/modules/order": modules.encode(),
    }
    archive = newc([Addition(path, memoryview(data)) for path, data in files.items()])
    return FileData.from_bytes("capture.img", gzip.compress(archive) if packed else archive)


def settings_of(to: Destination) -> bytes:
    """What pykdump mkinitrd writes."""
    settings = Settings(Dialect.FEDORA, path="/crash")
    return init_settings.render(settings, "6.1.0", to, None, "127.0.0.1").encode()


def on_disk(folder: str = "/crash", options: str = "", **superblock: object) -> Destination:
    found = Superblock("ext4", UUID, "", **superblock)  # type: ignore[arg-type]
    return Destination(Transport.DISK, folder, None, found, options)


# The image


@pytest.mark.parametrize("packed", [True, False])
@given(folder=st.text(st.characters(codec="utf-8", exclude_characters="\0\n\r/"), min_size=1, max_size=20))
def test_an_image_is_read_as_it_was_written(folder: str, packed: bool) -> None:
    if folder in (".", "..") or not folder.isprintable():
        return
    image = captureimage.read(
        image_of(settings_of(on_disk(f"/{folder}")), "sd-mod.ko a=1\nvirtio_blk.ko\n", packed=packed)
    )
    assert (image.folder, image.filesystem, image.uuid) == (f"/{folder}", "ext4", UUID)
    assert image.modules == ("sd_mod", "virtio_blk")
    assert image.saves_memory
    captureimage.require_possible(image)


def test_what_a_shell_would_run_is_not_run(tmp_path: Path) -> None:
    """The settings are data: a command in them stays text."""
    victim = tmp_path / "victim"
    text = f"UUID=$(touch {shlex.quote(str(victim))})\nWAY=`touch {victim}`\nFOLDER=/x\n"
    image = captureimage.read(image_of(text.encode()))
    assert not victim.exists()
    with pytest.raises(PykexecError, match="is not possible yet"):
        captureimage.require_possible(image)


def below(*layers: Layer) -> bytes:
    device = BlockDevice("dm-0", "", 0, 0, (), "253:0", Stack(layers))
    return settings_of(Destination(Transport.DISK, "/crash", device, Superblock("ext4", UUID, "")))


ARRAY = "01234567:89abcdef:01234567:89abcdef"


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (b"WAY=ssh\n", "dumps to ssh is not possible yet"),
        (b"WAY=nfs\n", "dumps to nfs is not possible yet"),
        (below(Layer("crypt", "luks")), "below crypt"),
        (below(Layer("lvm", "vg/lv/x")), "below lvm"),
        (below(Layer("md", ARRAY)), "lacks raid1"),
        (settings_of(on_disk(devices=2)), "several disks"),
        (settings_of(on_disk(options="subvol=/var")), "subvolume"),
    ],
)
def test_a_target_without_a_stand_in_is_refused(settings: bytes, why: str) -> None:
    with pytest.raises(PykexecError, match=why):
        captureimage.require_possible(captureimage.read(image_of(settings)))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (newc([Addition("init", memoryview(b""))]), "pykdump has not made it"),
        (b"no initramfs at all", "no initramfs"),
        (gzip.compress(newc([]), mtime=0)[:20], "truncated"),
        (newc([Addition("etc/pykdump.conf", memoryview(b"UUID='"))]), "No closing quotation"),
        (newc([Addition("etc/pykdump.conf", memoryview(b"FOLDER=../x"))]), "the folder"),
    ],
)
def test_another_image_is_refused(content: bytes, why: str) -> None:
    with pytest.raises(PykexecError, match=why):
        print(captureimage.read(FileData.from_bytes("an.img", content)).folder)


# The disk


@pytest.mark.programs
@pytest.mark.parametrize("kind", sorted({*UUID_AT} - {"btrfs"}))
def test_the_disk_has_what_the_image_looks_for(kind: str, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    Scratch(kind, UUID, MIB).make(disk)
    with disk.open("rb") as file:
        found = parse_superblock(file.read(1 << 17))
    assert found is not None
    assert found.uuid == UUID
    assert disk.stat().st_blocks * 512 < disk.stat().st_size / 2


@pytest.mark.parametrize(
    ("kind", "name", "why"),
    [("btrfs", UUID, "only ext2"), ("", UUID, "no file system"), ("ext4", "-n", "no UUID")],
)
def test_a_disk_that_cannot_be_made(kind: str, name: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(PykexecError, match=why):
        Scratch(kind, name, MIB).make(tmp_path / "disk")
    assert not (tmp_path / "disk").exists()


QEMU = frozenset(each.on(emulation.find("x86_64")) for each in devices.DISKS)


@pytest.mark.parametrize(
    ("own", "drivers", "expected"),
    [
        (("nvme",), {"virtio_blk"}, "nvme"),  # the image has no driver for it: that has to show
        (("mpt3sas", "sd-mod"), {"nvme", "ahci", "sd_mod"}, "nvme"),
        ((), {"megaraid_sas", "sd_mod"}, "megasas"),
        (("virtio-blk",), set(), "virtio-blk"),
    ],
)
def test_the_disk_is_as_on_the_machine(own: tuple[str, ...], drivers: set[str], expected: str) -> None:
    assert scratch.device(own, emulation.find("x86_64"), drivers, QEMU).name == expected


def test_drivers_of_which_qemu_has_nothing() -> None:
    with pytest.raises(PykexecError, match="QEMU has no disk for its drivers"):
        scratch.device(("mpt3sas",), emulation.find("x86_64"), {"mpt3sas", "sd_mod"}, QEMU)


def test_what_is_in_volumes_comes_out_as_it_was(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    made = Scratch("ext4", UUID, 8 * MIB, (volumes.Layer("md", ARRAY), volumes.Layer("lvm", "vg/lv")))
    made.make(disk)
    made.lay_bare(disk)
    with disk.open("rb") as file:
        found = parse_superblock(file.read(1 << 17))
    assert found is not None
    assert found.uuid == UUID
    assert [each.name for each in tmp_path.iterdir()] == ["disk"]


@given(
    st.lists(st.tuples(st.integers(0, 3 * MIB), st.binary(min_size=1, max_size=9)), max_size=4),
    st.integers(0, 3),
)
def test_a_copy_is_the_same_and_keeps_holes(pieces: list[tuple[int, bytes]], layers: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        inner, disk, outer = (Path(folder, name) for name in ("inner", "disk", "outer"))
        make_sparse(inner, 4 * MIB)
        with inner.open("r+b") as file:
            for at, data in pieces:
                file.seek(at)
                file.write(data)
        stack = [volumes.Layer("md", ARRAY)] * layers
        volumes.wrap(inner, disk, stack)
        volumes.unwrap(disk, outer, stack)
        assert outer.read_bytes() == inner.read_bytes()
        assert disk.stat().st_blocks * 512 <= inner.stat().st_blocks * 512 + layers * 64 * 1024


@pytest.mark.programs
def test_lvm_finds_its_volume(tmp_path: Path) -> None:
    """As pvck(8) reads what is on the disk, with its checksums."""
    make_sparse(tmp_path / "inner", 10 * MIB)
    disk = tmp_path / "disk"
    volumes.wrap(tmp_path / "inner", disk, [volumes.Layer("lvm", "vg-a/lv.b")])
    told = {
        what: subprocess.run(["pvck", "--dump", what, disk], check=True, capture_output=True, text=True)
        for what in ("headers", "metadata")
    }
    assert not any(each.stderr for each in told.values())
    assert "vgname vg-a seqno 1" in told["headers"].stdout
    assert f"device_size {disk.stat().st_size}" in told["headers"].stdout
    assert "lv.b {" in told["metadata"].stdout
    assert "extent_count = 3" in told["metadata"].stdout


@pytest.mark.programs
def test_mdadm_finds_its_array(tmp_path: Path) -> None:
    make_sparse(tmp_path / "inner", 10 * MIB)
    disk = tmp_path / "disk"
    volumes.wrap(tmp_path / "inner", disk, [volumes.Layer("md", ARRAY)])
    told = subprocess.run(["mdadm", "--examine", disk], check=True, capture_output=True, text=True).stdout
    for expected in (
        f"UUID : {ARRAY}",
        "Raid Level : raid1",
        "State : clean",
        "- correct",
        "Array State : A ",
    ):
        assert expected in told


# The first system


@pytest.mark.programs
def test_the_first_process_is_a_sound_script() -> None:
    subprocess.run(["shellcheck", "-s", "sh", firstsystem.INIT], check=True)


def test_the_first_system_is_the_image_with_another_first_process(tmp_path: Path) -> None:
    folder = tmp_path / "lib/modules/6.1.0"
    folder.mkdir(parents=True)
    names = ("virtio.ko", "virtio_mmio.ko", "virtio_console.ko", "nvme.ko")
    for name in names:
        (folder / name).write_bytes(name.encode())
    (folder / "modules.dep").write_text(
        "".join(f"{name}: virtio.ko\n" for name in names[1:]) + "virtio.ko:\n"
    )
    (folder / "modules.builtin").write_text("kernel/fs/xfs/xfs.ko\n")
    job = firstsystem.bring("xfs", "/a b'c", "noatime", ("nvme",))
    archive = job.archive("arm64", "virtio_mmio", Index("6.1.0", tmp_path))
    image = firstsystem.image(image_of(b"", packed=False), archive)
    members = list(initramfs.members("image", image))
    found = {each.path: bytes(each.data) for each in members}
    assert "etc/pykdump.conf" in found
    assert found["rehearsal/order"] == b"virtio.ko\nvirtio_mmio.ko\nvirtio_console.ko\nnvme.ko\n"
    assert found["rehearsal/modules/nvme.ko"] == b"nvme.ko"
    assert found["rehearsal/kexec"].startswith(b"\x7fELF")
    programs = [each.path for each in members if each.mode & 0o111 and stat.S_ISREG(each.mode)]
    assert sorted(programs) == ["rehearsal/init", "rehearsal/kexec"]
    script = found["rehearsal/settings"].decode() + 'printf %s "$FOLDER"'
    done = subprocess.run(["sh", "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout == "/a b'c"


# The console

CONSOLE = """\
[    0.000000] Linux version 6.1.0 (debian)
[    2.000000] Run /rehearsal/init as init process
[    3.000000] Kernel panic - not syncing: sysrq triggered crash
[    0.000000] Linux version 6.1.0 (debian)
[    0.000000] Kernel command line: elfcorehdr=0x30000000 nr_cpus=1
[    1.000000] Run /init as init process
pykdump: capture system of 6.1.0
pykdump: saving to /mnt/crash/127.0.0.1-2026-01-01-00:00:00
pykdump: saving vmcore-dmesg.txt
pykdump: saving vmcore-dmesg.txt complete
pykdump: saving vmcore
pykdump: saving vmcore complete
pykdump: rebooting
"""


@given(st.lists(st.integers(0, len(CONSOLE)), max_size=12))
def test_milestones_are_the_same_however_the_console_comes(ends: list[int]) -> None:
    timeline = Timeline()
    for second, end in enumerate([*sorted(ends), len(CONSOLE)]):
        timeline.look(CONSOLE[:end], float(second))
        assert timeline.is_over is ("pykdump: rebooting\n" in CONSOLE[:end])
    assert [each.milestone for each in timeline.passed] == [
        Milestone.PANIC,
        Milestone.CAPTURE_KERNEL,
        Milestone.INIT,
        Milestone.TARGET,
        Milestone.LOG,
        Milestone.DUMP,
    ]
    seconds = [each.seconds for each in timeline.passed]
    assert seconds == sorted(seconds)


def test_a_silent_console_passes_nothing_but_what_is_noted() -> None:
    timeline = Timeline()
    timeline.note(Milestone.LOADED, 1.0)
    timeline.look("[    3.0] Kernel panic - not syncing: x\n", 2.0)
    assert not timeline.is_over
    timeline.look(
        "[    3.0] Kernel panic - not syncing: x\n---[ end Kernel panic - not syncing: x ]---\n", 3.0
    )
    assert timeline.is_over
    timeline.note(Milestone.RESET, 3.0)
    assert [each.milestone for each in timeline.passed] == [
        Milestone.LOADED,
        Milestone.PANIC,
        Milestone.RESET,
    ]


WHOLE, DAMAGED, NONE = Found(MIB, ()), Found(MIB, ("it is damaged",)), Found(0, ("there is no dump",))
SILENT = CONSOLE[: CONSOLE.index("[    0.000000] Linux version 6.1.0 (debian)\n[    0")]
UNKNOWN = CONSOLE.replace("saving vmcore\n", "saving vmcore\nThe kernel version is not supported.\n")
COPIED = CONSOLE.replace("saving vmcore\n", "saving vmcore\npykdump: copying all of memory instead\n")


@pytest.mark.parametrize(
    ("console", "dump", "stage", "cause"),
    [
        (CONSOLE, WHOLE, Stage.SAVED, "the dump was saved"),
        (CONSOLE, DAMAGED, Stage.COLLECTOR, "it is damaged"),
        (CONSOLE, NONE, Stage.COLLECTOR, "there is no dump"),
        (COPIED, WHOLE, Stage.SAVED, "all of memory was copied"),
        (SILENT, WHOLE, Stage.SAVED, "the console does not tell"),
        (SILENT, DAMAGED, Stage.COLLECTOR, "it is damaged"),
        (SILENT, NONE, Stage.NO_SECOND_KERNEL, "no second one appeared"),
        (UNKNOWN, WHOLE, Stage.COLLECTOR, "does not know the crashed kernel"),
        (CONSOLE.partition("pykdump: saving to")[0], None, Stage.USERLAND, "says nothing of a dump"),
    ],
)
def test_the_verdict(console: str, dump: Found | None, stage: Stage, cause: str) -> None:
    ending = verdict.judge(console, dump)
    assert ending.stage is stage
    assert cause in ending.cause


def test_what_makedumpfile_says_of_a_kernel_that_it_is_known_to_fit() -> None:
    assert verdict.judge(UNKNOWN, WHOLE, fits=True).stage is Stage.SAVED
    assert verdict.judge(UNKNOWN, DAMAGED, fits=True).stage is Stage.COLLECTOR


# The dump


@pytest.mark.parametrize(
    ("files", "saves_memory", "problem"),
    [
        ({}, True, "the dump has no memory in it"),
        ({"vmcore-dmesg.txt": b"[ 1.0] marker\n"}, False, None),
        ({"vmcore-dmesg.txt": b"[ 1.0] marker\n"}, True, "the dump has no memory in it"),
        ({"vmcore-dmesg.txt": b"[ 1.0] other\n"}, False, "is not that of the crash"),
        ({"vmcore": b"junk"}, True, "the dump cannot be read"),
        ({}, False, "the log was not saved"),
    ],
)
def test_a_dump_is_looked_at(
    files: dict[str, bytes], saves_memory: bool, problem: str | None, tmp_path: Path
) -> None:
    folder = tmp_path / "127.0.0.1-2026-01-01-00:00:00"
    folder.mkdir()
    (tmp_path / "lost+found").mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    found = verdict.check(tmp_path, "marker", "x86_64", saves_memory=saves_memory)
    assert [problem in each for each in found.problems] == [True] if problem else found.problems == ()


def test_a_packed_dump_is_not_said_to_be_read(tmp_path: Path) -> None:
    folder = tmp_path / "127.0.0.1-2026-01-01-00:00:00"
    folder.mkdir()
    (folder / "vmcore.gz").write_bytes(bytes(7))
    found = verdict.check(tmp_path, "marker", "x86_64", saves_memory=True)
    assert found == Found(7, (), was_read=False)
    text = report.as_text(Report(result_of(ENDINGS[0][0], found), MIB))
    assert "whole" not in text


def test_no_dump_at_all(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        assert verdict.check(folder, "x", "x86_64", saves_memory=True).problems == (
            "there is no dump on the disk",
        )


# The smallest reservation


@given(st.integers(1, 64), st.integers(1, 70), st.integers(0, STEP - 1), st.data())
def test_the_smallest_is_found_by_halving(top: int, need: int, odd: int, data: st.DataObject) -> None:
    """The oracle tries one size after the other."""
    bottom = data.draw(st.integers(0, min(need, top)), "what cannot work")
    asked: list[int] = []

    def works(size: int) -> bool:
        asked.append(size)
        return size >= need * STEP

    found = smallest(works, top * STEP + odd, bottom * STEP)
    assert found == next((size * STEP for size in range(1, top + 1) if size >= need), None)
    assert len(asked) <= 1 + top.bit_length()
    assert all(bottom * STEP <= size <= top * STEP for size in asked)


# What is said


def result_of(ending: Ending, dump: Found | None) -> Result:
    passed = tuple(Passed(each, float(number)) for number, each in enumerate(Milestone))
    limit = "its firmware and all of its devices " * 4
    return Result(ending, passed, dump, (limit,), Accelerator(KVM), 12.34, CONSOLE)


def test_what_comes_from_the_guest_does_nothing_to_a_terminal() -> None:
    ending = Ending(Stage.NOT_LOADED, "it says \x1b[2J")
    text = report.as_text(Report(result_of(ending, None), MIB))
    assert "\x1b" not in text
    assert "it says \\x1b[2J" in text


ENDINGS = [
    (Ending(Stage.SAVED, "the dump was saved", (Line(12, "saved"),)), WHOLE),
    (Ending(Stage.OUT_OF_MEMORY, "too little", (Line(3, "panic"),), "raise crashkernel=", "O1"), None),
]


@pytest.mark.parametrize(("ending", "dump"), ENDINGS)
def test_a_report_as_text(ending: Ending, dump: Found | None) -> None:
    text = report.as_text(Report(result_of(ending, dump), 256 * MIB, 96 * MIB, Path("/tmp/x")), 60)
    assert text.startswith(
        "rehearsed: the dump was saved\n" if dump else "failed: out of memory: too little\n"
    )
    assert all(len(line) <= 60 for line in text.splitlines())
    for part in ("the target is mounted", "256 MiB", "96 MiB", "/tmp/x", "firmware"):
        assert part in " ".join(text.split())


@pytest.mark.parametrize(("ending", "dump"), ENDINGS)
def test_a_report_as_json(ending: Ending, dump: Found | None) -> None:
    found = require_valid("rehearse", report.as_json(Report(result_of(ending, dump), 256 * MIB)))
    assert found["rehearsed"] is bool(dump)
    assert found["ending"]["stage"] == ending.stage.name.lower()
    assert found["passed"][0]["milestone"] == "first_kernel"
    assert (found["reservation"], found["smallest"]) == (256 * MIB, None)


# The command


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--root", "/"], "all have to be named"),
        (["--arch", "arm64"], "--arch is for another machine's files"),
        (["--root", "/no/such"], "does not exist"),
        (["--memory", "1"], "not in the range"),
        (
            ["--root", "/", "--kernel", "/no", "--initrd", "/no", "--append", "", "--crashkernel", "1M"],
            "cannot read the kernel /no",
        ),
        (
            ["--root", "/", "--kernel", __file__, "--initrd", "x", "--append", "", "--crashkernel", "1M"],
            "does not tell which kernel",
        ),
    ],
)
def test_a_wrong_command_is_one_clear_error(
    arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(["rehearse", *arguments]) in (1, 2)
    told = capsys.readouterr()
    assert why in " ".join(told.err.split())
    assert "Traceback" not in told.err
    assert not told.out
    assert len(told.err.splitlines()) <= 5


@pytest.mark.parametrize("release", ["../../etc", "6.1/../..", ".."])
def test_a_release_is_no_path(release: str, tmp_path: Path) -> None:
    """The kernel's file may be anybody's, and its modules are looked for by its release."""
    kernel = tmp_path / "vmlinux"
    kernel.write_bytes(FakeImage().build() + b"Linux version %s (a@b)\0" % release.encode())
    with pytest.raises(UsageError, match="its release"):
        source.of_files(Named(str(kernel), "i", "", "64M"), tmp_path)


def test_files_of_another_machine_are_all_named() -> None:
    for missing in ("kernel", "initrd", "append", "crashkernel"):
        named = replace(Named("x", "x", "x", "x"), **{missing: None})
        with pytest.raises(UsageError, match="all have to be named"):
            source.of_files(named, Path("/"))


# What it cannot show


def test_drivers_that_are_not_tried_are_named() -> None:
    kernel = Path("vmlinuz")
    asked = Rehearsal("x86_64", kernel, "6.1.0", kernel, Path("image"), "", "1M", 512 * MIB)
    modules = ("virtio_pci", "nvme", "mpt3sas", "ext4")
    image = CaptureImage({}, modules, modules[:3])
    nvme, ahci = (next(each for each in devices.DISKS if name in each.modules) for name in ("nvme", "ahci"))
    told = " ".join(limits.unproven(asked, image, nvme, Accelerator(SOFTWARE, "there is no KVM"), None))
    assert "does not have: mpt3sas " in told
    assert "512 MiB" in told
    assert "emulated, as there is no KVM" in told
    told = " ".join(
        limits.unproven(replace(asked, room=1), image, ahci, Accelerator(KVM), Found(1, (), was_read=False))
    )
    assert "does not have: mpt3sas, nvme " in told
    assert "the room" not in told
    assert "emulated, as" not in told
    assert "it is packed" in told
    assert "the volumes" not in told
    layered = replace(image, settings={"ASSEMBLE": "lvm:vg/lv"})
    assert "the volumes and arrays" in " ".join(
        limits.unproven(asked, layered, nvme, Accelerator(KVM), None)
    )


# What is rehearsed


def test_on_the_machine_itself_it_is_what_start_would_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(Dialect.FEDORA, kexec_arguments=("--no-checks",))
    plan = ServicePlan(settings, "/boot/vmlinuz-6.1.0", "6.1.0", "/boot/kdump.img", False, "nr_cpus=1 x=y")
    monkeypatch.setattr("pykexec.kdump.rehearsal.source.plans.make", lambda *_, **given: plan)
    machine = Machine.from_snapshot(booted(tmp_path / "machine", "quiet", str(256 * MIB), RESERVED))
    asked = source.of_machine(Named(), tmp_path, machine)
    assert asked.kernel == asked.capture_kernel == Path(plan.kernel)
    assert (asked.image, asked.command_line) == (Path(plan.initrd), plan.command_line)
    assert (asked.crashkernel, asked.arguments, asked.release) == ("256M", ("--no-checks",), "6.1.0")
    assert 256 * MIB < asked.memory <= 4 << 30
    changed = source.of_machine(Named(append="a", crashkernel="64M", cpus=3), tmp_path, machine)
    assert (changed.command_line, changed.crashkernel, changed.cpus) == ("a", "64M", 3)


def test_another_kernel_is_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what start would load for it: its image has that kernel's modules."""

    def of_settings(settings: Settings, _: Machine, *, initrd: str | None) -> ServicePlan:
        return ServicePlan(settings, settings.kernel.path, "7.0.0", "/boot/i", False, "x")

    monkeypatch.setattr("pykexec.kdump.rehearsal.source.config.required", lambda _: Settings(Dialect.SUSE))
    monkeypatch.setattr("pykexec.kdump.rehearsal.source.plans.of_settings", of_settings)
    machine = Machine.from_snapshot(booted(tmp_path / "machine", "quiet", str(256 * MIB), RESERVED))
    asked = source.of_machine(Named(kernel="/boot/new"), tmp_path, machine)
    assert (asked.kernel, asked.capture_kernel, asked.release) == (
        Path("/boot/new"),
        Path("/boot/new"),
        "7.0.0",
    )


def test_without_a_reservation_there_is_nothing_to_rehearse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = ServicePlan(Settings(Dialect.FEDORA), "/boot/k", "6.1.0", "/boot/i", False, "")
    monkeypatch.setattr("pykexec.kdump.rehearsal.source.plans.make", lambda *_, **given: plan)
    machine = Machine.from_snapshot(booted(tmp_path, "quiet", "0"))
    with pytest.raises(PykexecError, match="no memory is reserved"):
        source.of_machine(Named(), tmp_path, machine)


@given(st.integers(1, 4096), st.integers(64, 1 << 20))
def test_the_emulated_machine_holds_what_is_reserved(reserved: int, real: int) -> None:
    memory = source.memory_for(reserved * MIB, real * MIB, 1 << 40)
    assert memory >= (reserved + 256) * MIB
    assert memory < max(1024, reserved + 768 + 256) * MIB

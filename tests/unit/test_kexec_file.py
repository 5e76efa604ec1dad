"""kexec_file_load: what reaches the kernel, and what follows from its answer."""

import errno
import gzip
import mmap
import os
import re
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pykexec import cli, explain, kexec_file, loader, names, optionparser, privilege, report, syscalls
from pykexec.errors import (
    FileLoadUnavailable,
    ImageError,
    PlacementError,
    PykexecError,
    SystemCallError,
    UsageError,
)
from pykexec.files import FileData
from pykexec.machine import Machine
from pykexec.memory import Range
from pykexec.options import OPTIONS
from pykexec.plan import Console, FileLoadPlan, LoadPlan, Purpose, Request
from pykexec.uapi import KEXEC_FILE_DEBUG
from tests.support.arm64_image import FakeImage
from tests.support.bzimage import FakeBzImage
from tests.support.machines import snapshot, unpacked
from tests.support.program import Load, Program, multiboot1
from tests.support.schemas import require_valid

KERNEL = FakeBzImage().build()
NOT_GOT_AROUND = [
    errno.EKEYREJECTED,
    errno.ENOKEY,
    errno.EBADMSG,
    errno.ENOPKG,
    errno.ELIBBAD,
    errno.EMSGSIZE,
    errno.EPERM,
    errno.EADDRNOTAVAIL,
    errno.ENOMEM,
    errno.EBUSY,
    errno.ETXTBSY,
]
GOT_AROUND = [errno.ENOSYS, errno.EINVAL, errno.ENOEXEC, errno.ENOTSUP]


class FakeKernel:
    """Takes the system calls' arguments, reads the files as the kernel would, and answers as told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.file_answers: list[int] = []
        self.refused_segment: str | None = None
        self.calls: list[str] = []
        self.kernel = self.initrd = b""
        self.inode = (0, 0)
        self.line = b""
        self.flags: list[int] = []
        monkeypatch.setattr(syscalls, "kexec_file_load", self._file_load)
        monkeypatch.setattr(syscalls, "kexec_load", self._load)
        monkeypatch.setattr(syscalls, "kexec_unload", lambda flags: self.calls.append("unload"))

    def _file_load(self, kernel: int, initrd: int, line: bytes, flags: int) -> None:
        self.calls.append("file")
        self.flags.append(flags)
        self.line = line
        self.kernel = os.pread(kernel, 1 << 24, 0)
        self.initrd = os.pread(initrd, 1 << 24, 0) if initrd >= 0 else b""
        status = os.fstat(kernel)
        self.inode = (status.st_dev, status.st_ino)
        answer = self.file_answers.pop(0) if self.file_answers else 0
        if answer:
            raise OSError(answer, os.strerror(answer))

    def _load(self, entry: int, segments: tuple[object, ...], flags: int) -> None:
        self.calls.append("load")
        if self.refused_segment in [getattr(each, "name", None) for each in segments]:
            raise OSError(errno.EINVAL, "Invalid argument")


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> FakeKernel:
    return FakeKernel(monkeypatch)


@pytest.fixture
def machine() -> Machine:
    return snapshot("qemu-6.1-1g")


def request_for(folder: Path, content: bytes = KERNEL, **settings: Any) -> Request:
    path = folder / "vmlinuz"
    path.write_bytes(content)
    return Request.from_paths(path, **{"append": "a b", **settings})


def test_the_kernel_gets_the_users_own_file(tmp_path: Path, kernel: FakeKernel, machine: Machine) -> None:
    (tmp_path / "initrd").write_bytes(b"070701")
    request = request_for(tmp_path, initrd=tmp_path / "initrd")
    loader.load(loader.plan(machine, request, "file"), machine)
    status = (tmp_path / "vmlinuz").stat()
    assert kernel.inode == (status.st_dev, status.st_ino)
    assert (kernel.kernel, kernel.initrd, kernel.line) == (KERNEL, b"070701", b"a b\0")
    assert kernel.flags == [0]


def test_what_is_compressed_becomes_a_sealed_file_in_memory(
    tmp_path: Path, kernel: FakeKernel, machine: Machine
) -> None:
    request = request_for(tmp_path, gzip.compress(KERNEL, mtime=0), append=None)
    loader.load(loader.plan(machine, request, "file"), machine)
    assert kernel.kernel == KERNEL
    assert kernel.line == b"\0"


BZIMAGE = FakeBzImage()
SPOILT = [
    (BZIMAGE.build()[:5000], "auto", ImageError, "truncated"),
    (BZIMAGE.build()[:5000], "file", ImageError, "truncated"),
    (BZIMAGE.build()[:500], "file", FileLoadUnavailable, "cannot load .* by itself"),
    (BZIMAGE.build()[:500], "auto", ImageError, "not a kernel"),
    (b"\x7fELF" + bytes(5000), "file", FileLoadUnavailable, "cannot load .* by itself"),
    (FakeBzImage(version=0x020B).build(), "file", FileLoadUnavailable, "cannot load .* by itself"),
    (FakeBzImage(xloadflags=0).build(), "file", FileLoadUnavailable, "cannot load .* by itself"),
]


@pytest.mark.parametrize(("content", "call", "error", "message"), SPOILT)
def test_a_loaded_crash_kernel_is_not_risked(
    tmp_path: Path, kernel: FakeKernel, content: bytes, call: str, error: type[PykexecError], message: str
) -> None:
    """The kernel would free it before it finds out (tests/vm/test_state.py)."""
    machine = unpacked("qemu-6.1-1g", tmp_path / "root", {"sys/kernel/kexec_crash_loaded": "1\n"})
    request = request_for(tmp_path, content, purpose=Purpose.CRASH)
    with pytest.raises(error) as caught:
        loader.load_request(machine, request, call)
    assert re.search(message, str(caught.value))
    assert kernel.calls == []


@pytest.mark.parametrize("call", ["file", "auto"])
def test_a_truncated_kernel_does_not_reach_the_running_one(
    tmp_path: Path, kernel: FakeKernel, machine: Machine, call: str
) -> None:
    """Which looks at the header only, would load it, and die when it is started."""
    with pytest.raises(ImageError, match="truncated"):
        loader.load_request(machine, request_for(tmp_path, BZIMAGE.build()[:5000]), call)
    assert kernel.calls == []


def test_what_the_kernel_does_not_know_is_named(
    tmp_path: Path, kernel: FakeKernel, machine: Machine
) -> None:
    request = request_for(tmp_path, b"#!/bin/sh\n" * 200)
    assert [each for each in loader.plan(machine, request, "file").warnings if "script (/bin/sh)" in each]
    kernel.file_answers = [errno.ENOEXEC]
    with pytest.raises(FileLoadUnavailable) as caught:
        loader.load_request(machine, request, "file")
    assert "which is a script (/bin/sh)" in str(caught.value.hint)
    assert not loader.plan(machine, request_for(tmp_path), "file").warnings


@pytest.mark.parametrize(("keys", "kept"), [("0\n", 30), ("1\n", 61), (None, 30)])
def test_a_loaded_crash_kernel_is_not_risked_for_a_long_line(
    keys: str | None, kept: int, tmp_path: Path, kernel: FakeKernel
) -> None:
    """The running kernel keeps 30 characters free, and for keys of encrypted volumes 31 more
    (kexec-bzimage64.c); kexec_load only as many as it needs.
    """
    state: dict[str, str | bytes | None] = {"sys/kernel/kexec_crash_loaded": "1\n"}
    if keys is not None:
        state["sys/kernel/config/crash_dm_crypt_keys/count"] = keys
    machine = unpacked("qemu-6.1-1g", tmp_path / "root", state)
    loader.load_request(machine, request_for(tmp_path, purpose=Purpose.CRASH, append="x" * (2046 - kept)))
    kernel.calls.clear()
    request = request_for(tmp_path, purpose=Purpose.CRASH, append="x" * (2047 - kept))
    with pytest.raises(FileLoadUnavailable, match="takes 2048 bytes with what the kernel adds"):
        loader.load_request(machine, request, "file")
    assert kernel.calls == []
    request = replace(request, append="x" * (2047 - 30))
    with pytest.raises(ImageError, match="Command line overflow"):
        loader.load_request(machine, request)
    assert kernel.calls == []


FLAGS = [
    ({"purpose": Purpose.CRASH}, 0x2 | 0x4),
    ({}, 0x4),
    ({"debug": True}, 0x4 | 0x8),
    ({"no_cma": True}, 0x4 | 0x10),
    ({"force_dtb": True}, 0x4 | 0x20),
]


@pytest.mark.parametrize(("settings", "flags"), FLAGS)
def test_flags(
    tmp_path: Path, kernel: FakeKernel, machine: Machine, settings: dict[str, Any], flags: int
) -> None:
    loader.load(loader.plan(machine, request_for(tmp_path, **settings), "file"), machine)
    assert kernel.flags == [flags]


def test_the_debug_flag_never_changes_the_way(tmp_path: Path, kernel: FakeKernel, machine: Machine) -> None:
    kernel.file_answers = [errno.EINVAL]
    plan = loader.load_request(machine, request_for(tmp_path, debug=True))
    assert isinstance(plan, FileLoadPlan)
    assert kernel.flags == [0xC, 0x4]


@pytest.mark.parametrize("answer", GOT_AROUND)
def test_kexec_load_follows_where_it_may_do(
    tmp_path: Path, kernel: FakeKernel, machine: Machine, answer: int
) -> None:
    kernel.file_answers = [answer]
    plan = loader.load_request(machine, request_for(tmp_path, seed=None))
    assert isinstance(plan, LoadPlan)
    assert kernel.calls == ["file", "load"]


@pytest.mark.parametrize("answer", GOT_AROUND)
def test_demanded_and_not_available_is_253(
    tmp_path: Path, kernel: FakeKernel, machine: Machine, answer: int
) -> None:
    kernel.file_answers = [answer]
    with pytest.raises(FileLoadUnavailable, match=r"syscall kexec_file_load not available\.") as caught:
        loader.load_request(machine, request_for(tmp_path), "file")
    assert caught.value.exit_code == 253
    assert caught.value.hint


@pytest.mark.parametrize("answer", NOT_GOT_AROUND)
def test_a_refusal_is_final_and_explained(
    tmp_path: Path, kernel: FakeKernel, machine: Machine, answer: int
) -> None:
    kernel.file_answers = [answer]
    with pytest.raises(SystemCallError, match=rf"kexec_file_load failed: {os.strerror(answer)}") as caught:
        loader.load_request(machine, request_for(tmp_path))
    assert kernel.calls == ["file"]
    assert caught.value.exit_code == 255
    assert caught.value.hint
    assert len(str(caught.value).splitlines()) == 2


def test_too_small_a_reservation_says_by_how_much(tmp_path: Path, machine: Machine) -> None:
    region = machine.iomem.crash_regions[-1]
    big = FileData.from_bytes("initrd", memoryview(bytes(region.size + 0x123456)))
    request = replace(request_for(tmp_path, purpose=Purpose.CRASH), initrd=big)
    error = explain.explain_file_load_failure(
        errno.EADDRNOTAVAIL, kexec_file.plan(machine, request), machine
    )
    assert f"{0x123456 + len(KERNEL):#x} more than the reservation" in str(error)


@pytest.mark.parametrize(
    ("name", "purpose"),
    [(name, each) for name in ("qemu-6.1-1g", "qemu-arm64-6.1-1g") for each in Purpose],
)
@pytest.mark.slow
def test_room_that_is_missing_is_counted(name: str, purpose: Purpose, tmp_path: Path) -> None:
    machine = snapshot(name)
    content = KERNEL if "arm64" not in name else FakeImage().build()
    is_crash = purpose is Purpose.CRASH
    memory = machine.iomem.crash_regions if is_crash else machine.iomem.memory_map.ram
    largest = max(each.size for each in memory)
    initrd = FileData.from_bytes("initrd", memoryview(mmap.mmap(-1, largest + 0x5000)))
    request = replace(request_for(tmp_path, content, purpose=purpose), initrd=initrd)
    with pytest.raises(PlacementError) as caught:
        loader.plan_load(machine, request)
    what, hint = str(caught.value).splitlines()
    assert what.startswith("Could not find a free area of memory of 0x")
    found = re.search(r"(the reservation|free memory) is (0x\w+) bytes too small", hint)
    assert found
    assert (found[1] == "the reservation") is is_crash
    assert 0x5000 <= int(found[2], 16) <= largest
    with pytest.raises(PlacementError, match="what --mem-min and --mem-max leave is 0x"):
        loader.plan_load(machine, replace(request, within=Range(0, 1 << 40)))


def test_d_tells_the_segments_that_were_refused(
    tmp_path: Path, kernel: FakeKernel, machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    """In the words of the C tool (kexec/kexec.c, my_load)."""
    kernel.refused_segment = "kernel"
    plan = loader.plan_load(machine, request_for(tmp_path))
    with caplog.at_level("DEBUG", "pykexec"), pytest.raises(SystemCallError):
        loader.load(plan, machine)
    told = [record.getMessage() for record in caplog.records]
    assert f"entry       = {plan.entry:#x} flags = 0x3e0000" in told
    assert f"nr_segments = {len(plan.segments)}" in told
    for index, segment in enumerate(plan.segments):
        assert f"segment[{index}].bufsz = {segment.data.nbytes:#x}" in told
        assert f"segment[{index}].mem   = {segment.address:#x}" in told
        assert f"segment[{index}].memsz = {segment.memsz:#x}" in told


UNFIT: list[dict[str, object]] = [
    {"within": Range(0, 1 << 32)},
    {"entry": 0x1000},
    {"skip_checks": True},
    {"format": "bzImage64"},
    {"entry_32bit": True},
    {"hand_over_efi": False},
    {"memmap_parameters": True, "purpose": Purpose.CRASH},
    {"console": Console(vga=True)},
]


@pytest.mark.parametrize("settings", UNFIT)
def test_what_it_cannot_be_told_is_refused(
    tmp_path: Path, machine: Machine, settings: dict[str, Any]
) -> None:
    with pytest.raises(UsageError, match=f"cannot honour: {next(iter(settings))}"):
        loader.plan(machine, request_for(tmp_path, **settings), "file")


@pytest.mark.parametrize("settings", UNFIT)
def test_what_it_cannot_be_told_goes_the_other_way(
    tmp_path: Path, kernel: FakeKernel, machine: Machine, settings: dict[str, Any]
) -> None:
    plan = loader.load_request(machine, request_for(tmp_path, **settings))
    assert isinstance(plan, LoadPlan)
    assert kernel.calls == ["load"]


def test_a_device_tree_that_must_be_handed_on_is(tmp_path: Path, kernel: FakeKernel) -> None:
    """On x86_64 only kexec_file_load does that; on arm64 the other call, too."""
    x86 = snapshot("qemu-6.1-1g")
    request = request_for(tmp_path, force_dtb=True)
    assert isinstance(loader.plan(x86, request), FileLoadPlan)
    for given, call in ((replace(request, within=Range(0, 1 << 32)), "auto"), (request, "load")):
        with pytest.raises(UsageError, match=r"--force-dtb: .* only kexec_file_load"):
            loader.load_request(x86, given, call)
    assert kernel.calls == []
    kernel.file_answers = [errno.ENOEXEC]
    with pytest.raises(FileLoadUnavailable):
        loader.load_request(x86, request)
    assert kernel.calls == ["file"]
    kernel.file_answers = [errno.ENOSYS]
    arm64 = snapshot("qemu-arm64-6.1-1g")
    plan = loader.load_request(arm64, request_for(tmp_path, FakeImage().build(), force_dtb=True))
    assert isinstance(plan, LoadPlan)
    assert bytes(plan.segment("dtb").data[:4]) == b"\xd0\x0d\xfe\xed"


def with_handover(folder: Path) -> Machine:
    line = snapshot("qemu-6.1-1g").command_line
    return unpacked("qemu-6.1-1g", folder, {"proc/cmdline": f"{line} kho=on\n"})


@pytest.mark.parametrize(
    ("words", "debugfs", "expected"),
    [
        *((f"kho={on}", False, True) for on in ("on", "1", "y", "Y", "yes", "true", "ON")),
        *((f"kho={off}", False, False) for off in ("off", "0", "n", "no", "false", "")),
        ("kho=off kho=on", False, True),
        ("kho=on kho=off", True, False),
        ("xkho=on", False, False),
        ("", True, False),
        ("", False, False),
    ],
)
def test_a_handover_is_noticed(words: str, debugfs: bool, expected: bool, tmp_path: Path) -> None:
    """kernel/liveupdate/kexec_handover.c: early_param("kho"), kstrtobool(), and the folder of debugfs."""
    files: dict[str, str | bytes | None] = {"proc/cmdline": f"quiet {words}\n"}
    if debugfs:
        files["sys/kernel/debug/kho/out/fdt"] = b"x"
    assert unpacked("qemu-6.1-1g", tmp_path, files).keeps_state is expected


def test_a_handover_is_not_dropped(tmp_path: Path, kernel: FakeKernel) -> None:
    machine = with_handover(tmp_path / "machine")
    request = request_for(tmp_path)
    with pytest.raises(PykexecError, match="kho=on"):
        loader.load_request(machine, request, "load")
    kernel.file_answers = [errno.ENOEXEC]
    with pytest.raises(FileLoadUnavailable):
        loader.load_request(machine, request)
    assert kernel.calls == ["file"]
    crash = replace(request, purpose=Purpose.CRASH)
    assert isinstance(loader.load_request(machine, crash, "load"), LoadPlan)


def test_a_live_update_is_not_dropped(tmp_path: Path, kernel: FakeKernel) -> None:
    """A kernel of 7.2 with LUO on, which needs no kho=, and whose debugfs nobody has mounted.

    Debian's 7.2 is built without it: the device is put into a snapshot of that kernel.
    """
    device = {"sys/class/misc/liveupdate/dev": "10:124\n"}
    machine = unpacked("qemu-7.2-1g", tmp_path / "machine", device)
    assert machine.keeps_state
    assert not snapshot("qemu-7.2-1g").keeps_state
    with pytest.raises(PykexecError, match="liveupdate=on"):
        loader.load_request(machine, request_for(tmp_path), "load")
    kernel.file_answers = [errno.ENOEXEC]
    with pytest.raises(FileLoadUnavailable):
        loader.load_request(machine, request_for(tmp_path))
    assert kernel.calls == ["file"], "nor is it got around"


def test_a_handover_of_7_2_is_noticed(tmp_path: Path) -> None:
    """What a kernel of 7.2 shows that keeps state: no "finalize" in debugfs, which is gone since 7.1.

    Debian's 7.2 is built without KHO: command line and files are put into a snapshot of that kernel.
    """
    line = snapshot("qemu-7.2-1g").command_line
    files = {
        "proc/cmdline": f"{line} kho=on\n",
        "sys/kernel/debug/kho/out/scratch_len": "0x1000000\n",
        "sys/kernel/debug/kho/out/scratch_phys": "0x3e000000\n",
    }
    machine = unpacked("qemu-7.2-1g", tmp_path, files)
    assert machine.keeps_state
    assert machine.has_handover
    assert not machine.has_live_update


@pytest.mark.parametrize(
    ("words", "told"), [("", False), ("kho=off", False), ("kho=1 kho=n", False), ("kho=y", True)]
)
def test_a_kernel_that_could_hand_over_is_told_from_one_that_has_to(
    words: str, told: bool, tmp_path: Path, kernel: FakeKernel
) -> None:
    files = {"proc/cmdline": f"quiet {words}\n", "sys/kernel/debug/kho/out/fdt": ""}
    machine = unpacked("qemu-6.1-1g", tmp_path / "machine", files)
    request = request_for(tmp_path)
    if told:
        with pytest.raises(PykexecError, match="kho=on"):
            loader.load_request(machine, request, "load")
        return
    plan = loader.load_request(machine, request, "load")
    assert any("state kept by KHO, if any, will not be handed on" in each for each in plan.warnings)
    assert not loader.load_request(machine, request).warnings


MEASURED = {"sys/kernel/security/ima/runtime_measurements_count": "2\n"}
LOST = "IMA's list of measurements will not be handed on"


@pytest.mark.parametrize("base", ["qemu-6.1-1g", "qemu-arm64-6.1-1g"])
def test_what_is_shown_is_what_is_done(base: str, tmp_path: Path, kernel: FakeKernel) -> None:
    """Each call in its order; a loss is a warning only where it will be one."""
    machine = unpacked(base, tmp_path / "machine", MEASURED)
    (tmp_path / "Image").write_bytes(FakeImage().build())
    request = request_for(tmp_path)
    if "arm64" in base:
        request = replace(request, kernel=FileData.open(tmp_path / "Image", "kernel"))
    shown = loader.plan(machine, request)
    assert isinstance(shown, LoadPlan)
    assert (shown.tried_first, shown.losses) == ("kexec_file_load", ("IMA's list of measurements",))
    assert not any(LOST in each for each in shown.warnings)
    assert "\nsystem call   kexec_file_load; if the running kernel refuses" in report.as_text(shown)
    assert f"with kexec_load: {LOST}\n" in report.as_text(shown)
    assert f"warning: {LOST}" not in report.as_text(shown)
    told = require_valid("plan", report.as_json(shown))
    assert (told["tried_first"], told["losses"]) == ("kexec_file_load", ["IMA's list of measurements"])
    loader.load_request(machine, request)
    assert kernel.calls == ["file"]

    at_once = loader.plan(machine, request, "load")
    assert isinstance(at_once, LoadPlan)
    assert (at_once.tried_first, at_once.losses) == (None, ())
    assert any(LOST in each for each in at_once.warnings)
    assert "system call" not in report.as_text(at_once)
    kernel.calls.clear()
    loader.load_request(machine, request, "load")
    assert kernel.calls == ["load"]


def test_what_one_call_cannot_honour_is_shown_as_the_other(tmp_path: Path, kernel: FakeKernel) -> None:
    machine = unpacked("qemu-6.1-1g", tmp_path / "machine", MEASURED)
    request = request_for(tmp_path, within=Range(0, 1 << 32))
    shown = loader.plan(machine, request)
    assert isinstance(shown, LoadPlan)
    assert shown.tried_first is None
    assert any(LOST in each for each in shown.warnings)
    loader.load_request(machine, request)
    assert kernel.calls == ["load"]


def test_a_kernel_that_will_be_refused_loses_what_kexec_load_loses(tmp_path: Path) -> None:
    """A 32-bit bzImage, which kexec_file_load does not take (kexec-bzimage64.c)."""
    machine = unpacked("qemu-6.1-1g", tmp_path / "machine", MEASURED)
    old = FileData.from_bytes("old", FakeBzImage(xloadflags=0).build())
    shown = loader.plan(machine, replace(request_for(tmp_path), kernel=old))
    assert isinstance(shown, LoadPlan)
    assert (shown.tried_first, shown.losses) == ("kexec_file_load", ())
    assert any(LOST in each for each in shown.warnings)


def test_no_place_for_kexec_load_is_no_error_where_it_is_not_tried(tmp_path: Path) -> None:
    full = "00001000-001fffff : System RAM\n40000000-40ffffff : System RAM\n"
    machine = unpacked("qemu-6.1-1g", tmp_path / "machine", {"proc/iomem": full})
    large = FileData.from_bytes("large", FakeBzImage(init_size=1 << 30).build())
    request = replace(request_for(tmp_path), kernel=large)
    shown = loader.plan(machine, request)
    assert isinstance(shown, FileLoadPlan)
    assert any("kexec_load cannot do it" in each for each in shown.warnings)
    with pytest.raises(PlacementError):
        loader.plan(machine, request, "load")


def test_a_refusal_is_not_tried_again(tmp_path: Path, kernel: FakeKernel, machine: Machine) -> None:
    """Nothing incomplete is ever loaded, not even to find the segment to blame."""
    kernel.refused_segment = "purgatory"
    with pytest.raises(SystemCallError):
        loader.load(loader.plan_load(machine, request_for(tmp_path)), machine)
    assert kernel.calls == ["load"]


def test_what_the_kernel_would_refuse_does_not_reach_it(tmp_path: Path, kernel: FakeKernel) -> None:
    """From a crash only memory that is reserved can be entered (kernel/kexec.c, kimage_alloc_init())."""
    machine = snapshot("qemu-6.1-1g")
    request = request_for(tmp_path, purpose=Purpose.CRASH, entry=0x1000)
    with pytest.raises(PlacementError, match="the entry point 0x1000 is outside of the reservation"):
        loader.load_request(machine, request, "load")
    assert kernel.calls == []


@pytest.mark.parametrize("call", ["auto", "file", "load"])
def test_a_lost_crash_kernel_is_spoken_of(
    tmp_path: Path, kernel: FakeKernel, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both calls free it before they look at the new one (kernel/kexec.c, kernel/kexec_file.c)."""
    state = "sys/kernel/kexec_crash_loaded"
    machine = unpacked("qemu-6.1-1g", tmp_path / "machine", {state: "1\n"})
    request = request_for(tmp_path, purpose=Purpose.CRASH)
    answer = errno.EPERM

    def refuse(*_: object) -> None:
        if answer == errno.EADDRNOTAVAIL:
            (tmp_path / "machine" / state).write_text("0\n")
        raise OSError(answer, os.strerror(answer))

    monkeypatch.setattr(syscalls, "kexec_file_load", refuse)
    monkeypatch.setattr(syscalls, "kexec_load", refuse)
    with pytest.raises(SystemCallError) as caught:
        loader.load_request(machine, request, call)
    assert "lost" not in str(caught.value)
    answer = errno.EADDRNOTAVAIL
    with pytest.raises(SystemCallError) as caught:
        loader.load_request(machine, request, call)
    _, hint = str(caught.value).splitlines()
    assert hint.endswith("; the crash kernel that was loaded before is lost, load it again")


@pytest.mark.parametrize(
    ("option", "value"), [("--mem-min", "=1"), ("-i", ""), ("--dtb", "=x"), ("-t", "x")]
)
def test_s_names_the_option_it_cannot_honour(
    tmp_path: Path,
    option: str,
    value: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(privilege, "may_boot", lambda machine: True)
    request_for(tmp_path)
    assert cli.exit_code(["-s", "-l", str(tmp_path / "vmlinuz"), f"{option}{value}"]) == 1
    names = {"-i": "--no-checks", "-t": "--type"}
    assert f"-s: kexec_file_load cannot honour {names.get(option, option)}" in capsys.readouterr().err


def test_unload_takes_the_call_there_is(kernel: FakeKernel, machine: Machine) -> None:
    def answer(number: int) -> Callable[..., None]:
        def unload(flags: int) -> None:
            kernel.calls.append(f"file unload {flags:#x}")
            if number:
                raise OSError(number, os.strerror(number))

        return unload

    for number, system_call, calls in [
        (0, "auto", ["file unload 0x2"]),
        (errno.ENOSYS, "auto", ["file unload 0x2", "unload"]),
        (0, "load", ["unload"]),
    ]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(syscalls, "kexec_file_unload", answer(number))
            kernel.calls = []
            loader.unload(Purpose.CRASH, machine, system_call=system_call)
            assert kernel.calls == calls
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(syscalls, "kexec_file_unload", answer(errno.ENOSYS))
        with pytest.raises(SystemCallError):
            loader.unload(Purpose.CRASH, machine, system_call="file")


@pytest.mark.parametrize(("purpose", "flag"), [(Purpose.BOOT, 0), (Purpose.CRASH, 1)])
def test_an_unload_says_for_which_architecture(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, purpose: Purpose, flag: int
) -> None:
    """Without it a 32-bit process is refused: kernel/kexec.c, compat_sys_kexec_load(). 62 is EM_X86_64."""
    flags: list[int] = []
    monkeypatch.setattr(syscalls, "kexec_unload", flags.append)
    loader.unload(purpose, machine, system_call="load")
    assert flags == [62 << 16 | flag]


@pytest.mark.parametrize(("process", "is_told"), [("i386", True), ("x86_64", False), ("x32", False)])
def test_a_32_bit_process_is_told_that_it_is_the_cause(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, process: str, is_told: bool
) -> None:
    row = next((each for each in names.ALL if each.name == process), None)
    monkeypatch.setattr(explain, "process_arch", lambda: row)
    plan = kexec_file.plan(machine, Request(FileData.from_bytes("k", FakeBzImage().build())))
    error = explain.explain_file_load_failure(errno.ENOSYS, plan, machine)
    assert ("a 32-bit process cannot call it" in str(error)) is is_told


def test_kernels_that_know_no_executable_bit_of_files_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """MFD_NOEXEC_SEAL, 0x8: all that vm.memfd_noexec=2 allows, and EINVAL before Linux 6.3."""
    asked: list[int] = []
    create = os.memfd_create

    def old(name: str, flags: int) -> int:
        asked.append(flags & 0x8)
        if flags & 0x8:
            raise OSError(errno.EINVAL, "Invalid argument")
        return create(name, flags)

    monkeypatch.setattr(os, "memfd_create", old)
    descriptor = kexec_file._descriptor(FileData.from_bytes("kernel", KERNEL), "kernel")
    assert asked == [0x8, 0]
    assert os.pread(descriptor.number, 1 << 20, 0) == KERNEL


def test_the_sealed_file_cannot_be_changed(tmp_path: Path) -> None:
    descriptor = kexec_file._descriptor(FileData.from_bytes("kernel", KERNEL), "kernel")
    with pytest.raises(PermissionError):
        os.write(descriptor.number, b"x")


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize(("purpose", "name"), [(Purpose.BOOT, "reboot"), (Purpose.CRASH, "panic")])
def test_no_load_that_counts_is_wasted(
    purpose: Purpose, name: str, debug: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kernel/kexec_core.c, kexec_load_permitted(): a call counts before the kernel looks at what it gets."""
    text = multiboot1().ljust(0x2000, b"\xf4")
    at = snapshot("qemu-6.1-1g").iomem.crash_regions[-1].start if purpose is Purpose.CRASH else 0x100000
    program = Program([Load(at, text)], at + 0x10, bits=32, machine=3)
    foreign, plain = tmp_path / "multiboot", tmp_path / "bzImage"
    foreign.write_bytes(program.build())
    plain.write_bytes(KERNEL)
    limit = {f"proc/sys/kernel/kexec_load_limit_{name}": "1\n"}
    for path, calls in ((foreign, ["load"]), (plain, ["file"])):
        kernel = FakeKernel(monkeypatch)
        machine = unpacked("qemu-6.1-1g", tmp_path / f"root-{path.name}", limit)
        loader.load_request(machine, Request.from_paths(path, purpose=purpose, debug=debug))
        assert kernel.calls == calls
        assert not any(flags & KEXEC_FILE_DEBUG for flags in kernel.flags)


def test_core_headers_that_nobody_updates() -> None:
    """Whichever call loads: kexec-tools, too, ends where the running kernel does not do it."""
    machine = snapshot("qemu-6.1-1g")
    for hotplug in (False, True):
        request = Request(FileData.from_bytes("K", KERNEL), Purpose.CRASH, hotplug=hotplug)
        expected = pytest.raises(PykexecError, match="--hotplug: the running kernel updates no core headers")
        with expected if hotplug else nullcontext():
            loader.plan(machine, request, "file")


BY_OPTION = {
    "preserve_context": ["--load-preserve-context"],
    "jump_back_helper": ["--load-jump-back-helper", "--entry=0x1000"],
    "dtb": ["--dtb=FILE"],
    "atags": ["--atags"],
    "image_size": ["--image-size=0x1000"],
    "page_offset": ["--page-offset=0xc0000000"],
    "modules": ["--module=FILE"],
    "format": ["-t", "bzImage"],
    "no_checks": ["-i"],
    "mem_min": ["--mem-min=0x1000"],
    "mem_max": ["--mem-max=0x1000"],
    "entry": ["--entry=0x1000"],
    "entry_32bit": ["--entry-32bit"],
    "real_mode": ["--real-mode"],
    "no_efi": ["--noefi"],
    "memmap_parameters": ["--pass-memmap-cmdline"],
    "console_serial": ["--console-serial"],
    "console_vga": ["--console-vga"],
    "serial": ["--serial=0x3f8"],
    "serial_baud": ["--serial-baud=9600"],
}
"""What kexec_file_load(2) has no argument for, by the command line's names for it."""
BY_REQUEST = {
    *("device_tree", "within", "entry", "skip_checks", "format", "entry_32bit", "real_mode", "modules"),
    *("preserve_context", "jump_back", "hand_over_efi", "memmap_parameters", "console"),
    *("atags", "image_size", "page_offset"),
}
"""The same, by the names of a request's fields."""


def test_options_and_requests_agree_on_what_a_file_load_takes(tmp_path: Path) -> None:
    (tmp_path / "FILE").write_bytes(KERNEL)
    machine = snapshot("qemu-6.1-1g")
    assert {option.field for option in OPTIONS if option.needs_kexec_load} == set(BY_OPTION)
    fields: set[str] = set()
    for argv in BY_OPTION.values():
        words = [word.replace("FILE", str(tmp_path / "FILE")) for word in argv]
        purposes = ["-p"] if words[0].startswith(("--pass-memmap-cmdline", "--page-offset")) else ["-l"]
        kernel = [] if "--load-jump-back-helper" in words else [str(tmp_path / "FILE")]
        purpose = [] if words[0].startswith("--load") else purposes
        options = optionparser.parse([*purpose, *words, *kernel])
        assert cli.system_call_of(options) == "load"
        found = kexec_file.unfit(cli.request_of(options, cli.resolve(options).purpose, machine))
        assert found, argv
        fields |= {*found}
    assert fields == BY_REQUEST

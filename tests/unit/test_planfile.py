"""Plans as files: what is written is read again, by construct too, and what nobody wrote is refused."""

import hashlib
import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pykexec import cli, names, planfile
from pykexec.errors import MachineError, PlanFileError
from pykexec.machine import PAGE_SIZES, Machine
from pykexec.memory import Range
from pykexec.plan import LoadPlan, Purpose, Segment
from pykexec.planfile.identity import Fact, Identity, identify, require_same
from pykexec.values import replace
from tests.support.arm64_image import FakeImage
from tests.support.effort import examples
from tests.support.machines import FOLDER, snapshot, unpacked

ARCHES = ["x86_64", "arm64", "riscv64", "arm", "i386", "loongarch64", "ppc64", "ppc", "s390x", "sh"]
TEXT = st.text("abcdefghijklmnop-._0123456789", min_size=1, max_size=31)
HEADER, FACT, SEGMENT = 256, 96, 64


def _declared() -> Any:
    path = Path(planfile.__file__).with_name("declared.py")
    spec = importlib.util.spec_from_file_location("declared", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@st.composite
def segments(draw: st.DrawFn, page: int) -> Segment:
    pages = draw(st.integers(1, 3))
    data = draw(st.binary(max_size=min(pages * page, 300)))
    address = draw(st.integers(0, (1 << 64) // page - pages - 1)) * page
    return Segment(draw(TEXT), address, pages * page, memoryview(data), "")


@st.composite
def plans(draw: st.DrawFn) -> tuple[LoadPlan, Identity]:
    page, arch = draw(st.sampled_from(PAGE_SIZES)), draw(st.sampled_from(ARCHES))
    row = names.named(arch)
    crash = draw(st.booleans())
    numbers = st.integers(0, (1 << 64) - 1)
    plan = LoadPlan(
        arch=arch,
        purpose=Purpose.CRASH if crash else Purpose.BOOT,
        image="",
        image_format="",
        initrd=None,
        command_line="",
        entry=draw(numbers),
        flags=row.kexec_flag | crash,
        segments=tuple(draw(st.lists(segments(page), min_size=1, max_size=4))),
    )
    start = draw(st.integers(0, 1 << 63))
    facts = st.lists(st.builds(Fact, TEXT, st.binary(min_size=32, max_size=32)), max_size=4)
    region = Range.sized(start, draw(st.integers(0, 1 << 62)))
    return plan, Identity(row.usual_uname, draw(TEXT), page, region, tuple(draw(facts)))


@given(plans())
@settings(max_examples=examples(100))
def test_what_is_written_is_read(given: tuple[LoadPlan, Identity]) -> None:
    plan, identity = given
    found = planfile.parse(planfile.build(plan, identity))
    assert found.identity == identity
    for name in ("arch", "purpose", "entry", "flags"):
        assert getattr(found.plan, name) == getattr(plan, name)
    assert [(each.name, each.range, each.data) for each in found.plan.segments] == [
        (each.name, each.range, each.data) for each in plan.segments
    ]


@given(plans())
@settings(max_examples=examples(50))
def test_it_is_as_declared(given: tuple[LoadPlan, Identity]) -> None:
    """Construct's own reader, in the machine's byte order, finds what the plan has; hashlib, the digest."""
    import construct

    plan, identity = given
    blob = planfile.build(plan, identity)
    order = names.named(plan.arch).elf.order
    declared = _declared()

    def read(structure: Any, data: bytes) -> dict[str, Any]:
        number = construct.Int64ul if order == "little" else construct.Int64ub
        fields = [
            # Each has a text, then a name.
            each.name / (each.subcon.subcon if isinstance(each.subcon.subcon, construct.Bytes) else number)
            for each in structure.subcons
        ]
        return dict(construct.Struct(*fields).parse(data))

    header = read(declared.HEADER, blob)
    assert header["magic"] == b"KEXPLAN\0"
    assert (header["version"], header["size"]) == (1, len(blob))
    assert header["digest"] == hashlib.sha256(blob[56:]).digest()
    assert header["release"].rstrip(b"\0").decode() == identity.release
    assert (header["entry"], header["flags"]) == (plan.entry, plan.flags)
    at = declared.HEADER.sizeof() + len(identity.facts) * declared.FACT.sizeof()
    for segment in plan.segments:
        row = read(declared.SEGMENT, blob[at:])
        assert (row["address"], row["memory_size"]) == (segment.address, segment.memsz)
        assert blob[row["offset"] : row["offset"] + row["size"]] == segment.data
        # Kernels read some bytes of a segment whatever its size: they must be there.
        assert row["offset"] % identity.page_size == 0
        assert row["offset"] + identity.page_size <= len(blob)
        at += declared.SEGMENT.sizeof()


def sealed(blob: bytes | bytearray) -> bytes:
    """The file with the digest of what stands in it, as a stranger may make one."""
    return bytes(blob[:24]) + hashlib.sha256(blob[56:]).digest() + bytes(blob[56:])


def small_file(order: str) -> bytes:
    """Return the file of a plan for a machine of that byte order."""
    page = 4096
    arch = "arm64" if order == "little" else "ppc64"
    segment = Segment("kernel", 0x100000, page, memoryview(b"code"), "")
    plan = LoadPlan(arch, Purpose.BOOT, "", "", None, "", 0x100000, 0xB70000, (segment,))
    facts = (Fact("proc/iomem", bytes(32)),)
    return planfile.build(plan, Identity(names.named(arch).usual_uname, "6.1", page, Range(0, 0), facts))


@pytest.fixture(scope="module", params=["little", "big"])
def small(request: pytest.FixtureRequest) -> bytes:
    return small_file(request.param)


def _with(offset: int, value: int | bytes) -> Callable[[bytes], bytes]:
    """Return what has that in its place in the file, in the file's byte order."""

    def changed(blob: bytes) -> bytes:
        order: Literal["little", "big"] = "little" if blob[8] else "big"
        data = value.to_bytes(8, order) if isinstance(value, int) else value
        return sealed(blob[:offset] + data + blob[offset + len(data) :])

    return changed


_TABLE = HEADER + FACT
HOSTILE: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda blob: b"",
    "another file": lambda blob: b"\x7fELF" + blob[4:],
    "its beginning": lambda blob: blob[:100],
    "cut off": lambda blob: blob[:-1],
    "something behind it": lambda blob: blob + b"\0",
    "a flipped bit": lambda blob: blob[:-1] + b"\1",
    "another version": _with(8, 2),
    "the other byte order": _with(8, 1 << 56),
    "another size": _with(16, 1 << 63),
    "no segments": _with(248, 0),
    "17 segments": _with(248, 17),
    "endless segments": _with(248, (1 << 64) - 1),
    "endless facts": _with(240, (1 << 64) - 1),
    "facts that wrap": _with(240, (1 << 64) // 96 + 1),
    "65 facts": _with(240, 65),
    "no page size": _with(200, 0),
    "an odd page size": _with(200, 4095),
    "a page size below all": _with(200, 256),
    "a page size above all": _with(200, 1 << 19),
    "a crash region without end": lambda blob: _with(208, 1 << 63)(_with(216, (1 << 63) + 1)(blob)),
    "unknown flags": _with(232, 0xB70002),
    "flags of 64 bits": _with(232, 1 << 40),
    "a machine without end": _with(56, b"x" * 72),
    "a release without end": _with(128, b"x" * 72),
    "a pattern without end": _with(HEADER, b"x" * 64),
    "a segment's name without end": _with(_TABLE, b"x" * 32),
    "a segment between pages": _with(_TABLE + 32, 0x100001),
    "a segment beyond all": _with(_TABLE + 32, (1 << 64) - 4096),
    "a segment that wraps": _with(_TABLE + 40, (1 << 64) - 4096),
    "a segment of half a page": _with(_TABLE + 40, 100),
    "an offset in the header": _with(_TABLE + 48, 0),
    "an offset beyond the file": _with(_TABLE + 48, 1 << 40),
    "an offset that wraps": _with(_TABLE + 48, (1 << 64) - 4096),
    "an offset between pages": _with(_TABLE + 48, 4097),
    "more than there is": _with(_TABLE + 56, 4097),
    "endless contents": _with(_TABLE + 56, (1 << 64) - 1),
}
"""What is done to a good file; test_exec_plans.py shows them to the helper."""


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files(name: str, small: bytes) -> None:
    planfile.parse(small)
    assert sealed(small) == small
    with pytest.raises(PlanFileError, match=r"^/a\.kexec: "):
        planfile.parse(HOSTILE[name](small), "/a.kexec")


@given(plans(), st.data())
@settings(max_examples=examples(200))
def test_any_damage(given: tuple[LoadPlan, Identity], data: st.DataObject) -> None:
    """Whoever seals it again: it is read, with segments that lie in the file, or refused."""
    blob = bytearray(planfile.build(*given))
    table = HEADER + len(given[1].facts) * FACT + len(given[0].segments) * SEGMENT
    for _ in range(data.draw(st.integers(1, 6))):
        blob[data.draw(st.integers(8, table - 1))] = data.draw(st.integers(0, 255))
    try:
        found = planfile.parse(sealed(blob)).plan
    except PlanFileError:
        return
    for each in found.segments:
        assert each.data.nbytes <= each.memsz
        assert each.address + each.memsz <= 1 << 64


@given(plans(), st.data())
@settings(max_examples=examples(50))
def test_one_other_byte_is_noticed(given: tuple[LoadPlan, Identity], data: st.DataObject) -> None:
    blob = bytearray(planfile.build(*given))
    at, value = data.draw(st.integers(0, len(blob) - 1)), data.draw(st.integers(0, 255))
    assume(blob[at] != value)
    blob[at] = value
    with pytest.raises(PlanFileError):
        planfile.parse(bytes(blob))


def test_what_no_file_can_hold(small: bytes) -> None:
    found = planfile.parse(small)
    with pytest.raises(PlanFileError, match="no file for such a plan"):
        planfile.build(replace(found.plan, flags=0xB70002), found.identity)
    with pytest.raises(PlanFileError, match="too long"):
        planfile.build(found.plan, replace(found.identity, release="x" * 72))


SNAPSHOT = "qemu-arm64-6.1-1g"
IOMEM = snapshot(SNAPSHOT).read("proc/iomem") or b""
KCORE = snapshot(SNAPSHOT).read("proc/kcore") or b""


@pytest.mark.parametrize(
    ("changes", "boot", "crash"),
    [
        ({}, None, None),
        ({"proc/iomem": IOMEM + b"f0000000-f0000fff : nvme\n"}, None, None),
        ({"proc/iomem": IOMEM.replace(b": Kernel code", b": Kernel c0de")}, None, None),
        ({"proc/cmdline": "other"}, None, None),
        ({"proc/device-tree/chosen/bootargs": "other"}, None, None),
        ({"sys/kernel/kexec_loaded": "1\n", "sys/kernel/kexec_crash_loaded": "1\n"}, None, None),
        ({"proc/iomem": IOMEM + b"f0000000-f0000fff : System RAM\n"}, "iomem", "iomem"),
        ({"proc/iomem": IOMEM.replace(b": reserved", b": freed", 1)}, "iomem", "iomem"),
        ({"proc/iomem": IOMEM.replace(b"Crash kernel", b"Free")}, "crash kernel's memory", "memory"),
        ({"proc/sys/kernel/osrelease": "6.1.1\n"}, "the kernel 6.1.0", "this machine's is 6.1.1"),
        ({"proc/device-tree/model": "other"}, "device-tree", "device-tree"),
        ({"sys/kernel/vmcoreinfo": "1000 1024\n"}, None, "vmcoreinfo"),
        ({"sys/devices/system/cpu/cpu0/crash_notes": "1000\n"}, None, "crash_notes"),
        ({"proc/kcore": KCORE[:-4] + b"x=1\n"}, None, "kcore"),
        ({"sys/kernel/kexec_crash_size": "1\n"}, None, "kexec_crash_size"),
    ],
)
def test_what_makes_a_plan_stale(
    changes: Mapping[str, str | bytes], boot: str | None, crash: str | None, tmp_path: Path
) -> None:
    """Neither what drivers and loads change, nor, for a boot, what is elsewhere after the next boot."""
    now = unpacked(SNAPSHOT, tmp_path, changes)
    for purpose, why in ((Purpose.BOOT, boot), (Purpose.CRASH, crash)):
        planned = identify(snapshot(SNAPSHOT), purpose)
        if why is None:
            require_same(planned, now)
        else:
            with pytest.raises(PlanFileError, match=why) as error:
                require_same(planned, now)
            assert "take a new snapshot" in (error.value.hint or "")


def test_what_a_later_version_compares_is_not_passed_over() -> None:
    machine = snapshot(SNAPSHOT)
    planned = identify(machine, Purpose.BOOT)
    with pytest.raises(PlanFileError, match="does not know"):
        require_same(replace(planned, facts=(Fact("proc/cmdline", bytes(32)),)), machine)


def test_a_machine_that_tells_too_little(tmp_path: Path) -> None:
    machine = unpacked(SNAPSHOT, tmp_path, {"proc/sys/kernel/osrelease": None})
    with pytest.raises(MachineError, match="release"):
        identify(machine, Purpose.BOOT)


def test_hidden_addresses_are_no_other_machine(tmp_path: Path) -> None:
    """As who is not root sees them."""
    hidden = "\n".join("00000000-00000000 : System RAM" for _ in range(3))
    planned = identify(snapshot(SNAPSHOT), Purpose.BOOT)
    with pytest.raises(MachineError, match="zeros"):
        require_same(planned, unpacked(SNAPSHOT, tmp_path, {"proc/iomem": hidden}))


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    path = tmp_path / "Image"
    path.write_bytes(FakeImage().build())
    return path


@pytest.fixture
def arguments(kernel: Path) -> list[str]:
    return ["--machine", str(FOLDER / f"{SNAPSHOT}.tar"), "--append=x", str(kernel)]


@pytest.mark.parametrize("option", ["-l", "-p"])
def test_commands(
    option: str, arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same bytes each time, for the owner alone; and it is read again, for that machine alone."""
    one, other = tmp_path / "one.kexec", tmp_path / "other.kexec"
    for path in (one, other):
        assert cli.exit_code([option, *arguments, "--output", str(path)]) == 0
        assert capsys.readouterr().out.startswith(f"{path}: ")
    assert one.read_bytes() == other.read_bytes()
    assert one.stat().st_mode & 0o777 == 0o600
    there, elsewhere = (
        cli.exit_code(["--load-plan", str(one), "--machine", str(FOLDER / f"{name}.tar")])
        for name in (SNAPSHOT, "qemu-arm64-6.1-6g-high-low")
    )
    assert (there, elsewhere) == (0, 255)
    shown = capsys.readouterr()
    assert "purgatory" in shown.out
    assert "the plan is for" in shown.err
    wrong = "-p" if option == "-l" else "-l"
    assert cli.exit_code([wrong, "--load-plan", str(one)]) == 1
    assert f"which {wrong}" in capsys.readouterr().err


def test_the_plan_is_shown_besides_where_that_is_asked_for(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.exit_code(["-l", *arguments, "--json", "--output", str(tmp_path / "x.kexec")]) == 0
    assert capsys.readouterr().out.startswith("{")
    assert (tmp_path / "x.kexec").exists()


@pytest.mark.parametrize(
    "options",
    [
        ["-s"],
        ["-e"],
        ["-f"],
        ["-u"],
        ["--snapshot=x.tar"],
        ["--load-preserve-context"],
        ["--load-plan=x.kexec"],
        ["--mem-max=0x1000"],
    ],
)
def test_what_leaves_no_file(
    options: list[str], arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was there before stays."""
    path = tmp_path / "x.kexec"
    path.write_text("before")
    assert cli.exit_code([*options, *arguments, "--output", str(path)]) == 1
    assert path.read_text() == "before"
    assert capsys.readouterr().err.count("\n") <= 2


@pytest.mark.parametrize("more", ["--append=x", "--initrd=x", "--reuse-kernel", "-u", "kernel", "--dtb=x"])
def test_a_plan_is_complete(more: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.exit_code(["-l", "--load-plan", str(tmp_path / "x.kexec"), more]) == 1
    assert "cannot go together" in capsys.readouterr().err


def test_a_plan_says_nothing_of_what_is_loaded(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.exit_code(["-S", "--load-plan=x.kexec"]) == 1
    assert "--load-plan is for loading" in capsys.readouterr().err


def test_a_load(small: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The running kernel gets what is in the file, once the machine is found to be the right one."""
    machine = snapshot(SNAPSHOT)
    found = planfile.parse(small)
    path = tmp_path / "x.kexec"
    path.write_bytes(planfile.build(found.plan, identify(machine, Purpose.BOOT)))
    called: list[Any] = []
    monkeypatch.setattr("pykexec.syscalls.kexec_load", lambda *given: called.append(given))
    monkeypatch.setattr(Machine, "live", lambda: Machine(machine.root, is_live=True))
    monkeypatch.setattr(Machine, "uname_machine", "aarch64")
    monkeypatch.setattr(Machine, "page_size", 4096)
    monkeypatch.setattr("pykexec.privilege.may_boot", lambda machine: True)
    assert cli.exit_code(["--load-plan", str(path)]) == 0
    ((entry, loaded, flags),) = called
    assert (entry, flags) == (0x100000, 0xB70000)
    assert [bytes(each.data) for each in loaded] == [b"code"]
    path.write_bytes(small)
    assert cli.exit_code(["--load-plan", str(path)]) == 255
    assert len(called) == 1

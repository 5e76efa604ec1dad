"""The helper beside pykexec, for each architecture: what it tells of a machine, and which plans it loads."""

import io
import os
import shutil
import struct
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pykexec import planfile, redact
from pykexec.arch import facts_for, for_machine
from pykexec.errors import MachineError, PlanFileError
from pykexec.formats.elfheader import ET_CORE, PT_LOAD, PT_NOTE, Encoding, ProgramHeader
from pykexec.machine import IDENTITY, Machine, kcore, snapshot
from pykexec.memory import Range
from pykexec.plan import LoadPlan, Purpose, Segment
from pykexec.planfile.identity import Fact, Identity, identify, identity_of
from pykexec.values import replace
from tests.support import machines
from tests.support.dtb import Blob, Tree
from tests.support.effort import examples
from tests.support.secret_texts import WITH_SECRETS, WITHOUT_SECRETS, S
from tests.support.static_kexec import ARCHES, EMULATORS, Root
from tests.unit.test_planfile import HOSTILE, plans, sealed

EXAMPLES = {for_machine(machines.snapshot(name)).name: name for name in reversed(machines.SNAPSHOTS)}
"""A snapshot for each architecture."""
assert sorted(EXAMPLES) == sorted(ARCHES)


def members(archive: bytes) -> Mapping[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {each.name: tar.extractfile(each).read() for each in tar}  # type: ignore[union-attr]


def told_by_python(root: Path) -> Mapping[str, bytes]:
    machine = Machine.from_snapshot(root)
    return dict(snapshot.contents(machine, facts_for(machine)))


@pytest.mark.parametrize("name", machines.SNAPSHOTS)
def test_it_tells_the_same_of_a_machine(name: str, tmp_path: Path) -> None:
    """File by file. Names longer than a header has room for are among them."""
    root = tmp_path / "root"
    long = f"proc/device-tree/{'/'.join('soc@0123456789' * 2 for _ in range(5))}/compatible"
    machine = machines.unpacked(name, root, {long: b"a\0", "sys/class/tty/ttyS99/type": "4\n"})
    arch = for_machine(machine).name
    told = Root(root, arch).run("--snapshot")
    assert (told.status, told.stderr) == (0, "")
    found, expected = dict(members(told.stdout)), dict(told_by_python(root))
    identity = [each.pop(IDENTITY) for each in (found, expected)]
    assert found == expected
    assert "sys/class/tty/ttyS99/type" in found
    if arch != "i386":  # which runs on an x86_64 kernel here
        assert identity[0] == identity[1]
    names = subprocess.run(["tar", "-t"], input=told.stdout, capture_output=True, check=True)
    assert sorted(names.stdout.decode().split()) == sorted([*found, IDENTITY])


ENCODINGS = [(arch, bits) for arch in ARCHES for bits in ((64, 32) if arch in ("i386", "arm") else (64,))]


@pytest.mark.parametrize(("arch", "bits"), ENCODINGS)
@pytest.mark.parametrize("older", [False, True], ids=["", "before-4.19"])
def test_nothing_of_memory_is_told(arch: str, bits: int, older: bool, tmp_path: Path) -> None:
    """Of /proc/kcore as kernels make it registers and threads are left out, as pykexec leaves them out."""
    encoding = Encoding(bits, "little")
    end = (1 << bits) - 1
    notes = b"".join(
        struct.pack("<III", len(name), len(content), 1) + name.ljust(-len(name) % 4 + len(name), b"\0")
        + content.ljust(-len(content) % 4 + len(content), b"\0")
        for name, content in (
            (b"CORE\0", S.encode() * 20),
            (b"CORE\0", b"x"),
            *(() if older else ((b"VMCOREINFO\0", b"OSRELEASE=6.1\nPAGESIZE=4096\nX=1\n"),)),
        )
    )  # fmt: skip
    rows = [
        (0xC0000000, 0 if older else 0x40000000, 0x8000000),
        (0xE0000000, 0 if older else end, 0x1000000),
        (0xF0000000, 0 if older else (1 << 32) - 1, 0x2000),
    ]
    at = encoding.header_size + (len(rows) + 2) * encoding.program_header_size
    headers = [
        ProgramHeader(PT_NOTE, 0, at, 0, 0, len(notes), 0),
        ProgramHeader(0x6474E551, 7, 0, 0, 0, 0, 0),
        *(ProgramHeader(PT_LOAD, 7, 0x1000, *row[:2], row[2], row[2], 4096) for row in rows),
    ]
    raw = bytearray(encoding.build(ET_CORE, 62, headers) + notes + S.encode() * 1000)
    raw[9] = 1  # e_ident's padding
    root = tmp_path / "root"
    machines.write(root, "proc/kcore", bytes(raw))
    machines.write(root, "proc/iomem", "00001000-00001fff : System RAM\n")
    told = members(Root(root, arch).run("--snapshot").stdout)["proc/kcore"]
    assert S.encode() not in told
    assert told == kcore.without_memory(Machine.from_snapshot(root).root)


@pytest.mark.parametrize("arch", ARCHES)
def test_nothing_secret_is_told(arch: str, tmp_path: Path) -> None:
    """Neither on a command line nor in a tree; what is no secret stays, or nearly all of it."""
    root = tmp_path / "root"
    machines.write(root, "proc/iomem", "00001000-00001fff : System RAM\n")
    texts = {f"proc/device-tree/chosen/text{number}": text for number, text in enumerate(WITH_SECRETS)}
    texts |= {f"proc/device-tree/chosen/kept{number}": text for number, text in enumerate(WITHOUT_SECRETS)}
    texts |= {f"proc/device-tree/chosen/{name}-seed": S for name in ("rng", "kaslr")}
    for path, text in texts.items():
        machines.write(root, path, text)
    helper = Root(root, arch)
    found = members(helper.run("--snapshot").stdout)
    assert not [name for name, data in found.items() if S.encode() in data]
    if any(name.startswith("proc/device-tree/") for name in found):
        assert {name for name in texts if name not in found} == {name for name in texts if "seed" in name}
        covered = {text for name, text in texts.items() if "kept" in name and found[name] != text.encode()}
        assert covered == COVERED_THOUGH_NO_SECRET
    for text in WITH_SECRETS:
        machines.write(root, "proc/cmdline", f"quiet {text}\n")
        told = members(helper.run("--snapshot").stdout)["proc/cmdline"]
        assert S.encode() not in told
        assert told.startswith(b"quiet ")
        assert len(told) == len(f"quiet {text}\n".encode())


@pytest.mark.parametrize("arch", ["arm", "arm64", "riscv64"])
def test_nothing_secret_is_told_of_a_flattened_tree(arch: str, tmp_path: Path) -> None:
    """It is hidden in place; a tree that cannot be read to its end is left out, as pykexec leaves it out."""
    seeds = {f"{name}-seed": S.encode() * 2 for name in ("rng", "kaslr")}
    line = f"quiet rd.password={S} x\0".encode()
    chosen: Tree = {"bootargs": line, **seeds, "chosen": {"bootargs": b"kept\0"}}
    tree: Tree = {
        "compatible": b"a\0",
        "memory@0": {"reg": bytes(16)},
        "chosen": chosen,
        "soc": {"chosen": {"rng-seed": b"kept"}},
    }
    blob = Blob(tree, nops=True).build()
    root = tmp_path / "root"
    machines.write(root, "proc/iomem", "00001000-00001fff : System RAM\n")
    helper = Root(root, arch)
    for end in (len(blob), *range(0, len(blob), 40)):
        machines.write(root, "sys/firmware/fdt", blob[:end])
        told = members(helper.run("--snapshot").stdout)
        assert told.get("sys/firmware/fdt") == told_of_tree(root)
    assert "sys/firmware/fdt" not in told


def told_of_tree(root: Path) -> bytes | None:
    return dict(snapshot.Reader(Machine.from_snapshot(root).root).safe_files("sys/firmware/fdt")).get(
        "sys/firmware/fdt"
    )


PIECES = [
    *("pass", "PASSWORD", "passwd", "token", "secret", "mem", "api_key", "pw", "psk", "x", "quiet", "root"),
    *(
        "=",
        "+=",
        ":",
        ": ",
        " ",
        "  ",
        "@",
        "://",
        "iscsi:",
        "/",
        "-",
        "--",
        "_",
        ".",
        '"',
        "'",
        "}",
        ",",
        "1",
    ),
    *("-u ", "-p", "echo ", " | sudo", "Cookie: ", "$6$", "grub.pbkdf2.", "DHHC-1:", "\n", "\\\n", S, S, S),
]


@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=12).map("".join), min_size=50, max_size=100))
@settings(
    max_examples=examples(30), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_what_pykexec_hides_is_hidden(tmp_path: Path, texts: list[str]) -> None:
    root = tmp_path / "root"
    shutil.rmtree(root, ignore_errors=True)
    machines.write(root, "proc/iomem", "00001000-00001fff : System RAM\n")
    folder = "proc/device-tree/chosen"
    texts = [*texts, f"$6$pass.=Cookie: --{S}"]  # what is hidden says that more is to be hidden
    for number, text in enumerate(texts):
        machines.write(root, f"{folder}/text{number}", text)
    told = members(Root(root, "arm64").run("--snapshot").stdout)
    for number, text in enumerate(texts):
        seen = told[f"{folder}/text{number}"].decode()
        assert len(seen) == len(text)
        assert seen.count(S) <= redact.text(text).count(S), (text, seen)


COVERED_THOUGH_NO_SECRET = {
    "-u root",
    "ssh -p 22 host; KDUMP_PORT=22",
    "systemd[1]: Started Forward Password Requests to Wall Directory Watch.",
    "echo 1 | tee /proc/sys/kernel/sysrq",
}
"""Where it takes regular expressions to tell that it is none; no kernel's command line has the like."""


def test_who_may_not_see_gets_no_snapshot(tmp_path: Path) -> None:
    """What there is of an archive cannot be taken for one."""
    root = tmp_path / "root"
    machines.write(root, "proc/iomem", "00000000-00000000 : System RAM\n")
    told = Root(root, "x86_64").run("--snapshot")
    assert told.status == 255
    assert told.stderr == (
        "kexec: cannot take a snapshot: /proc/iomem (addresses) cannot be read\n       run as root\n"
    )
    archive = tmp_path / "machine.tar"
    archive.write_bytes(told.stdout)
    with pytest.raises(MachineError):
        Machine.from_snapshot(archive)


def _for_this_kernel(identity: Identity, arch: str) -> Identity:
    """The same on the kernel that runs here, whose names no folder can change."""
    here = os.uname()
    own = identity.machine if EMULATORS.get(arch) else here.machine
    return replace(identity, release=here.release, machine=own)


def _plan(machine: Machine, purpose: Purpose) -> LoadPlan:
    """A plan, of which the kernel has the last word on whether it makes sense."""
    arch, page = for_machine(machine), machine.page_size
    segments = (
        Segment("kernel", 4 * page, 2 * page, memoryview(b"code" * 100), ""),
        Segment("nothing", 8 * page, page, memoryview(b""), ""),
    )
    flags = arch.kexec_flag | (purpose is Purpose.CRASH)
    return LoadPlan(arch.name, purpose, "", "", None, "", 4 * page, flags, segments)


@pytest.mark.parametrize("arch", ARCHES)
@pytest.mark.parametrize("purpose", Purpose, ids=lambda purpose: purpose.value)
def test_the_machine_is_known_again(arch: str, purpose: Purpose, tmp_path: Path) -> None:
    """All digests are the same, on machines of each word size; then the kernel is asked."""
    root = tmp_path / "root"
    machine = machines.unpacked(EXAMPLES[arch], root)
    helper = Root(root, arch)
    plan = _plan(machine, purpose)
    identity = _for_this_kernel(identify(machine, purpose), arch)
    (root / "x.kexec").write_bytes(planfile.build(plan, identity))
    option = "-l" if purpose is Purpose.BOOT else "-p"
    done = helper.run("--load-plan", "/x.kexec", option, traced=not EMULATORS.get(arch))
    if EMULATORS.get(arch):
        assert done.stderr == "kexec: kexec_load failed: Function not implemented\n"
        return
    assert (done.status, done.stderr) == (0, "")
    (call,) = done.loads
    page = machine.page_size
    assert f"kexec_load({4 * page:#x}, 2, [" in call
    assert f"bufsz=400, mem={4 * page:#x}, memsz={2 * page}}}" in call
    assert f"bufsz=0, mem={8 * page:#x}, memsz={page}}}" in call
    assert ("KEXEC_ON_CRASH" in call) is (purpose is Purpose.CRASH)


@pytest.mark.parametrize("arch", ["x86_64", "arm", "arm64"])
@pytest.mark.parametrize(
    ("path", "content", "purpose", "why"),
    [
        ("proc/iomem", "00001000-00001fff : System RAM\n", Purpose.BOOT, "crash kernel's memory"),
        ("proc/iomem", "+f0000000-f0000fff : System RAM\n", Purpose.BOOT, ": /proc/iomem differs"),
        ("proc/iomem", "+f0000000-f0000fff : a device\n", Purpose.BOOT, None),
        ("proc/cmdline", "other\n", Purpose.CRASH, None),
        ("sys/kernel/vmcoreinfo", "1000 1024\n", Purpose.BOOT, None),
        ("sys/kernel/vmcoreinfo", "1000 1024\n", Purpose.CRASH, ": /sys/kernel/vmcoreinfo differs"),
        ("sys/devices/system/cpu/cpu0/crash_notes", "1\n", Purpose.CRASH, "cpu*/crash_notes differs"),
        ("sys/kernel/kexec_crash_size", "0\n", Purpose.CRASH, "Memory for crashkernel is not reserved"),
    ],
)
def test_another_machine(
    arch: str, path: str, content: str, purpose: Purpose, why: str | None, tmp_path: Path
) -> None:
    """It is refused as pykexec refuses it, and the kernel is not asked."""
    root = tmp_path / "root"
    machine = machines.unpacked(EXAMPLES[arch], root)
    blob = planfile.build(_plan(machine, purpose), _for_this_kernel(identify(machine, purpose), arch))
    if content.startswith("+"):
        content = (machine.read(path) or b"").decode() + content[1:]
    machines.write(root, path, content)
    (root / "x.kexec").write_bytes(blob)
    done = Root(root, arch).run("--load-plan", "/x.kexec")
    if why is None:
        assert "kexec_load failed" in done.stderr or EMULATORS.get(arch) is None
        return
    assert why in done.stderr
    assert done.status in (1, 255)
    assert done.stderr.count("\n") == 2
    now, planned = Machine.from_snapshot(root), planfile.parse(blob).identity
    found = identity_of(now, [each.pattern for each in planned.facts])
    assert _for_this_kernel(found, arch) != planned


def test_a_kernel_elsewhere_without_kcore(tmp_path: Path) -> None:
    """Arm's kernels have no /proc/kcore. Of all other symbols, modules' for one, nothing depends."""
    root = tmp_path / "root"
    machine = machines.unpacked(EXAMPLES["arm"], root)
    identity = _for_this_kernel(identify(machine, Purpose.CRASH), "arm")
    (root / "x.kexec").write_bytes(planfile.build(_plan(machine, Purpose.CRASH), identity))
    helper = Root(root, "arm")
    symbols = (machine.read("proc/kallsyms") or b"").decode()
    machines.write(root, "proc/kallsyms", f"{symbols}bf000000 t init\t[module]\n")
    assert helper.run("--load-plan", "/x.kexec").stderr.startswith("kexec: kexec_load failed")
    machines.write(root, "proc/kallsyms", "c1000000 T _stext\n")
    assert "/proc/kallsyms differs" in helper.run("--load-plan", "/x.kexec").stderr


@pytest.mark.parametrize("arch", ARCHES)
def test_hostile_files(arch: str, tmp_path: Path) -> None:
    """Each is refused in one line, before anything else is asked."""
    root = tmp_path / "root"
    helper = Root(root, arch)
    segment = Segment("kernel", 0x100000, 4096, memoryview(b"code"), "")
    plan = LoadPlan("arm64", Purpose.BOOT, "", "", None, "", 0x100000, 0xB70000, (segment,))
    identity = Identity("aarch64", "6.1", 4096, Range(0, 0), (Fact("proc/iomem", bytes(32)),))
    good = planfile.build(plan, identity)
    (root / "x.kexec").write_bytes(good)
    assert "the plan is for the " in helper.run("--load-plan", "/x.kexec").stderr
    for name, make in HOSTILE.items():
        (root / "x.kexec").write_bytes(make(good))
        done = helper.run("--load-plan", "/x.kexec")
        assert (name, done.status, done.stderr.count("\n")) == (name, 255, 1)
        assert done.stderr.startswith("kexec: /x.kexec: "), name
        assert "the plan is for the " not in done.stderr, name


def test_names_of_strangers_do_nothing_to_a_terminal(tmp_path: Path) -> None:
    helper = Root(tmp_path / "root", "x86_64")
    segment = Segment("kernel", 0x100000, 4096, memoryview(b""), "")
    plan = LoadPlan("x86_64", Purpose.BOOT, "", "", None, "", 0x100000, 0x3E0000, (segment,))
    identity = Identity(os.uname().machine, "6.1\x1b[2J\n", 4096, Range(0, 0), ())
    (helper.folder / "x.kexec").write_bytes(planfile.build(plan, identity))
    said = helper.run("--load-plan", "/x.kexec").stderr
    assert said.startswith("kexec: /x.kexec: the plan is for the kernel 6.1?[2J?, this machine's is ")


def test_who_may_not_see_is_told_so(tmp_path: Path) -> None:
    """It is not another machine because its addresses are hidden."""
    root = tmp_path / "root"
    machine = machines.unpacked(EXAMPLES["x86_64"], root)
    identity = _for_this_kernel(identify(machine, Purpose.BOOT), "x86_64")
    (root / "x.kexec").write_bytes(planfile.build(_plan(machine, Purpose.BOOT), identity))
    machines.write(root, "proc/iomem", "00000000-00000000 : System RAM\n")
    done = Root(root, "x86_64").run("--load-plan", "/x.kexec")
    assert (done.status, done.loads) == (255, [])
    assert done.stderr.endswith("/proc/iomem (addresses) cannot be read\n       run as root\n")


def test_where_there_is_no_file(tmp_path: Path) -> None:
    helper = Root(tmp_path / "root", "x86_64")
    missing = helper.run("--load-plan", "/none")
    assert (missing.status, missing.stderr) == (1, "kexec: /none: No such file or directory\n")
    folder = helper.run("--load-plan", "/proc")
    assert (folder.status, folder.stderr.count("\n")) == (255, 1)


@given(plans(), st.data())
@settings(max_examples=examples(150), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_both_take_the_same_files(
    tmp_path: Path, given: tuple[LoadPlan, Identity], data: st.DataObject
) -> None:
    """Whatever is damaged: the helper of this machine's byte order refuses what pykexec refuses."""
    plan, identity = given
    identity = replace(identity, machine="nobody's")
    blob = bytearray(planfile.build(plan, identity))
    table = 256 + 96 * len(identity.facts) + 64 * len(plan.segments)
    for _ in range(data.draw(st.integers(0, 4))):
        blob[data.draw(st.integers(8, table - 1))] = data.draw(st.sampled_from([0, 1, 16, 128, 255]))
    whole = sealed(blob)
    root = Root(tmp_path / "root", "x86_64")
    (root.folder / "x.kexec").write_bytes(whole)
    done = root.run("--load-plan", "/x.kexec")
    assert done.status == 255
    try:
        planfile.parse(whole)
        taken = int.from_bytes(whole[8:16], "little") == 1
    except PlanFileError:
        taken = False
    assert ("the plan is for the " in done.stderr) is taken, done.stderr

"""pykexec in another program: any request is a plan or a PykexecError, in any thread, without privilege."""

import ast
import concurrent.futures
import contextlib
import inspect
import pydoc
import re
import subprocess
import sys
import textwrap
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pykexec
from pykexec import plan as pykexec_plan
from pykexec import syscalls
from pykexec.errors import PykexecError, UsageError
from pykexec.examples import compare_machines, load_and_reboot, plan_and_print
from pykexec.files import FileData
from pykexec.initramfs import Addition
from pykexec.loader import plan, plan_load
from pykexec.machine import Machine
from pykexec.machine.root import Folder
from pykexec.memory import Range
from pykexec.plan import Console, Module, Purpose, Request
from tests.support.arm64_image import FakeImage
from tests.support.bzimage import FakeBzImage
from tests.support.effort import examples
from tests.support.machines import FOLDER, snapshot, unpacked

MACHINES = ("qemu-6.1-6g-high", "qemu-arm64-6.1-6g-high-low")


def file(data: bytes) -> FileData:
    return FileData.from_bytes("file", data)


KERNELS = [file(FakeBzImage().build()), file(FakeImage().build())]
FIELDS: dict[str, list[Any]] = {
    "initrd": [None, file(b""), file(b"x" * 9000)],
    "initrds": [(), (file(b"a"), file(b"070701"))],
    "additions": [(), (Addition("a/b", memoryview(b"1")),), (Addition("\ud800", memoryview(b"1")),)],
    "entry_id": [None, "default", ""],
    "reuse_kernel": [False, True],
    "profile": [None, "x"],
    "device_tree": [None, file(b""), file(b"x")],
    "append": [None, "a", "", "\0", "\ud800", "x" * 5000],
    "reuse_command_line": [False, True],
    "within": [Range(0, 1 << 64), Range(0, 0), Range(5, 1 << 33), Range(0x1000, 0x100000)],
    "entry": [None, 0, 0x1000],
    "skip_checks": [False, True],
    "seed": [None, b"", b"s" * 64, b"x" * 1000],
    "format": [None, "bzImage", "Image", "uki", "nope", ""],
    "entry_32bit": [False, True],
    "real_mode": [False, True],
    "modules": [(), (Module(file(b"x"), "m \ud800"),)],
    "hotplug": [False, True],
    "hand_over_efi": [True, False],
    "preserve_context": [False, True],
    "jump_back": [None, -1, 0, 0x1000, 1 << 60, 1 << 70],
    "memmap_parameters": [False, True],
    "console": [Console(), Console("ttyS0"), Console("0x3f8", 9600), Console("0xffffffff"), Console("x", 7)],
    "debug": [False, True],
    "no_cma": [False, True],
    "force_dtb": [False, True],
    "core_header_bits": [None, 32, 64],
    "atags": [False, True],
    "image_size": [None, 0, 1 << 24, 1 << 70],
    "page_offset": [None, 0, 0xC0000000, 1 << 70],
}


def test_every_field_is_tried() -> None:
    found_by_sources = {"container", "taken", "warnings"}
    assert FIELDS.keys() | {"kernel", "purpose"} | found_by_sources == set(Request.__match_args__)


@pytest.mark.slow
@settings(max_examples=examples(200), suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from(MACHINES),
    st.sampled_from(KERNELS),
    st.sampled_from(Purpose),
    st.lists(st.sampled_from(sorted(FIELDS)), unique=True, max_size=4),
    st.data(),
)
def test_any_request_is_planned_or_refused(
    machine: str, kernel: FileData, purpose: Purpose, names: list[str], data: st.DataObject
) -> None:
    asked = {name: data.draw(st.sampled_from(FIELDS[name]), name) for name in names}
    for system_call in ("auto", "load", "file"):
        with contextlib.suppress(PykexecError):
            plan(snapshot(machine), Request(kernel=kernel, purpose=purpose, **asked), system_call)


@pytest.mark.parametrize(
    "field", [{"entry": -1}, {"entry": 1 << 64}, {"within": Range(0, 1 << 65)}], ids=str
)
def test_addresses_that_are_none_are_refused(field: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="64 bits"):
        Request(KERNELS[0], **field)


@pytest.mark.parametrize("baud", [-1, 0, 1, 1 << 20])
def test_speeds_that_are_none_are_refused(baud: int) -> None:
    with pytest.raises(UsageError, match="baud"):
        Console("ttyS0", baud)


def test_the_example_in_the_readme_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    code = readme.partition("```python\n")[2].partition("```")[0]
    kernel, loaded = tmp_path / "vmlinuz", []
    kernel.write_bytes(FakeBzImage().build())
    (tmp_path / "capture.img").write_bytes(b"\x1f\x8b\x08" + bytes(9000))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Machine, "live", lambda: snapshot(MACHINES[0]))
    monkeypatch.setattr(syscalls, "kexec_load", lambda entry, segments, flags: loaded.append(segments))
    exec(code.replace("/boot/vmlinuz", str(kernel)), {})
    assert {"kernel", "initrd", "elfcorehdr", "purgatory"} <= {each.name for each in loaded[0]}


def test_the_example_of_the_package_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = textwrap.dedent((pykexec.__doc__ or "").partition("::\n\n")[2])
    kernel, loaded = tmp_path / "vmlinuz", []
    kernel.write_bytes(FakeBzImage().build())
    monkeypatch.setattr(Machine, "live", lambda: snapshot(MACHINES[0]))
    monkeypatch.setattr(syscalls, "kexec_load", lambda entry, segments, flags: loaded.append(entry))
    exec(code.replace("/boot/vmlinuz", str(kernel)), {})
    assert loaded


def test_the_package_tells_what_is_public() -> None:
    """Each name in one line, in what help(pykexec) begins with; each is there, and explained."""
    table, _, _ = (pykexec.__doc__ or "").partition("\n\nExamples are")
    assert {line.split()[0] for line in table.split("\n\n")[-1].splitlines()} == set(pykexec.__all__)
    shown = pydoc.plain(pydoc.render_doc(pykexec))
    for name in pykexec.__all__:
        found = getattr(pykexec, name)
        assert isinstance(found, str) or inspect.getdoc(found)
        assert name in dir(pykexec)
        if inspect.isfunction(found):
            assert f"\n    {name}(" in shown
            assert "Any" not in str(inspect.signature(found))
        elif inspect.isclass(found):
            assert f"\n    class {name}(" in shown
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        pykexec.nonsense  # type: ignore[attr-defined] # noqa: B018


def test_importing_the_package_imports_nothing() -> None:
    program = "import sys; before = set(sys.modules); import pykexec; print(*(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["pykexec"]


VALUES = [each for each in (getattr(pykexec, name) for name in pykexec.__all__) if is_dataclass(each)]


@pytest.mark.parametrize("public", VALUES, ids=lambda each: each.__name__)
def test_every_field_of_a_public_class_is_explained(public: type[Any]) -> None:
    told = inspect.getdoc(public) or ""
    for name, parameter in inspect.signature(public).parameters.items():
        kind = inspect.formatannotation(parameter.annotation).strip("'")
        assert re.search(rf"^  {name}: {re.escape(kind)}( = .*)?\n      \S", told, re.MULTILINE), name


def test_what_from_paths_takes_is_typed() -> None:
    """All fields that are no files, with the types that the fields have."""
    tree = ast.parse(Path(pykexec_plan.__file__).read_text())
    (settings,) = (
        node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == "Settings"
    )
    typed = {
        ast.unparse(node.target): ast.unparse(node.annotation)
        for node in settings.body
        if isinstance(node, ast.AnnAssign)
    }
    fields = {name: each.annotation for name, each in inspect.signature(Request).parameters.items()}
    apart = {"kernel", "initrd", "device_tree", "container", "taken", "warnings"}
    assert typed == {name: kind for name, kind in fields.items() if name not in apart}


EXAMPLES = (plan_and_print, compare_machines, load_and_reboot)


@pytest.fixture
def boot_files(tmp_path: Path) -> list[str]:
    """A kernel and its initrd."""
    (tmp_path / "vmlinuz").write_bytes(FakeBzImage().build())
    (tmp_path / "initrd").write_bytes(b"\x1f\x8b\x08" + bytes(9000))
    return [str(tmp_path / "vmlinuz"), str(tmp_path / "initrd")]


@pytest.mark.parametrize(
    "source", [Path(str(each.__file__)) for each in EXAMPLES], ids=lambda source: source.stem
)
def test_an_example_uses_what_is_public(source: Path) -> None:
    imports = [node for node in ast.walk(ast.parse(source.read_text())) if isinstance(node, ast.ImportFrom)]
    ours = [node for node in imports if str(node.module).startswith("pykexec")]
    assert [node.module for node in ours] == ["pykexec"]
    assert {each.name for node in ours for each in node.names} <= set(pykexec.__all__)


def test_the_example_that_plans_and_prints(
    boot_files: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Machine, "live", lambda: snapshot(MACHINES[0]))
    assert plan_and_print.main(boot_files) == 0
    told = capsys.readouterr().out
    planned = plan_load(snapshot(MACHINES[0]), Request.from_paths(*boot_files[:1], initrd=boot_files[1]))
    assert [line.split()[0] for line in told.splitlines()] == [each.name for each in planned.segments]
    assert all(f" {each.range} " in told for each in planned.segments if each.name != "purgatory")
    assert plan_and_print.main(["/no/such"]) == 1
    assert "/no/such" in capsys.readouterr().err


def test_the_example_that_compares_machines(
    boot_files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = (str(FOLDER / f"{name}.tar") for name in ("qemu-6.1-1g", "qemu-6.1-6g-high"))
    assert compare_machines.main([*boot_files, one, one]) == 0
    assert capsys.readouterr().out == "the plans are the same\n"
    assert compare_machines.main([*boot_files, one, other]) == 1
    assert re.search(r"^kernel: [0-9a-f]+-[0-9a-f]+ and [0-9a-f]+-[0-9a-f]+$", capsys.readouterr().out, re.M)
    assert compare_machines.main([*boot_files, one, "/no/such"]) == 2
    assert "/no/such" in capsys.readouterr().err


def test_the_example_that_loads_and_reboots(
    boot_files: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The system calls are replaced, in the order in which they have to come."""
    done: list[str] = []
    unpacked("qemu-6.1-1g", tmp_path / "root", {"sys/kernel/kexec_loaded": "0\n"})

    def load(*_: object) -> None:
        done.append("load")
        (tmp_path / "root/sys/kernel/kexec_loaded").write_text("1\n")

    monkeypatch.setattr(Machine, "live", lambda: Machine(Folder(tmp_path / "root"), is_live=True))
    monkeypatch.setattr(syscalls, "kexec_load", load)
    monkeypatch.setattr(syscalls, "kexec_file_load", load)
    monkeypatch.setattr(syscalls, "reboot_kexec", lambda: done.append("reboot"))
    monkeypatch.setattr("os.sync", lambda: done.append("sync"))
    monkeypatch.setattr("pykexec.execute.take_interfaces_down", lambda: done.append("interfaces down"))
    load_and_reboot.main([*boot_files, "quiet install"])
    assert done == ["load", "sync", "interfaces down", "reboot"]
    assert "starting with: quiet install\n" in capsys.readouterr().out
    assert load_and_reboot.main(["/no/such", boot_files[1], ""]) == 1
    assert "/no/such" in capsys.readouterr().err


def test_threads_share_a_machine() -> None:
    """Its facts are read when they are asked for first, by whoever that is."""
    expected = plan_load(snapshot(MACHINES[0]), Request(KERNELS[0], Purpose.CRASH))
    machine = snapshot(MACHINES[0])
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        plans = [threads.submit(plan_load, machine, Request(KERNELS[0], Purpose.CRASH)) for _ in range(16)]
    assert all(each.result() == expected for each in plans)

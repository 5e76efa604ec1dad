"""The engine that boots machines: what QEMU is told, and that nothing of a machine stays when it is over."""

import gzip
import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec import arch, emulation, names
from pykexec.emulation import KVM, SOFTWARE, EmulationError, Running, VirtualMachine, programs
from pykexec.emulation import running as engine
from pykexec.emulation.devices import VIRTIO_BLK, disk_options
from pykexec.emulation.kernelfile import bootable
from pykexec.emulation.kvm import Accelerator, accelerator
from pykexec.emulation.machine import command, size
from pykexec.emulation.part import Firmware, Kvm, Packages
from pykexec.emulation.programs import firmware, missing, program
from pykexec.emulation.room import Memory, available, check_disk, make_sparse, memory_for, scratch
from pykexec.formats.uki import properties
from pykexec.memory import GIB, KIB, MIB
from tests.support.arm64_image import FakeImage
from tests.support.bzimage import FakeBzImage
from tests.support.uimage import uimage
from tests.support.zboot import zboot
from tools.lab import ARCHES
from tools.lab import machine as lab

HERE = names.of_uname(os.uname().machine)
NATIVE = replace(emulation.find("s390x"), kvm=Kvm((HERE.name if HERE else "",), ("-M", "own")))
"""What this machine's processors can be asked to run."""
ALL = [each.name for each in arch.all_architectures()]

_IN_FOLDER = """
for each; do
    case $each in file,id=console,path=*) each=${each#*path=}; cd "${each%/*}";; esac
done
"""


@pytest.fixture
def machine(tmp_path: Path) -> Callable[[str], VirtualMachine]:
    """A machine whose QEMU is a shell script, run in the machine's folder."""

    def make(script: str) -> VirtualMachine:
        path = tmp_path / "qemu"
        path.write_text(f"{_IN_FOLDER}{script}\n")
        return VirtualMachine(NATIVE, Path("k"), None, "line", GIB, program=("sh", os.fspath(path)))

    return make


# What QEMU is told


@pytest.mark.programs
@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, each in ARCHES.items() if each.kernels])
def test_qemu_makes_such_machines(name: str, tmp_path: Path) -> None:
    """With all devices that a machine gets, in the folder of a name that has to be quoted."""
    folder = tmp_path / "a,b"
    folder.mkdir()
    os.mkfifo(folder / "go")
    (folder / "disk").write_bytes(bytes(512))
    qemu, found = lab.emulator(ARCHES[name]), emulation.find(name)
    told = command(VirtualMachine(found, Path("k"), None, "", 256 * MIB, program=tuple(qemu)), folder)
    kernel = told.index("-kernel")
    devices = disk_options(VIRTIO_BLK, found, 0, folder / "disk")
    done = subprocess.run(
        [*told[:kernel], *devices, "-S", "-qmp", "stdio"],
        input='{"execute": "qmp_capabilities"} {"execute": "quit"}',
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.programs
@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, each in ARCHES.items() if each.qemu.suite is None])
def test_debian_has_such_a_package(name: str) -> None:
    """Of that name, or one that has it beside its own: it is installed by either."""
    (program,) = lab.emulator(ARCHES[name])
    owner = _output("dpkg", "-S", shutil.which(program) or "").partition(":")[0]
    shown = _output("dpkg-query", "-W", "-f", "${Package}, ${Provides}", owner)
    assert emulation.find(name).packages.debian in [each.split(" ")[0] for each in shown.split(", ")]


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("name", ALL)
def test_all_architectures_can_be_emulated(name: str) -> None:
    assert emulation.find(name).command.startswith("qemu-system-")


def test_an_architecture_that_nobody_emulates() -> None:
    with pytest.raises(EmulationError, match="not known how QEMU emulates machines of vax"):
        emulation.find("vax")


@given(st.integers(1, 1 << 45))
def test_sizes_are_read_as_they_are_meant(count: int) -> None:
    text = size(count)
    assert int(text[:-1]) * {"B": 1, "K": KIB, "M": MIB, "G": GIB}[text[-1]] == count


# Where QEMU is missing


@pytest.mark.parametrize(
    ("release", "package"),
    [
        ("ID=debian", "qemu-system-x86"),
        ("ID=ubuntu\nID_LIKE=debian", "qemu-system-x86"),
        ("ID=fedora", "qemu-system-x86-core"),
        ('ID="opensuse-leap"\nID_LIKE="suse opensuse"', "qemu-x86"),
        ('ID="sles"', "qemu-x86"),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"', "qemu-kvm-core"),
        ("ID=alpine", "of QEMU"),
        ("", "of QEMU"),
    ],
)
def test_the_package_is_named(release: str, package: str) -> None:
    error = missing(emulation.find("x86_64"), properties(release), native=True)
    assert "qemu-system-x86_64" in error.what
    assert error.hint is not None
    assert error.hint.startswith(f"install the package {package}")
    assert len(str(error).splitlines()) == 2


def test_rhel_emulates_no_other_architecture() -> None:
    error = missing(emulation.find("s390x"), {"ID": "rhel"}, native=False)
    assert error.hint == "install the package of QEMU that has it"


def test_a_program_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    monkeypatch.setattr(programs, "_RHEL_PROGRAM", os.fspath(tmp_path / "qemu-kvm"))
    with pytest.raises(EmulationError, match=NATIVE.command):
        program(NATIVE)
    (tmp_path / "qemu-kvm").touch(0o755)
    assert program(NATIVE) == (os.fspath(tmp_path / "qemu-kvm"),)
    with pytest.raises(EmulationError, match=NATIVE.command):
        program(replace(NATIVE, kvm=None))
    (tmp_path / NATIVE.command).touch(0o755)
    assert program(NATIVE) == (os.fspath(tmp_path / NATIVE.command),)


def test_firmware(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert firmware(NATIVE) is None
    place = tmp_path / "QEMU_EFI.fd"
    with_uefi = replace(NATIVE, firmware=Firmware(("/no/such", os.fspath(place)), Packages("d", "f", "s")))
    monkeypatch.setattr(programs, "_release", lambda: {"ID": "fedora"})
    with pytest.raises(EmulationError) as caught:
        firmware(with_uefi)
    assert caught.value.hint == "install the package f"
    place.touch()
    assert firmware(with_uefi) == place
    machine = VirtualMachine(with_uefi, Path("k"), None, "line", GIB, firmware=place)
    assert ("-bios", os.fspath(place)) in itertools.pairwise(command(machine, tmp_path))


# Kernels that QEMU boots


@pytest.mark.parametrize(
    ("file", "is_opened"),
    [
        (FakeBzImage().build(), False),
        (FakeImage().build(), False),
        (gzip.compress(FakeImage().build()), True),
        (zboot(FakeImage().build(), b"none"), True),
        (uimage(FakeImage().build()), False),
    ],
    ids=["bzImage", "Image", "gzip", "EFI zboot", "uImage"],
)
def test_kernels_in_containers(file: bytes, is_opened: bool, tmp_path: Path) -> None:
    kernel = tmp_path / "vmlinuz"
    kernel.write_bytes(file)
    found = bootable(kernel, tmp_path)
    assert (found != kernel) == is_opened
    assert found.read_bytes() == (FakeImage().build() if is_opened else file)


def test_a_kernel_that_cannot_be_written(tmp_path: Path) -> None:
    kernel = tmp_path / "vmlinuz"
    kernel.write_bytes(gzip.compress(b"x"))
    with pytest.raises(EmulationError, match="cannot write /no/such/kernel: No such file"):
        bootable(kernel, Path("/no/such"))


# KVM, where it works


_BOOTS = "echo 'Linux version 6.1' >> console.log"


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (_BOOTS, ""),
        ("exit 0", "its kernel said nothing"),
        (f"{_BOOTS}; echo qemu: error: failed to set MSR 0x10a >&2; exit 134", "qemu: error: failed to set"),
        (
            "echo qemu: warning: no pni; echo KVM internal error. Suberror: 1; exec sleep 60",
            "KVM int",
        ),
        (f"{_BOOTS}; exec sleep 60", "the machine did not end within 0.5 s"),
        ("exit 1", "QEMU failed without a word"),
    ],
    ids=["works", "silent", "dies", "stands still", "hangs", "fails"],
)
def test_kvm_is_tried(
    script: str, why: str, machine: Callable[[str], VirtualMachine], tmp_path: Path
) -> None:
    device = tmp_path / "kvm"
    device.touch()
    seconds = 0.5 if "did not end" in why else 30
    found = accelerator(machine(script), device=device, seconds=seconds)
    assert found.name == (SOFTWARE if why else KVM)
    assert found.why.startswith(why)


def test_where_there_is_nothing_to_try(machine: Callable[[str], VirtualMachine], tmp_path: Path) -> None:
    fails = machine("exit 1")
    found = accelerator(fails, device=tmp_path / "kvm")
    assert found == Accelerator(SOFTWARE, f"{tmp_path}/kvm cannot be used: No such file or directory")
    foreign = replace(NATIVE, kvm=Kvm(("vax",), ()))
    assert accelerator(replace(fails, emulation=foreign)).why.startswith("the machine is of another arch")
    assert accelerator(replace(fails, emulation=replace(NATIVE, kvm=None))).name == SOFTWARE


def test_the_machine_with_kvm_is_the_hosts_own(tmp_path: Path) -> None:
    machine = VirtualMachine(NATIVE, Path("k"), None, "line", GIB, accelerator=KVM)
    told = command(machine, tmp_path)
    assert told[1:5] == ["-M", "own", "-accel", "kvm"]


# Machines that run


def _ended(folder: Path) -> bool:
    """Tell whether the process whose number is in a file of that folder is no more there, in a moment."""
    pid = int((folder / "pid").read_text())
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_what_a_machine_says(machine: Callable[[str], VirtualMachine], tmp_path: Path) -> None:
    script = "printf 'one\\r\\n' >> console.log; echo said; mkdir -p x; echo in > x/y; tar -cf out.tar x"
    with Running(machine(script), tmp_path / "m", 20) as running:
        assert running.wait() == 0
        assert (running.console, running.said) == ("one\n", "said\n")
        assert (running.results / "x/y").read_text() == "in\n"
        assert running.has_told


@pytest.mark.parametrize("length", [10, 3 * MIB], ids=["short", "more than a pipe holds"])
def test_what_a_machine_is_told(
    length: int, machine: Callable[[str], VirtualMachine], tmp_path: Path
) -> None:
    text = os.urandom(length)
    with Running(machine(f"head -c {2 * length} < go > told"), tmp_path / "m", 20) as running:
        running.tell(text)
        running.tell(text)
        running.wait()
    assert (tmp_path / "m/told").read_bytes() == 2 * text


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("exec sleep 60", "the machine did not end within 2 s"),
        (
            "head -c 200000 /dev/zero >> console.log; exec sleep 60",
            "written more than .*console.log",
        ),
        ("echo no such device; exit 1", "QEMU ended with status 1: no such device"),
        ("kill -SEGV $$", "QEMU ended with status"),
    ],
)
def test_a_machine_that_fails(
    script: str,
    why: str,
    machine: Callable[[str], VirtualMachine],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine, "_MOST", dict.fromkeys(engine._MOST, 100_000))
    folder = tmp_path / "m"
    with (
        pytest.raises(EmulationError, match=why),
        Running(machine(f"echo $$ > pid\n{script}"), folder, 2 if "did not end" in why else 30) as running,
    ):
        running.wait()
    assert _ended(folder)
    assert not (folder / "go").exists()


def test_without_a_timeout_program_nothing_starts(
    machine: Callable[[str], VirtualMachine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    with pytest.raises(EmulationError, match="cannot start QEMU with timeout"):
        Running(machine("exit 0"), tmp_path / "m", 20)
    assert [each.name for each in (tmp_path / "m").iterdir()] == ["qemu.log"]


_PROGRAM = """
import sys
from pathlib import Path
from pykexec import ending
from pykexec.emulation import Running, VirtualMachine, find, running as engine
from pykexec.emulation.room import make_sparse, scratch
engine._GRACE = 0
with ending.in_order(), scratch() as folder:
    make_sparse(folder / "disk", 1 << 40)
    machine = VirtualMachine(find("arm"), Path("k"), None, "", 1 << 30, program=("sh", sys.argv[1]))
    with Running(machine, folder / "m", float(sys.argv[2])) as running:
        while not (folder / "m/pid").exists() and running.goes_on():
            pass
        print(folder, flush=True)
        running.wait()
"""


def _parent(script: Path, seconds: float, scratch: Path) -> subprocess.Popen[str]:
    """Start a process that runs a machine in a folder that it makes in `scratch`, and names."""
    script.write_text(f"{_IN_FOLDER}echo $$ > pid.new; mv pid.new pid; exec sleep 60")
    return subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, script, str(seconds)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": os.fspath(scratch)},
        # Else an interrupt is ignored where the tests run in a script's background.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_who_is_told_to_end_leaves_nothing(number: signal.Signals, tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    with _parent(tmp_path / "qemu", 60, place) as parent:
        assert parent.stdout is not None
        folder = Path(parent.stdout.readline().strip())
        qemu = int((folder / "m/pid").read_text())
        parent.send_signal(number)
        assert parent.wait(20) != 0
    assert list(place.iterdir()) == []
    with pytest.raises(ProcessLookupError):
        os.kill(qemu, 0)


def test_a_machine_whose_owner_was_killed_ends_in_time(tmp_path: Path) -> None:
    with _parent(tmp_path / "qemu", 3, tmp_path) as parent:
        assert parent.stdout is not None
        folder = Path(parent.stdout.readline().strip())
        parent.kill()
        parent.wait()
    assert _ended(folder / "m")


# What a machine takes


@given(st.integers(1, 1 << 44), st.integers(1, 1 << 34), st.integers(0, 1 << 40))
def test_memory(wanted: int, least: int, free: int) -> None:
    least = min(least, wanted)
    try:
        found = memory_for(wanted, least, free)
    except EmulationError:
        free = 1 << 36
        found = memory_for(wanted, least, free)  # there is a host that has enough
    assert least <= found.size <= free // 2, "the host keeps as much as it gives"
    assert bool(found.note) == (found.size < wanted), "what is not the real thing is said"
    assert found.size < wanted + 256 * MIB
    assert found.size % (256 * MIB) == 0


def test_memory_that_is_scaled() -> None:
    found = memory_for(64 * GIB, GIB, 8 * GIB)
    assert found == Memory(3840 * MIB, found.note)
    assert "3.7 GiB of memory, not 64 GiB" in found.note
    assert memory_for(2 * GIB, GIB, 8 * GIB) == Memory(2 * GIB)
    with pytest.raises(EmulationError, match="takes 1 GiB of memory") as caught:
        memory_for(64 * GIB, GIB, 2 * GIB)
    assert caught.value.hint == "try again where 2.5 GiB are available"


def test_what_is_available_is_what_the_kernel_says() -> None:
    meminfo = Path("/proc/meminfo").read_text()
    pages = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert pages / 2 < available(meminfo) <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with pytest.raises(EmulationError, match="MemAvailable"):
        available("MemTotal: 1 kB\n")


def test_disks_take_no_room_before_they_are_written(tmp_path: Path) -> None:
    make_sparse(tmp_path / "disk", 100 * GIB)
    state = (tmp_path / "disk").stat()
    assert (state.st_size, state.st_blocks) == (100 * GIB, 0)
    check_disk(tmp_path, 1)
    with pytest.raises(EmulationError, match="may be needed"):
        check_disk(tmp_path, 1 << 60)


def test_a_place_for_files_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/no/such/folder")
    with pytest.raises(EmulationError, match="/no/such/folder: No such file"), scratch():
        pass


def test_what_is_in_a_scratch_folder_is_its_owners_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", os.fspath(tmp_path))
    with scratch() as folder:
        assert folder.parent == tmp_path
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not folder.exists()

"""Kernels in other files than a bzImage, and bzImages entered in another way, booted and crashed into."""

import dataclasses
import functools
import secrets
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from tests.support import grub, multiboot, vmlinux
from tests.support.multiboot import Told
from tests.vm import jobs
from tests.vm.conftest import RunGuest
from tools.lab import PANIC, X86_64, Guest, Kernel, Machine, Result, images, run
from tools.lab.machine import emulator
from tools.lab.packages import Package

I386 = dataclasses.replace(
    X86_64, name="i386", debian="i386", kernels={"6.1": Package("bookworm", "linux-image-686")}
)
"""Debian's kernels for 32-bit processors without PAE: run by the same machine, with their own system."""

_MACHINE = Machine()
_LOOK = 'cp /proc/cmdline /proc/iomem /proc/version "$OUT"\n'
_FIRMWARE_MAP = (
    'for entry in /sys/firmware/memmap/*; do cat $entry/start $entry/end $entry/type; done > "$OUT/memmap"\n'
)

WAYS = {
    "vmlinux": "/boot/vmlinux",
    "32bit-entry": '--entry-32bit "$KERNEL"',
    "protocol-2.11": "/boot/2.11",
    "protocol-2.09": "/boot/2.09",
}
"""A kernel in another file, and in its own but entered in another way: what to load."""


@functools.cache
def linker_output(kernel: Kernel) -> bytes:
    return vmlinux.extract(kernel.image)


def of_protocol(version: str, kernel: Kernel) -> bytes:
    """With a header of that version (boot.rst, offset 0x206): its newer fields are none, for a loader.

    2.11 (Linux 3.6) is the last without a 64-bit entry, 2.09 (2.6.26) the last that does not tell how much
    memory the kernel takes, and where.
    """
    image = bytearray(kernel.image.read_bytes())
    major, minor = map(int, version.split("."))
    assert image[0x207] == major
    image[0x206] = minor
    return bytes(image)


def files_of(way: str, kernel: Kernel) -> dict[str, bytes]:
    if way == "vmlinux":
        return {"/boot/vmlinux": linker_output(kernel)}
    _, _, version = way.partition("protocol-")
    return {f"/boot/{version}": of_protocol(version, kernel)} if version else {}


def boot(run_guest: RunGuest, guest: Guest, load: str, machine: Machine = _MACHINE) -> Result:
    """Load with that command and go over; the second kernel's command line must be the one it was given."""
    line = f"{X86_64.line} marker={secrets.token_hex(8)}"
    job = f'set -e\ncp /proc/iomem "$OUT"\n{load} --append "{line}"\n'
    result = run_guest(dataclasses.replace(guest, job=job, then="pykexec -e"), machine)
    result.stage("first")
    assert result.stage("second").read("cmdline").strip() == line
    return result


@pytest.mark.parametrize(
    ("way", "version"),
    [
        jobs.further("vmlinux", "5.10", id="vmlinux-5.10"),
        jobs.further("vmlinux", "6.1", id="vmlinux-6.1"),
        jobs.further("vmlinux", "7.2", id="vmlinux-7.2"),
        jobs.further("32bit-entry", "5.10", id="32bit-entry-5.10"),
        pytest.param("32bit-entry", "7.2", id="32bit-entry-7.2"),
        jobs.further("protocol-2.11", "6.1", id="protocol-2.11"),
        jobs.further("protocol-2.09", "6.1", id="protocol-2.09"),
    ],
)
def test_boot(way: str, version: str, run_guest: RunGuest) -> None:
    kernel = Kernel.get(version, X86_64)
    guest = Guest(kernel, "", second_job=_LOOK, files=files_of(way, kernel))
    result = boot(run_guest, guest, f'pykexec -l {WAYS[way]} --initrd "$SECOND_IMAGE"')
    ram = "System RAM"
    first, second = result.stage("first"), result.stage("second")
    assert jobs.ranges(second.read("iomem"), ram) == jobs.ranges(first.read("iomem"), ram)


@pytest.mark.parametrize(
    "version",
    [jobs.further("5.10", id="16bit-entry-5.10"), pytest.param("7.2", id="16bit-entry-7.2")],
)
def test_boot_in_real_mode(version: str, run_guest: RunGuest) -> None:
    """boot.rst: CAN_USE_HEAP is bit 7 of loadflags (0x211), which only setup code that runs is told."""
    look = (
        _LOOK
        + _FIRMWARE_MAP
        + 'dd if=/sys/kernel/boot_params/data bs=1 skip=529 count=1 of="$OUT/loadflags"\n'
    )
    guest = Guest(Kernel.get(version, X86_64), "", second_job=look)
    result = boot(
        run_guest, guest, f'{_FIRMWARE_MAP}pykexec -l --real-mode "$KERNEL" --initrd "$SECOND_IMAGE"'
    )
    first, second = result.stage("first"), result.stage("second")
    assert (second.folder / "loadflags").read_bytes()[0] & 0x80
    assert second.read("memmap") == first.read("memmap")
    ram = "System RAM"
    assert jobs.ranges(second.read("iomem"), ram) == jobs.ranges(first.read("iomem"), ram)


@jobs.FURTHER
@pytest.mark.parametrize("way", ["vmlinux", "32bit-entry"])
def test_boot_through_uefi(way: str, kernel: Kernel, run_guest: RunGuest) -> None:
    look = _LOOK + 'cd /sys/firmware; ls efi acpi/tables > "$OUT/firmware"\n'
    guest = Guest(kernel, "", second_job=look, files=files_of(way, kernel))
    load = f'pykexec -c -l {WAYS[way]} --initrd "$SECOND_IMAGE"'
    second = boot(run_guest, guest, load, Machine(append="", uefi=True)).stage("second")
    assert {"efivars", "systab", "FACP", "DSDT"} <= set(second.read("firmware").split())


@pytest.mark.parametrize(
    ("way", "memory", "reservation"),
    [
        jobs.further("vmlinux", "1G", "crashkernel=256M", id="vmlinux"),
        pytest.param("vmlinux", "6G", "crashkernel=256M,high", id="vmlinux-high"),
        jobs.further("32bit-entry", "1G", "crashkernel=256M", id="32bit-entry"),
        jobs.further("protocol-2.11", "1G", "crashkernel=256M", id="protocol-2.11"),
    ],
)
def test_crash(way: str, memory: str, reservation: str, kernel: Kernel, run_guest: RunGuest) -> None:
    marker = secrets.token_hex(8)
    line = jobs.capture_command_line(marker, kernel)
    job = f"""
set -e
cp /proc/iomem "$OUT"
pykexec -c -p {WAYS[way]} --initrd "$SECOND_IMAGE" --append "{line}"
echo "{marker}" > /dev/kmsg
"""
    guest = Guest(kernel, job, PANIC, jobs.capture(kernel), files=files_of(way, kernel))
    result = run_guest(guest, Machine(memory=memory, append=reservation))
    *_, reserved = jobs.ranges(result.stage("first").read("iomem"), "Crash kernel")
    second = result.stage("second")
    assert line in second.read("cmdline")
    assert marker in second.read("dmesg.txt")
    (code,) = jobs.ranges(second.read("iomem"), "Kernel code")
    assert code.start in reserved


@jobs.FURTHER
def test_the_32bit_entry_does_not_reach_a_reservation_above_4g(kernel: Kernel, run_guest: RunGuest) -> None:
    job = '! pykexec -c -p --entry-32bit "$KERNEL" --append x 2> "$OUT/errors"'
    result = run_guest(Guest(kernel, job), Machine(memory="6G", append="crashkernel=256M,high"))
    assert "below 4 GiB" in result.stage("first").read("errors")


def i386_files(kernel: Kernel, job: str) -> dict[str, bytes]:
    """A 32-bit kernel in both its forms, and a system with a job for it."""
    system = images.small(I386) + kernel.modules() + images.overlay("second", job, {})
    vmlinuz = kernel.image.read_bytes()
    return {
        "/boot/386/vmlinuz": vmlinuz,
        "/boot/386/vmlinux": linker_output(kernel),
        "/boot/386/img": system,
    }


@pytest.mark.parametrize("name", ["vmlinuz", jobs.further("vmlinux", id="vmlinux")])
def test_i386_boot(name: str, kernel: Kernel, run_guest: RunGuest) -> None:
    i386 = Kernel.get("6.1", I386)
    guest = Guest(kernel, "", files=i386_files(i386, _LOOK))
    result = boot(run_guest, guest, f"pykexec -l /boot/386/{name} --initrd /boot/386/img")
    assert i386.release in result.stage("second").read("version")


@jobs.FURTHER
def test_i386_crash(kernel: Kernel, run_guest: RunGuest) -> None:
    """A 32-bit capture kernel: it shows the dump, though no makedumpfile built for it reads that."""
    i386 = Kernel.get("6.1", I386)
    look = _LOOK + 'dd if=/proc/vmcore of="$OUT/vmcore.head" bs=64k count=1\n'
    line = f"{I386.line} nr_cpus=1 reset_devices"
    job = f'pykexec -p /boot/386/vmlinuz --initrd /boot/386/img --append "{line}"'
    result = run_guest(Guest(kernel, job, PANIC, files=i386_files(i386, look)), Machine())
    result.stage("first")
    second = result.stage("second")
    assert i386.release in second.read("version")
    with (second.folder / "vmcore.head").open("rb") as file:
        elf = ELFFile(file)
        notes = [note for each in elf.iter_segments("PT_NOTE") for note in each.iter_notes()]  # type: ignore[attr-defined]
        assert elf["e_machine"] == "EM_X86_64"
    assert [note["n_type"] for note in notes].count("NT_PRSTATUS") == 2


MODULES = {"/boot/first": b"the first\n" * 500, "/boot/second": bytes(range(256))}
_KINDS = {"System RAM": 1, "ACPI Tables": 3, "ACPI Non-volatile Storage": 4}
_OF_THE_LOADER = {"at", "command-line", "load-base", "loader", "map", "memory", "module-at", "rsdp-old"}
"""What each boot loader may say differently."""


def kexec(
    run_guest: RunGuest,
    program: Path,
    machine: Machine = _MACHINE,
    *,
    load: str = "pykexec -l",
    then: str = "pykexec -e",
    look: str = "",
) -> tuple[Told, Result]:
    """Load a Multiboot kernel with two modules from Linux and go over to it: what it then says."""
    modules = "--module '/boot/first one 1' --module /boot/second"
    job = f"""
set -e
cp /proc/iomem "$OUT"
{_FIRMWARE_MAP}{look}
{load} /boot/kernel {modules} --append 'a=1 "two words"'
"""
    files = {"/boot/kernel": program.read_bytes(), **MODULES}
    result = run_guest(Guest(Kernel.get("6.1", machine.arch), job, then, files=files), machine)
    result.stage("first")
    return multiboot.told(result.console), result


def bare_machine(folder: Path, *options: str) -> Told:
    """What such a kernel says when QEMU, or what QEMU boots, has started it."""
    folder.mkdir()
    console = folder / "console.log"
    command = [
        *emulator(X86_64),
        *X86_64.emulation.machine,
        "-accel",
        X86_64.emulation.software(),
        "-m",
        "1G",
        "-smp",
        "2",
    ]
    command += ["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]
    command += ["-serial", f"file:{console}", *options]
    subprocess.run(command, check=True, timeout=60)
    return multiboot.told(console.read_text())


def through_qemu(folder: Path, program: Path) -> Told:
    for path, content in MODULES.items():
        (folder / Path(path).name).write_bytes(content)
    modules = f"{folder}/first one 1,{folder}/second"
    append = 'a=1 "two words"'
    return bare_machine(folder / "qemu", "-kernel", str(program), "-initrd", modules, "-append", append)


def through_grub(folder: Path, program: Path, version: int) -> Told:
    suffix = "2" if version == 2 else ""
    script = [f'multiboot{suffix} /kernel a=1 \\"two words\\"']
    script += [f"module{suffix} {path} {path}" for path in MODULES]
    files = {"kernel": program.read_bytes(), **{path.strip("/"): data for path, data in MODULES.items()}}
    disk = grub.disk(folder, files, "\n".join(script))
    return bare_machine(
        folder / "grub", "-drive", f"if=none,id=disk,format=raw,file={disk}", "-device", "ide-hd,drive=disk"
    )


def check_told(told: Told, result: Result, kernel_name: str) -> None:
    """What the kernel must have been told, from the files and from what Linux knew of the machine."""
    assert told.one("command-line") == f'"{kernel_name}a=1 "two words""'
    assert told.lines["module"] == ['"/boot/first one 1"', '"/boot/second"']
    assert told.one("loader").startswith('"pykexec ')
    text = iter(result.stage("first").read("memmap").splitlines())
    rows = zip(text, text, text, strict=True)
    ranges = sorted((int(start, 16), int(end, 16) + 1, kind) for start, end, kind in rows)
    assert told.numbers("map") == [[start, end - start, _KINDS.get(kind, 2)] for start, end, kind in ranges]
    lower, upper = (end for start, end, kind in ranges if kind == "System RAM" and start in (0, 1 << 20))
    assert told.numbers("memory") == [[lower >> 10, (upper >> 10) - 1024]]


PROGRAMS: dict[str, tuple[int, Mapping[str, str]]] = {
    "1-elf32": (1, {}),
    "1-addresses": (1, {"output": "binary", "ADDRESSES": "1"}),
    "2-elf64": (2, {"output": "elf64-x86-64"}),
    "2-addresses": (2, {"output": "binary", "ADDRESSES": "1"}),
    "2-relocatable": (2, {"RELOCATABLE": "0x200000, 0x3fffffff, 0x10000, 2"}),
}


_IN_CI = ("1-elf32", "2-addresses")
"""test_multiboot_crash has the third kind, a kernel that can be moved."""


@pytest.mark.parametrize(
    "name", [name if name in _IN_CI else jobs.further(name, id=name) for name in PROGRAMS]
)
def test_multiboot(name: str, run_guest: RunGuest, tmp_path: Path) -> None:
    """The kernel finds what it finds when GRUB, or QEMU, has loaded it."""
    version, how = PROGRAMS[name]
    program = multiboot.build(tmp_path, version, **how)  # type: ignore[arg-type]
    assert grub.is_multiboot(program, version)
    assert not grub.is_multiboot(program, 3 - version)
    told, result = kexec(run_guest, program)
    check_told(told, result, "/boot/kernel " if version == 1 else "")
    reference = through_grub(tmp_path, program, version)
    for fact in (told.lines.keys() | reference.lines.keys()) - _OF_THE_LOADER:
        if fact != "module":
            assert told.lines.get(fact) == reference.lines.get(fact), fact
    assert [n[:2] for n in told.numbers("rsdp-old")] == [n[:2] for n in reference.numbers("rsdp-old")]
    if name == "1-elf32":
        qemu = through_qemu(tmp_path, program)
        for fact in ("map", "memory", "module-size-and-sum", "limits", "eax"):
            assert told.lines[fact] == qemu.lines[fact]
    if name == "2-relocatable":
        ((at,),) = told.numbers("load-base")
        assert told.numbers("at") == [[at]]
        assert at % 0x10000 == 0
        assert 0x200000 <= at < 0x40000000
        assert at > 0x30000000, "it prefers high memory"


def test_multiboot_crash(run_guest: RunGuest, tmp_path: Path) -> None:
    """A kernel that can be moved runs in the reservation, and is told of no other memory."""
    program = multiboot.build(tmp_path, 2, RELOCATABLE="0x200000, 0xffffffff, 0x1000, 1")
    told, result = kexec(run_guest, program, Machine(), load="pykexec -p", then=PANIC)
    (reserved,) = jobs.ranges(result.stage("first").read("iomem"), "Crash kernel")
    ((at,),) = told.numbers("at")
    ram = [range(start, start + size) for start, size, kind in told.numbers("map") if kind == 1]
    assert at in reserved
    assert all(start in reserved for start, _ in told.numbers("module-at"))
    assert all(
        part.stop <= 0xA0000 or (part.start in reserved and part.stop - 1 in reserved) for part in ram
    )
    assert " elfcorehdr=" in told.one("command-line")


def _in_folder(machine: Machine, folder: Path) -> RunGuest:
    return lambda guest, _: run(machine, guest, folder)


@pytest.mark.parametrize("version", [jobs.further(1, id="1"), 2])
def test_multiboot_with_a_framebuffer(version: int, tmp_path: Path) -> None:
    """VESA mode 0x117: 1024x768 pixels of 16 bits, red 5, green 6, blue 5."""
    bars = 'grep -l 0x030000 /sys/bus/pci/devices/*/class | sed s/class/resource/ | xargs cat > "$OUT/bars"'
    machine = Machine(append="vga=0x317", extra=("-device", "VGA"))
    program = multiboot.build(tmp_path, version)
    told, result = kexec(_in_folder(machine, tmp_path / "machine"), program, machine, look=bars)
    base = int(result.stage("first").read("bars").split()[0], 16)
    assert told.numbers("framebuffer") == [[base, 2048, 1024, 768, 16, 1]]
    assert told.numbers("colors") == [[11, 5, 5, 6, 0, 5]]


@jobs.FURTHER
def test_multiboot2_through_uefi(run_guest: RunGuest, tmp_path: Path) -> None:
    """There a search does not find ACPI's root pointer, and Debian's kernels do not let it be read."""
    program = multiboot.build(tmp_path, 2, RELOCATABLE="0x200000, 0x7fffffff, 0x1000, 0")
    told, result = kexec(run_guest, program, Machine(append="", uefi=True))
    check_told(told, result, "")
    assert "rsdp-new" not in told.lines
    assert "the new kernel may not find ACPI: its root pointer at 0x" in result.stage("first").log

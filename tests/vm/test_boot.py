"""Normal loads: the loaded kernel is booted, and tells what it has."""

import gzip
import hashlib
import secrets
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.zboot import zboot
from tests.vm import jobs
from tests.vm.conftest import RunGuest
from tools.lab import ARM64, X86_64, Arch, Guest, Kernel, Machine, images
from tools.lab.arches.arm import ARCH as ARM
from tools.lab.arches.i386 import ARCH as I386
from tools.lab.arches.loongarch64 import ARCH as LOONGARCH64
from tools.lab.arches.ppc64le import ARCH as PPC64LE
from tools.lab.arches.riscv64 import ARCH as RISCV64
from tools.lab.arches.s390x import ARCH as S390X
from tools.lab.debian import fetch

_LOOK_AROUND = """
set -e
cp /proc/cmdline /proc/meminfo /proc/iomem "$OUT"
sha256sum < /content > "$OUT/sha256"
"""


def _load(loader: str, command_line: str, kernel: str = '"$KERNEL"', initrd: str = '"$SECOND_IMAGE"') -> str:
    return f"""
set -e
cp /proc/meminfo "$OUT"
{jobs.RESERVATION}
{loader} -l {kernel} --initrd {initrd} --append '{command_line}'
"""


@pytest.mark.parametrize(
    ("arch", "version"),
    jobs.cases(
        "boot",
        {
            X86_64: ["7.2"],
            ARM64: ["7.2"],
            RISCV64: ["7.2"],
            I386: ["6.1"],
            ARM: ["6.1"],
            LOONGARCH64: ["7.2"],
            PPC64LE: ["6.1"],
            S390X: ["6.1"],
        },
        {
            X86_64: ["5.10", "6.1", "6.12"],
            ARM64: ["5.10", "6.1"],
            RISCV64: ["6.12"],
            I386: ["6.1-686"],
            ARM: ["6.1-lpae", "7.2"],
            PPC64LE: ["6.12"],
            S390X: ["6.1-kdump"],
        },
    ),
)
def test_second_kernel_has_what_it_was_given(
    arch: Arch, version: str, loader: str, run_guest: RunGuest
) -> None:
    command_line = f'{arch.line} marker={secrets.token_hex(8)} quoted="two words"'
    content = secrets.token_bytes(1 << 20)
    guest = Guest(
        Kernel.get(version, arch),
        _load(loader, command_line),
        f"{loader} -e",
        _LOOK_AROUND,
        {"/content": content},
    )
    result = run_guest(guest, Machine(arch))
    first, second = result.stage("first"), result.stage("second")
    assert jobs.own_words(arch, second.read("cmdline")) == command_line
    assert second.read("sha256").split()[0] == hashlib.sha256(content).hexdigest()
    assert jobs.memory_total(second.read("meminfo")) == pytest.approx(
        jobs.memory_with_reservation(first), abs=1 << 20
    )
    assert jobs.all_memory(second.read("iomem")) == jobs.all_memory(first.read("iomem"))


@jobs.FURTHER
def test_loongarch64_with_an_early_console(loader: str, run_guest: RunGuest) -> None:
    """It takes the end of memory before the kernel reads where its initrd is."""
    kernel, content = Kernel.get("7.2", LOONGARCH64), secrets.token_bytes(1 << 20)
    line = f"{LOONGARCH64.line} {LOONGARCH64.emulation.early_console}"
    guest = Guest(kernel, _load(loader, line), f"{loader} -e", _LOOK_AROUND, {"/content": content})
    second = run_guest(guest, Machine(LOONGARCH64, append="")).stage("second")
    assert second.read("sha256").split()[0] == hashlib.sha256(content).hexdigest()


@jobs.FURTHER
@pytest.mark.parametrize(
    ("arch", "version"),
    jobs.cases(
        "chain",
        {
            X86_64: ["6.1"],
            ARM64: ["6.1"],
            RISCV64: ["6.12"],
            I386: ["6.1"],
            ARM: ["6.1"],
            LOONGARCH64: ["7.2"],
            PPC64LE: ["6.12"],
            S390X: ["6.1-kdump"],
        },
    ),
)
def test_a_loaded_kernel_loads_the_next(arch: Arch, version: str, loader: str, run_guest: RunGuest) -> None:
    """The third kernel has its own initrd, and all the memory that the first one had."""
    kernel = Kernel.get(version, arch)
    content = secrets.token_bytes(1 << 10)
    third = (
        images.small(arch) + kernel.modules() + images.overlay("third", _LOOK_AROUND, {"/content": content})
    )
    command_line = f"{arch.line} generation="
    guest = Guest(
        kernel,
        _load(loader, command_line + "2"),
        then=f"{loader} -e",
        second_job=_load(loader, command_line + "3", "/boot/vmlinuz", "/boot/third.img"),
        second_files={"/boot/vmlinuz": kernel.image.read_bytes(), "/boot/third.img": third},
        second_then=f"{loader} -e",
    )
    result = run_guest(guest, Machine(arch, memory="2G", append=""))
    first, _, last = (result.stage(name) for name in ("first", "second", "third"))
    assert jobs.own_words(arch, last.read("cmdline")) == command_line + "3"
    assert last.read("sha256").split()[0] == hashlib.sha256(content).hexdigest()
    memory = jobs.memory_total(first.read("meminfo"))
    assert jobs.memory_total(last.read("meminfo")) == pytest.approx(memory, abs=1 << 20)


_EFI_LOOK = """
set -e
cp /proc/cmdline /proc/meminfo "$OUT"
ls /sys/firmware/efi /sys/firmware/acpi/tables > "$OUT/firmware"
for screen in /sys/class/graphics/fb*; do
    if [ -e "$screen/name" ]; then cat "$screen/name" "$screen/virtual_size" "$screen/stride"; fi
done > "$OUT/screen"
"""


@pytest.mark.parametrize("arch", [pytest.param(X86_64, id="x86_64"), jobs.further(ARM64, id="arm64")])
def test_uefi_boot(arch: Arch, loader: str, run_guest: RunGuest) -> None:
    """The second kernel has EFI's runtime services, the screen, and the memory that the first had."""
    kernel = Kernel.get("6.1", arch)
    files = jobs.efivarfs(kernel)
    command_line = f"{arch.line} through-uefi"
    look = _EFI_LOOK + jobs.EFI_LOOK
    guest = Guest(
        kernel, look + _load(loader, command_line), f"{loader} -e", look, files=files, second_files=files
    )
    extra = (*jobs.WITH_ITS, "-device", "ramfb") if arch is ARM64 else ("-device", "VGA")
    machine = Machine(arch, append="", uefi=True, extra=extra)
    result = run_guest(guest, machine)
    first, second = result.stage("first"), result.stage("second")
    assert second.read("cmdline").strip() == command_line
    firmware = second.read("firmware").split()
    assert {"efivars", "systab", "FACP", "DSDT"} <= set(firmware)
    assert "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c" in first.read("variables")
    assert second.read("variables") == first.read("variables")
    assert second.read("secure-boot") == first.read("secure-boot") == "Secure boot disabled\n"
    assert "EFI VGA" in first.read("screen")
    assert second.read("screen") == ("" if arch is ARM64 else first.read("screen"))
    assert ("no console on the screen" in first.log) == (arch is ARM64)
    assert jobs.memory_total(second.read("meminfo")) == pytest.approx(
        jobs.memory_total(first.read("meminfo")), abs=8 << 20
    )


@jobs.FURTHER
@pytest.mark.parametrize("version", ["6.1", "7.2"])
def test_arm64_boot_beside_a_loaded_crash_kernel(version: str, loader: str, run_guest: RunGuest) -> None:
    """That one's memory is unmapped; a kernel told to go there has to go somewhere else."""
    reservation = range(0x50000000, 0x60000000)
    job = f'set -e\n{loader} -p "$KERNEL" --initrd "$SECOND_IMAGE" --append none\n'
    line = f"{ARM64.line} beside"
    job += _load(f"{loader} --mem-min={reservation.start:#x}", line)
    guest = Guest(Kernel.get(version, ARM64), job, f"{loader} -e", 'cp /proc/cmdline "$OUT"')
    append = f"crashkernel=256M@{reservation.start:#x}"
    result = run_guest(guest, Machine(ARM64, append=append))
    assert jobs.ranges(result.stage("first").read("iomem"), "Crash kernel") == [reservation]
    assert result.stage("second").read("cmdline").strip() == line


def _signed(kernel: Kernel, firmware: Path, folder: Path) -> Kernel:
    """With the signature of the key that Debian's firmware for tests knows, and no other."""
    key, image = folder / "key.pem", folder / "vmlinuz"
    image.write_bytes(kernel.image.read_bytes())
    keys = firmware / "usr/share/ovmf"
    commands: list[list[str | Path]] = [
        ["openssl", "rsa", "-passin", "pass:snakeoil", "-in", keys / "PkKek-1-snakeoil.key", "-out", key],
        ["sbattach", "--remove", image],
        ["sbsign", "--key", key, "--cert", keys / "PkKek-1-snakeoil.pem", "--output", image, image],
    ]
    for command in commands:
        subprocess.run(command, check=True, capture_output=True)
    return replace(kernel, image=image)


def test_secure_boot(run_guest: RunGuest, tmp_path: Path) -> None:
    """A kernel that firmware has verified loads the next one, which knows that it has to go on doing so."""
    arch = replace(X86_64, left_out="")  # modules are verified with the keys that the kernel has built in
    kernel = Kernel.get("6.1", arch)
    (firmware,) = fetch("bookworm", kernel.arch.debian, ["ovmf"])
    code, variables = firmware / "usr/share/OVMF/OVMF_CODE_4M.secboot.fd", tmp_path / "variables"
    variables.write_bytes((firmware / "usr/share/OVMF/OVMF_VARS_4M.snakeoil.fd").read_bytes())
    extra = (
        *("-machine", "smm=on", "-global", "driver=cfi.pflash01,property=secure,value=on"),
        *("-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={code}"),
        *("-drive", f"if=pflash,format=raw,unit=1,file={variables}"),
    )
    look = jobs.EFI_LOOK + 'dmesg > "$OUT/dmesg"\n'
    refused = '! pykexec -c -l "$KERNEL" 2> "$OUT/refused"\n'
    load = _load("pykexec", kernel.arch.line)
    files = jobs.efivarfs(kernel)
    guest = Guest(
        _signed(kernel, firmware, tmp_path),
        f"set -e\n{look}{refused}{load}",
        "pykexec -e",
        f"set -e\n{look}",
        files=files,
        second_files=files,
    )
    result = run_guest(guest, Machine(arch, append="", extra=extra))
    for stage in (result.stage("first"), result.stage("second")):
        assert stage.read("secure-boot") == "Secure boot enabled\n"
        assert "Kernel is locked down from EFI Secure Boot" in stage.read("dmesg")
    assert "Secure Boot demands a signed kernel" in result.stage("first").read("refused")
    assert result.stage("second").read("variables") == result.stage("first").read("variables")


@pytest.mark.parametrize(
    ("prepare", "kernel_path", "options"),
    [
        jobs.further("true", "/boot/vmlinuz.efi", "", id="zboot"),
        jobs.further("cat /sys/firmware/fdt > /tmp/my.dtb", '"$KERNEL"', "--dtb /tmp/my.dtb", id="dtb"),
        jobs.further("mount --bind /dev/null /sys/firmware/fdt", '"$KERNEL"', "", id="proc-device-tree"),
    ],
)
def test_arm64_containers_and_trees(
    prepare: str, kernel_path: str, options: str, loader: str, run_guest: RunGuest
) -> None:
    kernel = Kernel.get("6.1", ARM64)
    efi = zboot(gzip.compress(kernel.image.read_bytes(), 1), b"gzip")
    job = f"set -e; {prepare}" + _load(f"{loader} {options}", f"{ARM64.line} packed", kernel_path)
    look = 'cp /proc/cmdline "$OUT"'
    files = {"/boot/vmlinuz.efi": efi} if "vmlinuz.efi" in kernel_path else {}
    guest = Guest(kernel, job, f"{loader} -e", look, files=files)
    result = run_guest(guest, Machine(ARM64))
    assert result.stage("second").read("cmdline").strip() == f"{ARM64.line} packed"

"""Kernels that come with more, or out of something: unified kernel images, FIT images, boot entries, and
several initrds; booted, and crashed into."""

import re
import secrets
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.support import containers, systemd
from tests.vm import jobs
from tests.vm.conftest import RunGuest
from tools.lab import ARM64, PANIC, X86_64, Arch, Guest, Kernel, Machine, Result, images, run
from tools.lab.debian import fetch
from tools.lab.machine import emulator

ARCHES = [pytest.param(X86_64, id="x86_64"), pytest.param(ARM64, id="arm64")]
_LOOK = 'set -e\ncp /proc/cmdline "$OUT"\n'
_EFI = 'ls /sys/firmware/efi > "$OUT/efi"\n'


def system(kernel: Kernel, job: str, *, stage: str = "second") -> tuple[bytes, bytes]:
    """A system for the next kernel, in two archives: neither would do without the other."""
    return images.small(kernel.arch) + kernel.modules(), images.overlay(stage, job, {})


def written(folder: Path, files: Mapping[str, bytes]) -> dict[str, Path]:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return {name: folder / name for name in files}


def unified(folder: Path, kernel: Kernel, line: str, job: str) -> bytes:
    """A unified kernel image, made by ukify."""
    efi = "aa64" if kernel.arch is ARM64 else "x64"
    base, overlay = system(kernel, job)
    parts = written(folder, {"base": base, "overlay": overlay})
    arguments: list[str | Path] = ["--efi-arch", efi, "--stub", systemd.stub(f"linux{efi}")]
    arguments += ["--linux", kernel.image, "--initrd", parts["base"], "--initrd", parts["overlay"]]
    arguments += ["--cmdline", line, "--uname", kernel.release, "--output", folder / "uki.efi"]
    systemd.ukify("build", *arguments)
    return (folder / "uki.efi").read_bytes()


_ITS = """/dts-v1/;
/ {{
    description = "a board"; #address-cells = <1>;
    images {{
        kernel {{ data = /incbin/("{kernel}"); type = "kernel"; arch = "arm64"; os = "linux";
            compression = "gzip"; load = <0x40200000>; entry = <0x40200000>; hash {{ algo = "sha256"; }}; }};
        ramdisk {{ data = /incbin/("{ramdisk}"); type = "ramdisk"; arch = "arm64"; os = "linux";
            compression = "none"; hash {{ algo = "sha256"; }}; }};
        fdt {{ data = /incbin/("{tree}"); type = "flat_dt"; arch = "arm64"; compression = "none";
            hash {{ algo = "crc32"; }}; }};
        overlay {{ data = /incbin/("{overlay}"); type = "flat_dt"; arch = "arm64"; compression = "none"; }};
    }};
    configurations {{
        default = "other";
        other {{ kernel = "fdt"; }};
        board {{ kernel = "kernel"; ramdisk = "ramdisk"; fdt = "fdt", "overlay";
            compatible = "linux,dummy-virt"; }};
    }};
}};
"""


def board(kernel: Kernel, path: Path, model: str) -> Path:
    """The machine's device tree with another model, as boards have them: without the size of the memory."""
    command = [*emulator(kernel.arch), *kernel.arch.emulation.machine, "-machine", f"dumpdtb={path}"]
    subprocess.run([*command, "-m", "1G", "-smp", "2"], check=True, stderr=subprocess.DEVNULL)
    subprocess.run(["fdtput", "-d", path, "/memory@40000000", "reg"], check=True)
    subprocess.run(["fdtput", "-t", "s", path, "/", "model", model], check=True)
    return path


def fit(folder: Path, kernel: Kernel, job: str) -> bytes:
    """A FIT image, made by mkimage: with a device tree as boards have them, which does not say how much
    memory there is, and with a default configuration that does not boot."""
    parts = written(folder, {"Image": kernel.image.read_bytes(), "ramdisk": b"".join(system(kernel, job))})
    subprocess.run(["gzip", "-1", parts["Image"]], check=True)
    files = {"kernel": folder / "Image.gz", "ramdisk": parts["ramdisk"], "overlay": folder / "overlay"}
    files["tree"] = board(kernel, folder / "tree", "of the FIT image")
    overlay = b'/dts-v1/; /plugin/; &{/} { changed-by = "the overlay"; };'
    subprocess.run(["dtc", "-q", "-o", files["overlay"]], input=overlay, check=True)
    source = _ITS.format(**files)
    (folder / "image.its").write_text(source)
    mkimage: list[str | Path] = ["mkimage", "-E", "-f", folder / "image.its", folder / "image.itb"]
    subprocess.run(mkimage, check=True, stdout=subprocess.DEVNULL)
    return (folder / "image.itb").read_bytes()


def crash(
    run_guest: RunGuest,
    kernel: Kernel,
    load: str,
    files: Mapping[str, bytes],
    marker: str,
    *,
    capture: str = "true",
) -> Result:
    """Load, panic; the capture kernel must have the crashed kernel's log."""
    job = f'set -e\n{load} > "$OUT/said" 2>&1\necho "{marker}" > /dev/kmsg\n'
    guest = Guest(kernel, job, PANIC, second_job=capture, files=files)
    result = run_guest(guest, Machine(kernel.arch))
    assert result.stage("first").read("said") == ""
    assert marker in result.stage("second").read("dmesg.txt")
    return result


@jobs.FURTHER
@pytest.mark.parametrize("arch", ARCHES)
def test_unified_kernel_image(arch: Arch, run_guest: RunGuest, tmp_path: Path) -> None:
    """Through UEFI, as such images are for: the second kernel has its runtime services."""
    kernel = Kernel.get("6.1", arch)
    line = f'{arch.line} marker={secrets.token_hex(8)} quoted="two words"'
    image = unified(tmp_path / "uki", kernel, line, _LOOK + _EFI)
    job = 'set -e\npykexec -d -l /boot/uki.efi 2> "$OUT/story"\n'
    guest = Guest(kernel, job, "pykexec -e", files={"/boot/uki.efi": image})
    extra = jobs.WITH_ITS if arch is ARM64 else ()
    result = run_guest(guest, Machine(arch, memory="2G", append="", uefi=True, extra=extra))
    story = result.stage("first").read("story")
    assert "kernel out of the unified kernel image /boot/uki.efi" in story
    assert "command line of /boot/uki.efi" in story
    second = result.stage("second")
    assert second.read("cmdline").strip() == line
    needed = {"efivars", "runtime"} if arch is X86_64 else {"efivars"}
    assert needed <= set(second.read("efi").split())


@jobs.FURTHER  # beside those that are booted, and crashes into other containers
@pytest.mark.parametrize("arch", [pytest.param(X86_64, id="x86_64"), pytest.param(ARM64, id="arm64")])
def test_crash_into_a_unified_kernel_image(arch: Arch, run_guest: RunGuest, tmp_path: Path) -> None:
    kernel = Kernel.get("6.1", arch)
    marker = secrets.token_hex(8)
    line = jobs.capture_command_line(marker, kernel)
    image = unified(tmp_path / "uki", kernel, f"crashkernel=64M {line}", jobs.capture(kernel))
    result = crash(run_guest, kernel, "pykexec -p /boot/uki.efi", {"/boot/uki.efi": image}, marker)
    told = result.stage("second").read("cmdline")
    assert line in told
    assert "crashkernel" not in told


def test_all_that_a_unified_kernel_image_can_have(run_guest: RunGuest, tmp_path: Path) -> None:
    """Of two trees the machine's, of two profiles the one that is asked for, and an add-on beside it."""
    kernel = Kernel.get("6.1", ARM64)
    look = _LOOK + 'cp /proc/device-tree/model "$OUT"\n'
    base, overlay = system(kernel, look)
    parts = written(tmp_path / "parts", {"base": base, "overlay": overlay})
    own, other = (board(kernel, tmp_path / name, f"{name} tree") for name in ("own", "other"))
    subprocess.run(["fdtput", "-t", "s", other, "/", "compatible", "another,board"], check=True)
    profile, addon, image = (tmp_path / name for name in ("profile.efi", "a.addon.efi", "uki.efi"))
    for_addons = ("build", "--efi-arch", "aa64", "--stub", systemd.stub("addonaa64"))
    line = f"{ARM64.line} marker={secrets.token_hex(8)}"
    systemd.ukify(*for_addons, "--profile", "ID=wanted", "--cmdline", line, "--output", profile)
    systemd.ukify(*for_addons, "--cmdline", "of-the-addon", "--initrd", parts["overlay"], "--output", addon)
    systemd.ukify(
        *("build", "--efi-arch", "aa64", "--stub", systemd.stub("linuxaa64"), "--linux", kernel.image),
        *("--uname", kernel.release, "--initrd", parts["base"], "--cmdline", "of-the-default"),
        *(
            "--devicetree-auto",
            other,
            "--devicetree-auto",
            own,
            "--join-profile",
            profile,
            "--output",
            image,
        ),
    )
    files = {"/boot/uki.efi": image, "/boot/uki.efi.extra.d/a.addon.efi": addon}
    guest = Guest(
        kernel,
        "pykexec -l --profile wanted /boot/uki.efi\n",
        "pykexec -e",
        files={name: path.read_bytes() for name, path in files.items()},
    )
    result = run_guest(guest, Machine(ARM64))
    result.stage("first")
    second = result.stage("second")
    assert second.read("cmdline").strip() == f"{line} of-the-addon"
    assert second.read("model") == "own tree\0"


def test_fit_image(run_guest: RunGuest, tmp_path: Path) -> None:
    kernel = Kernel.get("6.1", ARM64)
    look = _LOOK + 'cp /proc/meminfo /proc/device-tree/model /proc/device-tree/changed-by "$OUT"\n'
    image = fit(tmp_path / "fit", kernel, look)
    line = f"{ARM64.line} marker={secrets.token_hex(8)}"
    job = f'set -e\ncp /proc/meminfo /proc/iomem "$OUT"\npykexec -l /boot/image.itb --append "{line}"\n'
    guest = Guest(kernel, job, "pykexec -e", files={"/boot/image.itb": image})
    result = run_guest(guest, Machine(ARM64))
    first, second = result.stage("first"), result.stage("second")
    assert second.read("cmdline").strip() == line
    assert second.read("model") == "of the FIT image\0"
    assert second.read("changed-by") == "the overlay\0"
    assert jobs.memory_total(second.read("meminfo")) == pytest.approx(
        jobs.memory_with_reservation(first), abs=1 << 20
    )


@jobs.FURTHER
def test_crash_into_a_fit_image(run_guest: RunGuest, tmp_path: Path) -> None:
    kernel = Kernel.get("6.1", ARM64)
    marker = secrets.token_hex(8)
    line = jobs.capture_command_line(marker, kernel)
    image = fit(tmp_path / "fit", kernel, jobs.capture(kernel))
    load = f'pykexec -p -t fit --profile board /boot/image.itb --append "{line}"'
    result = crash(run_guest, kernel, load, {"/boot/image.itb": image}, marker)
    assert line in result.stage("second").read("cmdline")


_COMPRESSED = ("bzip2", "gzip", "lz4-legacy", "lzma", "xz", "zstd")
_WRAPPED = ("bzip2", "lz4-legacy", "uImage-gzip", "vmlinux", "vmlinux-relocatable", "xz", "zboot-zstd")
_ONE_AFTER_THE_OTHER = (
    jobs.further(X86_64, _COMPRESSED, id="x86_64"),
    jobs.further(ARM64, _WRAPPED, id="arm64"),
)
"""In alphabetical order. Beside these test_boot has gzip and a zboot of it on arm64."""
_SHOWS_ITS_INITRD = {X86_64: "6.12", ARM64: "7.2"}
"""Kernels since 6.6 can; Debian's 6.12 for arm64 dies in kexec_load (trans_pgd_create_copy)."""
_NEXT = """
set -e
generation=$(sed 's/.*generation=//' /proc/cmdline)
uname -r > "$OUT/$generation"
next=$(ls /boot/kernels | grep -A 1 -x "$generation" | tail -n +2)
if [ -n "$next" ]; then
    pykexec -l "/boot/kernels/$next" --reuseinitrd --append "{line}$next"
fi
"""


def unpackers(arch: Arch) -> dict[str, bytes]:
    """What Python takes to unpack zstd and lz4."""
    packages = fetch("bookworm", arch.debian, ["liblz4-1", "python3-lz4", "python3-zstandard"])
    files = [(package, path) for package in packages for path in package.glob("usr/lib/**/*")]
    return {f"/{path.relative_to(package)}": path.read_bytes() for package, path in files if path.is_file()}


def packed(folder: Path, kernel: Kernel, container: str) -> bytes:
    known = containers.ARM64_CONTAINERS if kernel.arch is ARM64 else containers.X86_64_CONTAINERS
    known[container](kernel.image, folder / "packed")
    return (folder / "packed").read_bytes()


@pytest.mark.parametrize(("arch", "names"), _ONE_AFTER_THE_OTHER)
def test_each_container(arch: Arch, names: Sequence[str], tmp_path: Path) -> None:
    """One kernel after the other, each packed in another way, with the same initrd all the time."""
    kernel = Kernel.get(_SHOWS_ITS_INITRD[arch], arch)
    line = f"{arch.line} retain_initrd generation="
    kernels = {f"/boot/kernels/{name}": packed(tmp_path, kernel, name) for name in names}
    first, *_ = names
    guest = Guest(
        kernel,
        f'set -e\npykexec -l /boot/kernels/{first} --initrd "$SECOND_IMAGE" --append "{line}{first}"\n',
        "pykexec -e",
        second_job=_NEXT.format(line=line),
        second_files={**kernels, **unpackers(arch)},
        second_then="pykexec -e",
        files={f"/boot/kernels/{first}": kernels[f"/boot/kernels/{first}"]},
    )
    machine = Machine(arch, memory="3G", append="")
    result = run(machine, guest, tmp_path / "machine", timeout=1200)
    result.stage("first")
    booted = {name: result.stage("second").read(name).strip() for name in names}
    assert booted == dict.fromkeys(names, kernel.release)


@pytest.mark.parametrize(
    ("arch", "way"),
    [
        jobs.further(X86_64, "zstd", id="x86_64-zstd"),
        jobs.further(ARM64, "lz4-legacy", id="arm64-lz4-legacy"),
        jobs.further(ARM64, "uImage-gzip", id="arm64-uImage"),
        pytest.param(ARM64, "zboot-xz", id="arm64-zboot"),
        jobs.further(ARM64, "vmlinux-relocatable", id="arm64-vmlinux"),
    ],
)
def test_crash_into_a_container(arch: Arch, way: str, run_guest: RunGuest, tmp_path: Path) -> None:
    kernel = Kernel.get("6.1", arch)
    marker = secrets.token_hex(8)
    files = {"/boot/packed": packed(tmp_path, kernel, way), **unpackers(arch)}
    line = jobs.capture_command_line(marker, kernel)
    load = f'pykexec -p /boot/packed --initrd "$SECOND_IMAGE" --append "{line}"'
    result = crash(run_guest, kernel, load, files, marker, capture=jobs.capture(kernel))
    assert line in result.stage("second").read("cmdline")


@jobs.FURTHER  # a unified kernel image has several, too
def test_several_initrds_and_files_put_in(kernel: Kernel, run_guest: RunGuest) -> None:
    base, overlay = system(kernel, _LOOK + 'cp /etc/put /lib/put "$OUT"; ls /lib > "$OUT/lib"\n')
    content = secrets.token_hex(20)
    files = {"/boot/base.img": base, "/boot/overlay.img": overlay}
    line = f"{kernel.arch.line} marker={content}"
    job = f"""
set -e
echo {content} > /tmp/put
pykexec -l "$KERNEL" --initrd /boot/base.img --add-initrd /boot/overlay.img \\
    --initrd-file /tmp/put:etc/ --initrd-file /tmp/put:/lib/put --append "{line}"
"""
    result = run_guest(Guest(kernel, job, "pykexec -e", files=files), Machine())
    result.stage("first")
    second = result.stage("second")
    assert second.read("cmdline").strip() == line
    assert second.read("put").strip() == content
    assert "modules" in second.read("lib").split(), "what was in the folder before is still there"


def test_boot_entry_then_the_running_kernel(kernel: Kernel, run_guest: RunGuest) -> None:
    """The first kernel loads a boot loader's default entry, the second its own file and initrd."""
    line = f"{kernel.arch.line} BOOT_IMAGE=/vmlinuz-{kernel.release}"
    entry = f"title Test\nlinux /vmlinuz-{kernel.release}\ninitrd /second.img\noptions {line} of-the-entry\n"
    third = b"".join(system(kernel, _LOOK, stage="third"))
    guest = Guest(
        kernel,
        'set -e\npykexec --dry-run -l --entry-id default > "$OUT/plan"\npykexec -l --entry-id=test\n',
        "pykexec -e",
        second_job=_LOOK + 'pykexec -d -l --reuse-kernel --reuse-cmdline --append=third 2> "$OUT/story"\n',
        second_then="pykexec -e",
        second_files={
            f"/boot/vmlinuz-{kernel.release}": kernel.image.read_bytes(),
            f"/boot/initrd.img-{kernel.release}": third,
        },
        files={
            "/boot/loader/entries/test.conf": entry.encode(),
            "/boot/loader/entries/other.conf": b"linux /missing\n",
            "/boot/loader/loader.conf": b"default test\n",
        },
    )
    result = run_guest(guest, Machine(append="", memory="2G"))
    assert "boot entry test (Test): /boot/loader/entries/test.conf" in result.stage("first").read("plan")
    second = result.stage("second")
    assert second.read("cmdline").strip() == f"{line} of-the-entry"
    story = " ".join(second.read("story").split())
    assert f"the running kernel: /boot/vmlinuz-{kernel.release} (by BOOT_IMAGE=" in story
    third_line = result.stage("third").read("cmdline").split()
    assert third_line == [*kernel.arch.line.split(), "of-the-entry", "third"]


@jobs.FURTHER
@pytest.mark.parametrize("arch", ARCHES)
def test_what_efi_still_says_of_an_initrd(arch: Arch, run_guest: RunGuest) -> None:
    """QEMU's UEFI hands an initrd over as boot loaders do, and goes on naming where that was."""
    kernel = Kernel.get(_SHOWS_ITS_INITRD[arch], arch)
    job = f'set -e\npykexec -l "$KERNEL" --append "{arch.line} second"\n'
    extra = jobs.WITH_ITS if arch is ARM64 else ()
    result = run_guest(Guest(kernel, job, "pykexec -e"), Machine(arch, append="", uefi=True, extra=extra))
    result.stage("first")
    second = result.console.rpartition("Linux version ")[2]
    assert re.search(r"efi: .* INITRD=0x[0-9a-f]+", second), "or else there is nothing to test"
    found = re.search(r"RAMDISK: \[mem 0x([0-9a-f]+)-0x([0-9a-f]+)\]", second)
    assert (found is not None) == (arch is X86_64), "arm64 does not tell"
    if found is not None:
        assert int(found[2], 16) + 1 - int(found[1], 16) == 4096, "an empty archive, in a page of its own"
    assert "Unable to mount root fs" in second, "it comes as far as a kernel without an initrd does"

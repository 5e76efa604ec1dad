"""Kernels, initrds and command lines that come from elsewhere than a file named for each: what is loaded."""

import contextlib
import dataclasses
import errno
import gzip
import lzma
import mmap
import os
import struct
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec import checks, cli, initramfs, loader, optionparser, options, report, resolve, syscalls
from pykexec.devicetree import DeviceTree
from pykexec.errors import FileError, ImageError, MachineError, PykexecError, UsageError
from pykexec.files import FileData
from pykexec.formats import magic
from pykexec.initramfs import Addition
from pykexec.machine import Machine
from pykexec.memory import MIB
from pykexec.plan import FileLoadPlan, LoadPlan, Purpose, Request
from tests.arches.loongarch64 import images as loongarch64
from tests.support.arm64_image import FakeImage
from tests.support.bzimage import FakeBzImage
from tests.support.machines import snapshot, unpacked
from tests.support.pe import portable_executable
from tests.support.program import Load, Program
from tests.support.schemas import require_valid
from tests.support.zboot import zboot

X86_64, ARM64 = "qemu-6.1-1g", "qemu-arm64-6.1-1g"
LOADER = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
KERNEL = FakeBzImage().build()
IMAGE = FakeImage().build()
EFI = {"sys/firmware/efi/fw_platform_size": "64\n"}

Written = Callable[[str, bytes], Path]


@pytest.fixture
def written(tmp_path: Path) -> Written:
    def write(name: str, content: bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    return write


def cpio(folder: Path, files: dict[str, bytes]) -> bytes:
    """An archive by cpio(1)."""
    folder.mkdir()
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    command = "find . -mindepth 1 | sed 's,^./,,' | sort | cpio --quiet -o -H newc"
    return subprocess.run(command, shell=True, cwd=folder, check=True, capture_output=True).stdout


def listed(archives: bytes, folder: Path) -> dict[str, bytes]:
    """What cpio(1) finds in archives one after the other, each padded to its blocks."""
    folder.mkdir()
    while archives.strip(b"\0"):
        end = archives.index(b"TRAILER!!!") + 10
        end += -end % 512
        command = ["cpio", "--quiet", "-idmu", "-H", "newc"]
        subprocess.run(command, input=archives[:end], cwd=folder, check=True, capture_output=True)
        archives = archives[end:].lstrip(b"\0")
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def uki(
    kernel: bytes = KERNEL,
    *sections: tuple[str, bytes],
    machine: int = 0x8664,
    line: str | None = "root=/dev/a",
) -> bytes:
    parts = [(".osrel", b"ID=x\n"), (".uname", b"6.1\0"), (".linux", kernel)]
    if line is not None:
        parts.append((".cmdline", line.encode() + b"\0"))
    return portable_executable([*parts, *sections], machine=machine)


def request_for(path: Path | None, **settings: Any) -> Request:
    return Request.from_paths(path, **settings)


def resolved(machine: Machine, path: Path | None, **settings: Any) -> Request:
    return resolve.resolve(machine, request_for(path, **settings))


def as_told(machine: Machine, *argv: str | Path) -> LoadPlan | FileLoadPlan:
    """The plan for a command line."""
    given = optionparser.parse(list(map(str, argv)))
    task = cli.resolve(given)
    return loader.plan(machine, cli.request_of(given, task.purpose, machine), cli.system_call_of(given))


# Unified kernel images


def test_a_unified_kernel_image_gives_kernel_initrd_and_command_line(written: Written) -> None:
    path = written("uki.efi", uki(KERNEL, (".initrd", b"\x1f\x8b\x08initrd"), (".ucode", b"microcode")))
    plan = as_told(snapshot(X86_64), "-c", "-l", path)
    assert isinstance(plan, LoadPlan)
    bare = as_told(snapshot(X86_64), "-c", "-l", written("bare", KERNEL))
    assert isinstance(bare, LoadPlan)
    assert bytes(plan.segment("kernel").data) == bytes(bare.segment("kernel").data)
    assert plan.command_line == "root=/dev/a"
    initrd = bytes(plan.segment("initrd").data)
    assert initrd.startswith(b"microcode")
    assert initrd[512:].startswith(b"\x1f\x8b\x08initrd")
    assert plan.image_format.startswith("unified kernel image, ")
    text = report.as_text(plan, columns=500)
    assert f"taken         kernel out of the unified kernel image {path}" in text
    assert f"taken         command line of {path}" in text
    assert require_valid("plan", report.as_json(plan))["taken"] == list(plan.taken)


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ((), "root=/dev/a"),
        (("--append=quiet",), "quiet"),
        (("--command-line=",), ""),
        (("--reuse-cmdline",), None),
    ],
)
def test_whose_command_line_it_is(more: tuple[str, ...], line: str | None, written: Written) -> None:
    machine = snapshot(X86_64)
    plan = as_told(machine, "-l", *more, written("uki.efi", uki()))
    if line is None:
        words = [word for word in machine.command_line.split() if not word.startswith("BOOT_IMAGE")]
        line = " ".join(words)
    assert plan.command_line == line


def test_a_capture_kernel_does_not_reserve_memory_for_another(written: Written) -> None:
    path = written("uki.efi", uki(line="root=/dev/a crashkernel=256M quiet"))
    assert as_told(snapshot(X86_64), "-c", "-p", path).command_line.startswith(
        "root=/dev/a quiet acpi_rsdp="
    )


@pytest.mark.programs
def test_initrds_around_an_embedded_one(written: Written, tmp_path: Path) -> None:
    """Given ones come behind it, as in a usual boot; but a capture kernel gets the one given instead."""
    embedded = cpio(tmp_path / "e", {"init": b"embedded", "in": b"embedded"})
    given_, added = (
        written(name, cpio(tmp_path / f"{name}.d", {"init": name.encode(), name: b""})) for name in "ga"
    )
    path = written("uki.efi", uki(KERNEL, (".initrd", embedded)))

    def files(*more: str | Path, action: str = "-l") -> dict[str, bytes]:
        plan = as_told(snapshot(X86_64), "-c", action, path, *more)
        assert isinstance(plan, LoadPlan)
        name = "-".join(Path(str(each)).name for each in (action, *more))
        return listed(bytes(plan.segment("initrd").data), tmp_path / f"listed{name}")

    assert files() == {"init": b"embedded", "in": b"embedded"}
    assert files("--add-initrd", added) == {"init": b"a", "in": b"embedded", "a": b""}
    assert files("--initrd", given_) == {"init": b"g", "in": b"embedded", "g": b""}
    both = ("--initrd", given_, "--add-initrd", added)
    assert files(*both) == {"init": b"a", "in": b"embedded", "g": b"", "a": b""}
    assert files(action="-p") == {"init": b"embedded", "in": b"embedded"}
    assert files(*both, action="-p") == {"init": b"a", "g": b"", "a": b""}
    plan = as_told(snapshot(X86_64), "-p", path, "--initrd", given_)
    assert f"not the initrd in {path}: {given_} is given instead" in plan.taken


@pytest.mark.parametrize("machine", [X86_64, ARM64])
def test_what_is_taken_out_is_given_to_the_kernel_in_memory(
    machine: str, written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kexec_file_load gets the kernel and the initrd, not the container; and only what is the user's own
    file is that file, with its signature."""
    read: list[bytes] = []
    inodes: list[int] = []

    def take(kernel: int, initrd: int, line: bytes, flags: int) -> None:
        for number in (kernel, initrd):
            read.append(os.pread(number, 1 << 24, 0))
            inodes.append(os.fstat(number).st_ino)

    monkeypatch.setattr(syscalls, "kexec_file_load", take)
    kernel = KERNEL if machine == X86_64 else IMAGE
    path = written("uki.efi", uki(kernel, machine=0x8664 if machine == X86_64 else 0xAA64))
    own = written("own.img", b"\x1f\x8b\x08own")
    request = request_for(path, initrd=own)
    assert isinstance(loader.load_request(snapshot(machine), request, "file"), FileLoadPlan)
    assert read == [kernel, own.read_bytes()]
    assert inodes[1] == own.stat().st_ino
    assert inodes[0] != path.stat().st_ino


def test_the_users_own_files_stay_themselves(written: Written) -> None:
    kernel, initrd = written("vmlinuz", KERNEL), written("initrd", b"\x1f\x8b\x08")
    entered = request_for(kernel, initrd=initrd)
    found = resolve.resolve(snapshot(X86_64), entered)
    assert found.kernel.descriptor is entered.kernel.descriptor
    assert found.initrd is not None
    assert entered.initrd is not None
    assert found.initrd.descriptor is entered.initrd.descriptor
    assert (found.taken, found.warnings) == ((), ())


def test_profiles(written: Written) -> None:
    data = portable_executable(
        [
            (".linux", KERNEL),
            (".profile", b"ID=main\nTITLE=Normal"),
            (".cmdline", b"normal"),
            (".profile", b'ID=reset\nTITLE="Factory reset"'),
            (".cmdline", b"reset"),
        ]
    )
    path = written("uki.efi", data)
    for name, line in {"0": "normal", "main": "normal", "@1": "reset", "Factory reset": "reset"}.items():
        assert as_told(snapshot(X86_64), "-l", path, "--profile", name).command_line == line
    with pytest.raises(ImageError, match=r"no profile other\nits profiles: @0 \(main\), @1 \(reset\)"):
        as_told(snapshot(X86_64), "-l", path, "--profile=other")
    with pytest.raises(ImageError, match="nothing to choose from"):
        as_told(snapshot(X86_64), "-l", written("bare", KERNEL), "--profile=other")


def test_add_ons_beside_the_image(written: Written, tmp_path: Path) -> None:
    path = written("uki.efi", uki())
    for name, line, machine in (("b", b"second", 0x8664), ("a", b"first", 0x8664), ("c", b"x", 0xAA64)):
        written(
            f"uki.efi.extra.d/{name}.addon.efi", portable_executable([(".cmdline", line)], machine=machine)
        )
    written("uki.efi.extra.d/readme.txt", b"text")
    (tmp_path / "current").symlink_to(path)
    plan = as_told(snapshot(X86_64), "-l", tmp_path / "current")
    assert plan.command_line == "root=/dev/a first second"
    (left_out,) = plan.warnings
    assert "c.addon.efi is left out: it is for arm64" in left_out
    assert any(each.endswith("a.addon.efi") for each in plan.taken)


def test_a_container_in_a_compressed_file_keeps_what_is_in_it(written: Written) -> None:
    image = uki(KERNEL, (".initrd", b"\x1f\x8b\x08initrd"))
    plain = as_told(snapshot(X86_64), "-c", "-l", written("uki.efi", image))
    packed = as_told(snapshot(X86_64), "-c", "-l", written("uki.efi.gz", gzip.compress(image)))
    assert isinstance(plain, LoadPlan)
    assert isinstance(packed, LoadPlan)
    assert [bytes(each.data) for each in packed.segments] == [bytes(each.data) for each in plain.segments]
    assert (packed.command_line, packed.initrd is None) == ("root=/dev/a", False)
    assert packed.image_format.startswith("gzip, unified kernel image, ")
    nested = written("nested", uki(gzip.compress(image)))
    with pytest.raises(ImageError, match="nested: unified kernel image, gzip, in it a unified kernel image"):
        as_told(snapshot(X86_64), "-l", nested)


@pytest.mark.parametrize("type_", ["uki", "fit"])
def test_types_that_hold_a_kernel(type_: str, written: Written) -> None:
    machine = snapshot(X86_64)
    image, bare = written("uki.efi", uki()), written("bare", KERNEL)
    if type_ == "uki":
        for call in ("-s", "-c", "-a"):
            assert as_told(machine, "-l", call, "-t", type_, image).command_line == "root=/dev/a"
    else:
        with pytest.raises(ImageError, match=r"-t fit: .*uki.efi is a unified kernel image"):
            as_told(machine, "-l", "-t", type_, image)
    with pytest.raises(ImageError, match=f"-t {type_}: .* is an x86 bzImage"):
        as_told(machine, "-l", "-t", type_, bare)


def test_a_device_tree_is_for_machines_that_boot_with_one(written: Written) -> None:
    path = written("uki.efi", uki(KERNEL, (".dtb", b"\xd0\x0d\xfe\xed" + bytes(100))))
    plan = as_told(snapshot(X86_64), "-l", path)
    assert f"not the device tree {path} (device tree): this machine has none" in plan.taken


@given(st.binary(max_size=64), st.integers(0, 900), st.integers(0, 2000))
def test_damaged_images_are_refused(junk: bytes, at: int, end: int) -> None:
    data = bytearray(uki(KERNEL, (".initrd", b"initrd")))
    data[at : at + len(junk)] = junk
    request = Request(FileData.from_bytes("uki.efi", bytes(data[: end or None])))
    with contextlib.suppress(PykexecError):
        loader.plan_load(snapshot(X86_64), request)


# FIT images, and device trees that come with kernels


_ITS = """/dts-v1/;
/ {{
    description = "test"; #address-cells = <1>;
    images {{
        kernel {{ data = /incbin/("{kernel}"); type = "kernel"; arch = "arm64"; os = "linux";
            compression = "gzip"; load = <0>; entry = <0>; hash {{ algo = "sha256"; }}; }};
        ramdisk {{ data = /incbin/("{initrd}"); type = "ramdisk"; arch = "arm64"; os = "linux";
            compression = "none"; hash {{ algo = "sha256"; }}; }};
        fdt {{ data = /incbin/("{tree}"); type = "flat_dt"; arch = "arm64"; compression = "none"; }};
    }};
    configurations {{
        default = "small";
        small {{ kernel = "kernel"; bootargs = "small"; }};
        board {{ kernel = "kernel"; ramdisk = "ramdisk"; fdt = "fdt"; compatible = "{compatible}"; }};
    }};
}};
"""
_BOARD = """/dts-v1/;
/ {{ #address-cells = <2>; #size-cells = <{cells}>; compatible = "a,board"; model = "the board";
    memory@0 {{ device_type = "memory"; reg = <0 0 0 {zeros}>; }};
    chosen {{ stdout-path = "serial0"; }};
}};
"""


def fit(written: Written, compatible: str, *, cells: int = 2) -> Path:
    board = _BOARD.format(cells=cells, zeros="0" if cells == 2 else "")
    tree = written("board.dtb", b"")
    dtc = ["dtc", "-q", "-I", "dts", "-O", "dtb", "-o", str(tree)]
    subprocess.run(dtc, input=board.encode(), check=True)
    names = {
        "kernel": written("Image.gz", gzip.compress(IMAGE, mtime=0)),
        "initrd": written("ramdisk", b"\x1f\x8b\x08ramdisk"),
        "tree": tree,
    }
    its = written("fit.its", _ITS.format(compatible=compatible, **names).encode())
    path = its.with_suffix(".itb")
    subprocess.run(["mkimage", "-q", "-f", its, path], check=True, stdout=subprocess.DEVNULL)
    return path


def properties(blob: bytes | memoryview) -> dict[str, dict[str, bytes]]:
    return dict(DeviceTree(bytes(blob), "plan").nodes())


@pytest.mark.programs
def test_a_fit_image_gives_what_its_configuration_names(written: Written) -> None:
    machine = snapshot(ARM64)
    path = fit(written, "a,board")
    default = as_told(machine, "-c", "-l", path)
    assert default.command_line == "small"
    plan = as_told(machine, "-c", "-l", path, "--profile", "board", "--append=x")
    assert isinstance(plan, LoadPlan)
    assert bytes(plan.segment("kernel").data) == IMAGE
    assert bytes(plan.segment("initrd").data) == b"\x1f\x8b\x08ramdisk"
    assert plan.image_format.startswith("FIT image, configuration board, ")
    told = properties(machine.read("sys/firmware/fdt") or b"")
    tree = properties(plan.segment("dtb").data)
    assert tree["/"]["model"] == b"the board\0"
    assert tree["/chosen"]["stdout-path"] == b"serial0\0"
    (memory,) = (node for path, node in told.items() if path.startswith("/memory"))
    assert [node.get("reg") for path, node in tree.items() if path.startswith("/memory")].count(
        memory["reg"]
    ) == 1
    with pytest.raises(ImageError, match=r"no configuration other\nits configurations: small, board"):
        as_told(machine, "-l", path, "--profile=other")


@pytest.mark.programs
def test_the_machine_chooses_a_configuration(written: Written, tmp_path: Path) -> None:
    machine = unpacked(
        ARM64, tmp_path / "root", {"proc/device-tree/compatible": b"linux,other\0linux,dummy-virt\0"}
    )
    plan = as_told(machine, "-l", fit(written, "linux,dummy-virt"))
    assert plan.taken[0].startswith("kernel out of the FIT image, configuration board ")
    assert any("device tree" in each for each in plan.taken)


def compiled(path: Path, source: str) -> bytes:
    """By dtc, with labels for overlays."""
    dtc: list[str | Path] = ["dtc", "-q", "-@", "-I", "dts", "-O", "dtb", "-o", path]
    subprocess.run(dtc, input=f"/dts-v1/; {source}".encode(), check=True)
    return path.read_bytes()


@pytest.mark.programs
def test_an_entry_s_overlays_change_its_tree(tmp_path: Path) -> None:
    board = (
        '/ { #address-cells = <2>; #size-cells = <2>; uart: serial { status = "disabled"; }; chosen { }; };'
    )
    overlay = '/plugin/; &uart { status = "okay"; };'
    files: dict[str, str | bytes | None] = {
        "boot/loader/entries/a.conf": "linux /Image\ndevicetree /b.dtb\ndevicetree-overlay o.dtbo /p.dtbo\n",
        "boot/Image": IMAGE,
        "boot/b.dtb": compiled(tmp_path / "b", board),
        "boot/o.dtbo": compiled(tmp_path / "o", overlay),
        "boot/p.dtbo": compiled(tmp_path / "p", '/plugin/; &{/} { model = "changed"; };'),
    }
    plan = as_told(unpacked(ARM64, tmp_path / "root", files), "-c", "-l", "--entry-id=a")
    assert isinstance(plan, LoadPlan)
    tree = properties(plan.segment("dtb").data)
    assert (tree["/serial"]["status"], tree["/"]["model"]) == (b"okay\0", b"changed\0")
    assert "device tree /boot/b.dtb, then /boot/o.dtbo, then /boot/p.dtbo" in plan.taken
    assert not [each for each in plan.warnings if "overlay" in each]


@pytest.mark.programs
def test_a_tree_with_other_cells_is_for_another_machine(written: Written) -> None:
    with pytest.raises(MachineError, match="#address-cells"):
        as_told(snapshot(ARM64), "-l", fit(written, "a,board", cells=1), "--profile=board")


@pytest.mark.programs
def test_only_kexec_load_takes_a_device_tree(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(syscalls, "kexec_load", lambda *_: calls.append("load"))
    monkeypatch.setattr(syscalls, "kexec_file_load", lambda *_: calls.append("file"))
    request = request_for(fit(written, "a,board"), profile="board")
    loader.load_request(snapshot(ARM64), request)
    assert calls == ["load"]
    with pytest.raises(UsageError, match="device_tree"):
        loader.load_request(snapshot(ARM64), request, "file")


@pytest.mark.programs
def test_where_efi_is_goes_into_the_tree_that_came_with_the_kernel(written: Written, tmp_path: Path) -> None:
    machine = unpacked(ARM64, tmp_path / "root")
    tree = DeviceTree(machine.read("sys/firmware/fdt") or b"", "fdt")
    # Kernels with distributions' patch for lockdown do without EFI where the second of these is missing.
    said = {"linux,uefi-system-table": bytes(7) + b"\1", "linux,uefi-secure-boot": bytes(3) + b"\2"}
    for name, value in said.items():
        tree.set("/chosen", name, value)
    machine = unpacked(ARM64, tmp_path / "other", {"sys/firmware/fdt": tree.to_bytes()})
    plan = as_told(machine, "-c", "-l", fit(written, "a,board"), "--profile=board")
    assert isinstance(plan, LoadPlan)
    assert said.items() <= properties(plan.segment("dtb").data)["/chosen"].items()


@pytest.mark.parametrize(
    "wrap", [gzip.compress, lzma.compress, lambda data: zboot(gzip.compress(data, mtime=0), b"gzip")]
)
def test_a_compressed_kernel_is_unpacked_once(
    wrap: Callable[[bytes], bytes], written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the first system call refuses it."""
    from pykexec.formats import compression

    unpack, done = compression.pieces, []

    def count(*arguments: Any) -> Any:
        done.append(arguments[2])
        return unpack(*arguments)

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(compression, "pieces", count)
    monkeypatch.setattr(syscalls, "kexec_file_load", refuse)
    monkeypatch.setattr(syscalls, "kexec_load", lambda *_: None)
    path = written("Image.packed", wrap(IMAGE))
    plan = loader.load_request(snapshot(ARM64), request_for(path, append="x"))
    assert isinstance(plan, LoadPlan)
    assert bytes(plan.segment("kernel").data) == IMAGE
    assert len(done) == 1


# Several initrds, and files put in


@pytest.mark.programs
def test_several_initrds(written: Written, tmp_path: Path) -> None:
    kernel = written("vmlinuz", KERNEL)
    early = cpio(tmp_path / "early.d", {"kernel/x86/microcode/GenuineIntel.bin": b"microcode"})
    archives = {
        name: cpio(tmp_path / f"{name}.d", {"init": name.encode(), f"only-{name}": b""}) for name in "abc"
    }
    archives["c"] = early + archives["c"]
    paths = {name: written(name, data) for name, data in archives.items()}
    put = written("put", b"put in")
    argv: list[str | Path] = ["-c", "-l", kernel]
    argv += ["--initrd", paths["c"], "--initrd", paths["a"], "--add-initrd", paths["b"]]
    argv += ["--add-initrd", paths["c"], f"--initrd-file={put}:etc/put", f"--initrd-file={put}:/x/"]
    plan = as_told(snapshot(X86_64), *argv)
    assert isinstance(plan, LoadPlan)
    data = bytes(plan.segment("initrd").data)
    assert data.startswith(early.rstrip(b"\0")), "microcode comes first"
    found = listed(data, tmp_path / "listed")
    assert found["init"] == b"c", "the last one wins"
    assert (found["etc/put"], found["x/put"]) == (b"put in", b"put in")
    assert {"only-a", "only-b", "only-c"} <= found.keys()
    assert plan.initrd == " + ".join(str(paths[name]) for name in "abc")
    (taken,) = plan.taken
    names = [*(str(paths[name]) for name in "abc"), "/etc/put put in", "/x/put put in"]
    assert taken == "initrd: " + ", then ".join(names)
    assert plan.warnings == ()


@pytest.mark.programs
def test_files_alone_make_an_initrd(written: Written, tmp_path: Path) -> None:
    request = Request(
        FileData.from_bytes("vmlinuz", KERNEL), additions=(Addition("init", memoryview(b"#!")),)
    )
    plan = loader.plan_load(snapshot(X86_64), request)
    assert listed(bytes(plan.segment("initrd").data), tmp_path / "listed") == {"init": b"#!"}
    assert plan.initrd == "files put in"


def test_a_file_that_cannot_be_mapped_is_read(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    """As /sys/firmware/initrd."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENODEV, "No such device")

    monkeypatch.setattr(mmap, "mmap", refuse)
    found = FileData.open(written("initrd", b"content"), "initrd")
    assert (bytes(found.data), found.descriptor) == (b"content", None)


# Boot entries, and the running kernel


ENTRIES: dict[str, str | bytes | None] = {
    "boot/vmlinuz-1": KERNEL,
    "boot/vmlinuz-2": KERNEL + bytes(512),
    "boot/initrd-1": b"\x1f\x8b\x08one",
    "boot/extra-1": b"\x1f\x8b\x08more",
    "boot/loader/loader.conf": "default two\n",
    "boot/loader/entries/one.conf": (
        "title One\nversion 1\nlinux /vmlinuz-1\ninitrd /initrd-1\ninitrd /extra-1\noptions root=/dev/a ro\n"
    ),
    "boot/loader/entries/two.conf": "title Two\nversion 2\nlinux /vmlinuz-2\noptions two crashkernel=1G\n",
    "boot/loader/entries/three+0-3.conf": "title Three\nlinux /vmlinuz-2\ndevicetree-overlay /o.dtbo\n",
    "boot/loader/entries/gone.conf": "linux /gone\n",
    "boot/EFI/Linux/image.efi": uki(KERNEL, (".initrd", b"\x1f\x8b\x08in the image"), line="of the image"),
    "boot/EFI/Linux/image.efi.extra.d/x.addon.efi": portable_executable([(".cmdline", b"added")]),
}


@pytest.fixture
def with_entries(tmp_path: Path) -> Machine:
    return unpacked(X86_64, tmp_path / "root", ENTRIES)


def test_a_boot_entry_gives_all_it_names(with_entries: Machine) -> None:
    plan = as_told(with_entries, "-c", "-l", "--entry-id", "one")
    assert isinstance(plan, LoadPlan)
    assert (plan.image, plan.command_line) == ("/boot/vmlinuz-1", "root=/dev/a ro")
    data = bytes(plan.segment("initrd").data)
    assert (data[:6], data[512:519]) == (b"\x1f\x8b\x08one", b"\x1f\x8b\x08more")
    assert plan.taken == (
        "boot entry one (One): /boot/loader/entries/one.conf",
        "command line of boot entry one",
        "initrd: /boot/initrd-1, then /boot/extra-1",
    )


@pytest.mark.parametrize(
    ("name", "kernel", "line"),
    [
        ("default", "/boot/vmlinuz-2", "two crashkernel=1G"),
        ("two.conf", "/boot/vmlinuz-2", "two crashkernel=1G"),
        ("One", "/boot/vmlinuz-1", "root=/dev/a ro"),
        ("image", "/boot/EFI/Linux/image.efi", "of the image added"),
    ],
)
def test_names_of_boot_entries(name: str, kernel: str, line: str, with_entries: Machine) -> None:
    plan = as_told(with_entries, "-l", "--entry-id", name)
    assert isinstance(plan, LoadPlan)
    assert (plan.image, plan.command_line) == (kernel, line)


def test_what_is_given_goes_before_what_an_entry_says(with_entries: Machine, written: Written) -> None:
    own = written("own", b"\x1f\x8b\x08own")
    plan = as_told(with_entries, "-c", "-l", "--entry-id=one", "--append=mine", "--initrd", own)
    assert isinstance(plan, LoadPlan)
    assert plan.command_line == "mine"
    assert bytes(plan.segment("initrd").data) == own.read_bytes()
    added = as_told(with_entries, "-c", "-l", "--entry-id=two", "--add-initrd", own)
    assert isinstance(added, LoadPlan)
    assert bytes(added.segment("initrd").data) == own.read_bytes()


def test_doubts_about_an_entry(with_entries: Machine) -> None:
    boot_counter, overlays = as_told(with_entries, "-l", "--entry-id=three").warnings
    assert "failed each time" in boot_counter
    assert "/boot/o.dtbo" in overlays
    with pytest.raises(FileError, match=r"cannot read the kernel .*gone"):
        as_told(with_entries, "-l", "--entry-id=gone")
    with pytest.raises(UsageError, match="no boot entry other"):
        as_told(with_entries, "-l", "--entry-id=other")


SUBVOLUME: dict[str, str | bytes | None] = {
    "boot/vmlinuz-4.15": KERNEL,
    "boot/initrd.img-4.15": b"\x1f\x8b\x08menu",
    "proc/self/mountinfo": "36 1 0:30 /@ / rw - btrfs /dev/sda2 rw,subvol=/@\n",
    "boot/grub/grub.cfg": (
        'set default="0"\nmenuentry "KDE\\x1b[2J neon" --class neon $menuentry_id_option gnulinux-simple {\n'
        "recordfail\nsearch --no-floppy --fs-uuid --set=root 1111-2222\n"
        "linux /@/boot/vmlinuz-4.15 root=UUID=1111-2222 ro rootflags=subvol=@  quiet splash $vt_handoff\n"
        "initrd /@/boot/initrd.img-4.15\n}\n"
    ).replace("\\x1b", "\x1b"),
}


def test_grub_s_menu_where_there_are_no_files_of_entries(tmp_path: Path) -> None:
    machine = unpacked(X86_64, tmp_path / "root", SUBVOLUME)
    plan = as_told(machine, "-c", "-l", "--entry-id=default")
    assert isinstance(plan, LoadPlan)
    assert plan.image == "/boot/vmlinuz-4.15"
    assert plan.command_line == "root=UUID=1111-2222 ro rootflags=subvol=@ quiet splash"
    assert plan.taken[0] == r"boot entry KDE\x1b[2J neon: /boot/grub/grub.cfg", "what a terminal can bear"
    assert not plan.warnings
    with pytest.raises(UsageError, match="no boot entry other"):
        as_told(machine, "-l", "--entry-id=other")


RUNNING: dict[str, str | bytes | None] = {
    "proc/cmdline": "BOOT_IMAGE=/boot/vmlinuz-6.1.0 root=/dev/a\n",
    "proc/sys/kernel/osrelease": "6.1.0\n",
    "boot/vmlinuz-6.1.0": KERNEL,
    "boot/initrd.img-6.1.0": b"\x1f\x8b\x08running",
}


def test_the_running_kernel(tmp_path: Path, written: Written) -> None:
    machine = unpacked(X86_64, tmp_path / "root", RUNNING)
    plan = as_told(machine, "-c", "-l", "--reuse-kernel", "--reuse-cmdline")
    assert isinstance(plan, LoadPlan)
    assert plan.command_line == "root=/dev/a"
    assert bytes(plan.segment("initrd").data) == b"\x1f\x8b\x08running"
    assert plan.taken[0].startswith("the running kernel: /boot/vmlinuz-6.1.0 (by BOOT_IMAGE=")
    own = written("own", b"\x1f\x8b\x08own")
    other = as_told(machine, "-c", "-l", "--reuse-kernel", "--initrd", own)
    assert isinstance(other, LoadPlan)
    assert bytes(other.segment("initrd").data) == own.read_bytes()
    with pytest.raises(MachineError, match="no image of the running kernel"):
        as_told(snapshot(X86_64), "-l", "--reuse-kernel")


def test_the_running_kernel_by_its_boot_entry(tmp_path: Path) -> None:
    """systemd-boot leaves no BOOT_IMAGE, and the names need not follow any custom."""
    files: dict[str, str | bytes | None] = {
        "proc/cmdline": "root=/dev/a\n",
        "proc/sys/kernel/osrelease": "6.1.0-test\n",
        "boot/loader/entries/arch.conf": "linux /K\ninitrd /I\n",
        "boot/K": named("6.1.0-test"),
        "boot/I": b"\x1f\x8b\x08entry",
        "usr/lib/modules/6.1.0-test/vmlinuz": named("6.1.0-test"),
        f"sys/firmware/efi/efivars/LoaderEntrySelected-{LOADER}": b"\6\0\0\0"
        + "arch.conf\0".encode("utf-16-le"),
    }
    plan = as_told(unpacked(X86_64, tmp_path / "root", files), "-c", "-l", "--reuse-kernel")
    assert isinstance(plan, LoadPlan)
    assert plan.taken[0] == "the running kernel: /boot/K (by boot entry arch, which was selected)"
    assert bytes(plan.segment("initrd").data) == b"\x1f\x8b\x08entry"
    assert not [each for each in plan.warnings if "initrd" in each]


def test_what_else_an_entry_gives_its_image(tmp_path: Path) -> None:
    files: dict[str, str | bytes | None] = {
        "boot/loader/entries/a.conf": "uki /a.efi\nextra /more.addon.efi\nextra /secret.cred\n",
        "boot/a.efi": uki(),
        "boot/more.addon.efi": portable_executable([(".cmdline", b"more")]),
    }
    plan = as_told(unpacked(X86_64, tmp_path / "root", files), "-c", "-l", "--entry-id=a")
    assert plan.command_line == "root=/dev/a more"
    (warning,) = plan.warnings
    assert warning.startswith("what systemd's stub would hand on with /boot/a.efi is left out: ")
    assert warning.endswith(": /boot/secret.cred")


def test_the_running_kernel_s_profile(tmp_path: Path) -> None:
    profiles = [(".profile", b"ID=one\n"), (".profile", b"ID=two\n"), (".cmdline", b"of-two")]
    files: dict[str, str | bytes | None] = {
        "proc/cmdline": "root=/dev/a\n",
        "proc/sys/kernel/osrelease": "6.1\n",
        "efi/EFI/Linux/a.efi": uki(KERNEL, *profiles),
        f"sys/firmware/efi/efivars/LoaderEntrySelected-{LOADER}": b"\6\0\0\0"
        + "a.efi@1".encode("utf-16-le"),
    }
    machine = unpacked(X86_64, tmp_path / "root", files)
    assert as_told(machine, "-l", "--reuse-kernel").command_line == "of-two"
    assert as_told(machine, "-l", "--reuse-kernel", "--profile=one").command_line == "root=/dev/a"


@pytest.mark.parametrize(
    ("secure", "image", "line"),
    [
        (0, uki(), "of-the-entry added"),
        (1, uki(), "root=/dev/a added"),
        (1, uki(line=None), "of-the-entry added"),
    ],
)
def test_an_entry_s_options_for_an_image(secure: int, image: bytes, line: str, tmp_path: Path) -> None:
    """systemd-stub(7): without Secure Boot they override the command line that is built in."""
    files: dict[str, str | bytes | None] = {
        "boot/loader/entries/a.conf": "uki /a.efi\noptions of-the-entry\n",
        "boot/a.efi": image,
        "boot/a.efi.extra.d/x.addon.efi": portable_executable([(".cmdline", b"added")]),
        "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c": bytes(
            [6, 0, 0, 0, secure]
        ),
    }
    request = resolved(unpacked(X86_64, tmp_path / "root", files), None, entry_id="a")
    assert request.append == line
    assert any("counts under Secure Boot" in each for each in request.warnings) == (line[0] == "r")


def test_what_else_lies_beside_an_image(written: Written) -> None:
    path = written("uki.efi", uki())
    assert as_told(snapshot(X86_64), "-l", path).warnings == ()
    for name in ("a.cred", "b.sysext.raw", "c.addon.efi", "README"):
        content = portable_executable([(".cmdline", b"more")]) if name.endswith(".efi") else b""
        written(f"uki.efi.extra.d/{name}", content)
    (warning,) = as_told(snapshot(X86_64), "-l", path).warnings
    assert warning.endswith(f": /{path}.extra.d/a.cred, /{path}.extra.d/b.sysext.raw".replace("//", "/"))


def test_no_initrd_of_the_running_kernel_is_worth_a_word(tmp_path: Path) -> None:
    files = {path: content for path, content in RUNNING.items() if "initrd" not in path}
    machine = unpacked(X86_64, tmp_path / "root", files)
    (warning,) = as_told(machine, "-c", "-l", "--reuse-kernel").warnings
    assert warning.startswith("no initrd was found beside /boot/vmlinuz-6.1.0")


@pytest.mark.parametrize(
    "argv",
    [
        ("-l", "--entry-id=one", "K"),
        ("-l", "--reuse-kernel", "K"),
        ("-l", "--entry-id=one", "--reuse-kernel"),
        ("-e", "--entry-id=one"),
        ("-u", "--reuse-kernel"),
    ],
)
def test_one_kernel_at_a_time(argv: tuple[str, ...]) -> None:
    with pytest.raises(UsageError):
        cli.resolve(optionparser.parse(argv))


def test_a_request_names_one_kernel(with_entries: Machine) -> None:
    for bad in (Request(entry_id="one", reuse_kernel=True), Request(profile="x")):
        with pytest.raises(UsageError, match="one kernel at a time"):
            loader.plan_load(with_entries, bad)


# EFI's own note of an initrd


@pytest.mark.programs
@pytest.mark.parametrize("kernel", [KERNEL, uki(line=None)], ids=["bzImage", "unified"])
def test_an_empty_initrd_hides_the_one_efi_still_names(
    kernel: bytes, tmp_path: Path, written: Written
) -> None:
    machine = unpacked(X86_64, tmp_path / "root", EFI)
    path = written("kernel", kernel)
    plan = as_told(machine, "-c", "-l", path)
    assert isinstance(plan, LoadPlan)
    assert listed(bytes(plan.segment("initrd").data), tmp_path / "listed") == {}
    assert any("the new kernel would take" in each for each in plan.taken)
    plan = as_told(machine, "-c", "-l", path, "--initrd", written("nothing", b""))
    assert isinstance(plan, LoadPlan)
    assert listed(bytes(plan.segment("initrd").data), tmp_path / "again") == {}
    for more in (["--initrd", written("i", b"\x1f\x8b\x08")], ["--noefi"]):
        plan = as_told(machine, "-c", "-l", path, *more)
        assert not any("lest" in each for each in plan.taken)
    files = as_told(machine, "-s", "-l", path)
    assert isinstance(files, FileLoadPlan)
    assert files.initrd is not None
    assert not files.flags & 0x4


def test_a_multiboot_kernel_takes_no_initrd(tmp_path: Path) -> None:
    machine = unpacked(X86_64, tmp_path / "root", EFI)
    header = struct.pack("<III", 0x1BADB002, 0, -0x1BADB002 & 0xFFFFFFFF)
    request = Request(FileData.from_bytes("multiboot", header + bytes(4000)))
    assert resolve.resolve(machine, request).initrd is None


# Looked at before a load


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (bytes(5000), "has no files in it"),
        (b"hsqs" + bytes(5000), "a squashfs file system"),
        (b"070701" + b"0" * 60, "truncated"),
        (b"text\n" * 100, "no initramfs: a text file"),
    ],
)
@pytest.mark.parametrize("call", ["-c", "-s"])
def test_what_is_no_initramfs(call: str, content: bytes, words: str, written: Written) -> None:
    plan = as_told(
        snapshot(X86_64), call, "-l", written("vmlinuz", KERNEL), "--initrd", written("initrd", content)
    )
    assert any(words in each for each in plan.warnings)


@pytest.mark.programs
def test_whole_archives_are_not_warned_of(written: Written, tmp_path: Path) -> None:
    plain = cpio(tmp_path / "plain", {"init": b"x" * 9000})
    early = cpio(tmp_path / "early", {"kernel/x86/microcode/A.bin": b"x" * 3_000_000})
    kernel = written("vmlinuz", KERNEL)
    for content in (
        plain,
        early + plain,
        early + gzip.compress(plain, mtime=0),
        gzip.compress(plain, mtime=0) + early,
        plain * 3,
    ):
        plan = as_told(snapshot(X86_64), "-l", kernel, "--initrd", written("initrd", content))
        assert plan.warnings == ()
        cut = as_told(
            snapshot(X86_64), "-l", kernel, "--initrd", written("initrd", content[: len(plain) - 700])
        )
        assert bool(cut.warnings) == (magic.compression(memoryview(content)) is None)


@given(st.binary(max_size=300), st.sampled_from([b"", b"070701", b"\x1f\x8b\x08", initramfs.empty()]))
def test_any_initrd_is_looked_at(content: bytes, start: bytes) -> None:
    request = Request(
        FileData.from_bytes("vmlinuz", KERNEL), initrd=FileData.from_bytes("i", start + content)
    )
    checks.warnings(snapshot(X86_64), request)


def named(release: str) -> bytes:
    """A kernel with a version string, which is 0x200 bytes into its setup code."""
    data = bytearray(FakeBzImage().build())
    struct.pack_into("<H", data, 0x20E, 0x200)
    text = f"{release} (builder@host) #1\0".encode()
    data[0x400 : 0x400 + len(text)] = text
    return bytes(data)


def without_what_was_left_out(warnings: Iterable[str]) -> list[str]:
    return [each for each in warnings if not each.startswith("no --")]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["-p"], ["--initrd", "--append or --reuse-cmdline"]),
        (["-p", "--append="], ["--initrd", "--append or --reuse-cmdline"]),
        (["-p", "--append=quiet"], ["--initrd"]),
        (["-p", "--reuse-cmdline", "--initrd=INITRD"], []),
        (["-p", "--initrd=INITRD"], ["--append or --reuse-cmdline"]),
        (["-l"], []),
    ],
)
@pytest.mark.parametrize("call", ["-c", "-s"])
def test_a_capture_kernel_rarely_does_without(
    call: str, options: list[str], expected: list[str], written: Written
) -> None:
    initrd = written("initrd", b"\x1f\x8b\x08")
    words = [word.replace("INITRD", str(initrd)) for word in options]
    plan = as_told(snapshot(X86_64), call, *words, written("vmlinuz", KERNEL))
    left_out = [
        each.removeprefix("no ").partition(":")[0] for each in plan.warnings if each.startswith("no --")
    ]
    assert left_out == expected


def test_what_comes_with_a_kernel_is_not_missed(written: Written) -> None:
    path = written("uki.efi", uki(KERNEL, (".initrd", b"\x1f\x8b\x08initrd")))
    assert not any(each.startswith("no --") for each in as_told(snapshot(X86_64), "-c", "-p", path).warnings)


@pytest.mark.parametrize("missing", ["CONFIG_CRASH_DUMP", "CONFIG_PROC_VMCORE", None])
def test_how_a_capture_kernel_was_built(missing: str | None, tmp_path: Path, written: Written) -> None:
    lines = [f"{name}=y" for name in ("CONFIG_CRASH_DUMP", "CONFIG_PROC_VMCORE") if name != missing]
    config = "\n".join([*lines, f"# {missing} is not set", ""])
    machine = unpacked(X86_64, tmp_path / "root", {"boot/config-6.9": config})
    path = written("vmlinuz", named("6.9"))
    warnings = without_what_was_left_out(as_told(machine, "-c", "-p", path).warnings)
    assert [str(missing) in each for each in warnings] == ([True] if missing else [])
    assert as_told(machine, "-c", "-l", path).warnings == ()


def test_a_configuration_in_an_unpacked_kernel(written: Written) -> None:
    config = gzip.compress(b"# CONFIG_CRASH_DUMP is not set\nCONFIG_PROC_VMCORE=y\n", mtime=0)
    image = IMAGE[:4096] + b"IKCFG_ST" + config + b"IKCFG_ED" + IMAGE[4096 + len(config) + 16 :]
    for data in (image, gzip.compress(image, mtime=0)):
        plan = as_told(snapshot(ARM64), "-c", "-p", written("Image", data))
        (warning,) = without_what_was_left_out(plan.warnings)
        assert "CONFIG_CRASH_DUMP" in warning


@pytest.mark.parametrize("bits", [64, 32])
def test_a_vmlinux_is_looked_at_like_any_kernel(bits: int, written: Written) -> None:
    """Its size in memory is that of its segments: what there is to debug it with is not loaded."""
    config = gzip.compress(b"# CONFIG_PROC_VMCORE is not set\n", mtime=0)
    text = b"Linux version 6.1.0 (x@y) IKCFG_ST" + config + b"IKCFG_ED"
    machine = snapshot(X86_64)
    reserved = sum(each.size for each in machine.iomem.crash_regions)

    def warned(memsz: int) -> list[str]:
        loads = [Load(0x1000000, text), Load(0x1200000, b"", memsz)]
        program = Program(loads, 0x1000000, bits=bits, machine=62 if bits == 64 else 3).build()
        kernel = written("vmlinux", program)
        os.truncate(kernel, 2 * reserved)
        warnings = checks.warnings(machine, request_for(kernel, purpose=Purpose.CRASH))
        return without_what_was_left_out(warnings)

    assert [each.partition("CONFIG")[2] for each in warned(1 << 20)] == [
        "_PROC_VMCORE: it will have no /proc/vmcore"
    ]
    assert any("run out of memory" in each for each in warned(reserved))


@pytest.mark.slow
def test_a_reservation_that_is_too_small(written: Written) -> None:
    machine = snapshot(X86_64)
    reserved = sum(each.size for each in machine.iomem.crash_regions)
    small, large = (FakeBzImage(init_size=size).build() for size in (1 << 22, reserved // 2))
    zeros = gzip.compress(bytes(reserved // 2), 1)

    def warned(kernel: bytes, initrd: bytes, purpose: str = "-p") -> bool:
        plan = as_told(machine, "-c", purpose, written("k", kernel), "--initrd", written("i", initrd))
        return any("run out of memory" in each for each in plan.warnings)

    assert not warned(small, zeros)
    big = gzip.compress(os.urandom(reserved // 8) + bytes(reserved // 2 - reserved // 8), 1)
    assert warned(large, big)
    assert not warned(small, big)
    assert not warned(large, big, "-l")


@pytest.mark.parametrize(
    ("line", "expected"),
    [("x", True), ("cma=160M", True), ("cma=0", False), ("swiotlb=noforce", False)],
)
def test_what_is_set_aside_for_devices(line: str, expected: bool, written: Written) -> None:
    """By itself Debian's kernel for loongarch64 sets 192 MiB aside, and was seen to run out of 256."""
    machine = snapshot("qemu-loongarch64-7.2-1g")
    assert sum(each.size for each in machine.iomem.crash_regions) == 256 * MIB
    kernel = written("vmlinux.efi", loongarch64.FakeImage(image_size=45 * MIB).build())
    given = checks.warnings(machine, request_for(kernel, purpose=Purpose.CRASH, append=line))
    assert any("aside for devices" in each for each in given) is expected


# The options


def test_ours_do_not_make_an_abbreviation_ambiguous() -> None:
    """Each prefix means what it meant before there were our options."""
    theirs = [option for option in options.OPTIONS if not option.ours]
    for option in theirs:
        for name in option.names:
            for end in range(3, len(name) + 1 if name.startswith("--") else 0):
                argv = [name[:end], *(["1"] if option.metavar else [])]
                assert outcome(argv, options.OPTIONS) == outcome(argv, theirs)


def outcome(argv: list[str], table: Any) -> object:
    try:
        return vars(optionparser.parse(argv, table))
    except UsageError as error:
        return error.what


@pytest.mark.parametrize(
    ("argv", "field"),
    [
        (["--init", "x"], "initrd"),
        (["--initr", "x"], "initrd"),
        (["--reuse-c"], "reuse_cmdline"),
        (["--entry", "1"], "entry"),
        (["--ent", "1"], None),
        (["--pr"], "print_crash_size"),
        (["--initrd-f", "x"], None),
        (["--add", "x"], None),
    ],
)
def test_abbreviations(argv: list[str], field: str | None) -> None:
    if field is None:
        with pytest.raises(UsageError):
            optionparser.parse(argv)
    else:
        assert field in optionparser.parse(argv).given()


def test_plain_requests_are_left_alone() -> None:
    request = Request(FileData.from_bytes("k", KERNEL), initrd=FileData.from_bytes("i", b"\x1f\x8b\x08"))
    assert checks.is_plain(snapshot(X86_64), request)
    for changes in ({"entry_id": "x"}, {"initrds": (request.kernel,)}, {"profile": "x"}, {"format": "uki"}):
        assert not checks.is_plain(snapshot(X86_64), dataclasses.replace(request, **changes))

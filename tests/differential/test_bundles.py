"""Unified kernel images that ukify and objcopy make, FIT images that mkimage makes: read back."""

import hashlib
import json
import subprocess
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pykexec import formats
from pykexec.errors import ImageError
from pykexec.files import FileData
from pykexec.formats import identify, uki
from tests.support import systemd
from tests.support.arm64_image import FakeImage
from tests.support.bzimage import FakeBzImage
from tools.lab import ARM64, X86_64, Arch, Kernel


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def compiled(path: Path, *compatible: str) -> Path:
    """A device tree blob, by dtc."""
    names = ", ".join(f'"{each}"' for each in compatible)
    source = f"/dts-v1/; / {{ compatible = {names}; }};".encode()
    subprocess.run(["dtc", "-q", "-I", "dts", "-O", "dtb", "-o", path], input=source, check=True)
    return path


def opened(path: Path, choice: str | None = None, **more: Any) -> formats.Bundle:
    return formats.open_bundle(FileData.open(path, "kernel"), choice, **more)


def contents(found: formats.Bundle) -> list[bytes]:
    return [bytes(each) for each in found.initrds]


@pytest.fixture
def parts(tmp_path: Path) -> dict[str, Path]:
    """Small ones, of sizes that need padding."""
    files = {
        "bzImage": FakeBzImage().build() + b"end",
        "Image": FakeImage(size=0x1001).build(),
        "initrd": b"initrd" * 500 + b"!",
        "second": b"second" * 300 + b"?",
        "ucode": b"microcode",
    }
    return {name: written(tmp_path / name, data) for name, data in files.items()}


def ukify(output: Path, efi: str, *arguments: str | Path) -> Path:
    stub = systemd.stub(f"linux{efi}")
    systemd.ukify("build", "--efi-arch", efi, "--stub", stub, *arguments, "--output", output)
    return output


@pytest.mark.parametrize(("arch", "efi"), [(X86_64, "x64"), (ARM64, "aa64")], ids=["x86_64", "arm64"])
def test_ukify(arch: Arch, efi: str, parts: dict[str, Path], tmp_path: Path) -> None:
    kernel = Kernel.get("6.1", arch)
    trees = [compiled(tmp_path / name, f"board,{name}", "soc,x") for name in ("a", "b")]
    any_tree = compiled(tmp_path / "any", "any,board")
    image = ukify(
        tmp_path / "uki.efi",
        efi,
        *("--linux", kernel.image, "--initrd", parts["initrd"], "--initrd", parts["second"]),
        *("--microcode", parts["ucode"], "--devicetree", any_tree),
        *("--devicetree-auto", trees[0], "--devicetree-auto", trees[1]),
        *("--cmdline", "root=/dev/vda1 quiet", "--uname", kernel.release),
        *("--os-release", 'ID=debian\nPRETTY_NAME="Debian 12"\n'),
    )
    found = opened(image, compatible=["board,b", "soc,x"])
    assert bytes(found.kernel) == kernel.image.read_bytes()
    first, second = parts["initrd"].read_bytes(), parts["second"].read_bytes()
    joined = first + bytes(-len(first) % 4) + second
    assert contents(found) == [parts["ucode"].read_bytes(), joined + bytes(-len(joined) % 4)]
    assert (found.command_line, found.release) == ("root=/dev/vda1 quiet", kernel.release)
    assert bytes(found.device_tree or b"") == trees[1].read_bytes()
    assert bytes(opened(image).device_tree or b"") == any_tree.read_bytes()
    parsed = uki.parse("uki", memoryview(image.read_bytes()))
    assert uki.properties(parsed.text(".osrel") or "")["PRETTY_NAME"] == "Debian 12"
    assert (parsed.text(".sbat") or "").startswith("sbat,1,")
    assert parsed.machine_name == {"x64": "x86_64", "aa64": "arm64"}[efi]


def test_every_section_is_what_ukify_says(parts: dict[str, Path], tmp_path: Path) -> None:
    options = ("--cmdline", "quiet", "--uname", "6.1", "--os-release", "ID=x", "--microcode", parts["ucode"])
    image = ukify(
        tmp_path / "uki", "x64", "--linux", parts["bzImage"], "--initrd", parts["initrd"], *options
    )
    says: Mapping[str, Any] = json.loads(systemd.ukify("inspect", image, "--json=short"))
    parsed = uki.parse("uki", memoryview(image.read_bytes()))
    for name in (".linux", ".initrd", ".cmdline", ".uname", ".osrel", ".ucode", ".sbat"):
        section = parsed.section(name)
        assert section is not None
        assert section.nbytes == says[name]["size"]
        assert hashlib.sha256(section).hexdigest() == says[name]["sha256"], name


def test_profiles(parts: dict[str, Path], tmp_path: Path) -> None:
    profile = tmp_path / "reset.efi"
    text = 'ID=reset\nTITLE="Factory reset"'
    options = ("--profile", text, "--cmdline", "reset quiet", "--output", profile)
    systemd.ukify("build", "--stub", systemd.stub("addonx64"), *options)
    base = ("--linux", parts["bzImage"], "--initrd", parts["initrd"], "--cmdline", "base", "--uname", "6.1")
    image = ukify(tmp_path / "uki.efi", "x64", *base, "--join-profile", profile)
    parsed = uki.parse("uki", memoryview(image.read_bytes()))
    assert [str(each) for each in parsed.profiles] == ["@0 (main)", "@1 (reset)"], "ukify names the first"
    lines = {choice: opened(image, choice).command_line for choice in (None, "main", "@1", "Factory reset")}
    assert lines == {None: "base", "main": "base", "@1": "reset quiet", "Factory reset": "reset quiet"}
    for choice in ("main", "reset"):
        found = opened(image, choice)
        assert bytes(found.kernel) == parts["bzImage"].read_bytes()
        assert contents(found)[0].rstrip(b"\0") == parts["initrd"].read_bytes()


def test_addons(parts: dict[str, Path], tmp_path: Path) -> None:
    image = ukify(
        tmp_path / "uki.efi", "x64", "--linux", parts["bzImage"], "--cmdline", "base", "--uname", "6.1"
    )
    files = []
    for name, more in (
        ("a", ("--cmdline", "first")),
        ("b", ("--cmdline", "second", "--initrd", parts["initrd"])),
        ("c", ("--cmdline", "third", "--uname", "6.2")),
    ):
        addon = tmp_path / f"{name}.addon.efi"
        systemd.ukify("build", "--stub", systemd.stub("addonx64"), *more, "--output", addon)
        files.append(FileData.open(addon, "add-on"))
    found = opened(image, addons=files)
    assert found.command_line == "base first second"
    assert contents(found)[0].rstrip(b"\0") == parts["initrd"].read_bytes()
    assert [note.partition(" is left out")[0] for note in found.notes] == [str(tmp_path / "c.addon.efi")]
    assert identify.describe(files[0].data) == "an add-on of a unified kernel image for x86_64"


def test_objcopy(parts: dict[str, Path], tmp_path: Path) -> None:
    """How they were made before there was ukify; here .osrel comes before the stub's own sections."""
    line = written(tmp_path / "cmdline", b"quiet ro\n")
    sections = {".osrel": line, ".cmdline": line, ".initrd": parts["initrd"], ".linux": parts["bzImage"]}
    start = 0x20000000000
    command: list[str | Path] = ["objcopy"]
    for number, (name, path) in enumerate(sections.items()):
        command += ["--add-section", f"{name}={path}"]
        command += ["--change-section-vma", f"{name}={start + number * 0x10000000:#x}"]
    subprocess.run(
        [*command, systemd.stub("linuxx64"), tmp_path / "uki.efi"], capture_output=True, check=False
    )
    found = opened(tmp_path / "uki.efi")
    assert bytes(found.kernel) == parts["bzImage"].read_bytes()
    assert contents(found) == [parts["initrd"].read_bytes()]
    assert found.command_line == "quiet ro"


_ITS = """/dts-v1/;
/ {{
    description = "test";
    #address-cells = <1>;
    images {{
        kernel-1 {{
            data = /incbin/("{kernel}");
            type = "kernel"; arch = "{arch}"; os = "linux"; compression = "{compression}";
            load = <0x80000>; entry = <0x80000>;
            {hashes}
        }};
        other {{
            data = /incbin/("{second}");
            type = "kernel"; arch = "{arch}"; os = "linux"; compression = "none"; load = <0>; entry = <0>;
        }};
        ramdisk-1 {{
            data = /incbin/("{initrd}");
            type = "ramdisk"; arch = "{arch}"; os = "linux"; compression = "none";
            hash-1 {{ algo = "sha256"; }};
        }};
        fdt-1 {{
            data = /incbin/("{tree}");
            type = "flat_dt"; arch = "{arch}"; compression = "none";
            hash-1 {{ algo = "crc32"; }};
        }};
    }};
    configurations {{
        default = "conf-1";
        conf-2 {{ kernel = "other"; }};
        conf-1 {{ kernel = "kernel-1"; ramdisk = "ramdisk-1"; fdt = "fdt-1"; }};
    }};
}};
"""


def mkimage(
    folder: Path, parts: Mapping[str, Path], *options: str, arch: str = "arm64", **values: str
) -> Path:
    tree = compiled(folder / "tree.dtb", "a,board")
    hashes = "".join(
        f'hash-{i} {{ algo = "{name}"; }};' for i, name in enumerate(("sha256", "sha1", "crc32", "md5"))
    )
    known = {"kernel": parts["Image"], "second": parts["second"], "initrd": parts["initrd"], "tree": tree}
    source = _ITS.format(**{**known, "arch": arch, "compression": "none", "hashes": hashes, **values})
    written(folder / "image.its", source.encode())
    command: list[str | Path] = ["mkimage", *options, "-f", folder / "image.its", folder / "image.itb"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder / "image.itb"


@pytest.mark.parametrize(
    "options", [(), ("-E",), ("-E", "-B", "0x1000"), ("-E", "-p", "0x3000")], ids=["inside", "E", "B", "p"]
)
def test_mkimage(options: tuple[str, ...], parts: dict[str, Path], tmp_path: Path) -> None:
    """With data inside, behind the tree, behind it aligned, and at a position of its own."""
    image = mkimage(tmp_path, parts, *options)
    found = opened(image)
    assert bytes(found.kernel) == parts["Image"].read_bytes()
    assert contents(found) == [parts["initrd"].read_bytes()]
    assert bytes(found.device_tree or b"") == (tmp_path / "tree.dtb").read_bytes()
    assert (found.format, found.notes) == ("FIT image, configuration conf-1", ())
    assert bytes(opened(image, "conf-2").kernel) == parts["second"].read_bytes()
    assert identify.describe(FileData.open(image, "kernel").data) == "a FIT image"


@pytest.mark.parametrize("options", [(), ("-E",)], ids=["inside", "E"])
@pytest.mark.parametrize("part", ["Image", "initrd"])
def test_mkimage_s_hashes_find_damage(
    options: tuple[str, ...], part: str, parts: dict[str, Path], tmp_path: Path
) -> None:
    image = mkimage(tmp_path, parts, *options)
    data = bytearray(image.read_bytes())
    at = data.find(parts[part].read_bytes())
    data[at + 1000] ^= 1
    written(image, bytes(data))
    with pytest.raises(ImageError, match=r"/images/\w+-1: damaged: its sha256 is another"):
        opened(image)


@pytest.mark.parametrize(
    ("compression", "command"),
    [
        ("gzip", ["gzip", "-9"]),
        ("bzip2", ["bzip2"]),
        ("lzma", ["xz", "--format=lzma"]),
        ("lz4", ["lz4", "-q"]),
        ("zstd", ["zstd", "-q"]),
    ],
)
def test_compressed_kernel(
    compression: str, command: list[str], parts: dict[str, Path], tmp_path: Path
) -> None:
    packed = subprocess.run([*command, "-c", parts["Image"]], check=True, stdout=subprocess.PIPE).stdout
    image = mkimage(
        tmp_path, parts, kernel=str(written(tmp_path / "packed", packed)), compression=compression
    )
    assert bytes(opened(image).kernel) == parts["Image"].read_bytes()


def test_a_fit_of_a_hundred_mib_is_not_copied(parts: dict[str, Path], tmp_path: Path) -> None:
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.write(b"initrd")
        file.truncate(100 << 20)
    found = opened(mkimage(tmp_path, parts, initrd=str(large)))
    assert found.initrds[0].nbytes == 100 << 20
    assert zlib.crc32(found.initrds[0]) == zlib.crc32(large.read_bytes())

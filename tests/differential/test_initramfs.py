"""What we put together, read by cpio(1); what cpio(1) and the compressors make, looked at by us."""

import subprocess
from pathlib import Path

import pytest

from pykexec import initramfs
from pykexec.initramfs import Addition, Kind
from tools.lab import cpio

COMPRESSORS = {
    "gzip": ["gzip", "-9"],
    "bzip2": ["bzip2"],
    "xz": ["xz", "--check=crc32", "-T2", "--block-size=65536"],  # several blocks
    "lzma": ["xz", "--format=lzma"],
    "zstd": ["zstd", "-q", "-19"],
    "lz4": ["lz4", "-q", "-l"],
}


def gnu_cpio(folder: Path) -> bytes:
    """What mkinitramfs and dracut do: all below that folder."""
    command = "find . -mindepth 1 | sort | cpio --quiet -o -H newc"
    return subprocess.run(command, shell=True, cwd=folder, check=True, stdout=subprocess.PIPE).stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    main = tmp_path / "main"
    (main / "usr/bin").mkdir(parents=True)
    (main / "bin").symlink_to("usr/bin")
    (main / "usr/bin/tool").write_bytes(bytes(range(256)) * 1000)
    (main / "usr/bin/other").write_bytes(b"\0" * 300000)
    early = tmp_path / "early/kernel/x86/microcode"
    early.mkdir(parents=True)
    (early / "GenuineIntel.bin").write_bytes(b"microcode" * 100)
    return tmp_path


def unpacked(archive: bytes, into: Path) -> dict[str, tuple[int, bytes]]:
    """By cpio(1): names to modes and contents of files."""
    into.mkdir()
    subprocess.run(["cpio", "--quiet", "-id"], cwd=into, input=archive, check=True)
    files = [path for path in into.rglob("*") if path.is_file()]
    return {str(path.relative_to(into)): (path.stat().st_mode & 0o7777, path.read_bytes()) for path in files}


def test_cpio_reads_what_is_put_in(tmp_path: Path) -> None:
    added = [
        Addition("etc/deep/er/file", memoryview(b"one"), 0o600),
        Addition("init", memoryview(b"#!/bin/sh\n"), 0o755),
        Addition("größe", memoryview(bytes(5000))),
    ]
    assert unpacked(initramfs.newc(added), tmp_path / "out") == {
        "etc/deep/er/file": (0o600, b"one"),
        "init": (0o755, b"#!/bin/sh\n"),
        "größe": (0o644, bytes(5000)),
    }


def test_empty(tmp_path: Path) -> None:
    assert unpacked(initramfs.empty(), tmp_path / "out") == {}
    # GNU cpio's own differs in the number of links of the end mark at most.
    (tmp_path / "none").mkdir()
    assert len(gnu_cpio(tmp_path / "none")) == len(initramfs.empty())


def test_cpio_finds_one_archive_after_the_other(folder: Path) -> None:
    """It reads in blocks, and leaves the rest to the next one."""
    main, early = gnu_cpio(folder / "main"), gnu_cpio(folder / "early")
    short = cpio.archive([cpio.file("short", "x")])
    joined = folder / "joined.img"
    parts = [memoryview(each) for each in (short, main, early)]
    joined.write_bytes(initramfs.assemble(parts, [Addition("last", memoryview(b"x"))]))
    command = "for i in 1 2 3 4; do echo $i; cpio -it --quiet; done < joined.img"
    output = subprocess.run(
        ["bash", "-c", command], cwd=folder, check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    microcode = ["kernel", "kernel/x86", "kernel/x86/microcode", "kernel/x86/microcode/GenuineIntel.bin"]
    ours = ["bin", "usr", "usr/bin", "usr/bin/other", "usr/bin/tool"]
    assert output.split() == ["1", *microcode, "2", "short", "3", *ours, "4", "last"]


@pytest.mark.parametrize("name", COMPRESSORS)
@pytest.mark.parametrize("early", [False, True], ids=["plain", "early"])
def test_inspect(name: str, early: bool, folder: Path) -> None:
    main, first = gnu_cpio(folder / "main"), gnu_cpio(folder / "early")
    (folder / "archive").write_bytes(main)
    command: list[str | Path] = [*COMPRESSORS[name], "-c", folder / "archive"]
    packed = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    found = initramfs.inspect(memoryview((first if early else b"") + packed))
    assert found.kind is (Kind.CPIO if early else Kind.COMPRESSED)
    assert (found.compression, found.has_early_files, found.warning) == (name, early, None)
    tells = name in ("gzip", "xz", "zstd")
    assert found.unpacked == (len(main) + (4096 if early else 0) if tells else None)


def test_inspect_a_plain_archive(folder: Path) -> None:
    found = initramfs.inspect(memoryview(gnu_cpio(folder / "main")))
    assert (found.kind, found.description, found.warning) == (Kind.CPIO, "cpio archive", None)
    sizes = [
        path.lstat().st_size for path in (folder / "main").rglob("*") if path.is_symlink() or path.is_file()
    ]
    assert found.unpacked == sum(-(-size // 4096) * 4096 for size in sizes)

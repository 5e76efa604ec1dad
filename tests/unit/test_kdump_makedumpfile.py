"""Which makedumpfile reads which kernel: real kernels' VMCOREINFO, and Debian's programs."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from pykexec.kdump import makedumpfile
from pykexec.kdump.config.settings import Collector
from pykexec.kdump.makedumpfile import Effect, Kernel, Program
from pykexec.machine import Machine
from tests.support.machines import FOLDER

_REAL = {
    name: makedumpfile.running(Machine.from_snapshot(FOLDER / f"qemu-{name}.tar"))
    for name in ("5.10-1g", "6.1-1g", "7.2-1g", "arm64-6.1-1g", "arm64-7.2-6g-high-low")
}
_OF_7_2 = dict(_REAL["7.2-1g"].vmcoreinfo)
# Linux 6.12 differs from 7.2 in what decides here by the name that 7.1 changed, and by what came with 6.16.
_6_12 = Kernel(
    "x86_64",
    "6.12.117+deb13-cloud-amd64",
    {
        name.replace("compound_info", "compound_head"): value
        for name, value in _OF_7_2.items()
        if "UNACCEPTED" not in name
    },
)
# mm/page-flags.h of 6.10: types of pages are bits that are cleared.
_6_10 = replace(
    _6_12,
    release="6.10.3",
    vmcoreinfo={
        **_6_12.vmcoreinfo,
        "NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)": "-129",
        "NUMBER(PAGE_SLAB_MAPCOUNT_VALUE)": "-4097",
    },
)
# Debian's, saved by its 1.7.8 with -d 31, lacked a quarter of the pages of slabs.
_RISCV64_6_12 = replace(_6_12, arch="riscv64", release="6.12.117+deb13-riscv64")


def release(version: str) -> Program:
    found = makedumpfile.packaged(version)
    assert found is not None
    return found


# Of 6.12 and 7.2 seen with crash and drgn on dumps made so; of arm64 by makedumpfile's own message.
@pytest.mark.parametrize(
    ("kernel", "version", "level", "effect"),
    [
        (_REAL["6.1-1g"], "1.7.2", 31, None),
        (_REAL["5.10-1g"], "1.6.8", 31, None),
        (_REAL["6.1-1g"], "1.6.8", 31, Effect.UNREADABLE),
        (_6_12, "1.7.2", 31, Effect.LOST),
        (_6_12, "1.7.2", 23, Effect.GROWS),
        (_6_12, "1.7.2", 1, None),
        (_6_12, "1.7.5", 31, Effect.LOST),
        (_6_12, "1.7.6", 31, Effect.GROWS),
        (_6_12, "1.7.6", 8, None),
        (_6_12, "1.7.7", 31, None),
        (_6_10, "1.7.6", 31, None),
        (_6_10, "1.7.5", 31, Effect.LOST),
        (_REAL["7.2-1g"], "1.7.2", 31, Effect.LOST),
        (_REAL["7.2-1g"], "1:1.7.8-1", 31, Effect.LOST),
        (_REAL["7.2-1g"], "1.7.9", 31, Effect.LOST),
        (_REAL["7.2-1g"], "1.7.9", 16, Effect.LOST),
        (_REAL["7.2-1g"], "1.7.9", 1, None),
        (_REAL["7.2-1g"], "1.8", 31, None),
        (_REAL["arm64-6.1-1g"], "1.7.2", 31, None),
        (_REAL["arm64-7.2-6g-high-low"], "1.7.8", 31, Effect.UNREADABLE),
        (_REAL["arm64-7.2-6g-high-low"], "1.7.9", 0, Effect.UNREADABLE),
        (_REAL["arm64-7.2-6g-high-low"], "1.8.0", 31, None),
        (_RISCV64_6_12, "1.7.8", 31, Effect.LOST),
        (_RISCV64_6_12, "1.7.9", 8, Effect.LOST),
        (_RISCV64_6_12, "1.7.9", 1, None),
        (_RISCV64_6_12, "1.8.0", 31, None),
        (replace(_RISCV64_6_12, release="6.7.12"), "1.7.8", 31, None),
    ],
)
def test_pairs(kernel: Kernel, version: str, level: int, effect: Effect | None) -> None:
    found = makedumpfile.fit(release(version), kernel)
    need = found.worst(level)
    assert (need and need.effect) == effect
    assert found.is_safe(level) == (effect in (None, Effect.GROWS))


@pytest.mark.parametrize(
    ("version", "effect"),
    [("1.7.2", Effect.LOST), ("1.7.5", Effect.LOST), ("1.7.6", Effect.GROWS), ("1.7.8", None)],
)
def test_without_vmcoreinfo_the_release_decides(version: str, effect: Effect | None) -> None:
    found = makedumpfile.fit(release(version), Kernel("x86_64", "6.12.1"))
    need = found.worst(31)
    assert (need and need.effect) == effect


def test_a_change_that_a_distribution_took_over_to_an_older_kernel() -> None:
    lines = {**_REAL["6.1-1g"].vmcoreinfo, "NUMBER(PAGE_SLAB_MAPCOUNT_VALUE)": "-4097"}
    kernel = Kernel("x86_64", "5.14.0-999.el9", lines)
    assert makedumpfile.fit(release("1.7.5"), kernel).worst(31) is not None
    assert makedumpfile.fit(release("1.7.6"), kernel).worst(31) is None


def test_what_cannot_be_told() -> None:
    """A build between releases, a program without a version, a kernel of the future, and one unknown."""
    seven = _REAL["7.2-1g"]
    between = makedumpfile.program_in(b"\0makedumpfile: version 1.7.9++ (released on 20 Apr 2026)\n\0")
    assert between is not None
    assert not between.is_release
    only_its_version = replace(between, content=None)
    for program, kernel in (
        (only_its_version, seven),
        (Program((), "of unknown version", is_release=False), seven),
        (release("1.8.0"), replace(seven, release="9.1.0")),
        (release("1.8.0"), Kernel("x86_64", "")),
    ):
        found = makedumpfile.fit(program, kernel)
        assert found.worst(31) is None
        assert not found.is_safe(31)
        assert "cannot be told" in (makedumpfile.warning(Collector(("makedumpfile", "-d31")), found) or "")
        assert makedumpfile.safe(Collector(("makedumpfile", "-d31")), found).dump_level == 31
    assert makedumpfile.fit(only_its_version, _6_12).is_safe(31), "older commits are in every later build"
    for arch in ("arm64", "arm64be"):
        found = makedumpfile.fit(release("1.7.9"), Kernel(arch, "6.12.1"))
        assert not found.is_safe(1), "addresses may have 52 bits"


def test_unaccepted_memory() -> None:
    """A machine that is not confidential has none, whatever its kernel could do."""
    needs = [
        makedumpfile.fit(release("1.7.7"), replace(_REAL["7.2-1g"], has_unaccepted=has)).missing
        for has in (False, True)
    ]
    assert len(needs[1]) == len(needs[0]) + 1


@pytest.mark.parametrize(
    ("version", "numbers", "is_release"),
    [
        ("1:1.7.6-1", (1, 7, 6), True),
        ("1.7.6+ds-1ubuntu0.1~24.04", (1, 7, 6), True),
        ("1.7.9+git20260601-1", (1, 7, 9), False),
        ("1.8", (1, 8, 0), True),
    ],
)
def test_versions_of_packages(version: str, numbers: tuple[int, ...], is_release: bool) -> None:
    found = release(version)
    assert (found.version, found.is_release) == (numbers, is_release)


@pytest.mark.parametrize("version", ["", "x", "1.8.0~rc1-1", "1"])
def test_no_version(version: str) -> None:
    assert makedumpfile.packaged(version) is None


def test_a_program_that_has_taken_a_commit_over() -> None:
    """The names that it looks for tell more than its version."""
    old = b"makedumpfile: version 1.7.9 (released\0"
    patched = old + b"OFFSET(page.compound_info)=\0"
    assert not makedumpfile.fit(makedumpfile.program_in(old), _REAL["7.2-1g"]).is_safe(31)
    assert makedumpfile.fit(makedumpfile.program_in(patched), _REAL["7.2-1g"]).is_safe(31)
    between = makedumpfile.program_in(patched.replace(b"1.7.9", b"1.7.9++"))
    assert makedumpfile.fit(between, _REAL["7.2-1g"]).is_safe(31)


@pytest.mark.programs
def test_debians_own_program() -> None:
    """Version and names are found in the file as the program and its version say."""
    said = subprocess.run(["makedumpfile", "-v"], capture_output=True, text=True, check=True).stdout
    program = makedumpfile.installed()
    assert program is not None
    assert program.content is not None
    assert f"version {program.shown} (" in said
    by_version = replace(program, content=None)
    for kernel in (*_REAL.values(), _6_12, _6_10):
        if kernel.arch != "arm64":  # whose names are in arm64's programs only
            both = [makedumpfile.fit(each, kernel) for each in (program, by_version)]
            assert both[0].missing == both[1].missing


# What is done about it


@pytest.mark.parametrize(
    ("words", "version", "safe"),
    [
        ("makedumpfile -l --message-level 7 -d 31", "1.7.2", "makedumpfile -l --message-level 7 -d 1"),
        ("makedumpfile -d31 -c", "1.7.2", "makedumpfile -c -d 1"),
        ("makedumpfile -ld 31", "1.7.2", "makedumpfile -ld 31 -d 1"),
        ("makedumpfile -lcd31", "1.7.2", "makedumpfile -lcd31 -d 1"),
        ("/usr/sbin/makedumpfile -d 31,1 -F", "1.7.2", "/usr/sbin/makedumpfile -F -d 1"),
        ("makedumpfile -l -d 17", "1.7.2", "makedumpfile -l -d 17"),
        ("makedumpfile -l", "1.7.2", "makedumpfile -l"),
        ("cp", "1.7.2", "cp"),
        ("makedumpfile -l -d 31", "1.7.6", "makedumpfile -l -d 31"),
        ("makedumpfile -l -d 31", "1.7.8", "makedumpfile -l -d 31"),
    ],
)
def test_what_is_safe_on_6_12(words: str, version: str, safe: str) -> None:
    collector = Collector(tuple(words.split()), compress_with="gzip")
    found = makedumpfile.safe(collector, makedumpfile.fit(release(version), _6_12))
    assert found.words == tuple(safe.split())
    assert found.compress_with == "gzip"
    assert found.is_known_to_fit == (words != "cp")


def _built(**compressions: str) -> Program:
    """A program that says so with -v."""
    lines = "".join(f"{name}\t{built}\n\0" for name, built in compressions.items())
    found = makedumpfile.program_in(f"\0makedumpfile: version 1.8.0 (released\0{lines}".encode())
    assert found is not None
    return found


_LZO = _built(lzo="enabled", snappy="disabled", zstd="disabled")
_ZLIB = _built(lzo="disabled", snappy="disabled", zstd="disabled")
_ALL = _built(lzo="enabled", snappy="enabled", zstd="enabled")


@pytest.mark.parametrize(
    ("words", "program", "safe"),
    [
        ("-z -d 31", _ALL, "-z -d 31"),
        ("-z -d 31", release("1.8.0"), "-z -d 31"),
        ("-z -d 31", _LZO, "-l -d 31"),
        ("-zd 31", _LZO, "-ld 31"),
        ("-pd31 --message-level 7", _LZO, "-ld31 --message-level 7"),
        ("-zd 31", _ZLIB, "-cd 31"),
        ("-l -d 31", _ZLIB, "-c -d 31"),
        ("-cF -d 31", _ZLIB, "-cF -d 31"),
        ("-d 31 -x/z --non-mmap -i lz", _ZLIB, "-d 31 -x/z --non-mmap -i lz"),
    ],
)
def test_a_compression_that_is_not_built_in(words: str, program: Program, safe: str) -> None:
    """Without it makedumpfile would not compress, and only say so."""
    collector = Collector(("makedumpfile", *words.split()))
    found = makedumpfile.fit(program, _REAL["arm64-6.1-1g"])
    assert makedumpfile.safe(collector, found).words == ("makedumpfile", *safe.split())
    said = makedumpfile.compression_warning(collector, found)
    assert (said is None) == (words == safe)
    others = makedumpfile.compression_warning(collector, found, own_image=False)
    assert (others or "the dump is not compressed").endswith("the dump is not compressed")


def test_what_is_said_of_a_compression() -> None:
    collector = Collector(("makedumpfile", "-z", "-d", "31"))
    assert makedumpfile.compression_warning(collector, makedumpfile.fit(_LZO, _6_12)) == (
        "makedumpfile 1.8.0 was built without zstd: the dump is compressed with lzo instead (-l)"
    )


@pytest.mark.programs
def test_what_debians_own_program_can_do() -> None:
    """As it says, and shows, itself."""
    said = subprocess.run(["makedumpfile", "-v"], capture_output=True, text=True, check=True).stdout
    found = makedumpfile.fit(makedumpfile.installed(), _REAL["6.1-1g"])
    for letter, name in (("l", "lzo"), ("p", "snappy"), ("z", "zstd")):
        collector = Collector(("makedumpfile", f"-{letter}"))
        warned = makedumpfile.compression_warning(collector, found)
        assert (warned is None) == (f"{name}\tenabled" in said)
    command = ["makedumpfile", "-L", "5K", "--check-params", "/proc/vmcore", "dump"]
    takes_limit = subprocess.run(command, capture_output=True, check=False).returncode == 0
    assert makedumpfile.safe(Collector(("makedumpfile",)), found).has_limit == takes_limit


@pytest.mark.parametrize(
    ("words", "version", "smaller"),
    [("-d 1", "1.7.8", True), ("", "1.7.8", True), ("-d 31", "1.7.8", False), ("-d 1", "1.7.2", False)],
)
def test_a_smaller_dump_loses_nothing_either(words: str, version: str, smaller: bool) -> None:
    collector = Collector(("makedumpfile", *words.split()))
    assert makedumpfile.safe(collector, makedumpfile.fit(release(version), _6_12)).has_smaller == smaller


def test_what_cannot_be_read_is_copied() -> None:
    collector = Collector(("makedumpfile", "-l", "-d", "31"))
    found = makedumpfile.fit(release("1.7.9"), _REAL["arm64-7.2-6g-high-low"])
    assert makedumpfile.safe(collector, found).words == ("cp",)
    assert "all of memory is copied" in (makedumpfile.warning(collector, found) or "")


@pytest.mark.parametrize(
    ("version", "says"),
    [
        (
            "1.7.2",
            "makedumpfile 1.7.2 is too old for this kernel (Linux 6.10: slab became a type of page: takes"
            " makedumpfile 1.7.6 (commit bad2a7c)): pages that are needed would be missing",
        ),
        ("1.7.6", "makedumpfile 1.7.6 is too old for this kernel (Linux 6.12: "),
        ("1.7.8", None),
    ],
)
def test_what_start_says(version: str, says: str | None) -> None:
    found = makedumpfile.fit(release(version), _6_12)
    said = makedumpfile.warning(Collector(("makedumpfile", "-l", "-d", "31")), found)
    assert (said is None) == (says is None)
    assert (said or "").startswith(says or "")
    assert makedumpfile.warning(Collector(("cp",)), found) is None


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    """Nothing is known of it, and nothing said: whoever makes an image says that it is not there."""
    assert makedumpfile.installed(str(tmp_path / "none")) is None
    found = makedumpfile.fit(None, _6_12)
    assert not found.is_safe(31)
    assert makedumpfile.warning(Collector(("makedumpfile", "-d", "31")), found) is None


def test_a_program_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "makedumpfile"
    path.write_bytes(b"#!/bin/sh\n")
    path.chmod(0o755)
    found = makedumpfile.fit(makedumpfile.installed(str(path)), _6_12)
    assert not found.is_safe(31)
    assert found.worst(31) is None
    path.write_bytes(b"\0makedumpfile: version 1.7.6 (released")
    assert makedumpfile.fit(makedumpfile.installed(str(path)), _6_12).is_safe(31)

"""The files that a load takes are enough, and the generators' own programs put them into an initramfs."""

import ast
import dataclasses
import json
import os
import platform
import re
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pykexec import cli
from pykexec.errors import FileError, PykexecError, UsageError
from pykexec.integration import __main__ as command
from pykexec.integration import alternatives as links
from pykexec.integration import files, imports, install, libraries, steps
from pykexec.integration.files import Entry, Kind
from tests.support import generators
from tests.support.arm64_image import FakeImage
from tests.support.bzimage import FakeBzImage
from tests.support.effort import examples
from tests.support.machines import FOLDER

pytestmark = pytest.mark.programs

ARCHES = ("x86_64", "arm64")
KERNELS = {"x86_64": FakeBzImage().build, "arm64": FakeImage().build}
MACHINES = {"x86_64": "qemu-6.1-1g.tar", "arm64": "qemu-arm64-6.1-1g.tar"}
PLANS = {
    "boot": ["-l", "/kernel", "--initrd=/initrd", "--append=console=ttyS0"],
    "crash": ["-p", "/kernel", "--initrd=/initrd", "--reuse-cmdline"],
    "file load": ["-s", "-l", "/kernel", "--append=quiet"],
    "debug": ["-d", "-l", "/kernel"],
    "packed": ["-l", "/kernel.gz"],
    "packed with zstd": ["-l", "/kernel.zst"],
    "packed with lz4": ["-l", "/kernel.lz4"],
    "packed with lz4, as kernels are": ["-l", "/kernel.legacy.lz4"],
    "no kernel": ["-l", "/initrd"],
    "usage": ["-l", "-u"],
}


@pytest.fixture(scope="session")
def entries() -> Mapping[str, Sequence[Entry]]:
    return {arch: files.python(arch) for arch in ARCHES}


def run(
    command: Sequence[str | Path], *, status: int = 0, env: Mapping[str, str] | None = None
) -> tuple[str, str]:
    """Standard output and standard error."""
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **(env or {})}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=300, env=environment, cwd="/"
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout, done.stderr


def in_root(root: Path, *words: str | Path) -> list[str | Path]:
    """A command that sees nothing but that root."""
    namespace = [] if os.geteuid() == 0 else ["/usr/bin/unshare", "--map-root-user"]
    return [*namespace, "/usr/sbin/chroot", root, *words]


@pytest.fixture(scope="module", params=ARCHES)
def tree(
    request: pytest.FixtureRequest,
    entries: Mapping[str, Sequence[Entry]],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[str, Path]:
    """An architecture, and a root with the files to plan for it, a kernel and the facts of a machine."""
    arch: str = request.param
    root = tmp_path_factory.mktemp(arch)
    files.copy(entries[arch], root)
    (root / "kernel").write_bytes(KERNELS[arch]())
    (root / "initrd").write_bytes(bytes(range(256)) * 64)
    run(["gzip", "-k", "-S", ".gz", root / "kernel"])
    run(["zstd", "-q", root / "kernel"])
    run(["lz4", "-q", root / "kernel", root / "kernel.lz4"])
    run(["lz4", "-q", "-l", root / "kernel", root / "kernel.legacy.lz4"])
    shutil.copy(FOLDER / MACHINES[arch], root / "machine.tar")
    return arch, root


@pytest.mark.parametrize("plan", PLANS)
def test_a_plan_made_with_these_files_alone(
    plan: str, tree: tuple[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """It is the plan that the whole installation makes, down to the digest of each segment."""
    _, root = tree
    words = [*PLANS[plan], "--machine=/machine.tar", "--json"]
    alone = subprocess.run(
        in_root(root, "/usr/sbin/kexec", *words), capture_output=True, text=True, check=False, env={}
    )
    outside = [word.replace("=/", f"={root}/") if word.startswith("--") else word for word in words]
    outside = [f"{root}{word}" if word.startswith("/") else word for word in outside]
    status = cli.exit_code(outside)
    whole = capsys.readouterr()
    assert alone.returncode == status
    assert alone.stdout == whole.out.replace(str(root), "")
    assert alone.stderr == whole.err.replace(str(root), "")


def test_what_else_the_command_does(tree: tuple[str, Path]) -> None:
    _, root = tree
    for words in (["--help"], ["--version"], ["-h"]):
        assert run(in_root(root, "/usr/sbin/pykexec", *words))[1] == ""
    # No /sys is there to say.
    run(in_root(root, "/usr/sbin/pykexec", "-S"), status=255)
    told = run(in_root(root, "/usr/sbin/pykexec", "-u", "-e"), status=1)[1]
    assert told.startswith("pykexec: -u and -e cannot go together\n"), told


def test_nothing_is_looked_for_outside_of_the_list(tree: tuple[str, Path], tmp_path: Path) -> None:
    """No import fails or is searched for elsewhere: strace sees each file that is opened."""
    _, root = tree
    words = [*PLANS["crash"], "--machine=/machine.tar", "--dry-run"]
    trace = tmp_path / "trace"
    strace = ["strace", "-f", "-qq", "-e", "trace=open,openat", "-o", str(trace)]
    run([*strace, *in_root(root, "/usr/sbin/kexec", *words)])
    opened = re.findall(r'open(?:at)?\((?:AT_FDCWD, )?"(/[^"]+\.pyc?)".*= (-?\d+)', trace.read_text())
    assert opened
    assert [path for path, result in opened if result == "-1"] == []


def test_other_architectures_stay_out(entries: Mapping[str, Sequence[Entry]]) -> None:
    for arch, other in (("x86_64", "arm64"), ("arm64", "x86_64")):
        paths = [entry.path for entry in entries[arch]]
        assert any(f"/arch/{arch}/" in path for path in paths)
        assert not any(f"/arch/{other}/" in path or f"{other}.elf" in path for path in paths)


def test_small(entries: Mapping[str, Sequence[Entry]]) -> None:
    """Of the order of the interpreter itself; OpenSSL alone would be a third more."""
    assert sum(len(entry.data) for entry in entries["x86_64"]) < 24 << 20
    assert not any("libcrypto" in entry.path for entry in entries["x86_64"])


def test_modules_of_a_real_run_are_among_those_found(tmp_path: Path) -> None:
    """Seen from the other side: what the interpreter says that it has imported."""
    (tmp_path / "kernel").write_bytes(KERNELS["x86_64"]())
    machine = FOLDER / MACHINES["x86_64"]
    words = ["-p", str(tmp_path / "kernel"), "--machine", str(machine), "--dry-run"]
    _, told = run(
        [sys.executable, "-X", "importtime", "-m", "pykexec", *words],
        env={"PYTHONPATH": str(imports.PACKAGE.parent)},
    )
    real = set(
        re.findall(r"\| +(pykexec[\w.]*|elftools[\w.]*|construct[\w.]*|click[\w.]*)$", told, re.MULTILINE)
    )
    assert "pykexec.booting.crash" in real
    real = {name for name in real if not name.startswith("pykexec.arch.arm64")}
    assert real <= {module.name for module in imports.trace("x86_64").modules}


def test_imports_inside_functions_and_by_name_count() -> None:
    own, foreign = imports.reachable("x86_64")
    assert {"pykexec.explain", "pykexec.execute", "pykexec.report", "pykexec.help"} <= set(own)
    others = ("pykexec.integration", "pykexec.kdump", "pykexec.vmcore", "pykexec.arch.x86_64.vmcore")
    assert not any(name.startswith(others) for name in own)
    assert {"click", "ctypes", "encodings.ascii"} <= {each.module for each in foreign}
    # For type checkers only, in pykexec.cli and pykexec.loader.
    guarded = "if TYPE_CHECKING:\n import collections.abc"
    assert "collections.abc" not in {
        found.module for found in imports._imports(imports._nodes(ast.parse(guarded)), "")
    }


def programs() -> list[Path]:
    """The interpreter and its modules, and programs with other needs."""
    seen = imports.trace()
    native = [module.file for module in seen.modules if module.file.suffix != ".py"]
    return [seen.interpreter, *native, Path("/bin/bash"), Path("/usr/bin/strace")]


def test_libraries_are_those_of_ldd() -> None:
    for program in programs():
        listed, _ = run(["ldd", program])
        expected = set(re.findall(r"(?:=> )?(/\S+) \(0x", listed))
        found = libraries.libraries_of([program])
        assert {path.resolve() for path in found} >= {Path(path).resolve() for path in expected}
        assert {path.name for path in found} <= {Path(path).name for path in expected}


def test_missing_library(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(Path("/bin/bash").read_bytes().replace(b"libtinfo.so", b"libnoinfo.s"))
    with pytest.raises(PykexecError, match=r"program needs the library libnoinfo\.s\.6, which is not found"):
        libraries.libraries_of([program])


def test_a_library_of_another_machine_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign = bytearray(Path("/lib/x86_64-linux-gnu/libc.so.6").read_bytes()[:4096])
    foreign[18] = 183
    (tmp_path / "libc.so.6").write_bytes(foreign)
    monkeypatch.setattr(libraries, "_configured", lambda: [str(tmp_path)])
    with pytest.raises(FileError, match="damaged ELF file"):
        libraries.libraries_of([Path("/bin/bash")])


@pytest.mark.parametrize("length", [0, 3, 4, 5, 16, 40, 63, 64, 100, 600, 4096, 50000])
def test_truncated_programs(length: int, tmp_path: Path) -> None:
    broken(Path("/bin/bash").read_bytes()[:length], tmp_path)


@settings(max_examples=examples(150), deadline=None)
@given(changes=st.lists(st.tuples(st.integers(0, 1200), st.integers(0, 255)), min_size=1, max_size=4))
@example(changes=[(410, 0)])  # in Debian 12's, where the dynamic section begins: it names no table then
def test_damaged_programs(changes: list[tuple[int, int]], tmp_path_factory: pytest.TempPathFactory) -> None:
    data = bytearray(Path("/bin/bash").read_bytes()[:200_000])
    for offset, value in changes:
        data[offset] = value
    broken(bytes(data), tmp_path_factory.getbasetemp())


def broken(data: bytes, folder: Path) -> None:
    """It is read, or refused with an error for users."""
    program = folder / "program"
    program.write_bytes(data)
    for read in (libraries.loadable, lambda path: libraries.libraries_of([path])):
        with suppress(PykexecError):
            read(program)


def test_configuration_of_the_dynamic_linker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ld.so.conf").write_text("/first # comment\ninclude conf.d/*.conf\nhwcap 1 nosegneg\n")
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d/a.conf").write_text(f"/second\ninclude {tmp_path}/ld.so.conf\n")
    (tmp_path / "conf.d/b.conf").write_bytes(b"/th\xffird\n")
    monkeypatch.setattr(libraries, "_CONFIGURATION", str(tmp_path / "ld.so.conf"))
    assert libraries._configured() == ["/first", "/second", "/th\udcffird"]


def test_programs_run_without_what_is_left_out(tmp_path: Path) -> None:
    for program in ("/bin/bash", "/usr/bin/strace"):
        short = tmp_path / "program"
        short.write_bytes(libraries.loadable(Path(program)))
        short.chmod(0o755)
        assert short.stat().st_size < Path(program).stat().st_size
        assert run([short, "--version"]) == run([program, "--version"])


def test_scripts_are_left_as_they_are(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_bytes(b"#!/bin/sh\n")
    assert libraries.loadable(script) == b"#!/bin/sh\n"


def test_copy_keeps_the_generators_libraries(tmp_path: Path) -> None:
    (tmp_path / "usr/lib").mkdir(parents=True)
    (tmp_path / "lib").symlink_to("usr/lib")
    (tmp_path / "usr/lib/libc.so.6").write_bytes(b"theirs")
    (tmp_path / "kexec").write_bytes(b"theirs")
    files.copy(
        [
            Entry("/lib/libc.so.6", Kind.LIBRARY, b"ours"),
            Entry("/lib/libz.so.1", Kind.LIBRARY, b"", link="libz.so.1.2"),
            Entry("/lib/libz.so.1.2", Kind.LIBRARY, b"ours", executable=True),
            Entry("/kexec", Kind.PROGRAM, b"ours", executable=True),
            Entry("/empty", Kind.STANDARD_LIBRARY, b"", folder=True),
        ],
        tmp_path,
    )
    assert (tmp_path / "usr/lib/libc.so.6").read_bytes() == b"theirs"
    assert (tmp_path / "usr/lib/libz.so.1").read_bytes() == b"ours"
    assert (tmp_path / "kexec").read_bytes() == b"ours"
    assert (tmp_path / "kexec").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "empty").is_dir()


def test_copy_stays_in_the_folder(tmp_path: Path) -> None:
    """An absolute link in an image that is being made must not lead to this system's own files."""
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "outside").mkdir()
    (root / "lib").symlink_to(tmp_path / "outside")
    files.copy([Entry("/lib/libc.so.6", Kind.LIBRARY, b"ours")], root)
    assert list((tmp_path / "outside").iterdir()) == []
    there = root / str(tmp_path / "outside").lstrip("/") / "libc.so.6"
    assert there.read_bytes() == b"ours"  # where the initramfs finds it


def test_static_helper() -> None:
    for arch in ARCHES:
        (entry,) = files.static(arch)
        assert (entry.path, entry.executable) == ("/usr/sbin/kexec", True)
        assert entry.data.startswith(b"\x7fELF")


def main(*words: str | Path) -> int:
    return command.run([str(word) for word in words])


def test_list_command(
    entries: Mapping[str, Sequence[Entry]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The list is the same each time."""
    python, listed = files.python, list[Sequence[Entry]]()

    def note() -> Sequence[Entry]:
        listed.append(python("x86_64"))
        return listed[-1]

    monkeypatch.setattr(files, "python", note)
    assert main("list") == 0
    assert listed == [entries["x86_64"]]
    *rows, total = capsys.readouterr().out.splitlines()
    sizes = {path: size for size, path in (row.split() for row in rows)}
    assert "/usr/sbin/kexec" in sizes
    count, size = re.findall(r"^(\d+) files, ([\d.]+) MiB", total)[0]
    assert int(count) == len([each for each in sizes.values() if each != "link"])
    assert float(size) == pytest.approx(
        sum(int(s) for s in sizes.values() if s != "link") / (1 << 20), abs=0.1
    )
    assert main("list", "--static") == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("1 files")


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["install", "--root", "{empty}/none"], 1, "does not exist"),
        (["install", "--root", "{empty}"], 1, "neither dracut nor initramfs-tools is installed"),
        (["install", "--root", "{empty}", "--alternatives"], 1, "there is no such program below"),
        (["install", "--root", "{empty}", "--program", "/bin/true"], 1, "give --alternatives, too"),
        (["install", "--alternatives", "--static", "--program", "/bin/true"], 1, "give one of them"),
        (
            ["remove", "--root", "{empty}", "--dracut", "--program", "/bin/true"],
            1,
            "give --alternatives, too",
        ),
        (["remove", "--root", "{empty}", "--program", "/bin/true"], 1, "give --alternatives, too"),
        (["copy", "{empty}/none"], 1, "does not exist"),
        (["frobnicate"], 1, "No such command"),
    ],
)
def test_wrong_usage(
    words: list[str], status: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(*(word.format(empty=tmp_path) for word in words)) == status
    assert message in capsys.readouterr().err


def contents(root: Path) -> dict[str, bytes | str]:
    """All files and links below a root."""
    return {
        str(path.relative_to(root)): str(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in root.rglob("*")
        if path.is_symlink() or path.is_file()
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A system in which both generators are installed."""
    for folder in ("usr/lib/dracut/modules.d", "etc/initramfs-tools/hooks", "etc/dracut.conf.d"):
        (tmp_path / "root" / folder).mkdir(parents=True)
    return tmp_path / "root"


@pytest.mark.parametrize("static", [False, True])
def test_install_and_remove(root: Path, static: bool, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(root)
    options = ["--static"] if static else []
    assert main("install", "--root", root, "--dry-run", *options) == 0
    assert contents(root) == before
    assert main("install", "--root", root, *options) == 0
    told = capsys.readouterr().out
    written = contents(root)
    assert len(written) == 3
    for path in written:
        assert f"write {root / path}\n" in told
        run(["shellcheck", root / path])
        text = (root / path).read_text()
        assert "@" not in text
        assert ("--static" in text) is (static and "conf.d" not in path)
    assert main("install", "--root", root, *options) == 0
    assert contents(root) == written
    assert main("remove", "--root", root) == 0
    assert contents(root) == before
    assert not (root / "usr/lib/dracut/modules.d/90pykexec").exists()
    capsys.readouterr()
    for words in (["remove"], ["remove", "--dracut", "--initramfs-tools"]):
        assert main(*words, "--root", root) == 0
        assert capsys.readouterr().out == f"nothing of that is installed below {root}\n"


def test_documentation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main("install", "--root", tmp_path, "--documentation") == 0
    written = contents(tmp_path)
    told = capsys.readouterr().out
    assert all(f"write {tmp_path / path}\n" in told for path in written)
    assert {path.rpartition("/")[2] for path in written} >= {
        "pykexec.8",
        "pykdump.8",
        "_pykexec",
        "kexec.fish",
    }
    assert main("install", "--root", tmp_path, "--documentation", "--static") == 1
    assert main("remove", "--root", tmp_path) == 0
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("static", [False, True])
def test_generators_go_on_without_pykexec(
    static: bool, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an uninstallation: no new kernel's installation may fail."""
    monkeypatch.setattr(install, "command_of", lambda module: ("/usr/bin/python3", "-IS", "-m", module))
    main("install", "--root", root, *(["--static"] if static else []))
    hook = root / "etc/initramfs-tools/hooks/pykexec"
    out, err = run([hook], env={"DESTDIR": str(tmp_path)})
    assert (out, err) == (
        "",
        f"W: {hook}: no pykexec for the initramfs: install it again, or remove this hook\n",
    )
    module = root / "usr/lib/dracut/modules.d/90pykexec/module-setup.sh"
    assert run(["bash", "-c", f". {module}; check"], status=1) == ("", "")


def unpack(image: Path, folder: Path) -> Path:
    folder.mkdir()
    command = "gzip -dcf" if image.read_bytes()[:2] == b"\x1f\x8b" else "cat"
    run(["sh", "-c", f'cd "$0" && {command} "$1" | cpio -id --quiet', folder, image])
    return folder


OTHER_MODULE = """\
check() { return 0; }
install() { inst_binary /usr/bin/env /usr/sbin/kexec; }
"""


@pytest.mark.parametrize("static", [False, True])
def test_dracut(static: bool, tmp_path: Path) -> None:
    """dracut itself makes an initramfs; a later module wants to copy another kexec, as early kdump does."""
    modules = {"99earlykdump": {"module-setup.sh": OTHER_MODULE}}
    check(unpack(generators.dracut(tmp_path, modules, static=static), tmp_path / "unpacked"), static)


@pytest.mark.parametrize("static", [False, True])
def test_initramfs_tools(static: bool, tmp_path: Path) -> None:
    """mkinitramfs itself makes one."""
    check(unpack(generators.initramfs_tools(tmp_path, {}, static=static), tmp_path / "unpacked"), static)


@pytest.mark.parametrize("module", ["kdumpbase", "kdump"])
def test_capture_images_of_dracut_stay_small(module: str, tmp_path: Path) -> None:
    """They are made by the same generator, as by mkdumprd: nothing is loaded from there."""
    modules = {f"99{module}": {"module-setup.sh": "check() { return 0; }\ninstall() { return 0; }\n"}}
    unpacked = unpack(generators.dracut(tmp_path, modules), tmp_path / "unpacked")
    assert module in (unpacked / "usr/lib/dracut/modules.txt").read_text().split()
    assert not (unpacked / "usr/sbin/kexec").exists()


@pytest.mark.parametrize("python", [False, pytest.param(True, marks=pytest.mark.further)])
def test_images_for_others_carry_no_python_that_cannot_run(python: bool, tmp_path: Path) -> None:
    """dracut copies what /sbin/kexec is, by itself (its module shutdown) and as Fedora's kdumpbase does.

    Of a script it copies the interpreter, without its library.
    """
    wanted = alternatives(tmp_path / "system")
    perform(install.installation(wanted))
    commands = tmp_path / "system/usr/lib/pykexec"
    kdump = {"module-setup.sh": "check() { return 0; }\ninstall() { inst_multiple kexec vmcore-dmesg; }\n"}
    modules: Mapping[str, generators.Tree] = {"99kdumpbase": kdump, "99other": kdump}
    if python:
        for name in ("kexec", "vmcore-dmesg"):  # what they would be without the helper
            (commands / name).write_text(f"#!{sys.executable}\n")
    path = f"{commands} /usr/sbin /usr/bin"  # where dracut looks for commands (dracut.conf(5))
    theirs = ["base", "bash", "fs-lib", "shutdown", "udev-rules"]
    unpacked = unpack(generators.dracut(tmp_path, modules, theirs, DRACUT_PATH=path), tmp_path / "unpacked")
    found = [place for place in unpacked.rglob("*python*") if place.is_file()]
    assert bool(found) is python  # the test would see one
    if not python:
        image = unpacked / str(commands).lstrip("/")
        assert "small helper" in run([image / "kexec", "--version"])[0]
        assert run([image / "vmcore-dmesg"], status=1)[1].endswith(" is not here\n")


def test_capture_images_of_initramfs_tools_stay_small(tmp_path: Path) -> None:
    """kdump-tools calls mkinitramfs with a folder of its own."""
    main("install", "--root", tmp_path, "--initramfs-tools", "--static")
    hook = tmp_path / "etc/initramfs-tools/hooks/pykexec"
    (tmp_path / "destination").mkdir()
    for folder, copied in (("/var/lib/kdump/initramfs-tools", False), ("/etc/initramfs-tools", True)):
        run([hook], env={"DESTDIR": str(tmp_path / "destination"), "CONFDIR": folder})
        assert (tmp_path / "destination/usr/sbin/kexec").exists() is copied


def check(unpacked: Path, static: bool) -> None:
    shown, _ = run(in_root(unpacked, "/usr/sbin/kexec", "--version"))
    assert shown.startswith("kexec-tools ")
    assert ("small helper" in shown) is static
    # A hard link may stand for it, but nothing that leads elsewhere.
    assert stat.S_ISREG((unpacked / "usr/sbin/kexec").lstat().st_mode)


@pytest.fixture
def planted(tmp_path: Path) -> tuple[Path, Mapping[str, str]]:
    """A folder of somebody else's to be called from, and the variables of an environment like that."""
    folder = tmp_path / "planted"
    user_site = folder / f".local/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    for name in ("pykexec", "pykexec/integration", "pykexec/kdump", "pykexec/vmcore", "click"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    user_site.mkdir(parents=True)
    hijack = f"open({str(folder / 'hijacked')!r}, 'a').write(__file__)\n"
    for package in ("pykexec", "click"):
        (folder / package / "__init__.py").write_text(hijack)
    for name in ("sitecustomize", "usercustomize", "runpy", "ast", "startup"):
        (folder / f"{name}.py").write_text(hijack)
        (user_site / f"{name}.py").write_text(hijack)
    paths = {"PYTHONPATH": str(folder), "PYTHONSTARTUP": str(folder / "startup.py"), "HOME": str(folder)}
    return folder, {**paths, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


@pytest.mark.parametrize(
    ("generator", "options"),
    [
        ("initramfs-tools", []),
        ("dracut", ["--static"]),
        pytest.param("dracut", [], marks=pytest.mark.further),
    ],
)
def test_hooks_run_nothing_of_whoever_calls_them(
    generator: str,
    options: Sequence[str],
    planted: tuple[Path, Mapping[str, str]],
    root: Path,
    tmp_path: Path,
) -> None:
    """Root calls update-initramfs and dracut from any folder, with the variables that sudo leaves."""
    assert main("install", "--root", root, *options) == 0
    image = tmp_path / "image"
    image.mkdir()
    module = root / "usr/lib/dracut/modules.d/90pykexec/module-setup.sh"
    called = f". {module}; dracut_module_included() {{ return 1; }}; check; install"
    hook = root / "etc/initramfs-tools/hooks/pykexec"
    command = ["bash", "-c", called] if generator == "dracut" else ["sh", str(hook)]
    folder, environment = planted
    places = {"DESTDIR": str(image), "initdir": str(image), "CONFDIR": "/etc/initramfs-tools"}
    done = subprocess.run(command, cwd=folder, env={**environment, **places}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not (folder / "hijacked").exists(), (folder / "hijacked").read_text()
    assert (image / "usr/sbin/kexec").exists()


@pytest.mark.parametrize("name", ["pykexec", "py'k \"e$x%e\\c"])
def test_a_command_for_a_folder_of_any_name(
    name: str,
    planted: tuple[Path, Mapping[str, str]],
    tmp_path: Path,
) -> None:
    """A checkout is found by its path, which is no part of any program."""
    place = tmp_path / name
    place.mkdir()
    shutil.copytree(imports.PACKAGE, place / "pykexec", ignore=shutil.ignore_patterns("__pycache__"))
    code = "import json; from pykexec.integration.commands import command_of; "
    code += "print(json.dumps([command_of('pykexec.kdump'), command_of('pykexec.vmcore')]))"
    told, _ = run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(place), "PYTHONDONTWRITEBYTECODE": "1"}
    )
    kdump, log = json.loads(told)
    folder, environment = planted

    def called(script: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "-c", script], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )

    done = called(shlex.join([*kdump, "--version"]))
    assert (done.returncode, done.stdout.split()[0], done.stderr) == (0, "pykdump", "")
    done = called(shlex.join(log))
    assert (done.returncode, done.stderr) == (1, "Usage: vmcore-dmesg <kernel core file>\n")
    assert not (folder / "hijacked").exists(), (folder / "hijacked").read_text()


def alternatives(root: Path, *, c_tool: str | None = None, dpkg: bool = False) -> install.Wanted:
    """A system with pykexec in /usr/local/bin, and maybe a C tool."""
    for folder in ("usr/sbin", "usr/local/bin", "etc/alternatives", "var/lib/dpkg/alternatives", "var/log"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "sbin").symlink_to("usr/sbin")
    (root / "var/lib/dpkg/info").mkdir()
    for name in ("status", "diversions", "info/format"):
        (root / "var/lib/dpkg" / name).write_text("1\n" if name == "info/format" else "")
    program = root / "usr/local/bin/pykexec"
    program.write_text("#!/bin/sh\necho pykexec\n")
    program.chmod(0o755)
    if c_tool is not None:
        (root / c_tool.lstrip("/")).write_text("#!/bin/sh\necho C\n")
        (root / c_tool.lstrip("/")).chmod(0o755)
    if dpkg:
        (root / "var/lib/dpkg/info/kexec-tools.list").write_text(f"/.\n{c_tool}\n")
    return install.Wanted(root, alternatives=True, program=Path("/usr/local/bin/pykexec"))


def perform(plan: Sequence[steps.Step]) -> None:
    for step in plan:
        step.do()


def kexec(root: Path, command: str = "kexec") -> str:
    """What a command in /usr/sbin is, after all links within the root, and what the helper runs."""

    def file(path: Path) -> Path:
        while path.is_symlink():
            path = root / str(path.readlink()).lstrip("/")
        return path

    path = file(root / "usr/sbin" / command)
    beside = path.with_name(f"{path.name}.program")
    if path.read_bytes().startswith(b"\x7fELF"):
        if not beside.is_symlink() and not beside.exists():
            return "helper"
        path = file(beside)
    return path.read_text().split()[-1]


@pytest.mark.parametrize("c_tool", ["/sbin/kexec", "/usr/sbin/kexec"])
def test_alternatives_beside_the_c_tool(c_tool: str, tmp_path: Path) -> None:
    """With Debian's own update-alternatives and dpkg-divert: all is as before when it is taken back."""
    wanted = alternatives(tmp_path, c_tool=c_tool, dpkg=True)
    perform(install.installation(wanted))
    assert kexec(tmp_path) == "pykexec"
    run(["update-alternatives", "--root", tmp_path, "--set", "kexec", f"{c_tool}.kexec-tools"])
    assert kexec(tmp_path) == "C"
    run(["update-alternatives", "--root", tmp_path, "--auto", "kexec"])
    perform(install.installation(wanted))
    assert kexec(tmp_path) == "pykexec"
    truename, _ = run(["dpkg-divert", "--root", tmp_path, "--truename", c_tool])
    assert truename.strip() == f"{c_tool}.kexec-tools"
    perform(install.removal(wanted))
    assert kexec(tmp_path) == "C"
    assert not (tmp_path / "usr/sbin/kexec").is_symlink()
    assert not (tmp_path / "etc/alternatives/kexec").is_symlink()


def diversions(root: Path) -> list[list[str]]:
    """From, to and owner of each diversion, as dpkg keeps them (dpkg-divert(1), FILES)."""
    lines = (root / "var/lib/dpkg/diversions").read_text().splitlines()
    return [lines[at : at + 3] for at in range(0, len(lines), 3)]


def owners(root: Path) -> set[tuple[str, str]]:
    """The commands that are diverted, each with the owner of the diversion."""
    return {(source, owner) for source, _, owner in diversions(root)}


BY_PACKAGE = {
    (f"{folder}/{command}", "pykexec")
    for folder in ("/sbin", "/usr/sbin")
    for command in ("kexec", "vmcore-dmesg")
}


@pytest.mark.parametrize("by_hand", [False, True])
@pytest.mark.parametrize("c_tool", ["/sbin/kexec", "/usr/sbin/kexec"])
def test_a_package_diverts_the_c_tool(c_tool: str, by_hand: bool, tmp_path: Path) -> None:
    """Also where pykexec was installed by hand before; what the administrator chose stays."""
    wanted = alternatives(tmp_path, c_tool=c_tool, dpkg=True)
    package = dataclasses.replace(wanted, package="pykexec")
    if by_hand:
        perform(install.installation(wanted))
    perform(install.installation(package))
    assert kexec(tmp_path) == "pykexec"
    assert owners(tmp_path) == BY_PACKAGE
    aside, _ = run(["dpkg-divert", "--root", tmp_path, "--truename", c_tool])
    run(["update-alternatives", "--root", tmp_path, "--set", "kexec", aside.strip()])
    perform(install.installation(package))
    assert kexec(tmp_path) == "C"
    assert owners(tmp_path) == BY_PACKAGE
    perform(install.removal(package))
    assert kexec(tmp_path) == "C"
    assert not (tmp_path / "usr/sbin/kexec").is_symlink()
    assert not (tmp_path / "etc/alternatives/kexec").is_symlink()
    assert not diversions(tmp_path)


def test_a_package_keeps_a_c_tool_beside_it_that_comes_later(tmp_path: Path) -> None:
    package = dataclasses.replace(alternatives(tmp_path), package="pykexec")
    perform(install.installation(package))
    assert owners(tmp_path) == BY_PACKAGE
    # As dpkg unpacks a file that is diverted.
    later = tmp_path / "usr/sbin/kexec.kexec-tools"
    later.write_text("#!/bin/sh\necho C\n")
    later.chmod(0o755)
    perform(install.installation(package))
    assert kexec(tmp_path) == "pykexec"
    run(["update-alternatives", "--root", tmp_path, "--set", "kexec", "/usr/sbin/kexec.kexec-tools"])
    assert kexec(tmp_path) == "C"
    perform(install.removal(package))
    assert kexec(tmp_path) == "C"
    assert not later.exists()


def test_a_package_leaves_what_others_registered(tmp_path: Path) -> None:
    package = dataclasses.replace(alternatives(tmp_path, c_tool="/sbin/kexec", dpkg=True), package="pykexec")
    perform(install.installation(package))
    third = tmp_path / "usr/local/bin/third"
    third.write_text("#!/bin/sh\necho third\n")
    words = ("--install", "/usr/sbin/kexec", "kexec", "/usr/local/bin/third", "70")
    run(["update-alternatives", "--root", tmp_path, *words])
    perform(install.removal(package))
    assert kexec(tmp_path) == "third"
    assert owners(tmp_path) == {("/sbin/kexec", ":"), ("/usr/sbin/kexec", ":")}, "the administrator's"
    assert "C" in (tmp_path / "usr/sbin/kexec.kexec-tools.sbin").read_text()


def test_an_initramfs_has_another_kexec_until_it_is_made_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alternatives(tmp_path)
    (tmp_path / "usr/lib/dracut/modules.d").mkdir(parents=True)
    words = ["install", "--root", str(tmp_path), "--alternatives", "--program", "/usr/local/bin/pykexec"]
    for more, said in (([], True), (["--dracut"], False)):
        assert main(*words, *more) == 0
        assert ("its shutdown script" in capsys.readouterr().out) is said


def test_alternatives_without_the_c_tool(tmp_path: Path) -> None:
    wanted = alternatives(tmp_path)
    perform(install.installation(wanted))
    assert kexec(tmp_path) == "pykexec"
    perform(install.removal(wanted))
    assert not os.path.lexists(tmp_path / "usr/sbin/kexec")


@pytest.mark.parametrize("gone", [False, True])
@pytest.mark.parametrize("words", [[], ["--alternatives"]])
def test_the_c_tool_is_back_wherever_pykexec_was(
    gone: bool, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also after pykexec itself, which left a link to nothing."""
    perform(install.installation(alternatives(tmp_path, c_tool="/sbin/kexec", dpkg=True)))
    if gone:
        (tmp_path / "usr/local/bin/pykexec").unlink()
    assert main("remove", "--root", tmp_path, *words) == 0, capsys.readouterr().err
    assert kexec(tmp_path) == "C"
    assert not (tmp_path / "usr/sbin/kexec").is_symlink()
    capsys.readouterr()
    assert main("remove", "--root", tmp_path, *words) == 0
    assert capsys.readouterr().out == f"nothing of that is installed below {tmp_path}\n"


@pytest.mark.parametrize("works", [0, 1, 2, 3])
def test_an_installation_that_fails_leaves_the_c_tool(
    works: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """update-alternatives fails at its first call, or at a later one."""
    alternatives(tmp_path, c_tool="/sbin/kexec", dpkg=True)
    (tmp_path / "sbin/vmcore-dmesg").write_text("#!/bin/sh\necho C\n")
    with (tmp_path / "var/lib/dpkg/info/kexec-tools.list").open("a") as listing:
        listing.write("/sbin/vmcore-dmesg\n")
    failing = tmp_path / "update-alternatives"
    failing.write_text(f"""#!/bin/sh
        case "$*" in *--install*)
            [ "$(cat {tmp_path}/called)" = "{"x" * works}" ] && echo "error: no" >&2 && exit 2
            printf x >> {tmp_path}/called ;;
        esac
        exec /usr/bin/update-alternatives "$@"
    """)
    failing.chmod(0o755)
    (tmp_path / "called").touch()
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    words = ["install", "--root", str(tmp_path), "--alternatives", "--program", "/usr/local/bin/pykexec"]
    assert main(*words) == 255
    told = capsys.readouterr().err
    assert "error: no" in told
    assert ("not done: " in told) is (works < 3)
    assert (kexec(tmp_path), kexec(tmp_path, "vmcore-dmesg")) == ("C" if works < 2 else "pykexec", "C")
    assert (tmp_path / "usr/sbin/kexec").is_symlink() is (works >= 2)
    failing.unlink()
    assert main(*words) == 0
    assert (kexec(tmp_path), kexec(tmp_path, "vmcore-dmesg")) == ("pykexec", "C")


def test_a_half_done_installation_is_taken_back(tmp_path: Path) -> None:
    """One that was killed when the C tool was moved."""
    wanted = alternatives(tmp_path, c_tool="/sbin/kexec", dpkg=True)
    for step in install.installation(wanted):
        step.do()
        if "dpkg-divert" in step.describe():
            break
    assert not (tmp_path / "usr/sbin/kexec").exists()
    assert main("remove", "--root", tmp_path) == 0
    assert kexec(tmp_path) == "C"


def test_what_is_undone_after_a_failure_may_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both are said."""
    alternatives(tmp_path, c_tool="/sbin/kexec", dpkg=True)
    fails = [steps.Run(("sh", "-c", "echo first >&2; exit 1")), steps.Run(("sh", "-c", "exit 7"))]
    monkeypatch.setattr(install, "installation", lambda _: fails[:1])
    monkeypatch.setattr(install, "recovery", lambda _: fails[1:])
    words = ["install", "--root", str(tmp_path), "--alternatives", "--program", "/usr/local/bin/pykexec"]
    assert main(*words) == 255
    told = capsys.readouterr().err
    assert "first" in told
    assert "exit status 7" in told


_DISPLAY = """\
kexec - status is manual.
 link currently points to /usr/local/bin/other
/usr/lib/pykexec/kexec - priority 60
/usr/local/bin/other - family other priority 40
Current `best' version is /usr/lib/pykexec/kexec.
"""


def test_alternatives_of_chkconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fedora's update-alternatives has no --query; --display has a line for each program."""
    (tmp_path / "etc/alternatives").mkdir(parents=True)
    (tmp_path / "etc/alternatives/kexec").symlink_to("/usr/local/bin/other")
    (tmp_path / "display").write_text(_DISPLAY)
    program = tmp_path / "update-alternatives"
    known = f"case $* in *--display*) exec cat {tmp_path}/display ;; esac"
    program.write_text(f"#!/bin/sh\n{known}\necho unknown option >&2\nexit 2\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert links.registered(tmp_path, "kexec") == ("/usr/lib/pykexec/kexec", "/usr/local/bin/other")


def test_what_others_registered_stays(tmp_path: Path) -> None:
    wanted = alternatives(tmp_path, c_tool="/sbin/kexec", dpkg=True)
    perform(install.installation(wanted))
    other = tmp_path / "usr/local/bin/kexec-lite"
    other.write_text("#!/bin/sh\necho lite\n")
    other.chmod(0o755)
    run(
        [
            "update-alternatives",
            "--root",
            tmp_path,
            "--install",
            "/sbin/kexec",
            "kexec",
            f"/{other.relative_to(tmp_path)}",
            "10",
        ]
    )
    perform(install.removal(wanted))
    assert kexec(tmp_path) == "C"
    run(["update-alternatives", "--root", tmp_path, "--set", "kexec", f"/{other.relative_to(tmp_path)}"])
    assert kexec(tmp_path) == "lite"


def test_the_helper_is_a_choice_but_never_by_itself(tmp_path: Path) -> None:
    """Where there is the C tool."""
    wanted = alternatives(tmp_path, c_tool="/sbin/kexec", dpkg=True)
    perform(install.installation(dataclasses.replace(wanted, program=None, static=True)))
    assert kexec(tmp_path) == "C"
    run(["update-alternatives", "--root", tmp_path, "--set", "kexec", "/usr/lib/pykexec/kexec-static"])
    shown, _ = run(in_root(tmp_path, "/usr/sbin/kexec", "--version"))
    assert "small helper" in shown
    assert main("remove", "--root", tmp_path) == 0
    assert kexec(tmp_path) == "C"
    assert not (tmp_path / "usr/sbin/kexec").is_symlink()


def test_a_c_tool_that_nobody_could_keep_is_left_alone(tmp_path: Path) -> None:
    wanted = alternatives(tmp_path, c_tool="/usr/sbin/kexec")
    with pytest.raises(PykexecError, match="/usr/sbin/kexec is there") as caught:
        list(install.installation(wanted))
    assert "move it to /usr/sbin/kexec.kexec-tools" in str(caught.value)
    assert kexec(tmp_path) == "C"


@pytest.mark.parametrize("words", [[], ["--alternatives"]])
def test_a_c_tool_that_was_moved_aside_by_hand_is_moved_back(words: list[str], tmp_path: Path) -> None:
    """As the error says where no package manager could do it."""
    wanted = alternatives(tmp_path, c_tool="/usr/sbin/kexec.kexec-tools")
    perform(install.installation(wanted))
    assert kexec(tmp_path) == "pykexec"
    assert main("remove", "--root", tmp_path, *words) == 0
    assert kexec(tmp_path) == "C"
    assert not (tmp_path / "usr/sbin/kexec").is_symlink()
    assert not (tmp_path / "usr/sbin/kexec.kexec-tools").exists()


def test_a_c_tool_that_came_back_by_itself_stays(tmp_path: Path) -> None:
    """As when its package is updated, which puts a file in the place of the link."""
    wanted = alternatives(tmp_path, c_tool="/usr/sbin/kexec.kexec-tools")
    perform(install.installation(wanted))
    link = tmp_path / "usr/sbin/kexec"
    link.unlink()
    link.write_text("#!/bin/sh\necho newer\n")
    assert main("remove", "--root", tmp_path) == 0
    assert kexec(tmp_path) == "newer"


def test_a_link_to_itself_is_refused(tmp_path: Path) -> None:
    wanted = alternatives(tmp_path, c_tool="/usr/sbin/kexec", dpkg=True)
    with pytest.raises(UsageError, match="where the link to it would be"):
        list(install.installation(dataclasses.replace(wanted, program=Path("/usr/sbin/kexec"))))


def test_commands_that_fail_are_reported() -> None:
    with pytest.raises(PykexecError, match=r"^sh -c 'echo no >&2; exit 3' failed: no$"):
        steps.Run(("sh", "-c", "echo no >&2; exit 3")).do()
    with pytest.raises(PykexecError, match=r"^false failed: exit status 1$"):
        steps.Run(("false",)).do()
    with pytest.raises(PykexecError, match="Not a directory"):
        steps.Run(("/dev/null/none",)).do()


def test_this_machine_has_an_architecture() -> None:
    assert imports.own_architecture() in ARCHES or platform.machine() not in ("x86_64", "aarch64")

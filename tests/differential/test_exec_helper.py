"""The small static helper, against pykexec and the C tool: the system calls that each of them makes.

Each runs in a network and a mount namespace of its own, with made-up files in /sys, under an strace that
lets none of the calls that matter reach the kernel.
"""

import errno
import gzip
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from pykexec import KEXEC_TOOLS
from tests.support import strace
from tests.support.bzimage import FakeBzImage
from tools.lab import X86_64, images

PROJECT = Path(__file__).parent.parent.parent
PREBUILT = PROJECT / "pykexec/purgatory/exec/prebuilt"
LINE = "console=ttyS0 root=/dev/vda1 quiet"
IOMEM = """\
00001000-0009ffff : System RAM
00100000-3fffffff : System RAM
  20000000-2fffffff : Crash kernel
"""

_NAMESPACE = """
set -e
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /sys/kernel
mount --bind "$1/iomem" /proc/iomem
cp -r "$1/sys/." /sys/kernel
ip link set lo up
ip link add first type veth peer name second
ip link set first up
eval "$5"
strace -f -y -qq -s 4096 -o "$1/trace" -e trace=$2 $3 -- $4 > "$1/stdout" 2> "$1/stderr" || status=$?
ip -o link > "$1/links"
exit ${status:-0}
"""
_GUARDED = ("sync", "reboot", "kexec_load", "kexec_file_load")
_TRACED = ",".join([*_GUARDED, "ioctl", "socket"])


@dataclass(frozen=True)
class Traced:
    """What a program did."""

    status: int
    calls: Sequence[str]
    """The calls that matter, in order, without numbers of descriptors and without results."""
    stdout: str
    stderr: str
    up: Sequence[str]
    """The network interfaces that are up in the end."""


@dataclass(frozen=True)
class Lab:
    """Where programs are run."""

    folder: Path
    programs: Mapping[str, str]
    iomem: str = IOMEM
    prepare: str = ""
    """Shell commands that change the surroundings further."""
    traced: Sequence[str] = ()
    """Further calls that shall be in the file work/trace."""

    @property
    def files(self) -> Mapping[str, Path]:
        return {name: self.folder / name for name in ("kernel", "initrd", "empty")}

    def named(self, options: Sequence[str]) -> list[str]:
        """Options with the names of files in them made paths."""
        return [option.format(**self.files) for option in options]

    def run(
        self,
        program: str,
        *options: str,
        sys: Mapping[str, str] | None = None,
        results: Mapping[str, str] | None = None,
    ) -> Traced:
        """`sys`: files in /sys/kernel; `results`: what strace shall let the calls give ("error=EBUSY")."""
        work = self.folder / "work"
        subprocess.run(["rm", "-rf", work], check=True)
        (work / "sys").mkdir(parents=True)
        for name, text in (sys or {}).items():
            (work / "sys" / name).parent.mkdir(exist_ok=True)
            (work / "sys" / name).write_text(text)
        (work / "iomem").write_text(self.iomem)
        script = work / "command"
        words = " ".join(f"'{word}'" for word in options)
        script.write_text(f"#!/bin/sh\nexec {self.programs[program]} {words}\n")
        script.chmod(0o755)
        traced = ",".join([_TRACED, *self.traced])
        given = dict.fromkeys(_GUARDED, "retval=0") | dict(results or {})
        inject = " ".join(f"-e inject={name}:{what}" for name, what in given.items())
        user = [] if os.geteuid() == 0 else ["--map-root-user"]
        namespace = ["unshare", *user, "--net", "--mount"]
        done = subprocess.run(
            [*namespace, "sh", "-c", _NAMESPACE, "sh", work, traced, inject, script, self.prepare],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert (work / "links").exists(), done.stderr
        up = re.findall(r"^\d+: (\w+).*?<(?:.*,)?UP[,>]", (work / "links").read_text(), re.MULTILINE)
        return Traced(
            done.returncode,
            calls((work / "trace").read_text()),
            (work / "stdout").read_text(),
            (work / "stderr").read_text(),
            [name for name in up if name != "lo"],
        )


def calls(trace: str) -> Sequence[str]:
    """The calls of strace's output."""
    found = (call.rpartition(" = ")[0] for call in strace.calls(trace))
    numberless = [
        re.sub(r"\b\d+(?=<)|(?<=socket:)\[\d+\]", "", call).replace("[]", "NULL") for call in found
    ]
    return [call for call in numberless if call.startswith(_GUARDED) or "SIOCSIF" in call]


EMULATORS = {
    "arm": "qemu-arm-static",
    "arm64": "qemu-aarch64-static",
    "i386": "",
    "loongarch64": "qemu-loongarch64-static",
    "riscv64": "qemu-riscv64-static",
    "s390x": "qemu-s390x-static",
}
"""What runs the helper for another architecture than this machine's; this one runs i386's itself."""
ALL = ("helper", *EMULATORS)
HERE = ("helper", "pykexec", "C")


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    (tmp_path / "kernel").write_bytes(FakeBzImage().build())
    (tmp_path / "initrd").write_bytes(bytes(5000))
    (tmp_path / "empty").touch()
    c_tool, libraries = images.kexec_tools(X86_64)
    folders = ":".join(map(str, libraries))
    return Lab(
        tmp_path,
        {
            "helper": str(PREBUILT / "x86_64.elf"),
            **{name: f"{emulator} {PREBUILT / name}.elf" for name, emulator in EMULATORS.items()},
            "pykexec": f"env PYTHONPATH={PROJECT} PYTHONDONTWRITEBYTECODE=1 {sys.executable} -m pykexec",
            "C": f"env LD_LIBRARY_PATH={folders} {c_tool}",
        },
    )


LOADED = {"kexec_loaded": "1\n", "kexec_crash_loaded": "0\n", "kexec_crash_size": "268435456\n"}
NOTHING = {"kexec_loaded": "0\n", "kexec_crash_loaded": "0\n", "kexec_crash_size": "0\n"}
NEWER = {"kexec/loaded": "1\n", "kexec/crash_loaded": "1\n", "kexec/crash_size": "4096\n"}
REBOOT = "reboot(LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_KEXEC)"


REFUSED = {"reboot": "error=EBUSY"}


EXECUTES = [
    (["-e"], True),
    (["-ex"], False),
    (["-e", "-y"], True),
    (["-exy"], False),
    (["--no-sync", "--exec"], True),
    (["--exec", "--no-ifdown"], False),
]


@pytest.mark.parametrize(
    ("programs", "options", "down"),
    [
        *((HERE, *each) for each in EXECUTES),
        ((*EMULATORS, "pykexec"), *EXECUTES[0]),
        *(pytest.param((*EMULATORS, "pykexec"), *each, marks=pytest.mark.further) for each in EXECUTES[1:]),
    ],
)
def test_execute(programs: Sequence[str], options: list[str], down: bool, lab: Lab) -> None:
    """The jump is refused; up to there all do the same."""
    done = {program: lab.run(program, *options, sys=LOADED, results=REFUSED) for program in programs}
    assert {each.status for each in done.values()} == {255}
    for each in done.values():
        assert "kexec failed: Device or resource busy" in each.stderr
    # The C tool also takes down what is down.
    before = ([call for call in each.calls if '"second"' not in call] for each in done.values())
    until_jump = [calls[: calls.index(REBOOT) + 1] for calls in before]
    assert until_jump == [until_jump[0]] * len(until_jump)
    assert any('"first", ifr_flags=IFF_BROADCAST|IFF_MULTICAST}' in call for call in until_jump[0]) is down
    # The C tool leaves them down.
    for each in (each for program, each in done.items() if program != "C"):
        assert each.calls == done["pykexec"].calls
        assert each.up == ["first"]


def test_interfaces_without_sysfs(lab: Lab) -> None:
    """They are found by number where /sys does not show them."""
    lab = replace(lab, prepare="mount -t tmpfs tmpfs /sys/class")
    without = lab.run("helper", "-e", sys=LOADED, results=REFUSED)
    with_sysfs = replace(lab, prepare="").run("helper", "-e", sys=LOADED, results=REFUSED)
    assert without.calls == with_sysfs.calls


@pytest.mark.parametrize("program", ALL)
def test_the_list_of_interfaces_is_opened_as_a_folder(program: str, lab: Lab) -> None:
    """The flag for that is another number on each architecture, and means something else on the next."""
    replace(lab, traced=("openat",)).run(program, "-e", sys=LOADED, results=REFUSED)
    trace = (lab.folder / "work/trace").read_text()
    flags = re.findall(r'openat\(\S+, "/sys/class/net", (\S+?)[,)]', trace)
    assert [set(each.split("|")) & {"O_DIRECT", "O_DIRECTORY"} for each in flags] == [{"O_DIRECTORY"}]


@pytest.mark.parametrize("program", [*ALL, "pykexec", "C"])
def test_nothing_is_touched_when_nothing_is_loaded(program: str, lab: Lab) -> None:
    done = lab.run(program, "-e", sys=NOTHING)
    assert (done.status, done.calls, done.up) == (1, [], ["first"])
    assert "Nothing has been loaded!" in done.stderr


def test_where_there_is_no_kexec_file_load(lab: Lab) -> None:
    """No i386 kernel has it: what takes it is refused, and unloading goes the other way."""
    refused = lab.run("i386", *lab.named(["-l", "{kernel}"]), sys=NOTHING)
    assert (refused.status, refused.calls) == (253, [])
    assert "syscall kexec_file_load not available" in refused.stderr
    unloaded = lab.run("i386", "-p", "-u", sys=LOADED)
    assert unloaded.status == 0
    (call,) = unloaded.calls
    assert call == "kexec_load(NULL, 0, NULL, KEXEC_ARCH_DEFAULT|KEXEC_ON_CRASH)"


def test_newer_paths_come_first(lab: Lab) -> None:
    assert (
        lab.run("helper", "-e", sys=NEWER | {"kexec_loaded": "0\n"}, results=REFUSED).calls[-1] != "sync()"
    )
    older = NEWER | {"kexec/loaded": "0\n", "kexec_loaded": "1\n"}
    assert lab.run("helper", "-e", sys=older).status == 1


@pytest.mark.parametrize("options", [["-S"], ["-l", "-S"], ["--status", "--load"], ["-pS"]])
@pytest.mark.parametrize("state", [LOADED, NOTHING, {}], ids=["loaded", "nothing", "unknown"])
def test_status(options: list[str], state: Mapping[str, str], lab: Lab) -> None:
    done = [lab.run(program, *options, sys=state) for program in ("helper", "pykexec", "C")]
    assert done[0].status == done[1].status == done[2].status
    assert not any(each.calls or each.stdout for each in done)


@pytest.mark.parametrize(
    "options", [["-u"], ["-p", "-u"], ["-s", "-p", "-u"], ["-pu"], ["--load-panic", "--unload"]]
)
@pytest.mark.parametrize("file_load", [{}, {"kexec_file_load": "error=ENOSYS"}], ids=["file", "segments"])
def test_unload(options: list[str], file_load: Mapping[str, str], lab: Lab) -> None:
    if file_load and "-s" in options:
        options = ["-a", *options[1:]]
    done = [lab.run(program, *options, sys=LOADED, results=file_load) for program in ("helper", "pykexec")]
    # To a kernel its own architecture's number and none are the same (kernel/kexec.c, sys_kexec_load()).
    calls = [
        [call.replace("KEXEC_ARCH_X86_64", "KEXEC_ARCH_DEFAULT") for call in each.calls] for each in done
    ]
    assert calls[0] == calls[1]
    assert len(done[0].calls) == 1 + len(file_load)
    assert done[0].status == done[1].status == 0


LOADS = {
    "boot": ["-s", "-l", "{kernel}", "--initrd={initrd}", f"--append={LINE}"],
    "early kdump": ["-s", "-p", f"--command-line={LINE}", "--initrd={initrd}", "{kernel}"],
    "separate words": ["--load", "{kernel}", "--append", LINE, "--ramdisk", "{initrd}", "-s"],
    "no initrd": ["-l", "-s", "{kernel}", f"--append={LINE}"],
    "last one wins": [
        "-sl",
        "--initrd=/none",
        "--initrd={initrd}",
        "--append=x",
        f"--append={LINE}",
        "--",
        "{kernel}",
    ],
    "nothing to say": ["-s", "-l", "{kernel}"],
}


@pytest.mark.parametrize("load", LOADS)
def test_load(load: str, lab: Lab) -> None:
    """kexec_file_load(2) gets the same files, the same text and the same flags from all of them."""
    options = lab.named(LOADS[load])
    helper, pykexec, c_tool = (
        lab.run(program, *options, sys=LOADED) for program in ("helper", "pykexec", "C")
    )
    assert helper.status == pykexec.status == c_tool.status == 0
    assert helper.calls == pykexec.calls
    # The C tool also calls sync before -l, and passes no text where there is none.
    ((ours,), (theirs,)) = ([call for call in each.calls if call != "sync()"] for each in (helper, c_tool))
    assert ours.replace(', 1, ""', ", 0, NULL") == theirs.replace(', 1, ""', ", 0, NULL")


LEAVES_TRACES = ("add_key", "keyctl", "mkdir", "rename", "request_key", "setsid", "symlink", "unlink")


@pytest.mark.parametrize(
    "options",
    [
        "-s -l {kernel} --initrd={initrd}",
        "-s -p {kernel} --initrd={initrd}",
        "-s -l {packed}",
        "-c -l {kernel} --initrd={initrd}",
        "-p -u",
        "-e -x",
        "-S",
    ],
)
def test_nothing_else_is_changed(options: str, lab: Lab) -> None:
    """A read-only root will do; and the session's keyring stays, in which keys of encrypted disks may be."""
    with gzip.open(lab.folder / "packed", "wb") as packed:
        packed.write((lab.folder / "kernel").read_bytes())
    lab = replace(lab, traced=("openat", "memfd_create", *LEAVES_TRACES))
    words = [word.format(packed=lab.folder / "packed", **lab.files) for word in options.split()]
    lab.run("pykexec", *words, sys=LOADED, results=REFUSED)
    trace = (lab.folder / "work/trace").read_text()
    assert not re.search(rf"^\d+ +(?:{'|'.join(LEAVES_TRACES)})", trace, re.MULTILINE)
    opened = re.findall(r'openat\(\S+, "(.*?)", (\S+?)[,)]', trace)
    assert opened
    written = [path for path, flags in opened if re.search("O_(WRONLY|RDWR|CREAT)", flags)]
    assert written == []
    in_memory = re.findall(r"memfd_create\(.*?, (.*?)\)", trace)
    assert ("packed" in options) is any("MFD_NOEXEC_SEAL" in flags or "0x8" in flags for flags in in_memory)


def test_empty_initrd_is_none(lab: Lab) -> None:
    options = lab.named(["-s", "-l", "{kernel}", "--initrd={empty}"])
    helper, pykexec = (lab.run(program, *options, sys=LOADED) for program in ("helper", "pykexec"))
    assert helper.calls == pykexec.calls
    assert "-1" in helper.calls[0]
    assert "KEXEC_FILE_NO_INITRAMFS" in helper.calls[0]


def test_load_and_execute(lab: Lab) -> None:
    options = lab.named(["-l", "-e", "-x", "-s", "{kernel}"])
    helper, pykexec = (
        lab.run(program, *options, sys=LOADED, results=REFUSED) for program in ("helper", "pykexec")
    )
    assert helper.calls == pykexec.calls
    assert len(helper.calls) == 3


def test_debug_flag_is_left_out_for_kernels_that_do_not_know_it(lab: Lab) -> None:
    options = lab.named(["-d", "-l", "{kernel}"])
    done = lab.run("helper", *options, sys=LOADED, results={"kexec_file_load": "error=EINVAL:when=1"})
    assert [("KEXEC_FILE_DEBUG" in call or "0x8" in call) for call in done.calls] == [True, False]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ("ENOSYS", 253),
        ("EINVAL", 253),
        ("ENOEXEC", 253),
        ("EPERM", 255),
        ("EACCES", 255),
        ("EADDRNOTAVAIL", 255),
        ("EBUSY", 255),
        ("EBADMSG", 255),
        ("EFBIG", 255),
        ("EKEYREJECTED", 255),
        ("ELIBBAD", 255),
        ("EMSGSIZE", 255),
        ("ENODATA", 255),
        ("ENOKEY", 255),
        ("ENOMEM", 255),
        ("ENOPKG", 255),
        ("EOPNOTSUPP", 253),
        ("ETXTBSY", 255),
        ("EXDEV", 255),
    ],
)
def test_refused_loads(error: str, status: int, lab: Lab) -> None:
    options = lab.named(["-s", "-l", "{kernel}"])
    refusal = {"kexec_file_load": f"error={error}"}
    helper = lab.run("helper", *options, sys=LOADED, results=refusal)
    assert helper.status == status
    if error in ("ENOSYS", "EPERM", "EXDEV"):  # what test_clients does not see of pykexec
        assert lab.run("pykexec", *options, sys=LOADED, results=refusal).status == status
    number = getattr(errno, error)
    text = os.strerror(number) if error != "EXDEV" else f"error {number}"
    assert text in helper.stderr
    assert helper.stderr.count("\n") <= 2


def test_no_memory_for_a_crash_kernel(lab: Lab) -> None:
    options = lab.named(["-s", "-p", "{kernel}"])
    helper, pykexec = (
        replace(lab, iomem="00100000-3fffffff : System RAM\n").run(program, *options, sys=NOTHING)
        for program in ("helper", "pykexec")
    )
    assert helper.status == pykexec.status == 1
    assert helper.calls == pykexec.calls == []
    for done in (helper, pykexec):
        assert "Memory for crashkernel is not reserved" in done.stderr


WRONG: list[tuple[list[str], str]] = [
    ([], "nothing to do"),
    (["{kernel}"], "nothing to do"),
    (["-s", "{kernel}"], "nothing to do"),
    (["-c", "-l", "{kernel}"], "unknown here: -c"),
    (["-lz", "{kernel}"], "unknown here: -lz"),
    (["-f", "{kernel}"], "unknown here: -f"),
    (["--loa", "{kernel}"], "unknown here: --loa"),
    (["--exec=now"], "unknown here: --exec=now"),
    (["--reuse-cmdline", "-l", "{kernel}"], "unknown here: --reuse-cmdline"),
    (["-l", "{kernel}", "quiet"], "unexpected argument quiet"),
    (["-l", "{kernel}", "--append"], "--append requires an argument"),
    (["-u", "-e"], "these options, or they and a kernel, cannot"),
    (["-p", "-e", "{kernel}"], "these options, or they and a kernel, cannot"),
    (["-l", "-p", "{kernel}"], "these options, or they and a kernel, cannot"),
    (["-e", "{kernel}"], "these options, or they and a kernel, cannot"),
    (["-u", "{kernel}"], "these options, or they and a kernel, cannot"),
    (["-l", "/nonexistent"], "/nonexistent: No such file or directory"),
    (["-l", "{kernel}", "--initrd", "/nonexistent"], "/nonexistent: No such file or directory"),
]


@pytest.mark.parametrize(
    ("programs", "options", "message"),
    [
        *((("helper",), *each) for each in WRONG),
        *(
            pytest.param(tuple(EMULATORS), *each, marks=pytest.mark.further if number % 8 else [])
            for number, each in enumerate(WRONG)
        ),
    ],
)
def test_wrong_usage(programs: Sequence[str], options: list[str], message: str, lab: Lab) -> None:
    """Nothing is done, and two lines say why."""
    for program in programs:
        done = lab.run(program, *lab.named(options), sys=LOADED)
        assert (done.status, done.calls) == (1, [])
        assert done.stderr.startswith(f"kexec: {message}")
        assert 1 <= done.stderr.count("\n") <= 2


def test_no_kernel(lab: Lab) -> None:
    helper, pykexec = (lab.run(program, "-l", sys=LOADED) for program in ("helper", "pykexec"))
    assert helper.status == pykexec.status == 255
    assert "No kernel specified" in helper.stderr


def test_version_and_help(lab: Lab) -> None:
    first = {tuple(lab.run(program, "-v").stdout.split()[:2]) for program in (*ALL, "pykexec")}
    assert len(first) == 1
    for program in ALL:
        shown = lab.run(program, "-l", "--help", "--and-nothing-after-it-matters")
        assert (shown.status, shown.stderr, shown.calls) == (0, "", [])
        assert shown.stdout.startswith("Usage: kexec")
        assert shown.stdout.endswith("\n")


def test_long_words_are_cut_off(lab: Lab) -> None:
    done = lab.run("helper", "--" + "x" * 5000)
    assert done.status == 1
    assert len(done.stderr) == 1024


@pytest.mark.parametrize("arch", ["x86_64", *EMULATORS])
@pytest.mark.parametrize("name", ["kexec", "vmcore-dmesg"])
def test_the_program_beside_it_is_run_as_long_as_there_is_one(name: str, arch: str, tmp_path: Path) -> None:
    """With its words and its environment; through a link, too, as update-alternatives makes it."""
    place = tmp_path / "own folder" / name
    place.parent.mkdir()
    place.write_bytes((PREBUILT / f"{arch}.elf").read_bytes())
    place.chmod(0o755)
    (tmp_path / name).symlink_to(place)
    program = place.with_name(f"{name}.program")

    def run(*words: str) -> tuple[int, str, str]:
        command = [*EMULATORS.get(arch, "").split(), str(tmp_path / name), *words]
        environment = {"PATH": "/usr/bin:/bin", "VALUE": "a b"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    refused = (1, "", "vmcore-dmesg: pykexec, which it is a part of, is not here\n")
    alone = (0, f"kexec-tools {KEXEC_TOOLS} (pykexec's small helper)\n", "") if name == "kexec" else refused
    assert run("--version") == alone
    program.write_text('#!/bin/sh\necho "$VALUE" "$@"; exit 3\n')
    program.chmod(0o755)
    assert run("x y", "") == (3, "a b x y \n", "")
    program.write_text("#!/none/python3 -I\n")  # as after an uninstallation
    assert run("--version") == alone


@pytest.mark.further  # tests/packaging sees it of those in the sdist
def test_it_is_what_the_sources_give() -> None:
    subprocess.run([sys.executable, PROJECT / "tools/build-exec-helper", "--check"], check=True)


def test_digests() -> None:
    done = subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=PREBUILT, check=False)
    assert done.returncode == 0


def test_small_and_needs_nothing() -> None:
    for program in PREBUILT.glob("*.elf"):
        with program.open("rb") as stream:
            elf = ELFFile(stream)
            kinds = {segment["p_type"] for segment in elf.iter_segments()}
            writable = [s for s in elf.iter_segments() if s["p_flags"] & 2 and s["p_flags"] & 1]
        assert program.stat().st_size < 8192
        assert kinds == {"PT_LOAD", "PT_GNU_STACK"}
        assert not writable

"""What distributions, boot loaders and init systems run: each command line is understood as the C tool does.

The calls are Debian's, Fedora's, openSUSE's and others' own, option for option. pykexec runs them on a
machine from a snapshot, with every way to act on this one taken out; the C tool with libraries in between.
"""

import errno
import re
import shlex
import struct
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest

from pykexec.plan import Purpose
from tests.differential.cases import _BZIMAGE
from tests.differential.meaning import facts
from tests.differential.programs import INITRD, LINE, LOADED, Call, Done, Lab
from tests.support import multiboot
from tests.support.arm64_image import FakeImage
from tests.support.dtb import Blob
from tests.support.machines import snapshot, write
from tools.lab.host import PROJECT

REUSED = {Purpose.BOOT: "root=/dev/sda1 crashkernel=256M ro", Purpose.CRASH: "root=/dev/sda1 ro"}
"""What is left of it."""
FILE, SEGMENTS, EITHER = "file", "load", "either"
"""The system call to be made. Either: the client leaves it to the tool, whose default has changed."""


@dataclass(frozen=True)
class Client:
    """A command line, and what it has to lead to."""

    name: str
    options: str
    """As in a shell; what stands in braces is put in afterwards."""
    call: str
    purpose: Purpose
    line: str = LINE
    initrd: bool = True
    then: tuple[str, ...] = ()
    """What follows the load."""
    kernel: str = "kernel"
    unknown_to_c: str = ""
    """Why the C tool, which is 2.0.25, is not asked."""
    unlike_newest: str = ""
    """Why kexec-tools 2.0.32 is not asked."""


BOOT, CRASH = Purpose.BOOT, Purpose.CRASH
SHUT_DOWN = ("shutdown",)
JUMP = ("sync", "ifdown", "reboot")

CLIENTS = [
    # kdump-utils: kdumpctl, early kdump, and their tests.
    Client("kdumpctl", '-s -p --command-line="{line}" --initrd={initrd} {kernel}', FILE, CRASH),
    Client(
        "kdumpctl-secure-boot", '-s -s -p --command-line="{line}" --initrd={initrd} {kernel}', FILE, CRASH
    ),
    Client("kdumpctl-debug", '-s -d -p --command-line="{line}" --initrd={initrd} {kernel}', FILE, CRASH),
    Client("kdumpctl-old", '-p --command-line="{line}" --initrd={initrd} {kernel}', EITHER, CRASH),
    Client("kdumpctl-c", '-c -d -p --command-line="{line}" --initrd={initrd} {kernel}', SEGMENTS, CRASH),
    Client(
        "kdumpctl-elf32",
        '--elf32-core-headers -p --command-line="{line}" --initrd={initrd} {kernel}',
        EITHER,
        CRASH,
    ),
    Client(
        "kdumpctl-elf64",
        '--elf64-core-headers -p --command-line="{line}" --initrd={initrd} {kernel}',
        EITHER,
        CRASH,
    ),
    Client(
        "kdumpctl-ppc64",
        '--dt-no-old-root -p --command-line="{line}" --initrd={initrd} {kernel}',
        EITHER,
        CRASH,
        unknown_to_c="it has the option on ppc64 only",
        unlike_newest="it has the option on ppc64 only",
    ),
    Client(
        "kdumpctl-uki",
        '-s -p --command-line="{line}" --initrd={initrd} {uki}',
        FILE,
        CRASH,
        kernel="uki",
        unknown_to_c="newer",
        unlike_newest="it wants more of a Portable Executable than its sections",
    ),
    Client("early-kdump", '-s -p --command-line="{line}" --initrd={initrd} {kernel}', FILE, CRASH),
    Client(
        "kdump-utils-test",
        "-s -l {kernel} --initrd={initrd} --reuse-cmdline --append=rd.earlykdump",
        FILE,
        BOOT,
        f"{REUSED[BOOT]} rd.earlykdump",
    ),
    # openSUSE: the administrator's options come before the last one.
    Client("suse", '-p {kernel} --append="{line}" --initrd={initrd}  -a', FILE, CRASH),
    Client("suse-with-s", '-p {kernel} --append="{line}" --initrd={initrd} -s -a', FILE, CRASH),
    Client("suse-with-c", '-p {kernel} --append="{line}" --initrd={initrd} -c -a', FILE, CRASH),
    Client("suse-bootloader", '-l {kernel} --append="{line}" --initrd={initrd}', EITHER, BOOT),
    # Debian and Ubuntu: kdump-tools, and kexec-tools' scripts.
    Client("debian", '-p --command-line="{line}" --initrd={initrd} {kernel}', EITHER, CRASH),
    Client("debian-secure-boot", '-p -s --command-line="{line}" --initrd={initrd} {kernel}', FILE, CRASH),
    Client(
        "debian-elf", '-p --args-linux --command-line="{line}" --initrd={initrd} {kernel}', EITHER, CRASH
    ),
    Client(
        "debian-pae",
        '-p --elf64-core-headers --command-line="{line}" --initrd={initrd} {kernel}',
        EITHER,
        CRASH,
    ),
    Client("debian-no-initrd", '-p --command-line="{line}" {kernel}', EITHER, CRASH, initrd=False),
    Client("debian-kexec-load", '-l {kernel} --initrd={initrd} --append="{line}"', EITHER, BOOT),
    Client("debian-kexec-load-bare", '-l {kernel} --append="{line}"', EITHER, BOOT, initrd=False),
    # systemd up to 259.
    Client("systemd", '--load {kernel} --append "{line}" --initrd {initrd}', EITHER, BOOT),
    Client("systemd-bare", '--load {kernel} --append "{line}"', EITHER, BOOT, initrd=False),
    # NixOS, nixos-images.
    Client("nixos", '--load {kernel} --initrd={initrd} --append="{line}"', EITHER, BOOT),
    Client("nixos-crash-dump", '-p {kernel} --initrd={initrd} --command-line="{line}" ', EITHER, CRASH),
    Client(
        "nixos-crash-dump-old",
        '-p {kernel} --initrd={initrd} --reset-vga --console-vga --append="{line}"',
        EITHER,
        CRASH,
    ),
    Client(
        "nixos-anywhere",
        "--load {kernel} --kexec-syscall-auto --initrd={initrd} --no-checks --command-line '{line}'",
        SEGMENTS,
        BOOT,
        unknown_to_c="it uses kexec_file_load, where the checks cannot be left out",
        unlike_newest="so does this one",
    ),
    Client(
        "nixos-anywhere-old",
        "--load {kernel} --initrd={initrd} --no-checks --command-line '{line}'",
        EITHER,
        BOOT,
    ),
    # SONiC.
    Client("sonic", '-a -l {kernel} --initrd={initrd} --append="{line}"', FILE, BOOT),
    Client("sonic-old", '-l {kernel} --initrd={initrd} --append="{line}"', EITHER, BOOT),
    # Heads: the last initrd counts.
    Client("heads", '-d -l {kernel} --initrd={initrd} --append="{line}"', EITHER, BOOT),
    Client(
        "heads-two-initrds", '-l {kernel} --initrd={other} --initrd={initrd} --append="{line}"', EITHER, BOOT
    ),
    # petitboot on x86; with a device tree, see below.
    Client("petitboot", '-l --debug --initrd={initrd} --append="{line}" {kernel}', EITHER, BOOT),
    # Others.
    Client("arch-wiki", "-l {kernel} --initrd={initrd} --reuse-cmdline", EITHER, BOOT, REUSED[BOOT]),
    Client(
        "void",
        '--load-panic {kernel} --initrd={initrd} --reuse-cmdline --append="irqpoll maxcpus=1"',
        EITHER,
        CRASH,
        f"{REUSED[CRASH]} irqpoll maxcpus=1",
    ),
    Client("rear", '-l {kernel} --initrd={initrd} --command-line="{line}"', EITHER, BOOT),
    Client(
        "drgn",
        '--load-panic --kexec-syscall-auto --command-line="{line}" --initrd {initrd} {kernel}',
        FILE,
        CRASH,
    ),
    Client("selftest-file", "--load --kexec-file-syscall {kernel}", FILE, BOOT, "", initrd=False),
    Client("selftest-load", "--load --kexec-syscall {kernel}", SEGMENTS, BOOT, "", initrd=False),
    Client("selftest-short", "-s -l {kernel}", FILE, BOOT, "", initrd=False),
    Client("no-action", '-s --initrd {initrd} {kernel} --append="{line}"', FILE, BOOT, then=SHUT_DOWN),
    Client("kernel-alone", "{kernel}", EITHER, BOOT, "", initrd=False, then=SHUT_DOWN),
    Client("force", '-f {kernel} --initrd={initrd} --append="{line}"', EITHER, BOOT, then=JUMP),
    Client(
        "force-quick", '-f -x -y {kernel} --initrd={initrd} --append="{line}"', EITHER, BOOT, then=JUMP[2:]
    ),
]


def check(lab: Lab, client: Client, done: Done, call: str, *, in_memory: bool = False) -> None:
    """A program must have done what the client wants."""
    assert done.status == 0, done.stderr
    assert [each.what for each in done.calls] == [call, *client.then]
    load = done.calls[0]
    assert load.crash is (client.purpose is CRASH)
    if call == FILE:
        in_memory = in_memory or client.kernel != "kernel"
        assert load.kernel.startswith("/memfd:") if in_memory else load.kernel == lab.names["kernel"]
        assert load.initrd == (lab.names["initrd"] if client.initrd else "-")
        assert load.no_initrd is not client.initrd
        assert load.line == client.line
    else:
        assert done.loaded is not None
        # Kernel and initrd are looked at, too.
        told = facts(done.loaded, _BZIMAGE, INITRD if client.initrd else None)
        tail = r" acpi_rsdp=0x\w+ elfcorehdr=HERE" if client.purpose is CRASH else ""
        assert re.fullmatch(re.escape(client.line) + tail, told["command line"].decode().strip())


@pytest.mark.parametrize("client", [each for each in CLIENTS if not each.unknown_to_c], ids=lambda c: c.name)
def test_the_table_is_right(client: Client, lab: Lab) -> None:
    """The C tool takes it so; what is left open it loads with kexec_load."""
    done = lab.theirs(client.options)
    if not client.then:
        # It writes cached data to disk after each load, too.
        done = replace(done, calls=done.calls[:1])
    check(lab, client, done, SEGMENTS if client.call == EITHER else client.call)


@pytest.mark.parametrize(
    "client", [each for each in CLIENTS if not each.unlike_newest], ids=lambda client: client.name
)
def test_the_newest_tool_takes_it_so(client: Client, newest_lab: Lab) -> None:
    """kexec-tools 2.0.32 uses kexec_file_load where nothing else is said, as pykexec does; but it copies
    every kernel into memory, and loses its signature in extended attributes."""
    done = newest_lab.theirs(client.options)
    if not client.then:
        done = replace(done, calls=done.calls[:1])
    check(newest_lab, client, done, FILE if client.call == EITHER else client.call, in_memory=True)


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_client(client: Client, lab: Lab) -> None:
    done = lab.ours(client.options)
    check(lab, client, done, done.calls[0].what if client.call == EITHER else client.call)
    assert done.stdout == ""
    if "-d" not in client.options:
        lacks_initrd = client.purpose is Purpose.CRASH and not client.initrd
        assert [line.partition(": the")[0] for line in done.stderr.splitlines()] == [
            "pykexec: warning: no --initrd"
        ] * lacks_initrd


@dataclass(frozen=True)
class Action:
    """A command line that loads nothing."""

    name: str
    options: str
    calls: Sequence[Call] = ()
    status: int = 0
    loaded: str = ""
    """What is loaded before: "kexec", "crash", or nothing."""
    unlike_c: str = ""


def unloads(purpose: Purpose, what: str = "file-unload") -> Sequence[Call]:
    return [Call(what, purpose is CRASH)]


JUMPS = [Call(what) for what in JUMP]
BY_DEFAULT = "2.0.25 uses kexec_load where nothing is said"
ACTIONS = [
    Action("kdumpctl-unload", "-p -u", unloads(CRASH), unlike_c=BY_DEFAULT),
    Action("kdumpctl-unload-secure-boot", "-s -p -u", unloads(CRASH)),
    Action("suse-unload", "-a -p -u", unloads(CRASH)),
    Action("unload-loaded", "-s -p -u", unloads(CRASH), loaded="crash"),
    Action("sonic-unload", "-u", unloads(BOOT), unlike_c=BY_DEFAULT),
    Action("selftest-unload-file", "--unload --kexec-file-syscall", unloads(BOOT)),
    Action("selftest-unload-load", "--unload --kexec-syscall", unloads(BOOT, "unload")),
    Action("unload-c", "-c -p -u", unloads(CRASH, "unload")),
    Action("unload-reversed", "-s -u -p", unloads(CRASH), unlike_c="then wants a kernel to load, 255"),
    Action("execute", "-e", JUMPS, loaded="kexec"),
    Action("execute-long", "--exec", JUMPS, loaded="kexec"),
    Action("execute-quick", "-e -x -y", JUMPS[2:], loaded="kexec"),
    Action("execute-no-ifdown", "-e -x", [JUMPS[0], JUMPS[2]], loaded="kexec"),
    Action("execute-nothing", "-e", status=1),
    # nixos-anywhere gives the administrator's options to the load and to this.
    Action("execute-how", "-e -i -t bzImage64 --mem-max=0x7fffffff --reset-vga", JUMPS, loaded="kexec"),
    Action("execute-what", "-e --append=a", status=1, loaded="kexec"),
    Action("execute-what-x86", "-e --noefi", status=1, loaded="kexec"),
    Action("unload-how", "-s -u -i --mem-min=4096 --serial=ttyS0", unloads(BOOT)),
    Action("status", "-S"),
    Action("status-loaded", "-S", status=1, loaded="crash"),
    Action("status-other", "-S", loaded="kexec"),
    Action("status-boot", "-l -S", status=1, loaded="kexec"),
    Action("status-crash", "-p -S", status=1, loaded="crash"),
    Action("status-together", "-lS", status=1, loaded="kexec"),
]


@pytest.mark.parametrize(
    "action", [each for each in ACTIONS if not each.unlike_c], ids=lambda each: each.name
)
def test_the_table_of_actions_is_right(action: Action, lab: Lab) -> None:
    set_loaded(lab, action)
    done = lab.theirs(action.options)
    assert (done.status, done.calls) == (action.status, list(action.calls))


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.name)
def test_action(action: Action, lab: Lab) -> None:
    set_loaded(lab, action)
    done = lab.ours(action.options)
    assert (done.status, done.calls, done.stdout) == (action.status, list(action.calls), "")


def set_loaded(lab: Lab, action: Action) -> None:
    if action.loaded:
        write(lab.root, LOADED[action.loaded], "1\n")


# The kernel refuses: whether the other call is tried, and the exit status.
NOT_THERE = [errno.ENOSYS, errno.EINVAL, errno.ENOEXEC, errno.ENOTSUP]
REFUSED = [
    errno.EKEYREJECTED,
    errno.ENOKEY,
    errno.EBADMSG,
    errno.ENOPKG,
    errno.ELIBBAD,
    errno.EMSGSIZE,
    errno.EPERM,
    errno.EBUSY,
]
FAILURES = [
    *(
        (f"-s {load}", number, 0, ["file"], 253, "not available")
        for number in NOT_THERE
        for load in ("-l", "-p")
    ),
    *(("-a -l", number, 0, ["file", "load"], 0, "") for number in NOT_THERE),
    *(("-a -l", number, 0, ["file"], 255, "kexec_file_load failed: ") for number in REFUSED),
    *(("-s -p", number, 0, ["file"], 255, "kexec_file_load failed: ") for number in REFUSED),
    *(("-c -p", 0, number, ["load"], 255, "kexec_load failed: ") for number in (errno.EPERM, errno.EBUSY)),
]


@pytest.mark.parametrize(
    ("options", "file_error", "load_error", "calls", "status", "text"),
    [
        pytest.param(
            *failure, id=f"{failure[0]} {errno.errorcode[failure[1] or failure[2]]}".replace(" ", "-")
        )
        for failure in FAILURES
    ],
)
@pytest.mark.parametrize("tool", ["theirs", "ours"])
def test_refusal(
    options: str,
    file_error: int,
    load_error: int,
    calls: Sequence[str],
    status: int,
    text: str,
    tool: str,
    lab: Lab,
) -> None:
    """What scripts judge by, and people search for."""
    run = lab.ours if tool == "ours" else lab.theirs
    done = run(f"{options} {{kernel}} --initrd={{initrd}}", file_error, load_error)
    assert done.status == status
    assert [call.what for call in done.calls if call.what != "sync"] == calls
    assert text in done.stderr


@pytest.mark.parametrize(
    ("options", "status", "text"),
    [
        pytest.param(options, status, text, id=options.replace(" ", "_"))
        for options, status, text in [
            ("-l", 255, "No kernel specified"),
            ("--bogus {kernel}", 1, "--bogus"),
            ("-Z {kernel}", 1, "Z"),
            ("-l {kernel} --append", 1, "--append"),
            ("-l {none}", None, "{none}"),
            ("-s -l {none}", None, "{none}"),
            ("-l {kernel} --initrd={none}", None, "{none}"),
            ("-s -l {kernel} --initrd={none}", None, "{none}"),
            ("-c -l {text}", 255, "Cannot determine the file type of {text}"),
            ("-t bogus -c -l {kernel}", None, "Unsupported kernel type bogus"),
            ("-c -p {kernel}", 1, "Memory for crashkernel is not reserved"),
            ("-s -p {kernel}", 1, "Memory for crashkernel is not reserved"),
            ("-v", 0, "kexec-tools"),
            ("--version", 0, "kexec-tools"),
            ("-h", 0, "--reuse-cmdline"),
            ("--help", 0, "--kexec-file-syscall"),
        ]
    ],
)
@pytest.mark.parametrize("tool", ["theirs", "ours"])
def test_nothing_is_done(options: str, status: int | None, text: str, tool: str, lab: Lab) -> None:
    """For reasons that show before the kernel is asked. None: any status that says so."""
    iomem = (lab.root / "proc/iomem").read_text()
    write(lab.root, "proc/iomem", "".join(line for line in iomem.splitlines(True) if "Crash" not in line))
    done = (lab.ours if tool == "ours" else lab.theirs)(options)
    assert done.calls == []
    assert done.status == status if status is not None else done.status not in (0, None), done
    output = done.stdout + done.stderr
    assert text.format(**lab.names) in output


def test_heads_starts_xen(lab: Lab) -> None:
    """A Multiboot kernel, whose modules are files with arguments."""
    program = multiboot.build(lab.folder, 1)
    options = f'-l {program} --command-line "{{line}}" --module "{{initrd}} one=1 two" --module "{{other}}"'
    for done in (lab.theirs(options), lab.ours(options)):
        assert done.status == 0, done.stderr
        assert done.stdout == ""
        assert done.loaded is not None
        told = b"".join(data for _, _, data in done.loaded.segments)
        for part in (LINE.encode() + b"\0", f"{lab.names['initrd']} one=1 two\0".encode()):
            assert told.count(part) == 1
        assert {INITRD, INITRD[::-1]} <= {data[: len(INITRD)] for _, _, data in done.loaded.segments}


ARM64 = "qemu-arm64-6.1-1g"
MARKER = b"the tree of the file\0"
TREE = Blob(
    {
        "#address-cells": struct.pack(">I", 2),
        "#size-cells": struct.pack(">I", 2),
        "compatible": MARKER,
        "chosen": {"bootargs": b"old\0"},
        "memory@40000000": {"device_type": b"memory\0", "reg": struct.pack(">2Q", 1 << 30, 1 << 30)},
    }
)


@pytest.mark.parametrize(
    ("options", "kernel", "crash"),
    [
        pytest.param(
            '-l --debug --initrd={initrd} --dtb={dtb} --append="{line}" {image}',
            "image",
            False,
            id="petitboot",
        ),
        pytest.param(
            '--type uImage -d -p {uimage} --dtb={dtb} --command-line="{line}" --initrd={initrd}',
            "uimage",
            True,
            id="openbmc",
        ),
    ],
)
def test_clients_with_device_trees(options: str, kernel: str, crash: bool, lab: Lab) -> None:
    files = {"image": FakeImage().build(), "dtb": TREE.build(), "initrd": INITRD}
    names = {name: lab.folder / name for name in (*files, "uimage")}
    for name, content in files.items():
        names[name].write_bytes(content)
    header = ["-A", "arm64", "-T", "kernel", "-O", "linux", "-C", "none", "-a", "0x80000", "-e", "0x80000"]
    subprocess.run(
        ["mkimage", *header, "-d", names["image"], names["uimage"]], check=True, capture_output=True
    )
    there = replace(lab, names={name: str(path) for name, path in names.items()})
    done = there.ours(options, machine=snapshot(ARM64))
    assert (done.status, done.stdout) == (0, ""), done.stderr
    assert [(call.what, call.crash) for call in done.calls] == [("load", crash)]
    assert done.loaded is not None
    segments = [data for _, _, data in done.loaded.segments]
    assert {files["image"], INITRD} <= {
        data[: len(file)] for data in segments for file in (files["image"], INITRD)
    }
    (tree,) = (data for data in segments if data.startswith(b"\xd0\x0d\xfe\xed"))
    assert MARKER in tree
    assert LINE.encode() + b"\0" in tree


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("options", ["-v", "-l {kernel} --initrd={initrd} --machine={root}"])
def test_nobody_listens(options: str, closed: str, lab: Lab) -> None:
    """From init scripts, without streams and without an environment."""
    there = replace(lab, names={**lab.names, "root": str(lab.root)})
    command = [sys.executable, "-m", "pykexec", *there.words(options)]
    shell = f"cd {PROJECT}; exec env -i {shlex.join(command)} {closed}"
    done = subprocess.run(["sh", "-c", shell], capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")

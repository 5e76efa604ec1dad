"""What kexec-tools gets wrong on its command line, and pykexec right.

What is wrong in 2.0.32 is shown; some of it is newer than that. CPUs with gaps in their numbers, whose notes
it loses, are a case of test_x86_64; where it drops an option, test_system_calls has it.
"""

import errno
import itertools
import shlex

import pytest

from pykexec.plan import Purpose
from tests.differential.cases import _BZIMAGE
from tests.differential.meaning import facts
from tests.differential.programs import INITRD, Done, Lab
from tests.support import multiboot
from tests.support.machines import write


def line_of(done: Done, initrd: bytes | None = None) -> bytes:
    """The command line that the new kernel was given."""
    assert done.status == 0, done.stderr
    assert done.loaded is not None
    line: bytes = facts(done.loaded, _BZIMAGE, initrd)["command line"]
    return line.strip()


def done_by(done: Done) -> list[str]:
    return [call.what for call in done.calls if call.what != "sync"]


@pytest.mark.parametrize("option", ["--noefi", "--pass-memmap-cmdline", "--reuse-video-type"])
def test_options_behind_the_command_line_leave_it_alone(option: str, newest_lab: Lab) -> None:
    for order in itertools.permutations(["-l", "{kernel}", "--append='a=1 b'", option]):
        line = f"-c {' '.join(order)}"
        assert line_of(newest_lab.ours(line)) == b"a=1 b"
    behind = f"-c -l {{kernel}} --append='a=1 b' {option}"
    assert line_of(newest_lab.theirs(behind)) == b"", "mended in kexec-tools?"


@pytest.mark.parametrize(("call", "flags"), [("-c", 0x3E0001), ("-s", 0x2 | 0x4 | 0x8)])
def test_debugging_does_not_depend_on_its_place(call: str, flags: int, newest_lab: Lab) -> None:
    """After 2.0.32, -d adds a flag of kexec_load that no kernel knows, and a -p behind it takes it away."""
    for order in itertools.permutations([call, "-d", "-p"]):
        for run in (newest_lab.theirs, newest_lab.ours):
            assert run(f"{' '.join(order)} {{kernel}}").calls[0].flags == flags


@pytest.mark.parametrize("options", ["-l -e", "-e -l", "-l -f", "-f -l"])
def test_loading_and_starting_go_together(options: str, newest_lab: Lab) -> None:
    ours = newest_lab.ours(f"-x -y {options} {{kernel}}")
    assert done_by(ours) == ["file", "reboot"]


def test_loading_and_starting_in_the_c_tool(newest_lab: Lab) -> None:
    assert "Nothing has been loaded" in newest_lab.theirs("-l -e {kernel}").stderr
    assert done_by(newest_lab.theirs("-e -l {kernel}")) == ["file", "ifdown"], "mended in kexec-tools?"


KEPT = 'xcrashkernel=1 dyndbg="file a.c +p; crashkernel=3" crashkernel_x=4'
RUNNING = KEPT.replace("=1 ", "=1 crashkernel=2 ")


def test_reused_command_lines_keep_what_is_not_of_that_name(newest_lab: Lab) -> None:
    write(newest_lab.root, "proc/cmdline", f"BOOT_IMAGE=/vmlinuz {RUNNING}\n")
    line = "-c -p {kernel} --reuse-cmdline"
    ours = line_of(newest_lab.ours(line)).decode()
    assert ours.startswith(f"{KEPT} acpi_rsdp=")
    theirs = line_of(newest_lab.theirs(line)).decode()
    # It stops at the first word that only ends in the name.
    assert "crashkernel=2" in shlex.split(theirs), "mended in kexec-tools?"


def test_memory_that_is_hidden_from_other_users(newest_lab: Lab) -> None:
    """/proc/iomem without CAP_SYS_ADMIN (kernel/resource.c)."""
    path = newest_lab.root / "proc/iomem"
    lines = path.read_text().splitlines()
    path.write_text("".join(f"00000000-00000000 : {line.split(' : ')[1]}\n" for line in lines))
    for action in ("-l", "-p"):
        ours = newest_lab.ours(f"-c {action} {{kernel}}")
        assert ours.calls == []
        assert ours.status not in (0, None)
        what, *hint = ours.stderr.splitlines()
        assert "/proc/iomem" in what
        assert "only zeros" in what
        assert "root" in " ".join(hint)
        theirs = newest_lab.theirs(f"-c {action} {{kernel}}")
        assert "zero" not in theirs.stderr


@pytest.mark.parametrize(
    ("options", "status"),
    [("-d -S", 0), ("-S -d", 0), ("-d -l -S", 1), ("-l -S", 1), ("-S", 0)],
)
def test_a_status_is_of_the_kernel_asked_for(options: str, status: int, newest_lab: Lab) -> None:
    """After 2.0.32, -d turns the question about the crash kernel into one about the other."""
    write(newest_lab.root, "sys/kernel/kexec_loaded", "1\n")
    for run in (newest_lab.theirs, newest_lab.ours):
        assert run(options).status == status


def test_formats_that_only_kexec_load_takes(newest_lab: Lab) -> None:
    """Without -c the C tool gives up on them."""
    program = multiboot.build(newest_lab.folder, 1)
    ours = newest_lab.ours(f"-l {program}", file_error=errno.ENOEXEC)
    assert (ours.status, done_by(ours)) == (0, ["file", "load"])
    theirs = newest_lab.theirs(f"-l {program}", file_error=errno.ENOEXEC)
    assert (theirs.status, done_by(theirs)) == (1, []), "mended in kexec-tools?"


@pytest.mark.parametrize("purpose", Purpose)
def test_an_initrd_survives_the_second_way(purpose: Purpose, newest_lab: Lab) -> None:
    """The C tool parses its options anew there, and lost it once (9cf7212)."""
    action = "-p" if purpose is Purpose.CRASH else "-l"
    ours = newest_lab.ours(f"{action} {{kernel}} --initrd={{initrd}} --append=a", file_error=errno.EINVAL)
    assert done_by(ours) == ["file", "load"]
    assert line_of(ours, INITRD).startswith(b"a")

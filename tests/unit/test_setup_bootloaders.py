"""What setup changes of boot loaders: each reserves enough afterwards, and nothing else is another."""

import os
import re
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pykexec.errors import PykexecError, UsageError
from pykexec.kdump.reservation import crashkernel
from pykexec.kdump.reservation.support import support
from pykexec.kdump.setup import bootloader
from pykexec.kdump.setup.change import Change
from pykexec.kdump.setup.need import Need
from pykexec.machine.root import Folder
from pykexec.memory import GIB, MIB
from pykexec.parameters import parameters
from tests.support import boot_layouts, grub, systemd
from tests.support.boot_layouts import LAYOUTS, MACHINE_ID, PARAMETERS, RELEASE, Layout
from tests.support.effort import examples
from tests.support.machines import write
from tests.support.pe import portable_executable
from tests.support.stopwatch import Stopwatch

NEED = Need("256M", 200 * MIB, 4 * GIB, support("x86_64", "6.1.0"))
GRUBBY = [name for name, layout in LAYOUTS.items() if any("grubby" in words for words in layout.commands)]
EDITED = [name for name in LAYOUTS if name not in GRUBBY]


def change(root: Path, need: Need = NEED) -> Change:
    return bootloader.change(Folder(root), "x86_64", need)


def apply(root: Path, found: Change) -> None:
    for edit in found.edits:
        write(root, edit.path.lstrip("/"), edit.after)


def words_of(found: Change) -> list[list[str]]:
    return [list(command.words) for command in found.commands]


@pytest.mark.parametrize("name", LAYOUTS)
def test_what_is_changed(tmp_path: Path, name: str) -> None:
    layout = LAYOUTS[name]
    found = change(layout.build(tmp_path))
    assert sorted(edit.path for edit in found.edits) == sorted(f"/{path}" for path in layout.edited)
    assert words_of(found) == [list(words) for words in layout.commands]
    assert not found.by_hand
    for edit in found.edits:
        file = tmp_path / edit.path.lstrip("/")
        assert edit.before == (file.read_text() if file.exists() else None)
        check_only_our_words(edit.before or "", edit.after)


def check_only_our_words(before: str, after: str) -> None:
    """Only lines with a crashkernel= differ, and these in nothing else, but for a file's own head."""
    old, new = before.split("\n"), after.split("\n")
    fresh = [line for line in new if line not in old and not line.startswith("#")]
    assert fresh
    for line in fresh:
        assert crashkernel.PARAMETER in line
    for line in old:
        assert line in new or any(line.replace('"', "").split() == without_ours(each) for each in fresh), (
            "a line is missing"
        )


def without_ours(line: str) -> list[str]:
    return [word for word in line.replace('"', "").split() if not word.startswith("crashkernel=256M")]


@pytest.mark.parametrize("name", EDITED)
def test_nothing_is_left_to_change(tmp_path: Path, name: str) -> None:
    apply(LAYOUTS[name].build(tmp_path), change(tmp_path))
    if "grub.cfg" in str(LAYOUTS[name].files):
        # What update-grub does in a system.
        for path in ("boot/grub/grub.cfg", "boot/grub2/grub.cfg"):
            if (tmp_path / path).exists():
                text = (tmp_path / path).read_text()
                (tmp_path / path).write_text(text.replace("quiet", "quiet crashkernel=256M"))
    again = change(tmp_path)
    assert (again.edits, again.commands) == ((), ())


@pytest.mark.parametrize("name", LAYOUTS)
def test_what_reserves_enough_is_left(tmp_path: Path, name: str) -> None:
    """Also in forms that setup does not write."""
    enough = "crashkernel=1G-:512M"
    root = LAYOUTS[name].build(tmp_path)
    for path in root.rglob("*"):
        if path.is_file() and not os.access(path, os.X_OK):
            text = path.read_text()
            for before in ("ro quiet", "root=/dev/dasda1", "$tuned_params", "rhgb quiet", "quiet security"):
                text = text.replace(before, f"{enough} {before}")
            path.write_text(text.replace("linux /a", f"linux /a\noptions {enough}"))
    if name.startswith(("debian-1", "debian-u")):
        (root / "etc/default/grub").write_text(f'GRUB_CMDLINE_LINUX="{enough}"\n')
        (root / "etc/default/u-boot").write_text(f'U_BOOT_PARAMETERS="{enough}"\n')
        (root / "etc/default/grub.d/kdump-tools.cfg").unlink(missing_ok=True)
    if name == "raspberry-pi-debian":
        write(root, "etc/default/raspi-extra-cmdline", enough)
    found = change(root)
    if name == "openeuler-grubby":  # whose menu is not there
        assert not found.edits
    else:
        assert (found.edits, found.commands) == ((), ())


@pytest.mark.programs
@pytest.mark.parametrize("name", ["debian-12-grub", "debian-13-grub", "opensuse-grub2", "openeuler-grubby"])
def test_a_shell_reads_grub_s_defaults_so(tmp_path: Path, name: str) -> None:
    apply(LAYOUTS[name].build(tmp_path), change(tmp_path))
    script = (
        'cd "$1"; . ./etc/default/grub\n'
        "for x in ./etc/default/grub.d/*.cfg; do if [ -e $x ]; then . $x; fi; done\n"
        'printf %s "$GRUB_CMDLINE_LINUX $GRUB_CMDLINE_LINUX_DEFAULT"\n'
    )
    run = subprocess.run(["sh", "-c", script, "sh", tmp_path], capture_output=True, text=True, check=True)
    assert NEED.is_met_by(run.stdout)
    assert run.stdout.split()[-1] == "crashkernel=256M"
    assert grub.is_script(boot_layouts.grub_menu(run.stdout))


@pytest.mark.programs
def test_a_shell_reads_u_boot_menu_s_defaults_so(tmp_path: Path) -> None:
    apply(LAYOUTS["debian-u-boot-menu"].build(tmp_path), change(tmp_path))
    script = (
        'cd "$1"; . ./etc/default/u-boot; . ./etc/u-boot-menu/conf.d/pykdump.conf; echo $U_BOOT_PARAMETERS'
    )
    run = subprocess.run(["sh", "-c", script, "sh", tmp_path], capture_output=True, text=True, check=True)
    assert run.stdout == "ro quiet crashkernel=256M\n"


@pytest.mark.programs
def test_bootctl_reads_the_entries_so(tmp_path: Path) -> None:
    layout = LAYOUTS["systemd-boot"]
    apply(layout.build(tmp_path), change(tmp_path))
    for release in (RELEASE, "6.1.0-29-amd64"):
        for name in ("linux", "initrd.img"):
            write(tmp_path, f"boot/efi/{MACHINE_ID}/{release}/{name}", "x")
    found = {each["id"]: each.get("options") for each in systemd.bootctl_list(tmp_path / "boot/efi")}
    for release in (RELEASE, "6.1.0-29-amd64"):
        assert found[f"{MACHINE_ID}-{release}.conf"] == f"{PARAMETERS} crashkernel=256M"
    assert found["other.conf"] == PARAMETERS


@pytest.mark.programs
def test_kernel_install_gives_it_to_new_entries(tmp_path: Path) -> None:
    apply(LAYOUTS["systemd-boot"].build(tmp_path), change(tmp_path))
    boot = tmp_path / "boot/efi"
    folder = boot / MACHINE_ID / "9.9"
    folder.mkdir(parents=True)
    (tmp_path / "vmlinuz").write_text("x")
    variables = {
        "LAYOUT": "bls",
        "MACHINE_ID": MACHINE_ID,
        "ENTRY_TOKEN": MACHINE_ID,
        "BOOT_ROOT": str(boot),
        "CONF_ROOT": str(tmp_path / "etc/kernel"),
        "STAGING_AREA": str(tmp_path),
        "VERBOSE": "0",
    }
    environment = {**os.environ, **{f"KERNEL_INSTALL_{name}": value for name, value in variables.items()}}
    plugin = "/usr/lib/kernel/install.d/90-loaderentry.install"
    command: Sequence[str | Path] = [plugin, "add", "9.9", folder, tmp_path / "vmlinuz"]
    subprocess.run(command, env=environment, check=True)
    text = (boot / f"loader/entries/{MACHINE_ID}-9.9.conf").read_text()
    assert f"{PARAMETERS} crashkernel=256M" in text


def test_grubby_brings_back_what_was_there(tmp_path: Path) -> None:
    root = LAYOUTS["fedora-grubby"].build(tmp_path)
    (command,) = change(root).commands
    assert command.undo == (("grubby", "--update-kernel=ALL", "--remove-args=crashkernel=256M"),)
    write(root, "boot/loader/entries/b.conf", "linux /b\noptions a crashkernel=64M\n")
    (command,) = change(root).commands
    assert command.undo[1:] == (("grubby", "--update-kernel=/boot/b", "--args=crashkernel=64M"),)


@pytest.mark.parametrize("first", ["a", "c"])
def test_each_of_several_entries_with_one_kernel_counts(tmp_path: Path, first: str) -> None:
    root = LAYOUTS["fedora-grubby"].build(tmp_path)
    for path in (root / "boot/loader/entries").iterdir():
        path.unlink()
    write(root, f"boot/loader/entries/{first}.conf", "linux /b\noptions a crashkernel=512M\n")
    write(root, "boot/loader/entries/b.conf", "linux /b\noptions a\n")
    assert change(root).commands


@pytest.mark.parametrize("named", [False, True])
def test_a_unified_kernel_image_is_told_of(tmp_path: Path, named: bool) -> None:
    """Options of an entry would take the place of the command line inside."""
    sections = [(".osrel", b"ID=debian\n"), (".linux", b"x"), (".cmdline", b"ro")]
    write(tmp_path, "efi/a.efi" if named else "efi/EFI/Linux/a.efi", portable_executable(sections))
    if named:
        write(tmp_path, "efi/loader/entries/a.conf", "uki /a.efi\n")
    found = change(tmp_path)
    assert (found.edits, found.commands) == ((), ())
    assert "/etc/kernel/cmdline" in found.by_hand
    assert NEED.parameter in found.by_hand


@pytest.mark.parametrize(
    ("files", "what"),
    [
        ({}, "no boot loader"),
        ({"ostree/repo/config": "", "usr/bin/rpm-ostree": ""}, "rpm-ostree kargs"),
        ({"ostree/repo/config": ""}, "ostree admin kargs edit-in-place"),
        ({"boot/extlinux/extlinux.conf": ""}, "no boot loader"),
        ({"boot/extlinux/extlinux.conf": "label a\nlocalboot 0\n"}, "no boot loader"),
    ],
)
def test_what_is_not_known_is_told_of(tmp_path: Path, files: dict[str, str], what: str) -> None:
    Layout(files, []).build(tmp_path)
    found = change(tmp_path)
    assert (found.edits, found.commands) == ((), ())
    assert what in found.by_hand
    assert NEED.parameter in found.by_hand


UNREADABLE: dict[str, tuple[str, str, str | bytes, str]] = {
    "substitution": ("opensuse-grub2", "etc/default/grub", "A=1\nGRUB_CMDLINE_LINUX_DEFAULT=$(x)\n", ":2:"),
    "backquotes": ("opensuse-grub2", "etc/default/grub", 'GRUB_CMDLINE_LINUX="`x`"\n', ":1:"),
    "a part": ("opensuse-grub2", "etc/default/grub", 'GRUB_CMDLINE_LINUX="xcrashkernel=1M"\n', ":1:"),
    "condition": ("opensuse-grub2", "etc/default/grub", "if x; then\n. y\nfi\n", ":1:"),
    "no end": ("debian-12-grub", "etc/default/grub", 'A="\n', ":1:"),
    "in a folder": ("debian-12-grub", "etc/default/grub.d/a.cfg", "B=1\nx() { :; }\n", ":2:"),
    "a variable": ("opensuse-grub2", "etc/default/grub", 'A=b\nGRUB_CMDLINE_LINUX_DEFAULT="$A c"\n', ":2:"),
    "another's": ("debian-12-grub", "etc/default/grub.d/pykdump.cfg", "GRUB_TIMEOUT=1\n", "pykdump.cfg"),
    "overridden": ("debian-12-grub", "etc/default/grub.d/z.cfg", "GRUB_CMDLINE_LINUX_DEFAULT=x\n", "z.cfg"),
    "no text": ("extlinux", "boot/extlinux/extlinux.conf", b"a\nlabel \xff\n", ":2:"),
    "a NUL": ("extlinux", "boot/extlinux/extlinux.conf", "a\n\0\n", ":2:"),
    "too long": ("extlinux", "boot/extlinux/extlinux.conf", "append a\n" * 10_000, "bytes"),
    "no append": ("extlinux", "boot/extlinux/extlinux.conf", "label a\nlinux b\n", ":1:"),
    "include": ("extlinux", "boot/extlinux/extlinux.conf", "INCLUDE x\n", ":1:"),
    "menu include": ("extlinux", "boot/extlinux/extlinux.conf", "append a\n menu  include x\n", ":2:"),
    "append -": ("extlinux", "boot/extlinux/extlinux.conf", "label a\nlinux b\nappend -\n", ":3:"),
    "quoted": ("extlinux", "boot/extlinux/extlinux.conf", 'label a\nappend a="b crashkernel=1M"\n', ":2:"),
    "parmfile": ("zipl", "etc/zipl.conf", "[a]\nimage=/b\nparmfile=/c\n", ":1:"),
    "quotes": ("zipl", "etc/zipl.conf", "[a]\nimage=/b\nparameters='a\"b'\n", ":3:"),
    "two lines": ("raspberry-pi-os", "boot/firmware/cmdline.txt", "a\nb\n", "cmdline.txt"),
    "elsewhere": ("raspberry-pi-os", "boot/firmware/config.txt", "[all]\ncmdline=x\n", ":2:"),
    "lines for new ones": ("systemd-boot", "etc/kernel/cmdline", "a\nb\n", "cmdline"),
    "empty options": ("entries-of-a-vendor", "efi/loader/entries/a.conf", "linux /a\noptions\n", "a.conf"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_read_is_not_changed(tmp_path: Path, name: str) -> None:
    layout, path, text, place = UNREADABLE[name]
    write(LAYOUTS[layout].build(tmp_path), path, text)
    with pytest.raises(PykexecError) as caught:
        change(tmp_path)
    assert Path(path).name in caught.value.what
    assert place in caught.value.what
    assert NEED.parameter in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('A="b"', 'A="b"\nGRUB_CMDLINE_LINUX_DEFAULT="crashkernel=256M"\n'),
        ("GRUB_CMDLINE_LINUX=a", 'GRUB_CMDLINE_LINUX="a crashkernel=256M"'),
        ("GRUB_CMDLINE_LINUX='a' # b", "GRUB_CMDLINE_LINUX='a crashkernel=256M' # b"),
        ("GRUB_CMDLINE_LINUX_DEFAULT=", 'GRUB_CMDLINE_LINUX_DEFAULT="crashkernel=256M"'),
        ('GRUB_CMDLINE_LINUX="crashkernel=auto b"', 'GRUB_CMDLINE_LINUX="crashkernel=256M b"'),
        (
            'GRUB_CMDLINE_LINUX="crashkernel=64M"\nGRUB_CMDLINE_LINUX_DEFAULT="a"\n',
            'GRUB_CMDLINE_LINUX="crashkernel=256M"\nGRUB_CMDLINE_LINUX_DEFAULT="a"\n',
        ),
        (
            'GRUB_CMDLINE_LINUX_DEFAULT="a"\nGRUB_CMDLINE_LINUX_DEFAULT="b"\n',
            'GRUB_CMDLINE_LINUX_DEFAULT="a"\nGRUB_CMDLINE_LINUX_DEFAULT="b crashkernel=256M"\n',
        ),
    ],
)
def test_lines_of_grub_s_defaults(tmp_path: Path, before: str, after: str) -> None:
    write(LAYOUTS["opensuse-grub2"].build(tmp_path), "etc/default/grub", before)
    (edit,) = change(tmp_path).edits
    assert edit.after == after


def test_a_menu_that_is_older_than_its_files_is_made_anew(tmp_path: Path) -> None:
    apply(LAYOUTS["debian-12-grub"].build(tmp_path), change(tmp_path))
    again = change(tmp_path)
    assert not again.edits
    assert words_of(again) == [["update-grub"]]


@pytest.mark.parametrize(
    ("layout", "path"),
    [("raspberry-pi-os", "boot/firmware/cmdline.txt"), ("systemd-boot", "etc/kernel/cmdline")],
)
def test_blanks_before_a_line_stay(tmp_path: Path, layout: str, path: str) -> None:
    write(LAYOUTS[layout].build(tmp_path), path, " \tro quiet\n")
    (edit,) = (each for each in change(tmp_path).edits if each.path == f"/{path}")
    assert edit.after == " \tro quiet crashkernel=256M\n"


def test_carriage_returns_stay(tmp_path: Path) -> None:
    text = "label a\r\nlinux b\r\nappend c\r\n"
    write(tmp_path, "boot/extlinux/extlinux.conf", text)
    (edit,) = change(tmp_path).edits
    assert edit.after == text.replace("append c", "append c crashkernel=256M")


WORDS = st.lists(
    st.sampled_from(
        [
            "root=/dev/sda1",
            "quiet",
            "--",
            "crashkernel=64M",
            "crashkernel=1G,high",
            "crashkernel=",
            'a="b c"',
            'a="b -- c"',
            "é",
        ]
    )
    | st.text("abc=-\"' \t", max_size=6),
    max_size=8,
).map(" ".join)


@settings(max_examples=examples(300))
@given(WORDS)
def test_put_into_changes_nothing_else(line: str) -> None:
    try:
        found = NEED.put_into(line)
    except UsageError:
        assert '"' in line or re.search(rf"\S{crashkernel.PARAMETER}", line)
        return
    assert crashkernel.values(found) == ("256M",)
    assert NEED.is_met_by(found)
    assert NEED.put_into(found) == found
    others = [word for word in line.split() if not word.startswith(crashkernel.PARAMETER)]
    assert [word for word in found.split() if not word.startswith(crashkernel.PARAMETER)] == others
    words = list(parameters(found))
    if "--" in words and crashkernel.PARAMETER not in line:
        assert words.index(NEED.parameter) < words.index("--"), "what comes then is for init"


SNIPPETS = st.sampled_from(
    [
        *("\n", " ", '"', "'", "\\", "#", "$", "`", "(", "=", "\t", "\r\n", "é", "label x\n", "append y\n"),
        *("options z\n", "linux /k\n", "crashkernel=64M ", "crashkernel=1G,high ", " -- ", "image=/a\n"),
        *("parameters=b\n", "[c]\n", 'GRUB_CMDLINE_LINUX="d"\n', "GRUB_CMDLINE_LINUX_DEFAULT+=e\n"),
        *("GRUB_ENABLE_BLSCFG=true\n", "U_BOOT_PARAMETERS='f'\n", "GRUB_CMDLINE_LINUX_DEFAULT=$A\n"),
    ]
)


@settings(max_examples=examples(300))
@given(
    st.sampled_from(EDITED),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6), SNIPPETS), max_size=4),
)
def test_odd_files_are_refused_or_reserve_enough(
    tmp_path_factory: pytest.TempPathFactory, name: str, oddities: list[tuple[int, int, str]]
) -> None:
    """Whatever is written into the files, what setup makes of them is what it asks for, and stays."""
    root = LAYOUTS[name].build(tmp_path_factory.mktemp("root"))
    files = sorted(path for path in root.rglob("*") if path.is_file())
    for which, where, snippet in oddities:
        file = files[which % len(files)]
        text = file.read_bytes().decode()
        at = where % (len(text) + 1)
        file.write_bytes(f"{text[:at]}{snippet}{text[at:]}".encode())
    try:
        found = change(root)
        for edit in found.edits:
            (root / edit.path.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
            (root / edit.path.lstrip("/")).write_bytes(edit.after.encode())
    except PykexecError:
        return
    assert not change(root).edits


@pytest.mark.parametrize("name", EDITED)
def test_long_lines_take_no_time(tmp_path: Path, name: str) -> None:
    for filling in (" ", "a ", '"', "crashkernel=1M ", "\\", "$", "="):
        for path in LAYOUTS[name].edited:
            write(LAYOUTS[name].build(tmp_path), path, f"append {filling * 10_000}x\n")
            watch = Stopwatch()
            with suppress(PykexecError):
                change(tmp_path)
            assert watch.seconds() < 2

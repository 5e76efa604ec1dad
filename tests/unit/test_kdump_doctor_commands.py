"""What doctor offers to root's shell: words of its own and parsed values, whatever a machine's files say."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from pykexec.kdump import doctor
from pykexec.kdump.console.diagnosis import parse
from pykexec.kdump.doctor import Facts, Finding, HostFiles, commands
from pykexec.kdump.doctor.shell import Command, run, write
from pykexec.kdump.reservation import crashkernel
from pykexec.kdump.reservation.crashkernel import Clause, Form, render
from pykexec.kdump.reservation.crashkernel import parse as parse_clause
from pykexec.machine import Machine
from pykexec.memory import GIB, MIB
from tests.support.effort import examples
from tests.support.machines import write as put

PAYLOADS = (
    "$(touch /tmp/owned)",
    "`id`",
    "';id;'",
    '";id;"',
    "x;id",
    "x|id",
    "x&&id",
    "x>y",
    "-oProxyCommand=id",
    "$IFS",
    "\\\n id",
    "*",
    "x y",
    "#",
    "é\u202e",
)
hostile = st.one_of(
    st.sampled_from(PAYLOADS),
    st.lists(st.sampled_from([*PAYLOADS, "256M", ",high", "@16M", "a"]), min_size=1, max_size=4).map(
        "".join
    ),
    st.text(max_size=20),
)

MANAGERS = ("usr/sbin/update-grub", "usr/bin/apt-get", "usr/sbin/grubby", "usr/bin/dnf", "usr/bin/zypper")


def machine_of(folder: Path, texts: dict[str, str], managers: tuple[str, ...]) -> Facts:
    """A machine on which much is wrong, with foreign texts wherever one is read."""
    t = texts
    files = {
        "proc/cmdline": f"console=ttyS0 crashkernel={t['crashkernel']} {t['word']}\n",
        "proc/iomem": "00001000-3fffffff : System RAM\n",
        "proc/sys/kernel/arch": "x86_64",
        "proc/sys/kernel/osrelease": f"6.1.0{t['release']}".replace("/", ""),
        "proc/sys/kernel/kexec_load_disabled": "1\n",
        "proc/sys/kernel/panic_on_oops": "0\n",
        "sys/kernel/kexec_crash_loaded": "0\n",
        "sys/kernel/kexec_crash_size": "0\n",
        "etc/default/grub": f'GRUB_CMDLINE_LINUX="crashkernel={t["grub"]}"\n',
        "boot/loader/entries/a.conf": f"options crashkernel={t['entry']}\n",
        "var/log/dmesg": f"[ 1.0] PEFILE: Unsigned PE binary {t['log']}\n"
        f"crashkernel reservation failed {t['log']}\n",
        "var/lib/dpkg/status": "Package: makedumpfile\nStatus: install ok installed\n"
        f"Version: {t['package']}\n",
        "var/log/audit/audit.log": f'avc: denied comm="kexec" {t["log"]}\n',
        "var/lib/kdump/vmcore-creation.status": f"fail {t['log']}\n",
        "proc/self/mounts": f"/dev/{t['mount']} / ext4 rw 0 0\ntmpfs /var/crash tmpfs rw\n",
        "proc/modules": f"mgag200 1 0 - Live\n{t['word']} 2 0 - Live\n",
        **configuration(t["configured"], t["word"]),
    }
    for path, content in files.items():
        put(folder, path, content.encode("utf-8", "surrogateescape"))
    for path in managers:
        put(folder, path, "x")
    console = parse(
        f"[ 1.0] Kernel panic - not syncing: {t['console']}\n[ 1.1] Kdump: loaded {t['console']}\n"
    )
    return Facts(Machine.from_snapshot(folder), places=HostFiles(folder), console=console)


def configuration(kind: str, word: str) -> dict[str, str]:
    return {
        "fedora": {
            "etc/kdump.conf": f"ssh {word}@{word}\nsshkey /{word}\ncore_collector {word} -d 31\n",
        },
        "host": {"etc/kdump.conf": f"ssh u@{word}\n"},
        "collector": {"etc/kdump.conf": f"core_collector {word}\n"},
        "off": {"etc/default/kdump-tools": f"USE_KDUMP=0\nKDUMP_CMDLINE_APPEND={shlex.quote(word)}\n"},
        "broken": {"etc/kdump.conf": f"{word} x\n"},
        "debian": {"etc/default/kdump-tools": f'USE_KDUMP=1\nSSH="{word}"\nSSH_KEY="/{word}"\n'},
    }[kind]


NAMES = ("crashkernel", "word", "release", "grub", "entry", "log", "package", "mount", "console")
machines = st.builds(
    lambda kind, values: {"configured": kind, **dict(zip(NAMES, values, strict=True))},
    st.sampled_from(("fedora", "host", "collector", "off", "broken", "debian")),
    st.tuples(*(hostile for _ in NAMES)),
)

# All that may stand in a command: programs, their options, and paths of ours; the rest is one parsed value.
OURS = re.compile(
    r"(?:sudo|pykdump|pykexec|start|reload|reboot|-u|find|sed|sysctl|grubby|update-grub|apt-get|dnf|zypper"
    r"|install|mkdir|printf|ssh-keygen|ssh-copy-id|ssh-keyscan|&&|>>|>|\(|\)|\{\}|\+|%s\\n"
    r"|-[A-Za-z0-9]+|--[a-z-]+(?:=ALL)?|/(?:etc|usr|root)(?:/[A-Za-z0-9._/*-]*)?|\*/sysctl\.d/\*|/kexec_load_disabled/d"
    r"|2|f||s/\^USE_KDUMP=\.\*/USE_KDUMP=1/|kernel\.[a-z_]+=1)"
)
CRASHKERNEL = re.compile(
    r"(?:--args=|GRUB_CMDLINE_LINUX_DEFAULT=\"\$GRUB_CMDLINE_LINUX_DEFAULT )crashkernel=([^ \"]+)\"?"
)


def words_of(command: str) -> list[str]:
    """As a POSIX shell takes the line apart; an operator is a word of its own."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    return list(lexer)


def foreign(command: str) -> list[str]:
    """The words that are neither ours nor a crashkernel= that was parsed and rendered."""
    found = []
    for word in words_of(command):
        asked = CRASHKERNEL.fullmatch(word)
        if asked is not None:
            assert render(parse_clause(asked[1])) == asked[1]
        elif not OURS.fullmatch(word):
            found.append(word)
    return found


@pytest.mark.slow
@settings(
    max_examples=examples(150),
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # a whole machine each time: shrinking takes long
)
@given(machines, st.sets(st.sampled_from(MANAGERS)).map(lambda each: tuple(sorted(each))))
def test_commands_are_of_our_words_and_parsed_values(
    tmp_path_factory: pytest.TempPathFactory, texts: dict[str, str], managers: tuple[str, ...]
) -> None:
    facts, offered = machine_of(tmp_path_factory.mktemp("machine"), texts, managers), 0
    for found in doctor.diagnose(facts):
        assert "\n" not in found.command + found.remedy + found.cause
        if found.command:
            assert set(foreign(found.command)) <= values_of(facts), found
            offered += 1
            subprocess.run(["sh", "-n"], input=found.command, text=True, check=True, capture_output=True)
        assert not unquoted(found, texts), found
    assert offered, "sysctls that are wrong have their commands on every such machine"


def values_of(facts: Facts) -> set[str]:
    """What the parsed configuration has for a command to name."""
    configured = facts.settings
    if configured is None:
        return set()
    target = configured.target
    host = target.address.rpartition("@")[2]
    values = {target.address, host, target.ssh_key, str(target.port), *configured.files}
    return values | {configured.collector.program.rpartition("/")[2]}


def unquoted(found: Finding, texts: dict[str, str]) -> list[str]:
    """Payloads that a remedy's prose has outside of quotes."""
    remedy = re.sub(r"'[^']*'", "", found.remedy)
    return [
        each for each in PAYLOADS if len(each) > 3 and each in remedy and each in "".join(texts.values())
    ]


def test_the_command_line_of_a_stranger_is_not_in_the_remedy(tmp_path: Path) -> None:
    """The case that was seen: doctor offered root a line with $(id) in it."""
    put(tmp_path, "proc/cmdline", "crashkernel=256M'$(id)'@16M\n")
    put(tmp_path, "proc/iomem", "00001000-ffffffff : System RAM\n")
    put(tmp_path, "sys/kernel/kexec_crash_size", "0\n")
    put(tmp_path, "proc/sys/kernel/arch", "x86_64")
    put(tmp_path, "var/lib/dpkg/status", "x")
    for found in doctor.diagnose(Facts(Machine.from_snapshot(tmp_path)), ["R2", "R5"]):
        assert "id" not in words_of(found.command)
        assert "$(id)" not in found.command + found.remedy


# Typed commands


@given(st.lists(st.text(st.characters(exclude_categories=("C", "Z"))), min_size=1))
def test_words_come_out_as_they_went_in(words: list[str]) -> None:
    assert shlex.split(str(run("printf", *words))) == ["printf", *words]


@pytest.mark.parametrize("bad", ["a\nb", "a\0b", "a\x1bb"])
def test_no_command_with_what_no_line_can_have(bad: str) -> None:
    assert not run("x", bad)
    assert not write("/x", bad)
    assert not run("x").then(run(bad))


def test_steps_follow_each_other_if_they_succeed(tmp_path: Path) -> None:
    file = tmp_path / "a file"
    command = write(str(file), "it's $HOME").then(run("false")).then(write(str(file), "not reached"))
    assert subprocess.run(["sh", "-c", str(command)], check=False).returncode == 1
    assert file.read_text() == "it's $HOME\n"
    assert not Command()


# GRUB's file

clauses = st.one_of(
    st.builds(Clause, st.just(Form.SIMPLE), st.integers(1, 900).map(lambda size: size * MIB)),
    st.builds(Clause, st.just(Form.HIGH), st.integers(1, 900).map(lambda size: size * MIB)),
)


def grub_machine(folder: Path, line: str) -> Facts:
    put(folder, "proc/cmdline", f"{line}\n")
    put(folder, "proc/iomem", "00001000-ffffffff : System RAM\n")
    put(folder, "proc/sys/kernel/arch", "x86_64")
    put(folder, "usr/sbin/update-grub", "x")
    return Facts(Machine.from_snapshot(folder), places=HostFiles(folder))


@settings(max_examples=15, deadline=None)
@given(clauses)
def test_the_line_for_grub_writes_its_file_and_no_other(
    tmp_path_factory: pytest.TempPathFactory, clause: Clause
) -> None:
    top = tmp_path_factory.mktemp("top")
    (top / "bin").mkdir()
    (top / "scratch").mkdir()
    for name in ("update-grub", "reboot"):
        stub = top / "bin" / name
        stub.write_text(f"#!/bin/sh\necho {name} >> {top}/called\n")
        stub.chmod(0o755)
    command = str(commands.reserve(grub_machine(top / "machine", "quiet"), clause))
    assert command
    subprocess.run(
        ["sh", "-c", command.replace("/etc/default/", f"{top}/scratch/etc/default/")],
        check=True,
        env={"PATH": f"{top}/bin:/usr/bin:/bin"},
        cwd=top / "scratch",
    )
    assert (top / "called").read_text() == "update-grub\nreboot\n"
    written = [path for path in (top / "scratch").rglob("*") if path.is_file()]
    assert written == [top / "scratch/etc/default/grub.d/pykdump.cfg"]
    # update-grub sources it.
    sourced = subprocess.run(
        [
            "sh",
            "-c",
            f'GRUB_CMDLINE_LINUX_DEFAULT="quiet"; . {written[0]}; printf %s "$GRUB_CMDLINE_LINUX_DEFAULT"',
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    assert sourced.stdout == f"quiet crashkernel={render(clause)}"


def test_no_line_for_grub_that_would_have_no_effect(tmp_path: Path) -> None:
    """A plain crashkernel= that is there already beats SIZE,high."""
    facts = grub_machine(tmp_path, "crashkernel=384M-:128M")
    assert not commands.reserve(facts, Clause(Form.HIGH, 256 * MIB))
    assert commands.reserve(facts, Clause(Form.SIMPLE, 256 * MIB))
    put(tmp_path, "usr/sbin/grubby", "x")
    assert commands.reserve(facts, Clause(Form.HIGH, 256 * MIB)), "it takes the others away"


# What crashkernel says of remedies

RELEASES = {
    "x86_64": ("4.4.0-210-generic", "5.10.0-36-amd64", "6.12.1", "7.2.0"),
    "aarch64": ("5.10.0-36-arm64", "5.14.0-427.13.1.el9_4.aarch64+64k", "6.1.0", "7.3.0"),
    "riscv64": ("6.12.1",),
    "ppc64le": ("6.12.1",),
}
LINES = (
    "quiet",
    "crashkernel=auto",
    "crashkernel=256",
    "crashkernel=256M",
    "crashkernel=256M crashkernel=128M,low",
    "crashkernel=512M,high",
    "crashkernel=512M,high crashkernel=0,low",
    "crashkernel=512M crashkernel=512M,high",
    "crashkernel=256M@16M",
    "crashkernel=100G",
    "crashkernel=2T-:1G",
    "crashkernel=128M,low",
    "crashkernel=256M crashkernel=1G,cma",
)
RESERVED = (
    "",
    "  20000000-2fffffff : Crash kernel\n",
    "  10000000-11ffffff : Crash kernel\n",
    "high",
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arch", "release", "memory"),
    [
        pytest.param(
            *(arch, release, memory),
            marks=pytest.mark.further if memory < GIB and release != releases[0] else [],
        )
        for arch, releases in RELEASES.items()
        for release in releases
        for memory in (GIB // 4, 2 * GIB)
    ],
)
def test_remedies_have_an_effect(arch: str, release: str, memory: int, tmp_path: Path) -> None:
    """Each crashkernel= that doctor proposes reserves, as `pykdump crashkernel` says, what it asks for."""
    proposed = 0
    for number, (line, reserved) in enumerate((line, each) for line in LINES for each in RESERVED):
        folder = tmp_path / str(number)
        iomem = f"00001000-{memory - 1:08x} : System RAM\n" + ("" if reserved == "high" else reserved)
        if reserved == "high":
            iomem += "100000000-13fffffff : System RAM\n  110000000-11fffffff : Crash kernel\n"
        put(folder, "proc/iomem", iomem)
        put(folder, "proc/cmdline", f"{line}\n")
        put(folder, "proc/sys/kernel/arch", arch)
        put(folder, "proc/sys/kernel/osrelease", release)
        put(folder, "sys/kernel/kexec_crash_size", f"{256 * MIB if reserved else 0}\n")
        put(folder, "usr/sbin/update-grub", "x")
        put(folder, "proc/modules", "mlx5_core 1000 1 - Live 0x0\n")
        if arch == "aarch64" or arch == "x86_64":
            put(folder, "pykexec-snapshot.json", f'{{"machine": "{arch}", "page_size": 4096}}')
        facts = Facts(Machine.from_snapshot(folder), places=HostFiles(folder))
        for found in doctor.diagnose(facts):
            for text in parameters(f"{found.remedy}\n{found.command}"):
                proposed += 1
                told = crashkernel.reservation(text, facts.total_memory, facts.support)
                asked = parse_clause(crashkernel.values(text)[0])
                assert told.size == asked.size > 0, (line, reserved, found, told)
                assert not told.notes, (line, reserved, found, told)
                assert text.count("crashkernel=") == 1 or told.low_size
    assert proposed


def parameters(text: str) -> list[str]:
    return [each.strip(" \"';") for each in re.findall(r"crashkernel=\d\S*(?: crashkernel=\d\S*)*", text)]

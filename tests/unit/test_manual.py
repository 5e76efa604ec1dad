"""The manual pages and the completions, as the programs that read them understand them."""

import hashlib
import io
import os
import pty
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout, suppress
from pathlib import Path

import pytest

from pykexec import manpages, manual, planfile
from pykexec.errors import UsageError
from pykexec.integration import documentation, install
from pykexec.kdump import completion
from pykexec.kdump.cli import exit_code
from pykexec.kdump.config import fedora, keys
from pykexec.kdump.config.keys import Use
from pykexec.manpages import outputs
from pykexec.options import GENERAL, OPTIONS, OURS, Option
from pykexec.plan import LoadPlan, Purpose, Segment
from tests.support import schemas
from tests.support.machines import snapshot

pytestmark = pytest.mark.programs

TRAP = Option(
    "--trap",
    "trap",
    "Print what's needed: [here] \\ 'there'.",
    group=OURS,
    metavar="A:B",
    choices=("one", "two"),
)
"""Its text has what means something else in each language."""
TABLE = (*OPTIONS, TRAP)
PROJECT = Path(__file__).parent.parent.parent
NAMES = [name for option in OPTIONS for name in option.names]


def run(command: Sequence[str | Path], text: str | None = None, cwd: Path | None = None) -> str:
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": "/dev/null", "TERM": "dumb"}
    done = subprocess.run(
        command,
        input=text,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=environment,
        cwd=cwd,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def script(shell: str, folder: Path) -> Path:
    path = folder / f"pykexec.{shell}"
    path.write_text(manual.completion(shell, TABLE))
    return path


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "pykexec.8"
    path.write_text(manual.page(TABLE))
    return path


@pytest.fixture(params=manpages.PAGES, ids=lambda page: page.name)
def any_page(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    made: manpages.Page = request.param
    path = tmp_path / Path(made.file).name
    path.write_text(manual.page(TABLE) if made.name == "pykexec" else made.text())
    return path


def rendered(page: Path) -> str:
    """Its plain text, in lines as long as need be."""
    return re.sub(r".\x08", "", run(["mandoc", "-Tascii", "-Owidth=500", page]))


def test_groff_warns_of_nothing(any_page: Path) -> None:
    run(["groff", "-ww", "-man", "-Tutf8", "-z", any_page])


def test_man_warns_of_nothing(any_page: Path) -> None:
    title = f"{any_page.stem.upper()}({any_page.suffix[1:]})"
    assert title in run(["man", "--warnings", "--local-file", any_page])


def test_mandoc_finds_no_fault(any_page: Path) -> None:
    assert run(["mandoc", "-Tlint", "-Wall", any_page]) == ""


def test_a_page_fits_a_terminal(any_page: Path) -> None:
    """Examples, too, which are not folded."""
    text = run(["groff", "-man", "-Tascii", "-rLL=80n", "-P-c", any_page])
    assert not [line for line in re.sub(r".\x08", "", text).splitlines() if len(line) > 80]


def test_page_has_every_option_with_its_help(page: Path) -> None:
    text = re.sub(r"\s+", " ", rendered(page))
    for option in TABLE:
        heading = ", ".join(option.names) + (f"={option.metavar}" if option.metavar else "")
        assert f" {heading} {option.help}" in text


def test_page_says_what_its_readers_look_for(any_page: Path) -> None:
    assert run(["lexgrog", any_page]).startswith(f'{any_page}: "{any_page.stem} - ')
    headings = re.findall(r"^([A-Z ]+)$", rendered(any_page), re.MULTILINE)
    wanted = {"NAME", "SYNOPSIS", "DESCRIPTION", "EXAMPLES", "SEE ALSO"}
    if any_page.suffix == ".8":
        wanted |= {"EXIT STATUS", "BUGS"}
    if any_page.stem in ("pykexec", "pykdump"):
        wanted |= {"OPTIONS", "FILES"}
    assert wanted <= set(headings)


def test_pages_refer_to_each_other(tmp_path: Path) -> None:
    """By a name and a section that there are."""
    known = {f"{page.name}({page.section})" for page in manpages.PAGES}
    for page in manpages.PAGES:
        (tmp_path / "page").write_text(page.text())
        _, _, seen = rendered(tmp_path / "page").partition("\nSEE ALSO\n")
        named = set(re.findall(r"(?:pyk|vmcore)[\w.-]+\(\d\)", seen.partition("\n\n")[0]))
        assert named, page.name
        assert named <= known - {f"{page.name}({page.section})"}


def section_of(text: str, heading: str) -> str:
    """A section of a page's text, as one line."""
    (found,) = re.findall(rf"^{heading}$(.*?)^[A-Z]", text, re.MULTILINE | re.DOTALL)
    return " ".join(found.split())


def told(name: str, tmp_path: Path) -> str:
    """The plain text of one of our pages."""
    (tmp_path / name).write_text(manpages.find(name).text())
    return rendered(tmp_path / name)


def test_every_exit_status_is_told(tmp_path: Path) -> None:
    """Each that an error has in the code."""
    sources = {path: path.read_text() for path in (PROJECT / "pykexec").rglob("*.py")}
    found = {
        "pykexec": {
            int(each) for text in sources.values() for each in re.findall(r"exit_code = (\d+)", text)
        },
        "vmcore-dmesg": {
            int(each)
            for path, text in sources.items()
            if path.parent.name == "vmcore"
            for each in re.findall(r"(?:status=|_FAILED = |_DAMAGED = .*?)(\d+)", text)
        },
    }
    assert {name: len(statuses) > 2 for name, statuses in found.items()} == dict.fromkeys(found, True)
    for name, statuses in found.items():
        exits = section_of(told(name, tmp_path), "EXIT STATUS")
        assert not [each for each in statuses if not re.search(rf"\b{each}\b", exits)], name


def test_every_key_of_a_configuration_is_told(tmp_path: Path) -> None:
    text = " ".join(told("pykdump.conf", tmp_path).split())
    for table in (keys.KDUMP_CONF, keys.FEDORA_SYSCONFIG, keys.DEBIAN, keys.SUSE):
        for name, key in table.items():
            default = "" if key.default is None else f" Default: {key.default}."
            use = "" if key.use is Use.HONOURED else f" {key.use.value.capitalize()}."
            assert re.search(rf"\b{name}\b(, \w+)* {re.escape(key.text + default + use)}", text), name
    for name in fedora.GONE:
        assert f" {name} " in text


def test_every_field_of_json_is_told(tmp_path: Path) -> None:
    text = " ".join(told("pykexec-json", tmp_path).split())
    for name in schemas.names():
        for each in schemas.objects(schemas.schema(name)):
            for field, described in each["properties"].items():
                assert re.search(rf"\b{field} {re.escape(described['description'])}", text), (name, field)


def test_fields_of_a_schema() -> None:
    """Of all that a schema of ours may be made of."""
    schema = {
        "type": "object",
        "properties": {
            "schema": {"const": 1, "description": "The version."},
            "kept": {"$ref": "#/$defs/ranges", "description": "What stays."},
            "names": {"type": ["array", "null"], "items": {"type": "string"}, "description": "All."},
            "by_name": {
                "type": "object",
                "additionalProperties": {
                    "type": "object",
                    "properties": {"kind": {"enum": ["a", None], "description": "Which."}},
                },
                "description": "Each.",
            },
        },
        "$defs": {
            "ranges": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"start": {"type": "integer", "description": "Where."}},
                },
            }
        },
    }
    assert outputs.fields(schema) == [
        ("schema", "The version. (1)"),
        ("kept", "What stays. (array of object)"),
        ("kept[].start", "Where. (integer)"),
        ("names", "All. (array of string or null)"),
        ("by_name", "Each. (object of object)"),
        ("by_name.*.kind", 'Which. ("a", null)'),
    ]


def test_a_plans_file_is_as_it_is_told(tmp_path: Path) -> None:
    """By the offsets of the page: a program that knows nothing but the page reads a plan."""
    text = " ".join(told("pykexec-plan", tmp_path).split())
    header, fact, segment = (
        {
            name: (int(offset), int(size))
            for name, offset, size in re.findall(
                r"(\w+) (?:(?!\(offset).)*\(offset (\d+), (\d+) bytes\)", part.partition(" bytes ")[2]
            )
        }
        for part in re.split(r" (?=Header, 256|Fact, 96|Segment, 64)", text)[1:]
    )
    plan = LoadPlan(
        *("x86_64", Purpose.BOOT, "kernel", "", None, "", 0x2010, 0x3E0000),
        segments=(Segment("kernel", 0x2000, 0x2000, memoryview(b"contents"), ""),),
    )
    data = planfile.build(plan, planfile.identify(snapshot("qemu-6.1-1g"), Purpose.BOOT))

    def number(place: tuple[int, int], base: int = 0) -> int:
        assert place[1] == 8
        return int.from_bytes(data[base + place[0] :][:8], "little")

    assert data[: header["magic"][1]] == b"KEXPLAN\0"
    assert (number(header["version"]), number(header["size"])) == (1, len(data))
    assert (number(header["entry"]), number(header["flags"])) == (0x2010, 0x3E0000)
    digest_at, size = header["digest"]
    assert data[digest_at:][:size] == hashlib.sha256(data[digest_at + size :]).digest()
    at = 256 + 96 * number(header["fact_count"])
    assert data[256 + fact["pattern"][0] :].startswith(b"proc/iomem\0")
    assert data[at + segment["name"][0] :].startswith(b"kernel\0")
    assert (number(segment["address"], at), number(segment["memory_size"], at)) == (0x2000, 0x2000)
    offset = number(segment["offset"], at)
    assert data[offset : offset + 8] == b"contents"


def test_a_page_is_printed_without_installing(capsys: pytest.CaptureFixture[str]) -> None:
    for page in manpages.PAGES:
        assert exit_code(["--man", page.name]) == 0
        assert capsys.readouterr().out == page.text()
    assert exit_code(["--man"]) == 0
    assert capsys.readouterr().out == manpages.find("pykdump").text()
    assert exit_code(["--man", "nonsense"]) == 1
    assert "pykdump.conf" in capsys.readouterr().err


def pykdump(*words: str) -> str:
    """What it prints, in lines that are long enough."""
    output = io.StringIO()
    with pytest.MonkeyPatch.context() as patched, redirect_stdout(output):
        patched.setenv("COLUMNS", "1000")
        assert exit_code(words) == 0
    return output.getvalue()


def test_page_of_pykdump_has_what_its_help_has(tmp_path: Path) -> None:
    (tmp_path / "page").write_text(pykdump("--man"))
    commands = re.findall(r"^  (\w+) ", pykdump("--help").partition("Commands:\n")[2], re.MULTILINE)
    assert {"start", "stop", "status", "doctor", "dmesg"} <= set(commands)
    text = rendered(tmp_path / "page")
    for command in commands:
        (told,) = re.findall(
            rf"^   pykdump {command}\b(.*?)(?=^   pykdump|^[A-Z])", text, re.MULTILINE | re.DOTALL
        )
        told = re.sub(r"\s+", " ", told)
        usage, _, options = pykdump(command, "--help").partition("Options:\n")
        for line in [*usage.splitlines()[1:], *options.splitlines()]:
            # Each has --help, which is said once; the widest columns are a matter of --help's layout.
            line = re.sub(r"\s+", " ", line).strip()
            assert line.startswith(("-h, --help", "--help")) or line in told


def test_hyphens_of_options_can_be_copied(page: Path) -> None:
    """A hyphen of a sentence is another character than the one that options begin with."""
    text = re.sub(r".\x08|\x1b\[\d+m", "", run(["groff", "-man", "-Tutf8", page]))
    for name in NAMES:
        assert re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text), name
    assert not re.search(r"(?<!\w)\u2010", text)


def test_unknown_shell() -> None:
    with pytest.raises(UsageError, match="no completion for tcsh"):
        manual.completion("tcsh")


def test_bash_syntax(tmp_path: Path) -> None:
    run(["bash", "-n", script("bash", tmp_path)])
    run(["shellcheck", "--shell=bash", script("bash", tmp_path)])


def typed_into(shell: Sequence[str], folder: Path, setup: Sequence[str], *keys: str, path: str = "") -> None:
    """Type these keys into an interactive shell, until it ends."""
    environment = {
        "PATH": f"{path}:{os.environ['PATH']}",
        "TERM": "dumb",
        "HOME": str(folder),
        "LC_ALL": "C.UTF-8",
    }
    terminal, its_side = pty.openpty()
    command = ["setsid", "--ctty", *shell]
    with subprocess.Popen(
        command, stdin=its_side, stdout=its_side, stderr=its_side, env=environment, cwd=folder
    ):
        os.close(its_side)
        os.write(terminal, "; ".join(setup).encode() + b"\n")
        os.write(terminal, "".join([*keys, "\n", "exit\n"]).encode())
        with suppress(OSError):  # EIO: nobody is at the other end any more
            while os.read(terminal, 4096):
                pass
    os.close(terminal)


def bash_completes(folder: Path, *words: str) -> list[str]:
    """COMPREPLY for these words, the last of which is being typed."""
    program = 'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _pykexec'
    program += '; printf "%s\\n" "${COMPREPLY[@]}"'
    source = str(script("bash", folder))
    command = ["bash", "--norc", "-c", program, "bash", source, "pykexec", *words]
    return run(command, cwd=folder).splitlines()


def test_bash_offers_every_option(tmp_path: Path) -> None:
    assert set(NAMES) <= set(bash_completes(tmp_path, "-"))


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["--load-p"], ["--load-panic", "--load-plan", "--load-preserve-context"]),
        (["-l", "--initr"], ["--initrd", "--initrd-file"]),
        (["--completion", ""], ["bash", "zsh", "fish"]),
        (["--completion", "=", "f"], ["fish"]),
        (["--completion", "="], ["bash", "zsh", "fish"]),
        (["-t", "bz"], ["bzImage64", "bzImage"]),
        (["-l", "a ker"], ["a kernel"]),
        (["--initrd", "a"], ["a kernel"]),
        (["--initrd", "=", "a"], ["a kernel"]),
        (["--append", "a"], [""]),
        (["--append", "=", "--"], [""]),
    ],
)
def test_bash_completes(words: list[str], offered: list[str], tmp_path: Path) -> None:
    (tmp_path / "a kernel").touch()
    assert sorted(bash_completes(tmp_path, *words)) == sorted(offered)


@pytest.fixture(scope="module")
def documented(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with pages and completions, commands that only tell their arguments, and a file to name."""
    tmp_path = tmp_path_factory.mktemp("documented")
    for step in install.installation(install.Wanted(tmp_path, documentation=True)):
        step.do()
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin/pykdump"
    program.write_text(
        "#!/bin/sh\n"
        f'[ -n "$_PYKDUMP_COMPLETE" ] && PYTHONPATH={PROJECT} exec {sys.executable} -m pykexec.kdump\n'
        f'printf "%s\\n" "${{0##*/}}" "$@" > {tmp_path}/called\n'
    )
    program.chmod(0o755)
    for name in ("pykexec", "kexec"):
        shutil.copy(program, tmp_path / "bin" / name)
    (tmp_path / "work/work").mkdir(parents=True)
    (tmp_path / "work/vmcore").touch()
    (tmp_path / "work/work/vmcore").touch()
    return tmp_path


@pytest.fixture
def installed(documented: Path) -> Path:
    """That root, in which nothing has been called."""
    (documented / "called").unlink(missing_ok=True)
    return documented


TYPED = [
    ("kexec --completion z", "kexec --completion zsh"),
    ("pykexec -l vmc", "pykexec -l vmcore"),
    ("pykdump crashk", "pykdump crashkernel"),
    ("pykdump doctor --console-log vmc", "pykdump doctor --console-log vmcore"),
    ("pykdump dmesg vmc", "pykdump dmesg vmcore"),
    ("pykdump doctor --machine=vmc", "pykdump doctor --machine=vmcore"),
    ("pykdump dmesg --style=mak", "pykdump dmesg --style=makedumpfile"),
    ("pykdump doctor --machine work/vmc", "pykdump doctor --machine work/vmcore"),
]


@pytest.mark.parametrize(("typed", "called"), TYPED)
def test_bash_finds_what_is_installed(typed: str, called: str, installed: Path) -> None:
    """With bash-completion, which loads the script when the first command is completed."""
    setup = [
        f"export XDG_DATA_DIRS={installed}/usr/local/share",
        ". /usr/share/bash-completion/bash_completion",
    ]
    bash = ["bash", "--norc", "--noprofile", "-i"]
    typed_into(bash, installed / "work", setup, typed, "\t", path=f"{installed}/bin")
    assert (installed / "called").read_text().split() == called.split()


@pytest.mark.parametrize(
    ("typed", "called"),
    [
        TYPED[0],
        *TYPED[2:4],
        *TYPED[5:7],
        *(pytest.param(*TYPED[each], marks=pytest.mark.further) for each in (1, 4, 7)),
    ],
)
def test_zsh_finds_what_is_installed(typed: str, called: str, installed: Path) -> None:
    places = run(["zsh", "-f", "-c", "print -l $fpath"]).split()
    (script,) = (each for each in documentation.places() if each.endswith("/_pykdump"))
    assert f"/{Path(script).parent}" in places
    setup = [f"fpath=({installed}/{Path(script).parent} $fpath)", "autoload -Uz compinit", "compinit -u -D"]
    typed_into(["zsh", "-f", "-i"], installed / "work", setup, typed, "\t", path=f"{installed}/bin")
    assert (installed / "called").read_text().split() == called.split()


@pytest.mark.parametrize(("typed", "called"), TYPED)
def test_fish_finds_what_is_installed(typed: str, called: str, installed: Path) -> None:
    scripts = [each for each in documentation.places() if each.endswith(".fish")]
    (place,) = {str(Path(each).parent) for each in scripts}
    assert (
        f"/{place}"
        in run(["fish", "--no-config", "-c", "printf '%s\\n' $__fish_sysconf_dir/completions"]).split()
    )
    command = f"set fish_complete_path {installed}/{place} $fish_complete_path; complete -C {typed!r}"
    environment = {"PATH": f"{installed}/bin:{os.environ['PATH']}", "HOME": str(installed), "TERM": "dumb"}
    done = subprocess.run(
        ["fish", "--no-config", "-c", command],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
        cwd=installed / "work",
    )
    assert [each.partition("\t")[0] for each in done.stdout.splitlines()] == called.split()[-1:]


def test_man_finds_what_is_installed(installed: Path) -> None:
    folder = installed / "usr/local/share/man"
    for page in manpages.PAGES:
        assert run(["man", "-M", folder, "-w", page.name]).strip() == str(folder / page.file)


def test_pykdumps_scripts_have_no_fault(tmp_path: Path) -> None:
    for shell, text in completion.SCRIPTS.items():
        (tmp_path / shell).write_text(text)
    run(["shellcheck", "--shell=bash", tmp_path / "bash"])
    run(["zsh", "-f", "-n", tmp_path / "zsh"])
    run(["fish", "--no-config", "--no-execute", tmp_path / "fish"])


def test_fish_syntax(tmp_path: Path) -> None:
    run(["fish", "--no-config", "--no-execute", script("fish", tmp_path)])


def fish_completes(folder: Path, line: str) -> dict[str, str]:
    """What fish offers at the end of a line, with the explanations it shows."""
    command = f"source {script('fish', folder)}; complete -C {line!r}"
    offered = run(["fish", "--no-config", "-c", command], cwd=folder).splitlines()
    return {name: text for name, _, text in (each.partition("\t") for each in offered)}


def test_fish_offers_every_option_with_its_help(tmp_path: Path) -> None:
    long = fish_completes(tmp_path, "pykexec --")
    short = fish_completes(tmp_path, "pykexec -")
    for option in TABLE:
        for name in option.names:
            found = long if name.startswith("--") else short
            assert found.get(name, found.get(f"{name}=")) == option.help


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("pykexec --completion ", {"bash", "zsh", "fish"}),
        ("pykexec --completion=z", {"--completion=zsh"}),
        ("pykexec -t bz", {"bzImage", "bzImage64"}),
        ("pykexec -l ker", {"kernel"}),
        ("pykexec --initrd=ker", {"--initrd=kernel"}),
        ("pykexec --append ker", set()),
    ],
)
def test_fish_completes(line: str, offered: set[str], tmp_path: Path) -> None:
    (tmp_path / "kernel").touch()
    assert set(fish_completes(tmp_path, line)) == offered


def test_zsh_syntax(tmp_path: Path) -> None:
    run(["zsh", "-f", "-n", script("zsh", tmp_path)])


def zsh_does(folder: Path, setup: str, *keys: str) -> None:
    """Type these keys into an interactive zsh that has the completion, until it ends."""
    (folder / "_pykexec").write_text(manual.completion("zsh", TABLE))
    compinit = (f"fpath=({folder} $fpath)", "autoload -Uz compinit", "compinit -u -D", setup)
    typed_into(["zsh", "-f", "-i"], folder, compinit, *keys)


@pytest.mark.parametrize(
    ("typed", "called"),
    [
        ("pykexec --initr", ["--initrd"]),
        ("pykexec --completion z", ["--completion", "zsh"]),
        ("pykexec -t elf-x86_", ["-t", "elf-x86_64"]),
        ("pykexec -l ker", ["-l", "kernel"]),
        ("pykexec --dtb=ker", ["--dtb=kernel"]),
        ("pykexec --append ker", ["--append", "ker"]),
    ],
)
def test_zsh_completes(typed: str, called: list[str], tmp_path: Path) -> None:
    (tmp_path / "kernel").touch()
    zsh_does(tmp_path, 'pykexec() { print -rl -- "$@" > called }', typed, "\t")
    assert (tmp_path / "called").read_text().splitlines() == called


def test_zsh_offers_every_option(tmp_path: Path) -> None:
    # What would be offered goes to a file; nothing is inserted.
    catch = 'compadd() { builtin compadd -O hits "$@"; print -rl -- $hits >> offered }'
    zsh_does(tmp_path, f"{catch}; pykexec() {{ }}", "pykexec -", "\t")
    offered = (tmp_path / "offered").read_text().split()
    assert {name for option in TABLE for name in option.names} <= {each.rstrip("=+") for each in offered}


def test_general_options_are_there() -> None:
    """A table that lost a group would pass all of the above."""
    assert {"--help", "--version"} <= {
        name for each in OPTIONS if each.group == GENERAL for name in each.names
    }

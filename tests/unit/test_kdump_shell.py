"""Shell assignments: what sh makes of a file, and errors where sh would run something."""

import contextlib
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pykexec.kdump.config import shell
from pykexec.kdump.config.errors import ConfigError, Where
from tests.support.footprint import takes_at_most
from tests.support.growth import QUADRATIC_SUSPECTED, growth
from tests.support.stopwatch import Stopwatch


def ask_sh(folder: Path, text: str, names: list[str]) -> dict[str, str]:
    """What a real shell says these variables are after it has read the file."""
    (folder / "file").write_text(text)
    script = ". ./file || exit 9\n" + "".join(f'printf "%s\\0" "${name}"\n' for name in names)
    done = subprocess.run(
        ["sh", "-c", script], cwd=folder, env={}, capture_output=True, check=True, stdin=subprocess.DEVNULL
    )
    assert not done.stderr
    return dict(zip(names, done.stdout.decode().split("\0"), strict=False))


def ours(text: str) -> dict[str, str]:
    return {name: each.value for name, each in shell.parse(text, "file").by_name.items()}


FILES = [
    "A=1\nB=two\n",
    "A=\"a b  c\" # comment\nB='x # y'\n",
    'A=a\\ b\\\\c\\"d\n',
    'A="q \\" \\\\ \\$ \\` \\n \\z"\n',
    "A='\\n \" $x `y`'\n",
    "A=one\"two\"'three'four\n",
    'A="first \\\nsecond"\nB=on\\\ne\n',
    'A="two\nlines"\n',
    "export A=1\n  export B='x y'\nexport A\n",
    "A=x\nB=\"$A-${A}y$A\"\nC='$A'\nD=$A$B\n",
    "A=1;B=2; C=3 # x\n\n\n;".removesuffix(";"),
    "A=1 B=$A\n",
    "A=1\nA=2\nB=$A\n",
    "A=#no#comment\n",
    "A=\nB=''\nC=\"\"\n",
    'A="$" B="a$ b" C=a$\n',
    "A=*? B=[x] C={a,b} D=!x E=%^@,.:/+-=\n",
    "\t A=1\\\n\n  #end",
    "A=a=b=c",
    "A='' ''\n".replace(" ''", ""),
    "A=back\\",
]


@pytest.mark.parametrize("text", FILES)
def test_same_values_as_sh(text: str, tmp_path: Path) -> None:
    found = ours(text)
    assert found
    assert ask_sh(tmp_path, text, list(found)) == found


WORDS = st.text(st.sampled_from("ab1 \t\\\"'$#=-/\n{}"), max_size=14)


def quoted(word: str, style: int) -> str:
    """A way to write any text as one shell word."""
    if style == 0:
        return "'" + word.replace("'", "'\\''") + "'"
    if style == 1:
        return '"' + "".join("\\" + each if each in '"\\$`' else each for each in word) + '"'
    return "".join("'\n'" if each == "\n" else "\\" + each for each in word)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(st.tuples(WORDS, st.integers(0, 2)), min_size=1, max_size=4))
def test_any_quoting(values: list[tuple[str, int]], tmp_path: Path) -> None:
    text = "".join(f"V{i}={quoted(word, style)}\n" for i, (word, style) in enumerate(values))
    found = ours(text)
    assert found == {f"V{i}": word for i, (word, _) in enumerate(values)}
    assert ask_sh(tmp_path, text, list(found)) == found


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.sampled_from("AB=\"'\\$ \n;#ab{}"), max_size=24))
def test_what_is_accepted_is_what_sh_says(text: str, tmp_path: Path) -> None:
    try:
        found = ours(text)
    except ConfigError:
        return
    assert ask_sh(tmp_path, text, list(found)) == found


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ConfigError):
        shell.parse(text, "file")


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("A=$(uname -r)\n", 1, "a command substitution"),
        ("\nA=`uname -r`\n", 2, "a command substitution"),
        ('A=1\n# x\nB="a $(id)"\n', 3, "a command substitution"),
        ('A="\n`id`"', 2, "a command substitution"),
        ("A=$((1+1))\n", 1, "a command substitution"),
        ("A='x\n", 1, "a ' that does not end"),
        ('B=1\nA="x\ny\n', 2, 'a " that does not end'),
        ("A = 1\n", 1, "a blank before '='"),
        ("A=1\nB= x\n", 2, "stands behind a value"),
        ("A=irqpoll nr_cpus=1 x\n", 1, "stands behind a value"),
        ("\n\nrm -rf /\n", 3, "not an assignment: 'rm -rf /'"),
        (". /etc/other\n", 1, "not an assignment"),
        ("if true; then A=1; fi\n", 1, "not an assignment"),
        ("A=1; ;\n", 1, "';' without an assignment"),
        ("A=1 && B=2\n", 1, "stands behind a value"),
        ("A=1|x\n", 1, "'|' outside quotes"),
        ("A=x>y\n", 1, "'>' outside quotes"),
        ("A=(1 2)\n", 1, "'(' outside quotes"),
        ("A=$B\n", 1, "$B is not assigned above"),
        ("A=${B:-x}\n", 1, "is not $NAME or ${NAME}"),
        ("A=$1\n", 1, "is not $NAME or ${NAME}"),
        ('A=$"x"\n', 1, "is not $NAME or ${NAME}"),
        ("A=$'x'\n", 1, "is not $NAME or ${NAME}"),
        ("A=~/x\n", 1, "'~' at the start"),
        ("A=/x:~/y\n", 1, "'~' behind a colon"),
        ("A=1\nB=\0\n", 2, "a NUL character"),
        ("A=1\nB=2\r\n", 2, "a line that ends as in DOS"),
        ("1A=2\n", 1, "not an assignment"),
        ("A-B=2\n", 1, "not an assignment"),
    ],
)
def test_refused_with_file_and_line(text: str, line: int, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        shell.parse(text, "/etc/x")
    assert caught.value.what.startswith(f"/etc/x:{line}: ")
    assert message in caught.value.what


def test_values_that_double_each_other_stop_growing() -> None:
    text = "A=xxxxxxxx\n" + "".join('A="$A$A"\n' for _ in range(64))
    with pytest.raises(ConfigError, match="more than 65536 characters"):
        shell.parse(text, "file")


def test_more_is_appended() -> None:
    assert ours("A=1\nA+=2\nB+=x\n") == {"A": "12", "B": "x"}  # bash, which reads /etc/sysconfig/kdump


def test_unknown_names_unless_something_is_made_of_them() -> None:
    parsed = shell.parse('EXTRA="a b"\nKNOWN="$EXTRA c"\n', "file")
    parsed.require_known(frozenset({"KNOWN"}))
    with pytest.raises(ConfigError) as caught:
        shell.parse("KNOWM=1\n", "file").require_known(frozenset({"KNOWN", "OTHER"}))
    assert caught.value.what == "file:1: unknown setting 'KNOWM'"
    assert caught.value.hint == "did you mean KNOWN?"


@pytest.mark.parametrize("line", ["A='x y'\n", "\n", "#x\n", 'A="$"\\\n', "A='", 'A="\\"', "A=1;", "B=$"])
def test_long_files_take_linear_time(line: str) -> None:
    def parse(count: int) -> None:
        with contextlib.suppress(ConfigError):
            shell.parse(line * count, "file")

    assert growth(lambda: parse(2000), lambda: parse(20000)) < QUADRATIC_SUSPECTED


def test_a_file_of_absurd_size() -> None:
    with pytest.raises(ConfigError, match="no configuration"):
        shell.parse("#" * (2 << 20), "file")


def test_many_values_made_of_a_long_one() -> None:
    """256 KiB of text would be 2 GiB of values."""
    text = "B=" + "y" * 60_000 + "\n" + "".join(f"a{number}=x$B\n" for number in range(15_000))
    with takes_at_most(8 << 20), pytest.raises(ConfigError, match="/f:18: values of more than 1048576 char"):
        shell.parse(text, "/f")


def test_a_long_file_is_refused_or_read_at_once() -> None:
    stopwatch = Stopwatch()
    with pytest.raises(ConfigError, match="more than 262144 characters"):
        shell.parse("A=1\n" * 100_000, "/f")
    expected = shell.Assignment("A", "1", Where("/f", 65_000))
    assert shell.parse("A=1\n" * 65_000, "/f").get("A") == expected
    assert stopwatch.seconds() < 2

"""Shell assignments: what sh makes of a file, and errors where sh would run something."""

import contextlib
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pykexec.kdump.config import shell
from pykexec.kdump.config.errors import ConfigError, Where, nearest
from pykexec.kdump.config.names import Format
from tests.support.effort import examples
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
    "A=1\nB=2\nunset A\nC=3 # x\n",
    "readonly A=1 B='x y'\nC=$A\n",
    ': ${A:=1} "${B:=x y}"; C=$A\n',
    "A=1\n: ${A:=2} ${B=3} # x\n",
    "A=\nB=${A:-x}${A-y} C=${A:+p}${A+q} D=${Z-a b}${Z:+c}\n",
    "A=${B:=x}$B\n",
    "umask 022\nset -e; true\n:\nA=1\n",
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


@settings(
    max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(values=st.lists(st.tuples(WORDS, st.integers(0, 2)), min_size=1, max_size=4))
def test_any_quoting(values: list[tuple[str, int]], tmp_path: Path) -> None:
    text = "".join(f"V{i}={quoted(word, style)}\n" for i, (word, style) in enumerate(values))
    found = ours(text)
    assert found == {f"V{i}": word for i, (word, _) in enumerate(values)}
    assert ask_sh(tmp_path, text, list(found)) == found


@settings(
    max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
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
        (". /etc/other\n", 1, "another file is read, '/etc/other'"),
        ("A=1; source /etc/other; B=2\n", 1, "another file is read, '/etc/other'"),
        ("\n[ -r /etc/a ] && . /etc/a\n", 2, "another file is read, '/etc/a'"),
        ("if [ -f /etc/a ]; then\n  . /etc/a\nfi\n", 1, "another file is read, '/etc/a'"),
        ("if true; then A=1; fi\n", 1, "not an assignment"),
        ("path /var/crash\n", 1, "not an assignment: 'path /var/crash'"),
        ("readonly A=1\nA=2\n", 2, "'A' was made readonly above"),
        ("readonly A=1\nunset A\n", 2, "'A' was made readonly above"),
        ("unset -f A\n", 1, "not an assignment"),
        ("unset A#\n", 1, "not an assignment"),
        ("set -n\n", 1, "not an assignment"),
        ("declare -u A=x\n", 1, "not an assignment"),
        ("true && A=1\n", 1, "not an assignment"),
        (": $(id)\n", 1, "a command substitution"),
        (": x && A=1\n", 1, "'&' outside quotes"),
        ("A=1; ;\n", 1, "';' without an assignment"),
        ("A=1 && B=2\n", 1, "stands behind a value"),
        ("A=1|x\n", 1, "'|' outside quotes"),
        ("A=x>y\n", 1, "'>' outside quotes"),
        ("A=(1 2)\n", 1, "'(' outside quotes"),
        ("A=$B\n", 1, "$B is not assigned above"),
        ("A=${B:-$C}\n", 1, "is not $NAME or ${NAME}"),
        ("A=${B%x}\n", 1, "is not $NAME or ${NAME}"),
        ("A=${PATH:-x}\n", 1, "$PATH is not assigned above"),
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


OWN = Format("mytool", "etc/x", frozenset({"KNOWN", "OTHER_NAME"}))


def unknown(text: str) -> list[str]:
    return list(shell.parse(text, "/etc/x", OWN.names).unknown(OWN))


def test_unknown_names_unless_something_is_made_of_them() -> None:
    """A shell that reads a file ignores them, so they are no errors."""
    assert unknown('EXTRA="a b"\nKNOWN="$EXTRA c"\n') == []
    (told,) = unknown("\nKNOWM=1\n")
    assert told == "/etc/x:2: unknown setting 'KNOWM', which mytool ignores; did you mean KNOWN?"
    assert unknown("KDUMP_DELETE_OLD=1\n") == [
        "/etc/x:1: unknown setting 'KDUMP_DELETE_OLD', which mytool ignores"
    ]
    (told,) = unknown("USE_KDUMP=1\n")
    assert told.endswith("; it is a setting of kdump-tools")
    assert unknown("A=$(x)\nexport PATH=/x:$PATH\nLC_ALL=C\nHOME=~x\n") == [
        "/etc/x:1: unknown setting 'A', which mytool ignores"
    ]


def test_many_unknown_names() -> None:
    told = unknown("".join(f"A{number}=1\n" for number in range(20)))
    assert len(told) == 9
    assert told[-1] == "/etc/x: 12 more unknown settings"


@pytest.mark.parametrize(
    "value",
    [
        "$(uname -r)", "`date +\"%F\"`", '"a $(echo ")" \'"\') b"', "$((1 + 2))", "(1 2 'a )' )", "~/x",
        "a:~/b", "$UNSET", '"${UNSET%.*}"', "${UNSET:?no}", "$(echo $(echo \\)) `a`)", '"$(a "b)" )"x',
        "$1$$",
    ],
)  # fmt: skip
def test_what_only_a_shell_knows_counts_where_it_is_used(value: str) -> None:
    text = f"#\nA={value}\nKNOWN=1\n"
    parsed = shell.parse(text, "/etc/x", OWN.names)
    assert {name: each.value for name, each in parsed.by_name.items()} == {"KNOWN": "1"}
    for used in (f"KNOWN={value}\n", f"#\nA={value}\nKNOWN=x$A\n", f"A={value} B=$A\nKNOWN=$B\n"):
        with pytest.raises(ConfigError) as caught:
            shell.parse(used, "/etc/x", OWN.names)
        line = 2 if used.startswith("#") else 1
        assert caught.value.what.startswith(f"/etc/x:{line}: ")


@pytest.mark.parametrize("value", ["$((KNOWN=1))", "$UNSET${KNOWN:=1}", "`a`${KNOWN=1}", "(a $((KNOWN=1)))"])
def test_values_that_may_set_others(value: str) -> None:
    with pytest.raises(ConfigError):
        shell.parse(f"A={value}\n", "/etc/x", OWN.names)


@settings(
    max_examples=examples(200), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=st.text(st.sampled_from("KA=\"'\\$ \n;#(){}`:-"), max_size=24).map("K=1\n{}".format))
def test_values_that_count_are_those_of_sh(text: str, tmp_path: Path) -> None:
    """Whatever is passed over, a value that is taken is the shell's."""
    try:
        found = shell.parse(text, "file", frozenset({"K"})).by_name
    except ConfigError:
        return
    (tmp_path / "file").write_text(text)
    script = '. ./file > /dev/null 2>&1; printf %s. "$K"'
    done = subprocess.run(
        ["sh", "-c", script],
        cwd=tmp_path,
        env={},
        capture_output=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    if done.returncode == 0:  # else the file stops the shell that reads it
        assert done.stdout.decode() == f"{found['K'].value if 'K' in found else ''}."


def test_values_take_little_memory_together() -> None:
    text = f"A={'x' * 32000}\n" + "".join(f'B{number}="$A$A"\n' for number in range(1000))
    with pytest.raises(ConfigError, match="values of more than 1048576 characters in all"):
        shell.parse(text, "file")


@pytest.mark.parametrize(
    "line",
    [
        "A=$(x",
        'A=("$(`',
        "A=1\n",
        "A+=x\n",
        ": ${A:=x}\n",
        "A='x y'\n",
        "\n",
        "#x\n",
        'A="$"\\\n',
        "A='",
        'A="\\"',
        "A=1;",
        "B=$",
    ],
)
@pytest.mark.slow
def test_long_files_take_linear_time(line: str) -> None:
    def parse(count: int) -> None:
        with contextlib.suppress(ConfigError):
            assert shell.parse(line * count, "file", frozenset({"X"})).unknown(OWN)

    assert growth(lambda: parse(1000), lambda: parse(10000)) < QUADRATIC_SUSPECTED


def test_a_file_of_absurd_size() -> None:
    with pytest.raises(ConfigError, match="no configuration"):
        shell.parse("#" * (2 << 20), "file")


@pytest.mark.parametrize(
    "unit", ["A=1\n", "A{}=1\n", "A+=x\n", "A='\n", "KNOWM{}=$(x)\n", "A=(`$(", "#\n", "a b\n"]
)
def test_a_file_is_read_in_no_time(unit: str) -> None:
    """64 KiB of anything."""
    text = "".join(unit.replace("{}", str(number)) for number in range((64 << 10) // len(unit)))[: 64 << 10]
    watch = Stopwatch()
    with contextlib.suppress(ConfigError):
        unknown(text)
    assert watch.seconds() < 1


def reference(one: str, other: str) -> int:
    """Slips between two words, the slow and simple way."""
    if not one or not other:
        return len(one) + len(other)
    ways = [
        reference(one[1:], other[1:]) + (one[0] != other[0]),
        reference(one[1:], other) + 1,
        reference(one, other[1:]) + 1,
    ]
    if len(one) > 1 and one[:2] == other[1::-1]:
        ways.append(reference(one[2:], other[2:]) + 1)
    return min(ways)


@given(st.text("abc", max_size=6), st.text("abc", max_size=6))
def test_what_is_near(one: str, other: str) -> None:
    allowed = 1 if len(one) < 6 else 2
    assert (nearest(one, [other]) is not None) == (reference(one, other) <= allowed)


def test_hints_are_not_from_far_away() -> None:
    known = ["KDUMP_KEEP_OLD_DUMPS", "KDUMP_COREDIR", "reboot"]
    assert nearest("KDUMP_DELETE_OLD", known) is None
    assert nearest("KDUMP_SAVEDIR", known) is None
    assert nearest("kdump_coerdir", known) == "did you mean KDUMP_COREDIR?"
    assert nearest("x" * 100_000, ["x" * 100_001]) is None


def test_many_values_made_of_a_long_one() -> None:
    """256 KiB of text would be 2 GiB of values."""
    text = "B=" + "y" * 60_000 + "\n" + "".join(f"a{number}=x$B\n" for number in range(15_000))
    with takes_at_most(8 << 20), pytest.raises(ConfigError, match="/f:18: values of more than 1048576 char"):
        shell.parse(text, "/f")


@pytest.mark.slow
def test_a_long_file_is_refused_or_read_at_once() -> None:
    stopwatch = Stopwatch()
    with pytest.raises(ConfigError, match="more than 262144 characters"):
        shell.parse("A=1\n" * 100_000, "/f")
    expected = shell.Assignment("A", "1", Where("/f", 65_000))
    assert shell.parse("A=1\n" * 65_000, "/f").get("A") == expected
    assert stopwatch.seconds() < 2

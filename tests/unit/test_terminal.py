"""What a terminal takes: lines as wide as it is."""

import textwrap

from hypothesis import given
from hypothesis import strategies as st

from pykexec import terminal

_WORDS = st.lists(st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=28), max_size=30)


@given(_WORDS, st.integers(40, 120), st.text("abc: ", max_size=12))
def test_a_folded_text_fits_and_keeps_its_words(words: list[str], columns: int, first: str) -> None:
    lines = terminal.folded(" ".join(words), columns, first=first)
    assert "\n".join(lines).split() == f"{first}{' '.join(words)}".split()
    assert all(len(line) <= columns for line in lines)
    assert all(line.startswith(" " * len(first)) for line in lines[1:])


def test_a_word_that_is_too_long_can_still_be_copied() -> None:
    path = "/var/crash/" + "x" * 100
    assert terminal.folded(f"dumps go to {path} now", 40, first="* ") == [
        "* dumps go to",
        f"  {path}",
        "  now",
    ]


@given(st.text(st.characters(categories=["L", "Z"]), max_size=2000), st.integers(1, 5))
def test_a_text_from_outside_does_not_fill_the_screen(text: str, lines_max: int) -> None:
    assert len(terminal.folded(text, 80, lines_max=lines_max)) <= lines_max


@given(_WORDS, st.integers(40, 120), st.text("abc: ", max_size=8), st.integers(0, 6))
def test_as_the_standard_library_folds_where_no_word_is_broken(
    words: list[str], columns: int, first: str, indent: int
) -> None:
    text = " ".join(words)
    expected = textwrap.wrap(
        text,
        columns,
        initial_indent=first,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    assert terminal.folded(text, columns, first=first, indent=" " * indent) == (expected or [first])


@given(st.text("ab ", max_size=200), st.integers(10, 80))
def test_spaces_are_lost_at_the_ends_of_lines_only(text: str, columns: int) -> None:
    lines = terminal.folded(text, columns)
    assert [word for line in lines for word in line.split()] == text.split()
    for line in lines:
        assert line.strip(" ") in text
        assert len(line) <= columns or len(line.split()) == 1


def test_without_columns_a_text_is_one_line() -> None:
    text = "word " * 100
    assert terminal.folded(text, None, first="* ") == [f"* {text}"]


def test_blanks_are_no_reason_to_lose_the_label() -> None:
    assert terminal.folded(" " * 100, 80, first="armed: ") == ["armed: "]


def test_a_stream_that_was_closed_has_a_width() -> None:
    assert terminal.width(None) == terminal.WIDTH

"""Text folded to the width of a terminal."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pykexec.terminal import folded

WORDS = st.lists(st.text("abc-", min_size=1, max_size=30), max_size=30)


@given(WORDS, st.integers(10, 80), st.integers(0, 6))
def test_all_words_are_there_in_lines_of_that_width(words: list[str], columns: int, indent: int) -> None:
    lines = folded(" ".join(words), columns, indent=" " * indent)
    assert [word for line in lines for word in line.split()] == words
    for number, line in enumerate(lines):
        assert line.startswith(" " * (indent if number else 0))
        assert len(line) <= columns or len(line.split()) == 1
    for line, following in pairwise(lines):
        assert len(line) + 1 + len(following.split()[0]) > columns  # a line takes what fits


def test_nothing_is_one_line() -> None:
    assert folded("", 80) == [""]

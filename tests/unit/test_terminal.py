"""Text folded to the width of a terminal."""

import textwrap

from hypothesis import given
from hypothesis import strategies as st

from pykexec.terminal import folded

WORDS = st.lists(st.text("abc-", min_size=1, max_size=30), max_size=30)


@given(WORDS, st.integers(10, 80), st.integers(0, 6))
def test_as_the_standard_library_folds_where_no_word_is_broken(
    words: list[str], columns: int, indent: int
) -> None:
    text = " ".join(words)
    expected = textwrap.wrap(
        text, columns, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
    )
    assert folded(text, columns, indent=" " * indent) == (expected or [""])


@given(st.text("ab ", max_size=200), st.integers(10, 80))
def test_spaces_are_lost_at_the_ends_of_lines_only(text: str, columns: int) -> None:
    lines = folded(text, columns)
    assert [word for line in lines for word in line.split()] == text.split()
    for line in lines:
        assert line.strip(" ") in text
        assert len(line) <= columns or len(line.split()) == 1

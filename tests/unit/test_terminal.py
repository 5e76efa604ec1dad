"""What a terminal takes: lines as wide as it is."""

from hypothesis import given
from hypothesis import strategies as st

from pykexec import terminal

_WORDS = st.lists(st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=30), max_size=30)


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

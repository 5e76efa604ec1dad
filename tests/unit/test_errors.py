"""Errors are for people at terminals, whatever is in the files and names they are about."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec import report
from pykexec.errors import FileError, PykexecError, printable
from pykexec.files import FileData
from pykexec.plan import FileLoadPlan, Purpose


@pytest.mark.slow
@given(st.text(), st.text())
def test_two_lines_that_do_nothing_to_a_terminal(what: str, hint: str) -> None:
    error = PykexecError(what, hint=hint)
    assert str(error).count("\n") <= 1
    assert all(each.isprintable() for each in (error.what, error.hint or ""))
    str(error).encode()  # no surrogate, which no stream can encode


@given(st.text(st.characters(categories=["L", "N", "P"]), max_size=500))
def test_what_can_be_printed_stays_as_it_is(what: str) -> None:
    assert PykexecError(what).what == what


def test_bytes_that_are_no_text_look_as_in_a_shell() -> None:
    assert printable("caf\udce9\n\x1b[31m\u202e") == r"caf\xe9\n\x1b[31m\u202e"


def test_both_ends_of_a_long_line_are_shown() -> None:
    error = FileError(f"cannot read the kernel {'a/' * 100_000}: File name too long")
    assert len(error.what) < 1001
    assert error.what.startswith("cannot read the kernel a/")
    assert error.what.endswith(": File name too long")


def test_a_plan_is_harmless_too() -> None:
    kernel = FileData.from_bytes("/boot/\x1b]0;x\x07\n", b"")
    plan = FileLoadPlan("x86_64", Purpose.BOOT, kernel, None, "quiet\nwarning: none", 0, ("a\rb",))
    assert all(line.isprintable() for line in report.as_text(plan).split("\n"))
    assert "\nwarning: none" not in report.as_text(plan)

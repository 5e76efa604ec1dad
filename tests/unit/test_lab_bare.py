"""What guests without a userland say on the console."""

import base64

import pytest

from tools.lab import LabError
from tools.lab.bare import Result

_PAGE = 4096


def shown(data: bytes) -> str:
    return base64.encodebytes(data).decode()


CONSOLE = (
    "firmware\n"
    f"\n>>> show /a\n{shown(bytes(range(100)))}\n<<< 0\n"
    f"\n>>> pages /b\n@{_PAGE}\n{shown(b'x' * _PAGE)}@{3 * _PAGE}\n{shown(b'end')}@{3 * _PAGE + 3}\n"
    "\n<<< 0\n"
    "\n>>> run /no-such-program\n\n<<< 32512\n"
    "\n>>> show /none\n\n<<< -2\n"
    "\n>>> run /kexec -e\npurgatory: starting the kernel\n"
    "\n>>> show /a\nAA==\n\n<<< 0\n"
)


def test_each_line_of_a_script_is_answered() -> None:
    result = Result(CONSOLE)
    assert [each.command for each in result.answers] == [
        *("show /a", "pages /b", "run /no-such-program", "show /none", "run /kexec -e", "show /a"),
    ]
    assert [each.status for each in result.answers] == [0, 0, 32512, -2, None, 0]
    assert result.answers[0].data == bytes(range(100))
    assert result.answer("show /a").data == b"\0", "the last one, of the last kernel"


def test_empty_pages_are_left_out() -> None:
    whole = bytes(_PAGE) + b"x" * _PAGE + bytes(_PAGE) + b"end"
    assert Result(CONSOLE).answer("pages /b").pages == whole


@pytest.mark.parametrize("command", ["show /none", "run /kexec -e"])
def test_what_is_not_there_is_said(command: str) -> None:
    with pytest.raises(LabError, match=command):
        _ = Result(CONSOLE).answer(command).data


def test_a_line_that_was_never_reached() -> None:
    with pytest.raises(LabError, match="nothing was said to 'show /c'; the console:\nfirmware"):
        Result("firmware\n\n>>> show /a\n").answer("show /c")

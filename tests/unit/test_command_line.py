"""Reusing the running kernel's command line."""

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec.command_line import for_request, parameters, without
from pykexec.errors import UsageError
from pykexec.files import FileData
from pykexec.plan import Purpose, Request

KERNEL = FileData.from_bytes("kernel", b"")


@pytest.mark.parametrize(
    ("running", "crash", "boot"),
    [
        (
            "BOOT_IMAGE=/vmlinuz root=/dev/vda crashkernel=512M,high crashkernel=256M,low quiet",
            "root=/dev/vda quiet",
            "root=/dev/vda crashkernel=512M,high crashkernel=256M,low quiet",
        ),
        # A hit in the middle of a word neither removes it nor hides the real ones behind it.
        ("xcrashkernel=1 crashkernel=2 crashkernel_foo=3", "xcrashkernel=1 crashkernel_foo=3", None),
        ('dyndbg="file a.c +p; crashkernel=1" a', 'dyndbg="file a.c +p; crashkernel=1" a', None),
        ("elfcorehdr=1K kexec_jump_back_entry=0x1 a", "a", "a"),
        ("", "", ""),
    ],
)
def test_reuse_drops_what_belongs_to_the_running_boot(running: str, crash: str, boot: str | None) -> None:
    def reused(purpose: Purpose) -> str:
        return for_request(Request(KERNEL, purpose=purpose, reuse_command_line=True), running)

    assert reused(Purpose.CRASH) == crash
    if boot is not None:
        assert reused(Purpose.BOOT) == boot


@pytest.mark.parametrize(
    ("append", "reuse", "expected"),
    [
        (None, False, ""),
        ("a", False, "a"),
        ("a", True, "x a"),
        (None, True, "x"),
        ("", True, "x"),
        ("  spaced  ", False, "  spaced  "),
    ],
)
def test_append_replaces_unless_reused(append: str | None, reuse: bool, expected: str) -> None:
    assert for_request(Request(KERNEL, append=append, reuse_command_line=reuse), "x") == expected


@pytest.mark.parametrize("append", ["a\0b", "a\ud800b"])
def test_what_no_kernel_can_be_given_is_refused(append: str) -> None:
    with pytest.raises(UsageError, match="the command line has"):
        for_request(Request(KERNEL, append=append), "")


WORDS = st.text(alphabet="ab=,. ", max_size=6).map(
    lambda text: f'k="{text}"' if " " in text else text or "a"
)


@given(st.lists(WORDS, max_size=6), st.sampled_from([" ", "  ", "\t"]))
def test_parameters_split_as_a_shell_does_with_double_quotes(words: list[str], separator: str) -> None:
    line = separator.join(words)
    found = list(parameters(line))
    assert [each.replace('"', "") for each in found] == shlex.split(line)
    assert list(parameters(without(line, ()))) == found

"""What tools/run and tools/test say while they work."""

import os
import sys

import pytest

from tools.lab import host, progress


def test_a_step_is_a_plain_line_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.step("Building", lambda: "half of it"):
        assert capsys.readouterr().err == "Building\n"
    assert capsys.readouterr() == ("", "")


def test_a_step_on_a_terminal_ends_with_what_it_took(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress.step("Building"):
        progress.say("needs more")
    assert capsys.readouterr().err == "\r\x1b[Kneeds more\n\r\x1b[K   0 s  Building\n"


def test_what_is_installed_is_said_first(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(host, "run", lambda *arguments, **options: said.append(capsys.readouterr().err))
    host.apt_install(["qemu-system-x86", "busybox"])
    assert said == ["Installing on this machine: qemu-system-x86 busybox\n", ""]

"""Users, hosts and paths of dump targets: refused, or given to the capture system as they were written."""

import os
import shlex
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from unittest import mock
from urllib.parse import quote

import hypothesis
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pykexec.errors import FileError, PykexecError
from pykexec.kdump.capture import destination, image, init_settings, network, sshconfig
from pykexec.kdump.capture.destination import Destination, Transport
from pykexec.kdump.capture.image import INIT, MORE_OF_INIT
from pykexec.kdump.capture.links import Card, Links
from pykexec.kdump.capture.network import Network
from pykexec.kdump.config import debian, fedora, suse, targets
from pykexec.kdump.config.errors import ConfigError
from pykexec.kdump.config.settings import (
    Collector,
    Dialect,
    Fencing,
    Hooks,
    KernelChoice,
    Settings,
    Target,
    TargetKind,
)
from tests.support.effort import examples

_ROUTE = Network("192.0.2.1", Links((Card("52:54:00:00:00:01", "/devices/x"),)), "192.0.2.7/24")
_NASTY = (
    "-oProxyCommand=touch x", "-", "--", "..", "../..", "a/../b", ".", "a\nb", "a\0b", "a\tb", "a\rb",
    "$(id)", "`id`", "'", "\"", "\\", "a b", "~root", "*", "a;id", "a@b", "a:b", "é", "[::1]", "%00", "a#b",
    "", "\x1b[2J", "\u2028", "a?b", "user", "x" * 5000,
)  # fmt: skip
TEXTS = st.one_of(
    st.sampled_from(_NASTY),
    st.text(max_size=20),
    st.text("abz09._-/@:$ '\"\\%", max_size=12),
)


@dataclass(frozen=True)
class Field:
    """A place of a configuration that text can stand in."""

    read: Callable[[str], Settings]
    arrives: str
    """The capture system's variable."""
    as_: Callable[[str], str] = str
    """What is to be in it."""


def _shell(name: str, value: str, more: str = "") -> str:
    return f"{name}={shlex.quote(value)}\n{more}"


def _suse(url: str) -> Settings:
    return suse.read(_shell("KDUMP_SAVEDIR", url, "KDUMP_SSH_IDENTITY=/dev/null\n"))


def _debian(name: str, value: str, more: str = "SSH=u@h\nSSH_KEY=/dev/null\n") -> Settings:
    return debian.read(_shell(name, value, more))


def _bare(host: str) -> str:
    return host.strip("[]")


def _bare_in_url(text: str) -> str:
    """A host in a URL ends where the path begins."""
    return _bare(text.partition("/")[0])


_KEY = "SSH_KEY=/dev/null\n"
FIELDS = {
    "openSUSE's user": Field(
        lambda text: _suse(f"ssh://{quote(text, safe='')}@h/d"), "REMOTE", lambda text: text or "root"
    ),
    "openSUSE's folder": Field(lambda text: _suse(f"ssh://u@h/{quote(text)}"), "FOLDER", "/{}".format),
    "openSUSE's host": Field(lambda text: _suse(f"ssh://u@{text}/d"), "HOST_KEY_ALIAS", _bare_in_url),
    "openSUSE's export": Field(lambda text: _suse(f"nfs://h/{quote(text)}"), "REMOTE", "/{}".format),
    "Debian's user": Field(lambda text: _debian("SSH", f"{text}@h", _KEY), "REMOTE"),
    "Debian's host": Field(lambda text: _debian("SSH", f"u@{text}", _KEY), "HOST_KEY_ALIAS", _bare),
    "Debian's export": Field(lambda text: _debian("NFS", f"h:/{text}", ""), "REMOTE", "/{}".format),
    "Debian's folder": Field(lambda text: _debian("KDUMP_COREDIR", f"/{text}"), "FOLDER", "/{}".format),
    "Debian's command": Field(lambda text: _debian("KDUMP_FAIL_CMD", text), "FAILURE_COMMAND"),
    "Fedora's user": Field(lambda text: fedora.read(f"ssh {text}@h\nsshkey /dev/null", ""), "REMOTE"),
    "Fedora's export": Field(lambda text: fedora.read(f"nfs h:/{text}", ""), "REMOTE", "/{}".format),
    "Fedora's folder": Field(
        lambda text: fedora.read(f"ssh u@h\nsshkey /dev/null\npath /{text}", ""),
        "FOLDER",
        lambda text: f"/{text.strip('/')}",
    ),
    "Fedora's hook": Field(
        lambda text: fedora.read(f"ssh u@h\nsshkey /dev/null\nkdump_pre /{text}", ""),
        "HOOK_BEFORE",
        "/{}".format,
    ),
}
SHELLS = {"dash": ("dash", "-c"), "busybox": ("busybox", "sh", "-c")}


def _resolved(settings: Settings) -> Destination:
    with (
        mock.patch.object(network, "route_to", return_value=_ROUTE),
        mock.patch.object(Path, "is_file", return_value=True),
        mock.patch.object(
            sshconfig, "ask", lambda host, user, port: sshconfig.Server(host, port or 22, user)
        ),
    ):
        return destination.resolve(settings)


@pytest.mark.programs
@pytest.mark.parametrize("field", FIELDS.values(), ids=FIELDS)
@hypothesis.settings(deadline=None, max_examples=examples(60))
@given(text=TEXTS)
@example(text="0/")
def test_what_is_written_arrives_or_is_refused(field: Field, text: str) -> None:
    # What is comment there, or blank, is not part of the value.
    hypothesis.assume(text.partition("#")[0].strip() == text or field.read.__code__.co_names[0] != "fedora")
    try:
        settings = field.read(text)
        conf = init_settings.render(settings, "6.1", _resolved(settings), None, "h")
    except PykexecError:
        return
    for shell in SHELLS.values():
        script = f'{conf}\nprintf %s. "${field.arrives}"'
        done = subprocess.run([*shell, script], capture_output=True, check=True, env={})
        assert done.stdout.decode() == f"{field.as_(text)}."
    value = field.as_(text)
    assert field.arrives == "FAILURE_COMMAND" or not value.startswith("-")
    assert field.arrives == "FAILURE_COMMAND" or ".." not in value.split("/")


@pytest.mark.parametrize(
    "url",
    [
        "ssh://-oProxyCommand=touch%20x@192.0.2.1/var/crash",
        "ssh://a%0Ab@host/x",
        "ssh://u@host/x%00y",
        "ssh://u@host/..%2f..%2f",
        "ssh://u@host/x%ff",
        "ssh://u@-oProxyCommand=x/d",
        "file:///var/crash%0A/mnt/etc",
        "file:///var/../etc",
        "file://var/crash",
        "nfs://host/a/../b",
        "cifs://host/../x",
        "cifs://host/",
        "cifs://-h/share/x",
        "ftp://-u@host/x",
        "ftp://host/x%0d",
    ],
)
def test_urls_that_lead_elsewhere(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        suse.read(f'KDUMP_SAVEDIR="{url}"\n')
    assert caught.value.what.startswith("/etc/sysconfig/kdump:1: KDUMP_SAVEDIR")


def test_a_url_s_folder_is_all_behind_the_host() -> None:
    """kdump-save takes it so: there are no queries and no fragments."""
    assert suse.read('KDUMP_SAVEDIR="ssh://u@h/a?b#c%20d"\n').path == "/a?b#c d"


def test_a_refused_url_does_not_tell_its_password() -> None:
    for url in (
        "ftp://u:secret@h:99999/x",
        "ftp://u:secret/x@h/x",
        "ftp://u:secret@-h/x",
        "ssh://u:secret@h/..",
    ):
        with pytest.raises(ConfigError) as caught:
            suse.read(f'KDUMP_SAVEDIR="{url}"\n')
        assert "secret" not in str(caught.value)


def test_names_of_keys_are_of_root_s_folder() -> None:
    """setup-kdump.functions looks for them there."""
    read = 'KDUMP_SAVEDIR=ssh://h/x\nKDUMP_SSH_IDENTITY="{}"\n'.format
    assert suse.read(read("id_kdump id_other")).target.ssh_key == "/root/.ssh/id_kdump"
    assert suse.read(read("/etc/key")).target.ssh_key == "/etc/key"
    with pytest.raises(ConfigError, match=r":2: KDUMP_SSH_IDENTITY: .* has .. in it"):
        suse.read(read("../../etc/key"))


@pytest.mark.parametrize(
    ("read", "place"),
    [
        (lambda: fedora.read("ssh u@h\npath ../..\n", ""), "/etc/kdump.conf:2: path"),
        (lambda: fedora.read("path /var/../etc\n", ""), "/etc/kdump.conf:1: path"),
        (lambda: fedora.read("extra_bins /bin/a ../b\n", ""), "/etc/kdump.conf:1: extra_bins"),
        (lambda: fedora.read("extra_bins -x\n", ""), "/etc/kdump.conf:1: extra_bins"),
        (lambda: fedora.read("kdump_post /a/../b\n", ""), "/etc/kdump.conf:1: kdump_post"),
        (lambda: fedora.read("raw /dev/../etc/passwd\n", ""), "/etc/kdump.conf:1: raw"),
        (lambda: fedora.read("virtiofs -o\n", ""), "/etc/kdump.conf:1: virtiofs"),
        (lambda: fedora.read("sshkey /root/../x\n", ""), "/etc/kdump.conf:1: sshkey"),
        (lambda: fedora.read('dracut_args --mount "-o /b xfs"\n', ""), "/etc/kdump.conf:1: dracut_args"),
        (lambda: fedora.read('dracut_args --mount "/dev/a /b -t"\n', ""), "/etc/kdump.conf:1: dracut_args"),
        (lambda: fedora.read("core_collector ../x\n", ""), "/etc/kdump.conf:1: core_collector"),
        (lambda: fedora.read("", "KDUMP_KERNELVER=..\n"), "/etc/sysconfig/kdump:1: KDUMP_KERNELVER"),
        (lambda: fedora.read("", "KDUMP_IMG=../x\n"), "/etc/sysconfig/kdump:1: KDUMP_IMG"),
        (lambda: fedora.read("", "KDUMP_IMG_EXT=/../x\n"), "/etc/sysconfig/kdump:1: KDUMP_IMG_EXT"),
        (lambda: debian.read("FTP=h:../..\n"), "/etc/default/kdump-tools:1: FTP"),
        (lambda: debian.read("FTP=h:-x\n"), "/etc/default/kdump-tools:1: FTP"),
        (lambda: debian.read("FTP=-h:x\n"), "/etc/default/kdump-tools:1: FTP"),
        (lambda: debian.read("FTP=h\nFTP_USER=-x\n"), "/etc/default/kdump-tools:2: FTP_USER"),
        (lambda: debian.read("NFS=h:/a/..\n"), "/etc/default/kdump-tools:1: NFS"),
        (lambda: debian.read("NFS=-h:/a\n"), "/etc/default/kdump-tools:1: NFS"),
        (lambda: debian.read("KDUMP_INITRD=/a/../b\n"), "/etc/default/kdump-tools:1: KDUMP_INITRD"),
        (lambda: suse.read("KDUMP_REQUIRED_PROGRAMS=../x\n"), "/etc/sysconfig/kdump:1: KDUMP_REQUIRED"),
    ],
)
def test_the_same_rules_everywhere(read: Callable[[], Settings], place: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read()
    assert caught.value.what.startswith(place)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Target(TargetKind.SSH, "-oProxyCommand=x@h"),
        lambda: Target(TargetKind.SSH, "u@h\n"),
        lambda: Target(TargetKind.NFS, "h:/a/../b"),
        lambda: Target(TargetKind.RAW, "/dev/../x"),
        lambda: Target(TargetKind.FTP, "h:a\0"),
        lambda: Target(TargetKind.CIFS, "//h/.."),
        lambda: Target(TargetKind.SSH, "u@h", ssh_key="key"),
        lambda: Target(TargetKind.FTP, "h", user="-x"),
        lambda: Target(TargetKind.NFS),
        lambda: replace(Settings(Dialect.SUSE), path="../x"),
        lambda: replace(Settings(Dialect.SUSE), path=""),
        lambda: Settings(Dialect.FEDORA, extra_programs=("/bin/a", "../b")),
        lambda: Fencing(("-x",)),
        lambda: Settings(Dialect.DEBIAN, initrd="x"),
        lambda: Settings(Dialect.DEBIAN, failure_command="a\nb"),
        lambda: Hooks(before="a\0b"),
        lambda: KernelChoice(version="../x"),
        lambda: Collector(("-x",)),
    ],
)
def test_values_that_no_configuration_made(make: Callable[[], object]) -> None:
    with pytest.raises(targets.Unfit) as caught:
        make()
    assert str(caught.value).isprintable() or "\n" in str(caught.value)


@given(TEXTS)
def test_folders_of_other_origin(text: str) -> None:
    """The table of mounts may have any names in it."""
    try:
        found = Destination(Transport.DISK, f"/{text}")
    except FileError:
        return
    assert found.folder == f"/{text}"
    assert text.isprintable()
    assert ".." not in text.split("/")


@pytest.mark.parametrize("name", ["host", "(none)", "a.b-c", "-x", ".x", "a/b", "a\nb", "..", ""])
def test_the_host_s_name_begins_a_folder_s(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(nodename=name))
    settings = Settings(Dialect.SUSE, host_tag="hostname")
    to = Destination(Transport.SSH, "/d", network=_ROUTE, remote="u")
    if name in ("host", "(none)", "a.b-c"):
        assert image._host(settings, to) == name
        return
    with pytest.raises(FileError, match="the host's name, with which dumps' folders begin"):
        image._host(settings, to)
    with pytest.raises(ConfigError):
        init_settings.render(settings, "6.1", to, None, name)


@pytest.mark.programs
@hypothesis.settings(deadline=None, max_examples=25)
@given(TEXTS)
def test_ssh_takes_no_user_for_an_option(text: str) -> None:
    """As ssh itself says (-G): who logs in where."""
    try:
        user = targets.User(text)
    except ConfigError:
        return
    to = Destination(Transport.SSH, "/d", network=_ROUTE, remote=user)
    settings = Settings(Dialect.SUSE, target=Target(TargetKind.SSH, f"{user}@192.0.2.1"))
    conf = init_settings.render(settings, "6.1", to, None, "h")
    init = (MORE_OF_INIT / "network").read_text()
    start = init.index("on_server() {")
    function = init[start : init.index("\n}\n", start) + 3].replace("/root/key", "/dev/null")
    script = f'{conf}\n{function}\nssh() {{ command ssh -G "$@"; }}\non_server true\n'
    done = subprocess.run(["sh", "-c", script], capture_output=True, check=False, text=True)
    assert done.returncode == 0, done.stderr
    assert {f"user {user}", "hostname 192.0.2.1"} <= {*done.stdout.splitlines()}


def test_users_as_servers_have_them() -> None:
    for name in ("kdump", "_x", "DOMAIN\\user", "0x", "host$", "a.b-c+d"):
        assert targets.User(name) == name


@pytest.mark.parametrize(
    "host", ["h", "h.example.", "192.0.2.1", "::1", "[2001:db8::1]", "fe80::1%eth0", "a_b"]
)
def test_hosts(host: str) -> None:
    assert targets.Host(host) == host
    assert targets.Host(host).bare == host.strip("[]")


@pytest.mark.parametrize(
    "host", ["", "-h", "h-", "a/b", "a..b", ".a", "[::1", "::1]", "1::2::3", "a b", "h\n", "é"]
)
def test_no_hosts(host: str) -> None:
    with pytest.raises(ConfigError, match="no name or address of a host"):
        targets.Host(host)


@pytest.mark.programs
@pytest.mark.parametrize("shell", SHELLS.values(), ids=SHELLS)
def test_a_command_that_begins_with_a_dash(shell: tuple[str, ...]) -> None:
    """/init gives it to sh, for which it is no option."""
    (line,) = (each for each in INIT.read_text().splitlines() if 'sh -c -- "$FAILURE_COMMAND"' in each)
    script = f"FAILURE_COMMAND='-x; echo ran'\n{line.replace('sh -c', ' '.join(shell))}"
    done = subprocess.run([*shell, script], capture_output=True, check=True, text=True)
    assert done.stdout == "ran\n"

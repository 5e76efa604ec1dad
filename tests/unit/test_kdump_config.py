"""Each distribution's configuration: what it means, and what is refused, with the line."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec.kdump import config
from pykexec.kdump.config import debian, fedora, suse
from pykexec.kdump.config.errors import ConfigError
from pykexec.kdump.config.settings import (
    Action,
    Dialect,
    DracutArguments,
    Fencing,
    Hooks,
    Rebuild,
    Settings,
    TargetKind,
)
from pykexec.machine.root import Folder
from tests.support.machines import write
from tests.support.stopwatch import Stopwatch


def conf(text: str, sysconfig: str | None = "") -> Settings:
    return fedora.read(text, sysconfig)


# /etc/kdump.conf

SHIPPED = """\
# This file contains a series of commands to perform (in order) in the kdump
#raw /dev/vg/lv_kdump
#ssh user@2001:db8::1:2:3:4
auto_reset_crashkernel yes
path /var/crash
core_collector makedumpfile -l --message-level 7 -d 31
#failure_action shell
"""


def test_as_shipped() -> None:
    settings = conf(SHIPPED)
    assert (settings.dialect, settings.target.kind, settings.path) == (
        Dialect.FEDORA,
        TargetKind.LOCAL,
        "/var/crash",
    )
    assert settings.collector.words == ("makedumpfile", "-l", "--message-level", "7", "-d", "31")
    assert settings.collector.dump_level == 31
    assert (settings.failure_action, settings.final_action) == (Action.REBOOT, Action.REBOOT)
    assert settings.auto_reset_crashkernel
    assert not settings.warnings


def test_nothing_configured_is_what_an_empty_file_says() -> None:
    empty = conf("", "")
    assert (empty.path, empty.collector.program, empty.keep_old_dumps) == ("/var/crash", "makedumpfile", 0)
    assert empty.command_line.remove == ("hugepages", "hugepagesz", "slub_debug")


@pytest.mark.parametrize(
    ("line", "kind", "address", "filesystem"),
    [
        ("raw /dev/vg/lv_kdump", TargetKind.RAW, "/dev/vg/lv_kdump", ""),
        ("ext4 /dev/vg/lv_kdump", TargetKind.FILESYSTEM, "/dev/vg/lv_kdump", "ext4"),
        ("ext4 LABEL=/boot", TargetKind.FILESYSTEM, "LABEL=/boot", "ext4"),
        ("xfs UUID=03138356-5e61", TargetKind.FILESYSTEM, "UUID=03138356-5e61", "xfs"),
        ("btrfs\t/dev/sda1   # comment", TargetKind.FILESYSTEM, "/dev/sda1", "btrfs"),
        ("virtiofs myfs", TargetKind.FILESYSTEM, "myfs", "virtiofs"),
        ("  nfs my.server.com:/export/tmp  ", TargetKind.NFS, "my.server.com:/export/tmp", ""),
        ("nfs [2001:db8::1:2:3:4]:/export/tmp", TargetKind.NFS, "[2001:db8::1:2:3:4]:/export/tmp", ""),
        ("ssh user@my.server.com", TargetKind.SSH, "user@my.server.com", ""),
        ("ssh user@2001:db8::1:2:3:4", TargetKind.SSH, "user@2001:db8::1:2:3:4", ""),
        ('dracut_args --mount "/dev/sda /mnt xfs" --x', TargetKind.DRACUT, "/dev/sda", "xfs"),
        ("dracut_args --mount='/dev/sda /mnt xfs'", TargetKind.DRACUT, "/dev/sda", "xfs"),
    ],
)
def test_targets(line: str, kind: TargetKind, address: str, filesystem: str) -> None:
    target = conf(line + "\n").target
    assert (target.kind, target.address, target.filesystem) == (kind, address, filesystem)
    assert target.is_remote == (kind in (TargetKind.NFS, TargetKind.SSH))


def test_a_stream_needs_makedumpfile_in_order() -> None:
    for target in ("ssh u@h", "raw /dev/sda1"):
        assert conf(target).collector.words[-1] == "-F", "as kdumpctl does by itself"
        assert "-F" in conf(f"{target}\ncore_collector makedumpfile -F -c -d 31\n").collector.words
        with pytest.raises(ConfigError, match=r"/etc/kdump.conf:2: makedumpfile needs -F .*\(line 1\)"):
            conf(f"{target}\ncore_collector makedumpfile -c -d 31\n")
    assert conf("ssh u@h\ncore_collector scp\n").collector.dump_level is None
    assert "recovered by hand" in conf("raw /dev/sda1\ncore_collector dd bs=1M\n").warnings[0]


def test_all_the_other_keys() -> None:
    settings = conf(
        "failure_action dump_to_rootfs\nfinal_action poweroff\nkeep_old_dumps -1\nforce_rebuild 1\n"
        'dracut_args --omit-drivers "cfg80211 snd" --add-drivers "ext2 ext3"\n'
        "kdump_pre /a\nkdump_post /b\nkdump_emergency /c\nextra_bins /bin/x /bin/y\nextra_modules gfs2 dlm\n"
        "fence_kdump_args -p 7410 -f auto\nfence_kdump_nodes node1 node2\nauto_reset_crashkernel no\n"
        "ssh u@h\nsshkey /root/key\npath dumps/here\noverride_resettable 1\n"
    )
    assert (settings.failure_action, settings.final_action) == (Action.DUMP_TO_ROOTFS, Action.POWEROFF)
    assert (settings.keep_old_dumps, settings.rebuild) == (0, Rebuild.ALWAYS), "-1: nothing is removed"
    assert settings.dracut_arguments == ("--omit-drivers", "cfg80211 snd", "--add-drivers", "ext2 ext3")
    assert (settings.hooks.before, settings.hooks.after, settings.hooks.emergency) == ("/a", "/b", "/c")
    assert settings.extra_programs == ("/bin/x", "/bin/y")
    assert settings.extra_modules == ("gfs2", "dlm")
    assert settings.fencing == Fencing(("node1", "node2"))
    assert not settings.auto_reset_crashkernel
    assert settings.target.ssh_key == "/root/key"
    assert settings.path == "/dumps/here"
    assert settings.warnings == ("/etc/kdump.conf:17: override_resettable has no effect any more",)


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (
            '--omit-drivers "cfg80211 snd" --add-drivers "ext2 ext3"',
            DracutArguments(drivers=("ext2", "ext3"), omitted_drivers=("cfg80211", "snd")),
        ),
        ("--force-drivers=a --add-drivers b", DracutArguments(drivers=("b", "a"))),
        ("-I '/bin/a b' --install /etc/c", DracutArguments(programs=("/bin/a", "b", "/etc/c"))),
        ("--install-optional=/bin/a", DracutArguments(optional_programs=("/bin/a",))),
        ("-i /a /b --include /c /d", DracutArguments(files=(("/a", "/b"), ("/c", "/d")))),
        ('--mount "/dev/a /b xfs" -f', DracutArguments(unused=("-f",))),
        ('-o "a b" --gzip -I', DracutArguments(unused=("-o a b", "--gzip", "--install"))),
        ("--omit-drivers '(a|b)'", DracutArguments(unused=("--omit-drivers (a|b)",))),
    ],
)
def test_what_dracut_would_do(arguments: str, found: DracutArguments) -> None:
    assert conf(f"dracut_args {arguments}\n").dracut == found


@pytest.mark.parametrize(
    "arguments",
    ["-p 7411 -c 5 -i 2 -f IPv6", "-v3 -p7411 --count=5 --int 2 --family ipv6", "-c5 -i2 -p7411 -f ipv6 -v"],
)
def test_options_of_fence_kdump_send(arguments: str) -> None:
    """In each form that getopt_long(3) takes."""
    found = conf(f"fence_kdump_args {arguments}\nfence_kdump_nodes a\n").fencing
    assert found == Fencing(("a",), port=7411, family="ipv6", count=5, interval=2)


@pytest.mark.parametrize(
    ("text", "line", "message", "hint"),
    [
        ("faliure_action shell\n", 1, "unknown key 'faliure_action'", "did you mean failure_action?"),
        ("\n# x\nPath /x\n", 3, "unknown key 'Path'", "did you mean path?"),
        ("path=/x\n", 1, "unknown key", "without '='"),
        ("path = /x\n", 1, "absolute path", None),
        ("path\n", 1, "path has no value", None),
        ("path # /x\n", 1, "path has no value", None),
        ("path crash\n", 1, "path has to be an absolute path", None),
        ("path /a\npath /b\n", 2, "path stands also in line 1", "remove one"),
        ("nfs h:/x\nssh u@h\n", 2, "a second dump target, ssh; line 1 has nfs", "remove the other"),
        ("ext4 /dev/a\nxfs /dev/b\n", 2, "a second dump target, xfs; line 1 has ext4", None),
        ("ext4 /dev/a\nraw /dev/b\n", 2, "a second dump target, raw", None),
        ('ssh u@h\ndracut_args --mount "/dev/a /b xfs"\n', 2, "a second dump target, dracut_args", None),
        ('dracut_args --mount "/dev/a /b" --mount "/dev/c /d"\n', 1, "several --mount", None),
        ("dracut_args --mount\n", 1, "--mount in dracut_args has to be followed", None),
        ("dracut_args -i /a\n", 1, "--include in dracut_args has to be followed by SOURCE TARGET", None),
        ("dracut_args -i /a ../b\n", 1, "dracut_args --include has to be an absolute path", None),
        ("dracut_args -I ../b\n", 1, "dracut_args --install: '../b' is no name", None),
        ('dracut_args "x\n', 1, "a quote that does not end", None),
        ("net server:/x\n", 1, "net is no longer understood", "nfs HOST:/FOLDER"),
        ("blacklist gfs2\n", 1, "blacklist is no longer understood", "--omit-drivers"),
        ("debug_mem_level 3\n", 1, "debug_mem_level is no longer understood", "rd.memdebug"),
        ("link_delay 3\n", 1, "link_delay is no longer understood", None),
        ("failure_action restart\n", 1, "failure_action cannot be 'restart'", None),
        ("failure_action rebot\n", 1, "failure_action cannot be 'rebot'", "did you mean reboot?"),
        ("final_action shell\n", 1, "final_action cannot be 'shell'", "reboot, halt, poweroff"),
        ("default halt\nfailure_action halt\n", 2, "both default and failure_action", None),
        ("force_rebuild yes\n", 1, "force_rebuild cannot be 'yes'", "0, 1"),
        ("force_rebuild 1\nforce_no_rebuild 1\n", 2, "are both 1", None),
        ("auto_reset_crashkernel 1\n", 1, "auto_reset_crashkernel cannot be '1'", "yes, no"),
        ("keep_old_dumps many\n", 1, "keep_old_dumps has to be a number from -1", None),
        ("raw sda1\n", 1, "names no device", "/dev/"),
        ("raw /dev/null\n", 1, "no device to keep a dump on", None),
        ("ext4 UUID=\n", 1, "no device to keep a dump on", None),
        ("virtiofs /dev/x\n", 1, "virtiofs takes the tag", None),
        ("nfs server\n", 1, "HOST:/FOLDER", None),
        ("nfs 2001:db8::1:/x\n", 1, "no name or address of a host", "brackets"),
        ("ssh server\n", 1, "USER@HOST", None),
        ("ssh u@-x\n", 1, "no name or address of a host", None),
        ("ssh u@h\nsshkey key\n", 2, "sshkey has to be an absolute path", None),
        (
            "core_collector makedumpfil -l\n",
            1,
            "unknown program 'makedumpfil'",
            "did you mean makedumpfile?",
        ),
        ("core_collector makedumpfile -d 32\n", 1, "dump level (-d) has to be a number from 0 to 31", None),
        ("core_collector makedumpfile -d\n", 1, "dump level (-d)", None),
        ("core_collector makedumpfile -c -l\n", 1, "-c and -l exclude each other", None),
        ("core_collector scp\n", 1, "scp copies to an ssh target only", None),
        ("fence_kdump_nodes a b;c\n", 1, "no name or address of a host", None),
        ("fence_kdump_args -h\n", 1, "fence_kdump_args: option -h not recognized", "-p, -f, -c and -i"),
        ("fence_kdump_args -p\n", 1, "option -p requires argument", None),
        ("fence_kdump_args -p 0\n", 1, "-p has to be a number from 1 to 65535", None),
        ("fence_kdump_args --interval=0\n", 1, "--interval has to be a number from 1", None),
        ("fence_kdump_args -f ip\n", 1, "fence_kdump_args -f cannot be 'ip'", "ipv4"),
        ("fence_kdump_args -c 1 node\n", 1, "has a node in it: 'node'", "fence_kdump_nodes"),
        ("kdump_post rm -rf\n", 1, "kdump_post has to be an absolute path", None),
        ("override_resettable x\n", 1, "override_resettable cannot be 'x'", None),
        ("path /a\x1b[2J\n", 1, "unprintable character", None),
    ],
)
def test_refused_with_the_line(text: str, line: int, message: str, hint: str | None) -> None:
    with pytest.raises(ConfigError) as caught:
        conf(text)
    assert caught.value.what.startswith(f"/etc/kdump.conf:{line}: ")
    assert message in caught.value.what
    assert hint is None or hint in (caught.value.hint or "")
    assert all(each.isprintable() for each in caught.value.what)


def refusal(read: Callable[[], Settings]) -> str:
    """What is said of it; empty where it is taken."""
    try:
        read()
    except ConfigError as error:
        return error.what
    return ""


@given(st.text(st.characters(codec="utf-8"), max_size=80))
def test_any_text_is_read_or_refused(text: str) -> None:
    for read in (lambda: fedora.read(text, None), lambda: debian.read(text), lambda: suse.read(text)):
        assert refusal(read).isprintable()


_ARGUMENTS = st.lists(
    st.sampled_from(
        ["-p", "-c5", "--count=", "-f", "ipv4", "-v", "--", "-", "--i", "n", "'a b'", "-i", "/x"]
    )
    | st.text(st.characters(codec="ascii", min_codepoint=33), min_size=1, max_size=5),
    max_size=6,
).map(" ".join)


@given(_ARGUMENTS)
def test_any_arguments_are_understood_or_refused(arguments: str) -> None:
    """What a program would stumble over after a crash is seen before it."""
    assert refusal(lambda: conf(f"fence_kdump_args {arguments}\nfence_kdump_nodes a\n")).isprintable()
    assert refusal(lambda: conf(f"dracut_args {arguments}\n")).isprintable()
    line = shlex.quote(f"/usr/lib/fence_kdump_send {arguments}")
    assert refusal(lambda: suse.read(f"KDUMP_POSTSCRIPT={line}\n")).isprintable()


@pytest.mark.parametrize(
    "unit",
    [
        "extra_bins a ",
        "dracut_args -I a ",
        "fence_kdump_args -v ",
        "A=1\n",
        "nfs h:/x\n",
        "KDUMP_SAVEDIR=ssh://a:@",
        "SSH=u@h\n",
        "-d ",
    ],
)
def test_any_file_of_64_kib_is_read_in_no_time(unit: str) -> None:
    text = (unit * (65536 // len(unit) + 1))[:65536]
    for read in (fedora_conf, fedora_sysconfig, debian.read, suse.read):
        watch = Stopwatch()
        refusal(lambda read=read: read(text))  # type: ignore[misc]
        assert watch.seconds() < 1


def fedora_conf(text: str) -> Settings:
    return fedora.read(text, None)


def fedora_sysconfig(text: str) -> Settings:
    return fedora.read(None, text)


KEYS = [
    "path",
    "core_collector",
    "ext4",
    "ssh",
    "sshkey",
    "nfs",
    "raw",
    "default",
    "final_action",
    "force_rebuild",
    "dracut_args",
]
VALUES = ["/x", "makedumpfile -d 31", "/dev/sda1", "u@h", "h:/x", "reboot", "0", "", '"', "-d", "a b c", "é"]


@given(st.lists(st.tuples(st.sampled_from(KEYS), st.sampled_from(VALUES)), max_size=5))
def test_any_lines_are_read_or_refused(lines: list[tuple[str, str]]) -> None:
    told = refusal(lambda: conf("".join(f"{key} {value}\n" for key, value in lines)))
    assert not told or re.match(r"/etc/kdump\.conf:[1-5]: ", told)


# /etc/sysconfig/kdump of Fedora

SYSCONFIG = """\
KDUMP_KERNELVER=""
KDUMP_COMMANDLINE=""
KDUMP_COMMANDLINE_REMOVE="hugepages hugepagesz slub_debug quiet log_buf_len swiotlb"
KDUMP_COMMANDLINE_APPEND="irqpoll nr_cpus=1 reset_devices"
FADUMP_COMMANDLINE_APPEND="nr_cpus=16"
KEXEC_ARGS="-s"
#KDUMP_BOOTDIR="/boot"
KDUMP_IMG="vmlinuz"
KDUMP_IMG_EXT=""
VMCORE_CREATION_NOTIFICATION="yes"
# KDUMP_STDLOGLVL=3
"""


def test_sysconfig() -> None:
    settings = conf("", SYSCONFIG)
    assert settings.files == ("/etc/kdump.conf", "/etc/sysconfig/kdump")
    assert settings.command_line.given is None
    assert settings.command_line.remove == (
        "hugepages",
        "hugepagesz",
        "slub_debug",
        "quiet",
        "log_buf_len",
        "swiotlb",
    )
    assert settings.command_line.append == "irqpoll nr_cpus=1 reset_devices"
    assert settings.kexec_arguments == ("-s",)
    assert (settings.kernel.image, settings.kernel.version, settings.kernel.folder) == ("vmlinuz", "", "")
    assert settings.log_levels.standard_error == 3


def test_sysconfig_says_more() -> None:
    settings = conf(
        "",
        "KDUMP_KERNELVER=6.1.0\nKDUMP_COMMANDLINE='ro quiet'\nKDUMP_COMMANDLINE_REMOVE=\n"
        "KDUMP_BOOTDIR=/efi\nKDUMP_IMG=Image\nKDUMP_IMG_EXT=.gz\nKDUMP_STDLOGLVL=4\nVMCORE_CREATION_NOTIFICATION=\n"
        "KEXEC_ARGS=\"-s '-d'\"\nMKDUMPRD_ARGS=x\n",
    )
    assert settings.command_line.given == "ro quiet"
    assert settings.command_line.remove == ()
    assert (settings.kernel.version, settings.kernel.folder) == ("6.1.0", "/efi")
    assert (settings.kernel.image, settings.kernel.extension) == ("Image", ".gz")
    assert settings.log_levels.standard_error == 4
    assert [warning.split(": ")[0] for warning in settings.warnings] == [
        "/etc/sysconfig/kdump:9",
        "/etc/sysconfig/kdump:2",
        "/etc/sysconfig/kdump:10",
    ]


@pytest.mark.parametrize(
    ("text", "line", "message", "hint"),
    [
        ("KDUMP_STDLOGLVL=5\n", 1, "KDUMP_STDLOGLVL has to be a number from 0 to 4", None),
        ("\nKDUMP_BOOTDIR=boot\n", 2, "KDUMP_BOOTDIR has to be an absolute path", None),
        ("KDUMP_KERNELVER=/boot/vmlinuz\n", 1, "KDUMP_KERNELVER is no version", "uname -r"),
        ('KDUMP_KERNELVER="$(uname -r)"\n', 1, "a command substitution", None),
        ("VMCORE_CREATION_NOTIFICATION=true\n", 1, "VMCORE_CREATION_NOTIFICATION cannot be", "yes, no"),
    ],
)
def test_sysconfig_refused(text: str, line: int, message: str, hint: str | None) -> None:
    with pytest.raises(ConfigError) as caught:
        conf("", text)
    assert caught.value.what.startswith(f"/etc/sysconfig/kdump:{line}: ")
    assert message in caught.value.what
    assert hint is None or hint in (caught.value.hint or "")


# /etc/default/kdump-tools


def test_debian_as_shipped() -> None:
    settings = debian.read(
        "USE_KDUMP=1\nKDUMP_KERNEL=/var/lib/kdump/vmlinuz\nKDUMP_INITRD=/var/lib/kdump/initrd.img\n"
        'KDUMP_COREDIR="/var/crash"\n#KDUMP_FAIL_CMD="reboot -f"\n'
    )
    assert settings.enabled
    assert (settings.kernel.path, settings.initrd) == ("/var/lib/kdump/vmlinuz", "/var/lib/kdump/initrd.img")
    assert settings.collector.words == ("makedumpfile", "-F", "-c", "-d", "31")
    assert "systemd.unit=kdump-tools-dump.service" in (settings.command_line.append or "")
    assert settings.save_log
    assert not settings.warnings


def test_debian_says_everything() -> None:
    settings = debian.read(
        "USE_KDUMP=1\nKDUMP_FAIL_CMD=\"echo 'makedumpfile FAILED.'; /bin/bash; reboot -f\"\n"
        "KDUMP_DUMP_DMESG=0\nKDUMP_NUM_DUMPS=3\nKDUMP_COMPRESSION=xz\nMAKEDUMP_ARGS='-l -d 17'\n"
        "KDUMP_KEXEC_ARGS='--elf64-core-headers -s'\nKDUMP_CMDLINE='root=/dev/sda1 ro'\n"
        "KDUMP_CMDLINE_APPEND=nr_cpus=1\nHOSTTAG=hostname\nNFS=remote:/var/crash\nNFS_TIMEO=100\n"
        "KDUMP_SYSCTL=kernel.panic_on_oops=1\nDEBUG_KERNEL=/usr/lib/debug/vmlinux\n"
    )
    assert settings.failure_command == "echo 'makedumpfile FAILED.'; /bin/bash; reboot -f"
    assert (settings.save_log, settings.keep_old_dumps, settings.collector.compress_with) == (False, 3, "xz")
    assert settings.collector.words == ("makedumpfile", "-l", "-d", "17", "-F")
    assert settings.collector.dump_level == 17
    assert settings.kexec_arguments == ("--elf64-core-headers", "-s")
    assert settings.command_line.given == "root=/dev/sda1 ro"
    assert settings.command_line.append == "nr_cpus=1"
    assert (settings.target.kind, settings.target.address) == (TargetKind.NFS, "remote:/var/crash")
    assert dict(settings.target.options)["NFS_TIMEO"] == "100"
    assert settings.host_tag == "hostname"
    assert "crashkernel= neither" in settings.warnings[0]


def test_debian_targets() -> None:
    ssh = debian.read("SSH=user@server\n").target
    assert (ssh.kind, ssh.address, ssh.ssh_key) == (TargetKind.SSH, "user@server", "/root/.ssh/kdump_id_rsa")
    ftp = debian.read("FTP=server:dumps\nFTP_USER=u\nFTP_PASSWORD=secret\nFTP_PORT=2121\n")
    assert (ftp.target.kind, ftp.target.user, ftp.target.port) == (TargetKind.FTP, "u", 2121)
    assert "secret" not in repr(ftp)
    assert not debian.read("SSH=\nNFS=\n").target.is_remote


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("USE_KDUMP=yes\n", 1, "USE_KDUMP cannot be 'yes'"),
        ("SSH=u@h\nNFS=h:/x\n", 2, "a second dump target, NFS; line 1 has SSH"),
        ("KDUMP_COMPRESSION=zip\n", 1, "KDUMP_COMPRESSION cannot be 'zip'"),
        ("KDUMP_COREDIR=crash\n", 1, "KDUMP_COREDIR has to be an absolute path"),
        ("HOSTTAG=name\n", 1, "HOSTTAG cannot be 'name'"),
        ("KDUMP_NUM_DUMPS=-1\n", 1, "KDUMP_NUM_DUMPS has to be a number from 0"),
        ("FTP=h\nFTP_PORT=70000\n", 2, "FTP_PORT has to be a number from 1 to 65535"),
        ("MAKEDUMP_ARGS='-d 99'\n", 1, "dump level (-d)"),
        ("NFS=h\n", 1, "NFS has to be HOST:/FOLDER"),
        ("SSH=h\n", 1, "SSH has to be USER@HOST"),
        ("KDUMP_KERNEL=/boot/vmlinuz-$(uname -r)\n", 1, "a command substitution"),
    ],
)
def test_debian_refused(text: str, line: int, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        debian.read(text)
    assert caught.value.what.startswith(f"/etc/default/kdump-tools:{line}: ")
    assert message in caught.value.what


# /etc/sysconfig/kdump of openSUSE


@pytest.mark.parametrize(
    ("url", "kind", "address", "path"),
    [
        ("/var/crash", TargetKind.LOCAL, "", "/var/crash"),
        ("file:///var/crash", TargetKind.LOCAL, "", "/var/crash"),
        ("ftp://user:password@host/var/crash", TargetKind.FTP, "host", "/var/crash"),
        ("sftp://user@host/var/crash", TargetKind.SSH, "user@host", "/var/crash"),
        ("ssh://host:2222/var/crash", TargetKind.SSH, "root@host", "/var/crash"),
        ("nfs://server/export/var/crash", TargetKind.NFS, "server:/export/var/crash", "/"),
        ("nfs://[2001:db8::1]/x", TargetKind.NFS, "[2001:db8::1]:/x", "/"),
        ("cifs://user:p%40ss@host/share/var/crash", TargetKind.CIFS, "//host/share", "/var/crash"),
    ],
)
def test_suse_targets(url: str, kind: TargetKind, address: str, path: str) -> None:
    settings = suse.read(f'KDUMP_SAVEDIR="{url}"\n')
    assert (settings.target.kind, settings.target.address, settings.path) == (kind, address, path)
    if kind is TargetKind.CIFS:
        assert settings.target.password == "p@ss"


def test_suse_says_everything() -> None:
    settings = suse.read(
        "KDUMP_CPUS=4\nKDUMP_KEEP_OLD_DUMPS=-1\nKDUMP_FREE_DISK_SIZE=128\nKDUMP_DUMPLEVEL=17\n"
        "KDUMP_DUMPFORMAT=lzo\nKDUMP_CONTINUE_ON_ERROR=false\nKDUMP_IMMEDIATE_REBOOT=no\n"
        "KEXEC_OPTIONS='-d'\nKDUMP_AUTO_RESIZE=true\nKDUMP_NETCONFIG=eth0:dhcp\n"
        "KDUMP_REQUIRED_PROGRAMS='/bin/a /bin/b'\nKDUMP_PRESCRIPT=/bin/a\nKDUMP_POSTSCRIPT=/bin/b\n"
        "KDUMP_SMTP_SERVER=mail\nKDUMP_NOTIFICATION_TO=root@x\nKDUMP_COMMANDLINE_APPEND=x=1\n"
    )
    assert settings.dialect is Dialect.SUSE
    assert (settings.command_line.cpus, settings.command_line.append) == (4, "x=1")
    assert (settings.keep_old_dumps, settings.free_space) == (-1, 128 << 20)
    assert settings.collector.words == ("makedumpfile", "-l", "-d", "17")
    assert (settings.failure_action, settings.final_action) == (Action.SHELL, Action.SHELL)
    assert settings.kexec_arguments == ("-d",)
    assert settings.auto_resize
    assert settings.network == "eth0:dhcp"
    assert settings.hooks.after == "/bin/b"
    (warning,) = suse.read("KDUMPTOOL_FLAGS=XENALLDOMAINS\n").warnings
    assert "KDUMPTOOL_FLAGS has no effect" in warning
    assert not suse.read('KDUMPTOOL_FLAGS=""\n').warnings, "as SLE 15 ships it"
    assert suse.read("KDUMP_SAVEDIR=smb://h/share/x\n").target.kind is TargetKind.CIFS
    assert ("protocol", "sftp") in suse.read("KDUMP_SAVEDIR=scp://h/x\n").target.options
    goes_on = suse.read("KDUMP_IMMEDIATE_REBOOT=no\n")
    assert (goes_on.failure_action, goes_on.final_action) == (Action.SHELL, Action.SHELL)
    assert suse.read("KDUMP_KERNELVER=6.4.0-default\n").kernel.version == "6.4.0-default"
    assert suse.read("KDUMP_KERNELVER=/boot/Image-6.4\n").kernel.path == "/boot/Image-6.4"
    assert not suse.read("KDUMP_DUMPFORMAT=none\n").save_dump
    assert suse.read("KDUMP_TRANSFER='cp /proc/vmcore /x'\n").collector.command == "cp /proc/vmcore /x"


@pytest.mark.parametrize("name", ["KDUMP_POSTSCRIPT", "KDUMP_PRESCRIPT"])
def test_suse_tells_a_cluster(name: str) -> None:
    """kdump(5), KDUMP_POSTSCRIPT: the network is there for it, too."""
    found = suse.read(f'{name}="/usr/lib/fence_kdump_send -p 7411 -c 5 -i 2 one two"\n')
    assert found.fencing == Fencing(("one", "two"), port=7411, interval=2)
    assert found.hooks == Hooks(are_lines=True)
    assert suse.read(f"{name}='/bin/x; echo $?'\n").fencing == Fencing()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("KDUMP_POSTSCRIPT='/bin/x; /usr/lib/fence_kdump_send a'\n", ":1: KDUMP_POSTSCRIPT has more than"),
        (
            "KDUMP_POSTSCRIPT='/usr/lib/fence_kdump_send a & /bin/x'\n",
            "more than fence_kdump_send in it",
        ),
        ("KDUMP_POSTSCRIPT='/usr/lib/fence_kdump_send -c x a'\n", ":1: KDUMP_POSTSCRIPT -c has to be a"),
        ("KDUMP_SAVEDIR='/a /b'\n", ":1: several dump targets"),
        ("KDUMP_SAVEDIR=http://h/x\n", ":1: the scheme of KDUMP_SAVEDIR cannot be 'http'"),
        ("KDUMP_SAVEDIR=crash\n", ":1: KDUMP_SAVEDIR has to be an absolute path"),
        ("KDUMP_SAVEDIR=ssh:///x\n", ":1: KDUMP_SAVEDIR: '' is no name"),
        ("KDUMP_SAVEDIR=ssh://h:99999/x\n", ":1: KDUMP_SAVEDIR is no URL"),
        ("KDUMP_SAVEDIR=nfs://[::1/x\n", ":1: KDUMP_SAVEDIR is no URL"),
        ("KDUMP_SAVEDIR=smb:/u:secret@h/x\n", ":1: KDUMP_SAVEDIR is neither a folder nor a URL"),
        ("KDUMP_SAVEDIR=u:secret@h/x\n", ":1: KDUMP_SAVEDIR is neither a folder nor a URL"),
        ("KDUMP_SAVEDIR=ssh://h/x\nKDUMP_HOST_KEY=h\n", ":2: KDUMP_HOST_KEY is no key: 'h'"),
        ("KDUMP_SAVEDIR=ssh://h/x\nKDUMP_HOST_KEY='a b'\n", ":2: KDUMP_HOST_KEY is no key"),
        ("KDUMP_DUMPLEVEL=32\n", ":1: KDUMP_DUMPLEVEL has to be a number from 0 to 31"),
        ("KDUMP_DUMPFORMAT=zip\n", ":1: KDUMP_DUMPFORMAT cannot be 'zip'"),
        ("KDUMP_KERNELVER=boot/vmlinuz\n", ":1: KDUMP_KERNELVER has to be an absolute path"),
        ("KDUMP_CPUS=x\n", ":1: KDUMP_CPUS has to be a number"),
        ("KDUMP_NETCONFIG=eth0:bootp\n", ":1: KDUMP_NETCONFIG has to be DEVICE:MODE"),
        ("KDUMP_NOTIFICATION_TO=nobody\n", ":1: KDUMP_NOTIFICATION_TO: 'nobody' is no mail address"),
        ("KDUMP_AUTO_RESIZE=maybe\n", ":1: KDUMP_AUTO_RESIZE cannot be 'maybe'"),
        ("path /var/crash\n", ":1: not an assignment: 'path /var/crash'"),
    ],
)
def test_suse_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        suse.read(text)
    assert message in caught.value.what


# names that a tool does not know


def test_shells_ignore_what_they_do_not_know() -> None:
    """Only kdumpctl's kdump.conf is not read by a shell, and refuses it."""
    for read, text, told in (
        (
            lambda text: conf("", text),
            "KDUMP_COMMANDLINE_APEND=x\n",
            "/etc/sysconfig/kdump:1: unknown setting 'KDUMP_COMMANDLINE_APEND', which kdumpctl ignores;"
            " did you mean KDUMP_COMMANDLINE_APPEND?",
        ),
        (
            debian.read,
            "USE_KDUMP=1\nKDUMP_DELETE_OLD=0\n",
            "/etc/default/kdump-tools:2: unknown setting 'KDUMP_DELETE_OLD', which kdump-tools ignores",
        ),
        (
            suse.read,
            "KDUMP_COMMANDLINE_REMOVE=quiet\n",
            "/etc/sysconfig/kdump:1: unknown setting 'KDUMP_COMMANDLINE_REMOVE', which openSUSE's kdump"
            " ignores; it is a setting of kdumpctl",
        ),
        (
            suse.read,
            "PYKDUMP_HAND_OVER_KEY=yes\n",
            "/etc/sysconfig/kdump:1: unknown setting 'PYKDUMP_HAND_OVER_KEY', which openSUSE's kdump"
            " ignores; did you mean PYKDUMP_HAND_OVER_KEYS?",
        ),
    ):
        assert read(text).warnings == (told,)
    with pytest.raises(ConfigError, match="unknown key 'keep_dumps'"):
        conf("keep_dumps 1\n")


def test_as_vyatta_writes_it() -> None:
    settings = debian.read(
        '### Autogenerate by vci-kdump\nUSE_KDUMP=1\nKDUMP_SYSCTL=""\nKDUMP_NUM_DUMPS=\nKDUMP_DELETE_OLD=0\n'
    )
    assert (settings.enabled, settings.keep_old_dumps) == (True, 0)
    assert len(settings.warnings) == 1


OPENEMBEDDED = """\
#the kdump kernel version string.
KDUMP_KVER="`uname -r`"
KDUMP_CMDLINE="`cat /proc/cmdline` 3 nousb"
KDUMP_KIMAGE="/boot/runmode/bzImage"
KDUMP_VMCORE_PATH="/var/crash/`date +"%Y-%m-%d"`"
MAKEDUMPFILE_ARGS="-c -D"
"""
STEAMOS = '#!/bin/sh\nMOUNT_DEVNODE="/dev/x"\nKDUMP_FOLDER="/y"\nFULL_COREDUMP=0\n'


@pytest.mark.parametrize(
    ("text", "line", "tool", "what_to_do"),
    [
        (OPENEMBEDDED, 2, "OpenEmbedded's kdump script (meta-oe, kexec-tools)", "write KEY VALUE lines"),
        (STEAMOS, 2, "SteamOS's and Arch's kdumpst", "write KEY VALUE lines"),
        ("USE_KDUMP=1\nKDUMP_COREDIR=/x\n", 1, "kdump-tools", "lines to /etc/default/kdump-tools"),
        ("path /x\nKDUMP_SAVEDIR=/x\n", 2, "openSUSE's kdump", "lines to /etc/sysconfig/kdump"),
        (
            "path /x\nKEXEC_ARGS = -s\n",
            2,
            "kdumpctl (/etc/sysconfig/kdump)",
            "lines to /etc/sysconfig/kdump",
        ),
        ("export KDUMP_IMG=x\n", 1, "kdumpctl (/etc/sysconfig/kdump)", "lines to /etc/sysconfig/kdump"),
    ],
)
def test_another_tool_s_file_in_its_place(text: str, line: int, tool: str, what_to_do: str) -> None:
    with pytest.raises(ConfigError) as caught:
        conf(text)
    assert caught.value.what.startswith(f"/etc/kdump.conf:{line}: ")
    assert f"this is the format of {tool}" in caught.value.what
    assert what_to_do in str(caught.value.hint)


# which one is there


def test_the_files_tell_the_dialect(tmp_path: Path) -> None:
    root = Folder(tmp_path)
    assert config.read(root) is None
    write(tmp_path, "etc/sysconfig/kdump", "KDUMP_SAVEDIR=/x\n")
    found = config.read(root)
    assert found is not None
    assert (found.dialect, found.path) == (Dialect.SUSE, "/x")
    write(tmp_path, "etc/sysconfig/kdump", SYSCONFIG)
    write(tmp_path, "etc/kdump.conf", SHIPPED)
    found = config.read(root)
    assert found is not None
    assert found.dialect is Dialect.FEDORA
    write(tmp_path, "etc/default/kdump-tools", "USE_KDUMP=1\n")
    with pytest.raises(ConfigError, match="both"):
        config.read(root)
    chosen = config.read(root, Dialect.DEBIAN)
    assert chosen is not None
    assert chosen.enabled


def test_not_utf8(tmp_path: Path) -> None:
    write(tmp_path, "etc/kdump.conf", b"# \n\npath /\xff\n")
    with pytest.raises(ConfigError, match=r"/etc/kdump.conf:3: byte 0xff is not UTF-8"):
        config.read(Folder(tmp_path))

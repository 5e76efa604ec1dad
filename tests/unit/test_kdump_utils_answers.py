"""What kdump-utils' own tests (its folder spec/, March 2026) say of its configuration, asked of pykdump.

Lines and answers are theirs. What pykdump answers in another way, and why, is at the end.
"""

from dataclasses import replace

import pytest

from pykexec.kdump.capture import destination
from pykexec.kdump.capture.blockdevice import BlockDevice, Superblock
from pykexec.kdump.capture.destination import Destination, Transport
from pykexec.kdump.config import fedora
from pykexec.kdump.config.capture_line import Facts, build
from pykexec.kdump.config.errors import ConfigError
from pykexec.kdump.config.settings import Action, Dialect, Settings, Target, TargetKind
from pykexec.kdump.reservation.crashkernel import reservation, values
from pykexec.kdump.reservation.support import support
from pykexec.memory import GIB, MIB


def conf(text: str) -> Settings:
    return fedora.read(text, "")


# kdump-lib-initramfs_spec.sh: kdump_get_conf_val


@pytest.mark.parametrize(
    ("line", "kind", "address"),
    [
        ("nfs my.server.com:/export/tmp # trailing comment", TargetKind.NFS, "my.server.com:/export/tmp"),
        ("ssh user@my.server.com", TargetKind.SSH, "user@my.server.com"),
        ("    ext2\t  \t/dev/sda1\t\t# trailing comment", TargetKind.FILESYSTEM, "/dev/sda1"),
        ("    ext2\t\t/dev/sdb1\t   \t# trailing comment", TargetKind.FILESYSTEM, "/dev/sdb1"),
    ],
)
def test_values_of_targets(line: str, kind: TargetKind, address: str) -> None:
    target = conf(f"# Note: this and the next line are comments\n#virtiofs /dev/sdd1\n{line}\n").target
    assert (target.kind, target.address) == (kind, address)


def test_other_values() -> None:
    settings = conf(
        "\t\tfailure_action\t shell\n"
        'dracut_args --omit-drivers "cfg80211 snd" --add-drivers "ext2 ext3"\n'
        'core_collector "makedumpfile -l --message-level 7 -d 31"\n'
        "ssh user@my.server.com\nsshkey /root/.ssh/kdump_id_rsa\n".replace("-d 31", "-d 31 -F")
    )
    assert settings.failure_action is Action.SHELL
    assert settings.dracut.omitted_drivers == ("cfg80211", "snd")
    assert settings.dracut.drivers == ("ext2", "ext3")
    assert settings.collector.words == ("makedumpfile", "-l", "--message-level", "7", "-d", "31", "-F")
    assert settings.target.ssh_key == "/root/.ssh/kdump_id_rsa"


# kdumpctl_general_spec.sh: parse_config


def test_an_unknown_key() -> None:
    with pytest.raises(ConfigError, match="unknown key 'blabla'"):
        conf("blabla\n")


@pytest.mark.parametrize("form", ["-l", "-c"])  # s390x has the other one
def test_the_file_that_is_shipped(form: str) -> None:
    text = (
        f"auto_reset_crashkernel yes\npath /var/crash\ncore_collector makedumpfile {form} --message-level 7"
        " -d 31\n"
    )
    settings = conf(text)
    assert (settings.target.kind, settings.path, settings.warnings) == (TargetKind.LOCAL, "/var/crash", ())


# kdumpctl_general_spec.sh: _get_dracut_arg


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ('--omit-drivers "foo bar baz" -t 1 --test="a b c" --omit-drivers bla', "foo bar baz bla"),
        ("-a x --omit-drivers=foo -i /y /z", "foo"),
        ('--omit-drivers="bar foo baz"', "bar foo baz"),
        ("--omit-drivers xxx --omit-drivers foo", "xxx foo"),
        ("-a x -i /y /z", ""),
    ],
)
def test_words_of_an_option_of_dracut(arguments: str, found: str) -> None:
    assert conf(f"dracut_args {arguments}\n").dracut.omitted_drivers == tuple(found.split())


# kdump-lib-initramfs_spec.sh: get_btrfs_subvol_from_mntopt


@pytest.mark.parametrize(
    ("options", "volume"),
    [
        ("subvol=/home,rw,relatime", "/home"),
        ("rw,subvol=/root,defaults", "/root"),
        ("rw,relatime,subvol=/root", "/root"),
        ("subvol=@home", "/@home"),
        ("subvol=/path/to/subvolume,rw", "/path/to/subvolume"),
        ("rw,relatime,defaults", ""),
        ("subvol=,rw", ""),
        ("rw,subvolume=@home", ""),
    ],
)
def test_subvolumes(options: str, volume: str, monkeypatch: pytest.MonkeyPatch) -> None:
    device, superblock = BlockDevice("vda", "/devices/x", 0, 5, ()), Superblock("btrfs", "u", "")
    mounted = Destination(Transport.DISK, "/var/crash", device, superblock)
    monkeypatch.setattr(destination, "_filesystem", lambda *_: mounted)
    target = Target(TargetKind.DRACUT, "/dev/vda", filesystem="btrfs", options=(("mount", options),))
    found = destination.resolve(Settings(Dialect.FEDORA, target=target))
    assert found.folder == f"{volume}/var/crash"


# kdump-lib_spec.sh: prepare_cmdline


@pytest.mark.parametrize(
    ("line", "remove", "append", "result"),
    [
        ("a b c", "", "", "a b c"),
        ("a b c", "b", "", "a c"),
        ("a b=x c", "b", "", "a c"),
        ('a b="x y" c', "b", "", "a c"),
        ('a b="x y" c', "b=x", "", "a c"),
        ('a b="x y" c', 'b="x y"', "", "a c"),
        ("a b c", "", "x", "a b c x"),
        ("a b c", "", "x=1", "a b c x=1"),
        ("a b c", "", 'x="1 2"', 'a b c x="1 2"'),
        ("a b c", "a", 'x="1 2"', 'b c x="1 2"'),
        ("a b c", "x", 'x="1 2"', 'a b c x="1 2"'),
    ],
)
def test_command_lines(line: str, remove: str, append: str, result: str) -> None:
    sysconfig = f"KDUMP_COMMANDLINE_REMOVE='{remove}'\nKDUMP_COMMANDLINE_APPEND='{append}'\n"
    facts = Facts(line, "x86_64", boot_cpu="disable_cpu_apicid=1", watchdog_drivers=("foo",), uki=True)
    found = build(fedora.read("", sysconfig), facts).text
    assert found == f"{result} disable_cpu_apicid=1 foo.pretimeout=0 rd.systemd.gpt_auto=no"


# kdump-lib_spec.sh: get_recommend_size; kdumpctl_general_spec.sh: get_grub_kernel_boot_parameter


@pytest.mark.parametrize(("total", "size"), [(1, 0), (2, 192), (64, 512), (1024, 12345), (64 << 10, 12345)])
def test_ranges_in_any_order(total: int, size: int) -> None:
    ranges = "4G-64G:256M,2G-4G:192M,64G-1T:512M,1T-:12345M"
    found = reservation(f"crashkernel={ranges}", total * GIB, replace(support("x86_64")))
    assert found.size == size * MIB


def test_of_several_parameters_the_last_counts() -> None:
    line = (
        "crashkernel=11M nvidia-drm.modeset=1 crashkernel=100M ro rhgb quiet crcrashkernel=200M"
        " crashkernel=32T-64T:128G,64T-102400T:180G fadump=on"
    )
    assert values(line)[-1] == "32T-64T:128G,64T-102400T:180G"


# Where pykdump answers in another way


def test_a_key_that_stands_twice() -> None:
    """kdump_get_conf_val takes the last one. So does not kdumpctl itself, nor pykdump: it is an error."""
    with pytest.raises(ConfigError, match="ext2 stands also in line 1"):
        conf("ext2 /dev/sda1\next2 /dev/sdb1\n")


@pytest.mark.parametrize("line", ["default shell\nfailure_action shell\n", "nfs h:/x\nssh u@h\n"])
def test_two_that_mean_the_same(line: str) -> None:
    with pytest.raises(ConfigError):
        conf(line)


def test_a_name_that_ends_as_another() -> None:
    """Theirs goes by words; the kernel by the text (strstr() in get_last_crashkernel())."""
    assert values("crashkernel=11M ro crcrashkernel=200M") == ("11M", "200M")


def test_quotes_that_are_none() -> None:
    """xargs takes single quotes for quotes; the kernel (next_arg() of lib/cmdline.c) does not."""
    sysconfig = 'KDUMP_COMMANDLINE_REMOVE="b"\nKDUMP_COMMANDLINE_APPEND=""\n'
    assert build(fedora.read("", sysconfig), Facts("a b='x y' c", "x86_64")).text == "a y' c"

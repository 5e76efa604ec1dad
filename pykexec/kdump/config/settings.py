"""The content of every kdump configuration, whatever file and words it came in.

Users, hosts, paths and programs in it are checked (`targets`) when the values are made: one that does not
fit raises `targets.Unfit`.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from pykexec.kdump.config import targets

DEFAULT_PATH = "/var/crash"
FLAGS = "cDeEFfhlpRvXz"
"""makedumpfile's options of one letter without a value, which others may follow in the same word."""
LEVEL_MAX = 31
"""makedumpfile's -d with which it leaves out all that it can."""
DEFAULT_SSH_KEY = "/root/.ssh/kdump_id_rsa"


class Dialect(enum.Enum):
    """The distribution a configuration belongs to; its rules also make the capture kernel's command line."""

    FEDORA = "fedora"
    """/etc/kdump.conf and /etc/sysconfig/kdump: Fedora, RHEL and its rebuilds, openEuler."""
    DEBIAN = "debian"
    """/etc/default/kdump-tools: Debian, Ubuntu."""
    SUSE = "suse"
    """/etc/sysconfig/kdump alone: openSUSE, SLE."""


class TargetKind(enum.Enum):
    """The kinds of dump targets."""

    LOCAL = "local"
    """The file system that holds `Settings.path` on the running system."""
    FILESYSTEM = "filesystem"
    """A file system to mount."""
    RAW = "raw"
    """A partition, overwritten from its start."""
    NFS = "nfs"
    SSH = "ssh"
    FTP = "ftp"
    CIFS = "cifs"
    DRACUT = "dracut"
    """The target of a --mount in dracut_args."""


_ADDRESSES: Mapping[TargetKind, type[str]] = {
    TargetKind.FILESYSTEM: targets.Device,
    TargetKind.RAW: targets.Device,
    TargetKind.NFS: targets.NfsExport,
    TargetKind.SSH: targets.Login,
    TargetKind.FTP: targets.FtpPlace,
    TargetKind.CIFS: targets.SmbShare,
    TargetKind.DRACUT: targets.MountSource,
}


def _checked(value: object, **types: type[str]) -> None:
    """Give fields of a frozen value their types; an empty one stays as it is. Raises Unfit."""
    for name, kind in types.items():
        text = getattr(value, name)
        if text:
            object.__setattr__(value, name, kind(text))


@dataclass(frozen=True, slots=True)
class Target:
    """A place for dumps; `Settings.path` is the folder in it."""

    kind: TargetKind = TargetKind.LOCAL
    address: str = ""
    """A device, LABEL=, UUID= or virtiofs tag; HOST:/EXPORT for NFS; USER@HOST for ssh; HOST[:FOLDER] for
    ftp; //HOST/SHARE for cifs. It has the type of `targets` for its kind."""
    filesystem: str = ""
    """The type of a file system to mount."""
    ssh_key: str = ""
    """The path of the private key, for ssh."""
    user: str = ""
    password: str = field(default="", repr=False)
    port: int | None = None
    options: tuple[tuple[str, str], ...] = ()
    """More NAME, VALUE pairs: timeouts and numbers of attempts; the options to mount with."""

    def __post_init__(self) -> None:
        if self.kind is not TargetKind.LOCAL:
            is_shared = self.filesystem == "virtiofs"
            kind = targets.ShareTag if is_shared else _ADDRESSES[self.kind]
            object.__setattr__(self, "address", kind(self.address))
        _checked(self, filesystem=targets.FileName, ssh_key=targets.AbsolutePath, user=targets.User)

    @property
    def is_remote(self) -> bool:
        return self.kind in (TargetKind.NFS, TargetKind.SSH, TargetKind.FTP, TargetKind.CIFS)

    def __str__(self) -> str:
        kind = self.filesystem or self.kind.value
        return f"{kind} {self.address}".rstrip()


@dataclass(frozen=True, slots=True)
class Collector:
    """The command that writes the dump: its words, without input and output."""

    words: tuple[str, ...]
    compress_with: str = ""
    """The program that compresses its output; empty for none."""
    command: str = ""
    """A shell command to run instead of the words (openSUSE's KDUMP_TRANSFER)."""
    is_known_to_fit: bool = False
    """Whether its makedumpfile is known to lose nothing of the running kernel (kdump/makedumpfile.py)."""
    has_limit: bool = False
    """Whether that makedumpfile has -L, which limits the size of the dump."""
    has_smaller: bool = False
    """Whether a smaller dump can be made, with -d 31, that loses nothing either."""

    def __post_init__(self) -> None:
        if self.words:
            targets.Program(self.words[0])
        _checked(self, compress_with=targets.FileName, command=targets.Command)

    @property
    def program(self) -> str:
        return self.words[0] if self.words else ""

    @property
    def dump_level(self) -> int | None:
        """makedumpfile's -d, the pages it leaves out; None for another program."""
        if self.program.rpartition("/")[2] != "makedumpfile":
            return None
        return _option_number(self.words, "-d") or 0

    @property
    def message_level(self) -> int | None:
        """makedumpfile's --message-level; None where it has its default."""
        return _option_number(self.words, "--message-level")

    @property
    def threads(self) -> int:
        return _option_number(self.words, "--num-threads") or 0


def _option_number(words: tuple[str, ...], option: str) -> int | None:
    """Return the number that an option of makedumpfile has, in the next word or in the same one; or None."""
    name = option if option.startswith("--") else f"-[{FLAGS}]*{option[1:]}"
    found: int | None = None
    for index, word in enumerate(words):
        text = ""
        if re.fullmatch(name, word):
            text = words[index + 1] if index + 1 < len(words) else ""
        elif match := re.match(name, word):
            text = word[match.end() :].removeprefix("=")
        # makedumpfile takes a list of levels and tries them in order; the first is the wanted one.
        text = text.partition(",")[0]
        if text.isascii() and text.isdecimal() and len(text) < 10:
            found = int(text)
    return found


class Action(enum.Enum):
    """An action of the capture system when it is done."""

    REBOOT = "reboot"
    HALT = "halt"
    POWEROFF = "poweroff"
    SHELL = "shell"
    DUMP_TO_ROOTFS = "dump_to_rootfs"


class Rebuild(enum.Enum):
    """The times when the capture initrd is rebuilt."""

    WHEN_NEEDED = "when needed"
    ALWAYS = "always"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class KernelChoice:
    """The kernel to load; all empty: the running kernel's file."""

    path: str = ""
    version: str = ""
    """The version as `uname -r` shows it."""
    folder: str = ""
    """The folder to look for it in."""
    image: str = "vmlinuz"
    """The beginning of its file's name."""
    extension: str = ""
    """The end of its file's name."""

    def __post_init__(self) -> None:
        _checked(self, path=targets.AbsolutePath, folder=targets.AbsolutePath)
        _checked(self, version=targets.FileName, image=targets.FileName, extension=targets.Suffix)


@dataclass(frozen=True, slots=True)
class CommandLinePolicy:
    """The rules that make the capture kernel's command line from the running kernel's."""

    given: str | None = None
    """A command line to start with instead of the running kernel's."""
    remove: tuple[str, ...] = ()
    """Names of parameters to remove, in addition to those that the dialect always removes."""
    append: str | None = ""
    """Words to append; None: the words that the distribution ships for the architecture."""
    cpus: int | None = None
    """The number of CPUs that openSUSE's rules let the capture kernel use; 0: all."""


@dataclass(frozen=True, slots=True)
class Hooks:
    """Programs run in the capture system."""

    before: str = ""
    after: str = ""
    emergency: str = ""
    are_lines: bool = False
    """Whether they are lines for a shell, as openSUSE's; these have no say in whether there is a dump."""

    @property
    def programs(self) -> tuple[str, ...]:
        """The programs that they have to find; of a line the first one, if it is named by its path."""
        given = (each for each in (self.before, self.after, self.emergency) if each)
        if not self.are_lines:
            return tuple(given)
        first = (line.split()[0].strip("'\"") for line in given if line.strip())
        return tuple(each for each in first if each.startswith("/"))

    def __post_init__(self) -> None:
        _checked(self, before=targets.Command, after=targets.Command, emergency=targets.Command)


@dataclass(frozen=True, slots=True)
class Fencing:
    """The nodes of a cluster to tell that this one saves its memory, and how (fence_kdump_send(8))."""

    nodes: tuple[str, ...] = ()
    port: int = 7410
    family: str = "auto"
    """The kind of addresses: auto, ipv4 or ipv6."""
    count: int = 0
    """How often they are told; 0: until the end."""
    interval: int = 10
    """The seconds between two messages."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "nodes", tuple(map(targets.Host, self.nodes)))


@dataclass(frozen=True, slots=True)
class DracutArguments:
    """What dracut_args asks for that an image can have without dracut."""

    drivers: tuple[str, ...] = ()
    """Modules to load where the kernel has them."""
    omitted_drivers: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    """Programs and files, by their paths here, or programs by name."""
    optional_programs: tuple[str, ...] = ()
    files: tuple[tuple[str, str], ...] = ()
    """Files and folders, each with its path in the image."""
    unused: tuple[str, ...] = ()
    """The options that mean nothing here."""


@dataclass(frozen=True, slots=True)
class LogLevels:
    """The levels of the service's messages, from 0 (nothing) to 4 (debug)."""

    standard_error: int = 3
    syslog: int = 0
    kernel: int = 0


@dataclass(frozen=True, slots=True)
class Settings:
    """A configuration, checked."""

    dialect: Dialect
    files: tuple[str, ...] = ()
    """The files it was read from."""
    enabled: bool = True
    target: Target = Target()
    path: str = DEFAULT_PATH
    collector: Collector = Collector(("makedumpfile", "-l", "--message-level", "7", "-d", "31"))
    save_dump: bool = True
    """False: only the kernel's log is saved."""
    save_log: bool = True
    keep_old_dumps: int = 0
    """How many dumps to keep; 0: all of them, -1: none (openSUSE's)."""
    free_space: int = 0
    """The bytes that must stay free on the target."""
    host_tag: str = "ip"
    """The machine's mark in a remote folder's name: its ip, or its hostname."""
    failure_action: Action = Action.REBOOT
    failure_command: str = ""
    """A shell command to run instead of the action."""
    final_action: Action = Action.REBOOT
    kernel: KernelChoice = KernelChoice()
    initrd: str = ""
    command_line: CommandLinePolicy = CommandLinePolicy()
    kexec_arguments: tuple[str, ...] = ()
    hooks: Hooks = Hooks()
    extra_programs: tuple[str, ...] = ()
    extra_modules: tuple[str, ...] = ()
    dracut_arguments: tuple[str, ...] = ()
    """dracut_args as it is."""
    dracut: DracutArguments = DracutArguments()
    rebuild: Rebuild = Rebuild.WHEN_NEEDED
    auto_reset_crashkernel: bool = False
    """Whether to keep crashkernel= at the package's default; only where the file says so."""
    auto_resize: bool = False
    """Whether to shrink the reservation to what is needed, at boot."""
    fadump: bool = False
    hand_over_keys: bool = False
    """Whether the keys of encrypted volumes may be in the capture image in memory."""
    fencing: Fencing = Fencing()
    network: str = ""
    """openSUSE's KDUMP_NETCONFIG: DEVICE:MODE, or "auto"."""
    mail: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """openSUSE's settings for a notification by mail."""
    sysctl: str = ""
    log_levels: LogLevels = LogLevels()
    warnings: tuple[str, ...] = ()
    """Settings that work, but not as their author may think."""

    @property
    def uses_network(self) -> bool:
        """Return whether the capture system takes a network: for the dump, or to tell a cluster."""
        return self.target.is_remote or bool(self.fencing.nodes)

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", targets.AbsolutePath(self.path))
        _checked(self, initrd=targets.AbsolutePath, failure_command=targets.Command)
        object.__setattr__(self, "extra_programs", tuple(map(targets.Program, self.extra_programs)))

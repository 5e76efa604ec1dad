"""Read /etc/sysconfig/kdump without /etc/kdump.conf: openSUSE and SLE."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import unquote

from pykexec.kdump.config import fencing, shell, targets, values
from pykexec.kdump.config.errors import shown
from pykexec.kdump.config.names import SUSE
from pykexec.kdump.config.settings import (
    DEFAULT_PATH,
    Action,
    Collector,
    CommandLinePolicy,
    Dialect,
    Fencing,
    Hooks,
    KernelChoice,
    Settings,
    Target,
    TargetKind,
)
from pykexec.kdump.config.variables import Variables
from pykexec.memory import MIB

FILE = SUSE.file

_MAIL = (
    "KDUMP_SMTP_SERVER",
    "KDUMP_SMTP_USER",
    "KDUMP_SMTP_PASSWORD",
    "KDUMP_NOTIFICATION_TO",
    "KDUMP_NOTIFICATION_CC",
)
_BOOLEANS: Mapping[str, bool] = {
    "true": True,
    "yes": True,
    "1": True,
    "false": False,
    "no": False,
    "0": False,
}
# makedumpfile's option for each KDUMP_DUMPFORMAT (kdump(5)); None: no makedumpfile, or no dump
_FORMATS: Mapping[str, str | None] = {
    "compressed": "-c",
    "ELF": "-E",
    "lzo": "-l",
    "snappy": "-p",
    "zstd": "-z",
    "raw": None,
    "none": None,
}
_CPUS_DEFAULT = 32  # kdump 2.0.18 and later
_NET_MODES = ("static", "dhcp", "dhcp4", "dhcp6", "auto6", "auto", "force")
_SCHEMES: Mapping[str, str] = {
    **{name: name for name in ("file", "ftp", "sftp", "ssh", "nfs", "cifs")},
    "scp": "sftp",
    "smb": "cifs",
}
_AUTHORITY = re.compile(
    r"(?:(?P<user>[^:@]*)(?::(?P<password>.*))?@)?(?P<host>\[[^]@]*\]|[^:@]*)(?::(?P<port>[0-9]{1,5}))?"
)
_LIKE = "write ssh://USER@HOST:PORT/FOLDER, or the like"
_FTP_PORT = 21
_PORT_MAX = 65535
_KEYS_FOLDER = "/root/.ssh"
"""The folder where kdump looks for names in KDUMP_SSH_IDENTITY."""
_HOST_KEY = re.compile(r"[a-z0-9@.-]{1,64} [A-Za-z0-9+/]{16,8192}={0,3}")
_ADDRESS = re.compile(r"[^\s@]+@[^\s@]+")


def read(text: str) -> Settings:
    """Return the settings that the file's text makes. Raises ConfigError."""
    reader = _Reader(text, SUSE)
    target, path = reader.target()
    final = Action.REBOOT if reader.boolean("KDUMP_IMMEDIATE_REBOOT", default=True) else Action.SHELL
    return Settings(
        dialect=Dialect.SUSE,
        files=(f"/{FILE}",),
        target=target,
        path=path,
        collector=reader.collector(),
        save_dump=reader.text("KDUMP_DUMPFORMAT") != "none",
        keep_old_dumps=reader.number("KDUMP_KEEP_OLD_DUMPS", 0, least=-1),
        free_space=reader.number("KDUMP_FREE_DISK_SIZE", 64) * MIB,
        host_tag="hostname",
        # With KDUMP_CONTINUE_ON_ERROR a failed dump ends like a successful one.
        failure_action=final if reader.boolean("KDUMP_CONTINUE_ON_ERROR", default=True) else Action.SHELL,
        final_action=final,
        kernel=reader.kernel(),
        command_line=CommandLinePolicy(
            given=reader.text("KDUMP_COMMANDLINE") or None,
            append=reader.text("KDUMP_COMMANDLINE_APPEND"),
            cpus=reader.number("KDUMP_CPUS", _CPUS_DEFAULT),
        ),
        kexec_arguments=reader.words("KEXEC_OPTIONS"),
        hooks=Hooks(reader.hook("KDUMP_PRESCRIPT"), reader.hook("KDUMP_POSTSCRIPT"), are_lines=True),
        fencing=reader.fencing(),
        extra_programs=reader.programs("KDUMP_REQUIRED_PROGRAMS"),
        auto_resize=reader.boolean("KDUMP_AUTO_RESIZE", default=False),
        fadump=reader.boolean("KDUMP_FADUMP", default=False),
        network=reader.network(),
        hand_over_keys=reader.hands_over_keys,
        mail=reader.mail(),
        warnings=(*reader.unknown, *reader.warnings()),
    )


@dataclass(frozen=True, slots=True)
class _Url:
    """SCHEME://USER:PASSWORD@HOST:PORT/FOLDER, with escapes undone."""

    scheme: str
    user: str
    password: str = field(repr=False)
    host: str
    """The host; an IPv6 address has its brackets."""
    port: int | None
    path: str


def _parse(text: str) -> _Url | None:
    """Split a URL; None for other text. All after the host is the folder: kdump knows no queries."""
    scheme, _, rest = text.partition("://")
    authority, _, folder = rest.partition("/")
    found = _AUTHORITY.fullmatch(authority)
    if found is None or int(found["port"] or 0) > _PORT_MAX or (scheme.lower() == "file" and authority):
        return None
    try:
        user, password, path = (
            unquote(each, errors="strict") for each in (found["user"] or "", found["password"] or "", folder)
        )
    except UnicodeDecodeError:
        return None
    port = int(found["port"]) if found["port"] else None
    return _Url(_SCHEMES[scheme.lower()], user, password, found["host"], port, f"/{path}")


class _Reader(Variables):
    def boolean(self, name: str, *, default: bool) -> bool:
        assignment = self.assigned(name)
        if assignment is None:
            return default
        return values.choice(_BOOLEANS, assignment.value.lower(), name, assignment.where)

    def kernel(self) -> KernelChoice:
        """Return the kernel: a version, or, since kdump 2.0, the path of a file."""
        if "/" in self.text("KDUMP_KERNELVER"):
            return KernelChoice(path=self.path("KDUMP_KERNELVER"))
        return KernelChoice(version=self.checked(targets.FileName, "KDUMP_KERNELVER"))

    def collector(self) -> Collector:
        command = self.text("KDUMP_TRANSFER")
        if command:
            return Collector((), command=command)
        level = self.number("KDUMP_DUMPLEVEL", 31, most=31)
        form = self.choice("KDUMP_DUMPFORMAT", _FORMATS, "-c")
        if form is None:
            return Collector(("cp",))
        extra = self.assigned("MAKEDUMPFILE_OPTIONS")
        if extra is not None:
            values.collector(f"makedumpfile {extra.value}", extra.name, extra.where)
        return Collector(("makedumpfile", form, "-d", str(level), *self.words("MAKEDUMPFILE_OPTIONS")))

    def hook(self, name: str) -> str:
        """Return a line to run; a cluster's nodes are told in another way."""
        line = self.text(name)
        return "" if fencing.is_send(line) else line

    def fencing(self) -> Fencing:
        """Return the nodes that KDUMP_POSTSCRIPT, or the other line, tells of the dump.

        They are told from its start on, until the machine is reset, however often the line says.
        """
        for name in ("KDUMP_POSTSCRIPT", "KDUMP_PRESCRIPT"):
            assignment = self.assigned(name)
            if assignment is not None and fencing.is_send(assignment.value):
                return replace(fencing.of_command(assignment.value, name, assignment.where), count=0)
        return Fencing()

    def target(self) -> tuple[Target, str]:
        assignment = self.assigned("KDUMP_SAVEDIR")
        if assignment is None:
            return Target(), DEFAULT_PATH
        urls = assignment.value.split()
        if len(urls) > 1:
            raise assignment.where.error(
                f"several dump targets in KDUMP_SAVEDIR: {len(urls)}",
                "a dump goes to one target; remove the others",
            )
        return self._url_target(assignment, urls[0])

    def _url_target(self, assignment: shell.Assignment, text: str) -> tuple[Target, str]:
        name, where = assignment.name, assignment.where
        if "://" not in text:
            if "@" in text and not text.startswith(("/", "file:")):  # a password may be in it
                raise where.error(f"{name} is neither a folder nor a URL", _LIKE)
            path = text.removeprefix("file:")
            return Target(), values.checked(targets.AbsolutePath, path, name, where)
        values.choice(_SCHEMES, text.partition("://")[0].lower(), f"the scheme of {name}", where)
        url = _parse(text)
        if url is None:
            raise where.error(f"{name} is no URL", _LIKE)
        values.checked(targets.AbsolutePath, url.path, name, where)
        if url.scheme == "file":
            return Target(), url.path
        values.checked(targets.Host, url.host, name, where)
        if url.user:
            values.checked(targets.User, url.user, name, where)
        return self._remote(assignment, url)

    def _remote(self, assignment: shell.Assignment, url: _Url) -> tuple[Target, str]:
        if url.scheme == "nfs":
            # The URL does not separate the export from the folder in it, so the mount is of the whole path.
            address = f"{url.host}:{url.path}"
            return Target(TargetKind.NFS, address, port=url.port, options=self._timeout()), "/"
        if url.scheme == "cifs":
            share, _, folder = url.path.lstrip("/").partition("/")
            address = f"//{url.host}/{share}"
            values.checked(targets.SmbShare, address, assignment.name, assignment.where)
            target = Target(TargetKind.CIFS, address, user=url.user, password=url.password, port=url.port)
            return target, f"/{folder}"
        if url.scheme == "ftp":
            port = url.port or _FTP_PORT
            return Target(
                TargetKind.FTP, url.host, user=url.user, password=url.password, port=port
            ), url.path
        options = (("protocol", url.scheme), ("host_key", self._host_key()), *self._timeout())
        return Target(
            TargetKind.SSH,
            f"{url.user or 'root'}@{url.host.strip('[]')}",
            ssh_key=self._ssh_key(),
            user=url.user,
            password=url.password,
            port=url.port,
            options=options,
        ), url.path

    def _ssh_key(self) -> str:
        """Return the first key; a name without a folder is one of root's keys."""
        keys, assignment = self.words("KDUMP_SSH_IDENTITY"), self.assigned("KDUMP_SSH_IDENTITY")
        if not keys or assignment is None:
            return ""
        path = keys[0] if keys[0].startswith("/") else f"{_KEYS_FOLDER}/{keys[0]}"
        return values.checked(targets.AbsolutePath, path, assignment.name, assignment.where)

    def _host_key(self) -> str:
        """Return the server's key as known_hosts has it, without its name; "*": any."""
        assignment = self.assigned("KDUMP_HOST_KEY")
        if assignment is None:
            return ""
        if assignment.value != "*" and not _HOST_KEY.fullmatch(assignment.value):
            raise assignment.where.error(
                f"KDUMP_HOST_KEY is no key: {shown(assignment.value)}",
                "write it as in known_hosts, without the name: ssh-ed25519 AAAA...",
            )
        return assignment.value

    def _timeout(self) -> tuple[tuple[str, str], ...]:
        return (("KDUMP_NET_TIMEOUT", str(self.number("KDUMP_NET_TIMEOUT", 30))),)

    def network(self) -> str:
        assignment = self.assigned("KDUMP_NETCONFIG")
        if assignment is None or assignment.value == "auto":
            return "auto"
        device, colon, modes = assignment.value.partition(":")
        unknown = [mode for mode in modes.split(":") if mode not in _NET_MODES]
        if not device or (colon and unknown):
            raise assignment.where.error(
                f"KDUMP_NETCONFIG has to be DEVICE:MODE, where MODE is one of {', '.join(_NET_MODES[:5])}"
            )
        return assignment.value

    def mail(self) -> tuple[tuple[str, str], ...]:
        for name in ("KDUMP_NOTIFICATION_TO", "KDUMP_NOTIFICATION_CC"):
            assignment = self.assigned(name)
            for address in assignment.value.split() if assignment else ():
                if assignment and not _ADDRESS.fullmatch(address):
                    raise assignment.where.error(f"{name}: {address[:60]!r} is no mail address")
        return tuple((name, self.text(name)) for name in _MAIL if self.text(name))

    def warnings(self) -> Iterator[str]:
        given = self.assigned("KDUMP_COMMANDLINE")
        if given:
            yield f"{given.where}: KDUMP_COMMANDLINE replaces the command line that kdump would make"
        yield from self.without_effect(
            "KDUMP_COPY_KERNEL", "KDUMP_CRASHKERNEL", "KDUMP_UPDATE_BOOTLOADER", "KDUMP_VERBOSE"
        )
        flags = self.assigned("KDUMPTOOL_FLAGS")
        if flags:
            yield f"{flags.where}: KDUMPTOOL_FLAGS has no effect any more"
        transfer = self.assigned("KDUMP_TRANSFER")
        if transfer:
            yield f"{transfer.where}: with KDUMP_TRANSFER most of the other settings have no effect"
        to = self.assigned("KDUMP_NOTIFICATION_TO")
        if to and not self.assigned("KDUMP_SMTP_SERVER"):
            yield f"{to.where}: KDUMP_NOTIFICATION_TO has no effect without KDUMP_SMTP_SERVER"

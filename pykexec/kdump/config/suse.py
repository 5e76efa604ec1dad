"""/etc/sysconfig/kdump without /etc/kdump.conf: openSUSE and SLE."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from urllib.parse import SplitResult, unquote, urlsplit

from pykexec.kdump.config import shell, values
from pykexec.kdump.config.settings import (
    DEFAULT_PATH,
    Action,
    Collector,
    CommandLinePolicy,
    Dialect,
    Hooks,
    KernelChoice,
    Settings,
    Target,
    TargetKind,
)
from pykexec.kdump.config.variables import Variables
from pykexec.memory import MIB

FILE = "etc/sysconfig/kdump"

_MAIL = (
    "KDUMP_SMTP_SERVER",
    "KDUMP_SMTP_USER",
    "KDUMP_SMTP_PASSWORD",
    "KDUMP_NOTIFICATION_TO",
    "KDUMP_NOTIFICATION_CC",
)
_KEYS = frozenset(
    (
        *_MAIL,
        "FADUMP_COMMANDLINE_APPEND",
        "KDUMP_AUTO_RESIZE",
        "KDUMP_COMMANDLINE",
        "KDUMP_COMMANDLINE_APPEND",
        "KDUMP_CONTINUE_ON_ERROR",
        "KDUMP_COPY_KERNEL",
        "KDUMP_CPUS",
        "KDUMPTOOL_FLAGS",
        "KDUMP_CRASHKERNEL",
        "KDUMP_DUMPFORMAT",
        "KDUMP_DUMPLEVEL",
        "KDUMP_FADUMP",
        "KDUMP_FADUMP_SHELL",
        "KDUMP_FREE_DISK_SIZE",
        "KDUMP_HOST_KEY",
        "KDUMP_IMMEDIATE_REBOOT",
        "KDUMP_KEEP_OLD_DUMPS",
        "KDUMP_KERNELVER",
        "KDUMP_NETCONFIG",
        "KDUMP_NET_TIMEOUT",
        "KDUMP_POSTSCRIPT",
        "KDUMP_PRESCRIPT",
        "KDUMP_REQUIRED_PROGRAMS",
        "KDUMP_SAVEDIR",
        "KDUMP_SSH_IDENTITY",
        "KDUMP_TRANSFER",
        "KDUMP_UPDATE_BOOTLOADER",
        "KDUMP_VERBOSE",
        "KEXEC_OPTIONS",
        "MAKEDUMPFILE_OPTIONS",
    )
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
_SCHEMES = ("file", "ftp", "sftp", "ssh", "nfs", "cifs", "scp", "smb")
_SAME_AS: Mapping[str, str] = {"scp": "sftp", "smb": "cifs"}
_ADDRESS = re.compile(r"[^\s@]+@[^\s@]+")


def read(text: str) -> Settings:
    """Make settings of the file's text. Raises ConfigError."""
    reader = _Reader(text, f"/{FILE}", _KEYS)
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
        # With KDUMP_CONTINUE_ON_ERROR a dump that failed ends like one that did not.
        failure_action=final if reader.boolean("KDUMP_CONTINUE_ON_ERROR", default=True) else Action.SHELL,
        final_action=final,
        kernel=reader.kernel(),
        command_line=CommandLinePolicy(
            given=reader.text("KDUMP_COMMANDLINE") or None,
            append=reader.text("KDUMP_COMMANDLINE_APPEND"),
            cpus=reader.number("KDUMP_CPUS", _CPUS_DEFAULT),
        ),
        fadump_append=reader.text("FADUMP_COMMANDLINE_APPEND"),
        kexec_arguments=reader.words("KEXEC_OPTIONS"),
        hooks=Hooks(before=reader.text("KDUMP_PRESCRIPT"), after=reader.text("KDUMP_POSTSCRIPT")),
        extra_programs=reader.words("KDUMP_REQUIRED_PROGRAMS"),
        auto_resize=reader.boolean("KDUMP_AUTO_RESIZE", default=False),
        fadump=reader.boolean("KDUMP_FADUMP", default=False),
        network=reader.network(),
        notify=bool(reader.text("KDUMP_NOTIFICATION_TO")),
        mail=reader.mail(),
        warnings=tuple(reader.warnings()),
    )


class _Reader(Variables):
    def boolean(self, name: str, *, default: bool) -> bool:
        assignment = self.assigned(name)
        if assignment is None:
            return default
        return values.choice(_BOOLEANS, assignment.value.lower(), name, assignment.where)

    def kernel(self) -> KernelChoice:
        """A version, or since kdump 2.0 the path of a file."""
        name = self.text("KDUMP_KERNELVER")
        assignment = self.assigned("KDUMP_KERNELVER")
        if assignment is not None and "/" in name.removeprefix("/"):
            return KernelChoice(path=self.path("KDUMP_KERNELVER"))
        return KernelChoice(version=name)

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

    def _url_target(self, assignment: shell.Assignment, url: str) -> tuple[Target, str]:
        where = assignment.where
        values.plain(url, "KDUMP_SAVEDIR", where)
        if "://" not in url:
            return Target(), values.absolute(url.removeprefix("file:"), "KDUMP_SAVEDIR", where)
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise where.error(f"KDUMP_SAVEDIR is no URL: {error}") from None
        values.choice({name: name for name in _SCHEMES}, parts.scheme, "the scheme of KDUMP_SAVEDIR", where)
        path = unquote(parts.path) or "/"
        if parts.scheme == "file":
            return Target(), values.absolute(path, "KDUMP_SAVEDIR", where)
        server = parts.hostname or ""
        values.host(server, "KDUMP_SAVEDIR", where)
        return self._remote(parts, server, port, path)

    def _remote(self, parts: SplitResult, server: str, port: int | None, path: str) -> tuple[Target, str]:
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        bracketed = f"[{server}]" if ":" in server else server
        scheme = _SAME_AS.get(parts.scheme, parts.scheme)
        if scheme == "nfs":
            # What is exported is not told apart from the folder in it: the mount is of the whole path.
            return Target(TargetKind.NFS, f"{bracketed}:{path}", port=port, options=self._timeout()), "/"
        if scheme == "cifs":
            share, _, folder = path.lstrip("/").partition("/")
            return Target(
                TargetKind.CIFS, f"//{server}/{share}", user=user, password=password, port=port
            ), f"/{folder}"
        if scheme == "ftp":
            return Target(TargetKind.FTP, bracketed, user=user, password=password, port=port or 21), path
        keys = self.words("KDUMP_SSH_IDENTITY")
        return Target(
            TargetKind.SSH,
            f"{user or 'root'}@{server}",
            ssh_key=keys[0] if keys else "",
            user=user,
            password=password,
            port=port,
            options=(
                ("protocol", scheme),
                ("host_key", self.text("KDUMP_HOST_KEY")),
                *self._timeout(),
            ),
        ), path

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
        flags = self.assigned("KDUMPTOOL_FLAGS")
        if flags:
            yield f"{flags.where}: KDUMPTOOL_FLAGS has no effect any more"
        transfer = self.assigned("KDUMP_TRANSFER")
        if transfer:
            yield f"{transfer.where}: with KDUMP_TRANSFER most of the other settings have no effect"
        to = self.assigned("KDUMP_NOTIFICATION_TO")
        if to and not self.assigned("KDUMP_SMTP_SERVER"):
            yield f"{to.where}: KDUMP_NOTIFICATION_TO has no effect without KDUMP_SMTP_SERVER"

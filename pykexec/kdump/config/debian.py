"""Read /etc/default/kdump-tools: Debian and Ubuntu."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pykexec.kdump.config import shell, targets, values
from pykexec.kdump.config.names import DEBIAN
from pykexec.kdump.config.settings import (
    DEFAULT_PATH,
    DEFAULT_SSH_KEY,
    Action,
    Collector,
    CommandLinePolicy,
    Dialect,
    KernelChoice,
    Settings,
    Target,
    TargetKind,
)
from pykexec.kdump.config.variables import Variables

FILE = DEBIAN.file

# kdump-tools 1.8, kdump-config: its defaults where a variable is unset or empty
_DEFAULT_APPEND = "reset_devices systemd.unit=kdump-tools-dump.service nr_cpus=1 irqpoll usbcore.nousb"
_DEFAULT_MAKEDUMP_ARGS = "-F -c -d 31"
_DEFAULT_NUMBERS: Mapping[str, int] = {
    "NFS_TIMEO": 600,
    "NFS_RETRANS": 3,
    "NFS_MOUNT_RETRY": 4,
    "SSH_KDUMP_RETRY": 16,
}
_REMOVED = ("crashkernel", "hugepages", "hugepagesz", "abm")

_ZERO_ONE: Mapping[str, bool] = {"0": False, "1": True}
_COMPRESSIONS: Mapping[str, str] = {name: name for name in ("bzip2", "gzip", "lz4", "xz")}
_HOST_TAGS: Mapping[str, str] = {"ip": "ip", "hostname": "hostname"}


def read(text: str) -> Settings:
    """Return the settings that the file's text makes. Raises ConfigError."""
    reader = _Reader(text, DEBIAN)
    return Settings(
        dialect=Dialect.DEBIAN,
        files=(f"/{FILE}",),
        enabled=reader.enabled(),
        target=reader.target(),
        path=reader.path("KDUMP_COREDIR") or DEFAULT_PATH,
        collector=reader.collector(),
        save_log=reader.choice("KDUMP_DUMP_DMESG", _ZERO_ONE, default=True),
        keep_old_dumps=reader.number("KDUMP_NUM_DUMPS", 0),
        host_tag=reader.choice("HOSTTAG", _HOST_TAGS, "ip"),
        failure_action=Action.REBOOT,
        failure_command=reader.text("KDUMP_FAIL_CMD"),
        kernel=KernelChoice(path=reader.path("KDUMP_KERNEL")),
        initrd=reader.path("KDUMP_INITRD"),
        command_line=CommandLinePolicy(
            given=reader.text("KDUMP_CMDLINE") or None,
            remove=_REMOVED,
            append=reader.text("KDUMP_CMDLINE_APPEND", _DEFAULT_APPEND),
        ),
        kexec_arguments=reader.words("KDUMP_KEXEC_ARGS"),
        sysctl=reader.text("KDUMP_SYSCTL"),
        hand_over_keys=reader.hands_over_keys,
        warnings=(*reader.unknown, *reader.warnings()),
    )


class _Reader(Variables):
    def enabled(self) -> bool:
        # kdump-config does the same: unset or empty means off.
        return self.choice("USE_KDUMP", _ZERO_ONE, default=False)

    def target(self) -> Target:
        given = [assignment for name in ("SSH", "NFS", "FTP") if (assignment := self.assigned(name))]
        given.sort(key=lambda assignment: assignment.where.line)
        if len(given) > 1:
            raise given[1].where.error(
                f"a second dump target, {given[1].name}; line {given[0].where.line} has {given[0].name}",
                "a dump goes to one target; remove the other",
            )
        if not given:
            return Target()
        makers = {"SSH": self._ssh, "NFS": self._nfs, "FTP": self._ftp}
        return makers[given[0].name](given[0])

    def _ssh(self, assignment: shell.Assignment) -> Target:
        address = values.checked(targets.Login, assignment.value, "SSH", assignment.where)
        key = self.path("SSH_KEY") or DEFAULT_SSH_KEY
        return Target(TargetKind.SSH, address, ssh_key=key, options=self._options("SSH_KDUMP_RETRY"))

    def _nfs(self, assignment: shell.Assignment) -> Target:
        address = values.checked(targets.NfsExport, assignment.value, "NFS", assignment.where)
        options = self._options("NFS_TIMEO", "NFS_RETRANS", "NFS_MOUNT_RETRY")
        return Target(TargetKind.NFS, address, options=options)

    def _ftp(self, assignment: shell.Assignment) -> Target:
        return Target(
            TargetKind.FTP,
            values.checked(targets.FtpPlace, assignment.value, "FTP", assignment.where),
            user=self.checked(targets.User, "FTP_USER"),
            password=self.text("FTP_PASSWORD"),
            port=self.number("FTP_PORT", 21, least=1, most=65535),
        )

    def _options(self, *names: str) -> tuple[tuple[str, str], ...]:
        return tuple((name, str(self.number(name, _DEFAULT_NUMBERS[name]))) for name in names)

    def collector(self) -> Collector:
        assignment = self.assigned("MAKEDUMP_ARGS")
        if assignment is None:
            words = tuple(f"makedumpfile {_DEFAULT_MAKEDUMP_ARGS}".split())
        else:
            command = f"makedumpfile {assignment.value}"
            words = values.collector(command, "MAKEDUMP_ARGS", assignment.where).words
        if "-F" not in words:
            words = (*words, "-F")
        return Collector(words, compress_with=self.choice("KDUMP_COMPRESSION", _COMPRESSIONS, ""))

    def warnings(self) -> Iterator[str]:
        initrd = self.assigned("KDUMP_INITRD")
        if initrd and not self.assigned("KDUMP_KERNEL"):
            yield f"{initrd.where}: KDUMP_INITRD has no effect without KDUMP_KERNEL"
        given = self.assigned("KDUMP_CMDLINE")
        if given:
            yield (
                f"{given.where}: KDUMP_CMDLINE replaces the running kernel's command line;"
                " nothing is taken away from it, a crashkernel= neither"
            )
        yield from self.without_effect("KDUMP_CONFIG", "KDUMP_STAMPDIR", "DEBUG_KERNEL")
        for name in ("SSH_KEY", "FTP_USER", "FTP_PASSWORD"):
            assignment, target = self.assigned(name), name.partition("_")[0]
            if assignment and not self.assigned(target):
                yield f"{assignment.where}: {name} has no effect without {target}"
        if not self.is_set("USE_KDUMP"):
            yield f"/{FILE}: USE_KDUMP is not set, which means no"

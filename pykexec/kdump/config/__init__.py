"""Read kdump's configuration: each distribution's files become one frozen `Settings`.

Nothing is run to read them. Every key is known and checked. Text that is not understood is an error with
file and line, because otherwise nobody would notice an ignored configuration before a crash.
"""

from __future__ import annotations

from pykexec.kdump.config import debian, fedora, suse
from pykexec.kdump.config.errors import ConfigError
from pykexec.kdump.config.settings import DEFAULT_PATH, Action, Dialect, Settings, Target, TargetKind
from pykexec.machine import sysfs
from pykexec.machine.root import Root

__all__ = [
    "BEGINNING",
    "FACTS",
    "UNCONFIGURED",
    "Action",
    "ConfigError",
    "Dialect",
    "Settings",
    "Target",
    "TargetKind",
    "assumed",
    "find",
    "read",
    "required",
]

FACTS = (fedora.CONF, fedora.SYSCONFIG, debian.FILE)
"""The files read, for snapshots."""
UNCONFIGURED = "kdump is not configured here"
FIRST = f"path {DEFAULT_PATH}\n"
"""The configuration that `pykdump setup` writes to /etc/kdump.conf where there is none."""
BEGINNING = "begin with: pykdump setup"
"""The hint for that."""


def find(root: Root) -> Dialect | None:
    """Return the dialect of the configuration that is there; None where there is none.

    Raises ConfigError where both Debian's and another's are there: nobody could tell which one counts.
    """
    conf, sysconfig, default = (_exists(root, path) for path in FACTS)
    if default and (conf or sysconfig):
        other = fedora.CONF if conf else fedora.SYSCONFIG
        raise ConfigError(
            f"both /{debian.FILE} and /{other} exist",
            hint="remove the one that your kdump service does not read",
        )
    if default:
        return Dialect.DEBIAN
    if conf:
        return Dialect.FEDORA
    return Dialect.SUSE if sysconfig else None


def read(root: Root, dialect: Dialect | None = None) -> Settings | None:
    """Return the configuration below a root; None where there is none.

    `dialect` overrides what the files' presence says. Raises ConfigError for a configuration that cannot be
    understood, MachineError for a file that cannot be read.
    """
    dialect = dialect or find(root)
    if dialect is None:
        return None
    if dialect is Dialect.DEBIAN:
        return debian.read(_text(root, debian.FILE) or "")
    if dialect is Dialect.SUSE:
        return suse.read(_text(root, suse.FILE) or "")
    return fedora.read(_text(root, fedora.CONF), _text(root, fedora.SYSCONFIG))


def required(root: Root) -> Settings:
    """Return the configuration below a root. Raises as `read` does, and ConfigError where there is none."""
    settings = read(root)
    if settings is None:
        files = ", ".join(f"/{path}" for path in FACTS)
        raise ConfigError(f"{UNCONFIGURED}: no {files}", hint=BEGINNING)
    return settings


def assumed() -> Settings:
    """Return the settings of the configuration that `pykdump setup` writes where there is none."""
    return fedora.read(FIRST, None)


def _exists(root: Root, path: str) -> bool:
    file = root.open(path)
    if file is None:
        return False
    file.close()
    return True


def _text(root: Root, path: str) -> str | None:
    data = sysfs.read(root, path)
    if data is None:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"/{path}:{line}: byte {data[error.start]:#04x} is not UTF-8") from None

"""Find a Pacemaker cluster that waits for fence_kdump's messages, and that nobody has told of its dumps."""

from __future__ import annotations

import re
import shlex

from pykexec.errors import MachineError, printable
from pykexec.kdump.config.settings import Dialect, Settings
from pykexec.machine.root import Root
from pykexec.machine.sysfs import read_text

_CIB = "var/lib/pacemaker/cib/cib.xml"
"""The cluster's configuration as each of its nodes keeps it; for root, and the cluster, alone."""
_CIB_MAX = 16 << 20
_AGENT = re.compile(r'<primitive\b[^>]{0,1000}\stype="fence_kdump"')
_NODE = re.compile(r'<node\b[^>]{0,1000}\suname="([\w.:-]{1,253})"', re.A)
_LINES = {
    Dialect.FEDORA: "fence_kdump_nodes {}",
    Dialect.SUSE: 'KDUMP_POSTSCRIPT="/usr/lib/fence_kdump_send {}"',
    Dialect.DEBIAN: "fence_kdump_nodes {} (kdump.conf(5); kdump-tools has no such setting)",
}


def warning(settings: Settings, root: Root) -> str | None:
    """Return what is to be said about the cluster of the machine below a root; None where there is nothing.

    kdump-utils asks the cluster itself. pykdump takes the nodes from the configuration alone.
    """
    if settings.fencing.nodes:
        return None
    try:
        text = read_text(root, _CIB, _CIB_MAX) or ""
        own = read_text(root, "proc/sys/kernel/hostname") or ""
    except MachineError:  # it is not for us
        return None
    if not _AGENT.search(text):
        return None
    others = [
        each for each in dict.fromkeys(_NODE.findall(text)) if each not in (own, own.partition(".")[0])
    ]
    line = _LINES[settings.dialect].format(shlex.join(others) or "NODE")
    return f"the cluster waits for messages of fence_kdump, and resets who sends none: {printable(line)}"

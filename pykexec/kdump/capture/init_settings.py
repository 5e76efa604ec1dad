"""Write /etc/pykdump.conf of the capture system: shell assignments for its /init, with all values quoted."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from pykexec.errors import PykexecError
from pykexec.kdump.capture import fencing, login
from pykexec.kdump.capture.blockdevice import UUID_AT
from pykexec.kdump.capture.destination import Destination, Transport
from pykexec.kdump.capture.errors import Unsupported
from pykexec.kdump.capture.fencing import Notice
from pykexec.kdump.capture.links import MTU
from pykexec.kdump.capture.network import Network
from pykexec.kdump.config.errors import shown
from pykexec.kdump.config.settings import LEVEL_MAX, Action, Collector, Dialect, Fencing, Settings
from pykexec.kdump.config.targets import FileName
from pykexec.memory import KIB

_PATIENCE = 60
"""The least number of seconds to wait for a disk, a network card or a server."""
_ATTEMPTS_APART = 3
"""The seconds between attempts of kdump-config; Debian's configuration has their number."""
JUMP = "pykdump-jump"
"""The name of the ssh server to go through, in the capture system's configuration of ssh."""
_SUFFIXES = {"gzip": ".gz", "bzip2": ".bz2", "xz": ".xz", "lzma": ".lzma", "zstd": ".zst", "lz4": ".lz4"}


def render(
    settings: Settings,
    release: str,
    destination: Destination,
    root: Destination | None,
    host: str,
    *,
    watchdog: bool = False,
    notices: Sequence[Notice] = (),
) -> str:
    """Return the file's text. Raises PykexecError for what cannot be done.

    `root` is the root file system, for failure_action dump_to_rootfs; `host` begins the names of dumps'
    folders; `watchdog`: one is running; `notices` are for the nodes of a cluster.
    """
    others = [each.network for each in (destination, root) if each and each.network]
    lines = [
        *_assignments(
            {
                "RELEASE": release,
                **_target(destination),
                "HOST": FileName(host),
                "PATIENCE": _patience(settings),
            }
        ),
        *_assignments({"WATCHDOG": str(int(watchdog))}),
        *_assignments(_saving(settings, destination)),
        *_assignments(_ending(settings)),
        *_collect(settings.collector, destination.way),
        *_function("use_root_filesystem", _root(settings, root)),
        *_notices(settings.fencing, notices, first=fencing.shares_cards(notices, others)),
    ]
    return "\n".join(lines) + "\n"


def _patience(settings: Settings) -> str:
    told = dict(settings.target.options)
    attempts = max(int(told.get(name, 0)) for name in ("SSH_KDUMP_RETRY", "NFS_MOUNT_RETRY"))
    return str(max(_PATIENCE, attempts * _ATTEMPTS_APART, int(told.get("KDUMP_NET_TIMEOUT", 0))))


def _assignments(values: dict[str, str]) -> Iterator[str]:
    for name, value in values.items():
        if "\0" in value:
            raise PykexecError(f"{name} of the capture system has a NUL character in it: {shown(value)}")
        yield f"{name}={shlex.quote(value)}"


def _function(name: str, values: dict[str, str]) -> Iterator[str]:
    yield f"{name}() {{"
    yield from (f"    {line}" for line in _assignments(values))
    yield "}"


def _target(to: Destination) -> dict[str, str]:
    device, superblock, network = to.device, to.superblock, to.network
    # A file system is not identified by its place alone, and a bare device not by its content.
    bare = device if to.way is Transport.RAW else None
    # With a clone of the file system, the one at that place counts.
    devices = superblock.devices if superblock else 1
    single = device if to.way is Transport.DISK and devices == 1 and not to.stack.layers else None
    return {
        "WAY": to.way.value,
        "FOLDER": to.folder,
        "ASSEMBLE": " ".join(f"{layer.kind}:{layer.name}" for layer in to.stack.layers),
        "UUID": superblock.uuid if superblock else "",
        "UUID_DIGITS": superblock.uuid.replace("-", "") if superblock else "",
        "UUID_AT": str(UUID_AT[superblock.type]) if superblock else "",
        "FILESYSTEM": superblock.type if superblock else to.share.type if to.share else "",
        "DEVICES": str(devices),
        "PLACE": single.location if single else "",
        "OPTIONS": to.options,
        "LOCATION": bare.location if bare else "",
        "PARTITION": str(bare.partition) if bare else "",
        "SECTORS": str(bare.sectors) if bare else "",
        "REMOTE": to.remote,
        **(_network(to, network) if network else {}),
    }


def _network(to: Destination, network: Network) -> dict[str, str]:
    return {
        **_links(network),
        "GATEWAY": network.gateway,
        "NEIGHBOUR": network.neighbour,
        "ROUTE_MTU": str(network.mtu or ""),
        "SERVER": to.behind or network.server,
        "PORT": str(to.port),
        "NFS_VERSIONS": " ".join(to.nfs_versions),
    }


def _links(network: Network) -> dict[str, str]:
    links = network.links
    return {
        "CARDS": " ".join(f"{card.mac}@{card.place}" for card in links.cards),
        "BOND": " ".join(f"{name}={value}" for name, value in links.bond),
        "VLANS": " ".join(f"{vlan.number}@{vlan.protocol}" for vlan in links.vlans),
        "HWADDR": links.mac,
        "BASE_MTU": "" if links.base_mtu == MTU else str(links.base_mtu),
        # A VLAN begins with what is below it has.
        "MTU": "" if links.mtu == links.base_mtu else str(links.mtu),
        "ADDRESS": network.address,
    }


def _notices(options: Fencing, notices: Sequence[Notice], *, first: bool) -> Iterator[str]:
    names = [f"tell_nodes_{number}" for number in range(len(notices))]
    yield from _assignments({"TELL_NODES": " ".join(names)})
    if not names:
        return
    words = ["-p", options.port, "-f", options.family, "-c", options.count, "-i", options.interval]
    yield from _assignments({"NODES_OPTIONS": " ".join(map(str, words)), "NODES_FIRST": str(int(first))})
    for name, notice in zip(names, notices, strict=True):
        yield from _function(name, _notice(notice))


def _notice(notice: Notice) -> dict[str, str]:
    """Return the way to nodes. Each gets a route of its own, which is in nobody's way."""
    way = notice.network
    return {
        **_links(way),
        "GATEWAY": "",
        "NEIGHBOUR": way.neighbour if way.gateway else "",
        "ROUTE_MTU": "",
        "SERVER": "",
        "ROUTER": way.gateway,
        "NODES": " ".join(notice.nodes),
    }


def _root(settings: Settings, root: Destination | None) -> dict[str, str]:
    # A shell function must not be empty.
    if root is None:
        return {"KEEP_OLD": ""}
    return {**_target(root), "VMCORE": _file_name(settings.collector, root.way), "KEEP_OLD": ""}


def _saving(settings: Settings, to: Destination) -> dict[str, str]:
    return {
        "SAVE_LOG": str(int(settings.save_log)),
        "SAVE_DUMP": str(int(settings.save_dump)),
        "VMCORE": _file_name(settings.collector, to.way),
        "COMPRESS": settings.collector.compress_with,
        "KNOWN_TO_FIT": str(int(_is_trusted(settings.collector))),
        "FREE_KIB": str(settings.free_space // KIB),
        "DUMP_SIZE": _size(settings.collector),
        "THREADS": str(settings.collector.threads),
        "SMALLER": f"-d {LEVEL_MAX}" if settings.collector.has_smaller else "",
        # A server's may be another machine's (openSUSE's kdump(5)).
        "KEEP_OLD": "" if to.way.logs_in else _old_dumps(settings),
        "HOST_KEY_ALIAS": (to.known_as or login.known_as(settings.target)) if to.way.logs_in else "",
        "JUMP": JUMP if to.jump else "",
    }


def _ending(settings: Settings) -> dict[str, str]:
    return {
        "HOOK_BEFORE": settings.hooks.before,
        # openSUSE's KDUMP_PRESCRIPT has no say in whether there is a dump.
        "HOOK_DECIDES": str(int(not settings.hooks.are_lines)),
        "HOOKS_ARE_LINES": str(int(settings.hooks.are_lines)),
        "HOOK_AFTER": settings.hooks.after,
        "HOOK_EMERGENCY": settings.hooks.emergency,
        "FAILURE_ACTION": settings.failure_action.value,
        "FAILURE_COMMAND": settings.failure_command,
        "FINAL_ACTION": settings.final_action.value,
    }


def _old_dumps(settings: Settings) -> str:
    """Return how many older dumps stay beside the new one; "" for all.

    openSUSE counts the old ones, and -1 means none. Debian counts the new one, too.
    """
    kept = settings.keep_old_dumps
    if kept == 0:
        return ""
    return str(max(kept - 1 if settings.dialect is Dialect.DEBIAN else kept, 0))


def _streams(collector: Collector, way: Transport) -> bool:
    return way in (Transport.RAW, Transport.SSH) or bool(collector.compress_with)


def _is_makedumpfile(collector: Collector) -> bool:
    return collector.program.rpartition("/")[2] == "makedumpfile"


def _is_trusted(collector: Collector) -> bool:
    """Return whether to ignore makedumpfile's message that it does not know the kernel."""
    return collector.is_known_to_fit or not _is_makedumpfile(collector)


def _size(collector: Collector) -> str:
    """Return what is known of the dump's size: it is memory's, or can be limited, or "" where neither."""
    if collector.compress_with:
        return ""
    if not _is_makedumpfile(collector):
        return "memory" if _copies(collector) else ""
    return "limited" if collector.has_limit else ""


def _copies(collector: Collector) -> bool:
    return collector.program.rpartition("/")[2] in ("cp", "scp", "dd", "cat")


def _file_name(collector: Collector, way: Transport) -> str:
    flat = ".flat" if _streams(collector, way) and _is_makedumpfile(collector) else ""
    return f"vmcore{flat}{_SUFFIXES.get(collector.compress_with, '')}"


def _collect(collector: Collector, way: Transport) -> Iterator[str]:
    if collector.command:
        raise Unsupported("running KDUMP_TRANSFER's own command", instead="leave KDUMP_TRANSFER empty")
    # In the image programs are on the path, wherever they are here.
    words = [collector.program.rpartition("/")[2], *collector.words[1:]]
    if _is_makedumpfile(collector):
        # A file gets the dump in its final form; flattened it can be a stream.
        words = [each for each in words if each != "-F"]
        words += _messages(collector)
        whole = f'{shlex.join([*words, "-F"])} "$@"'
    elif _copies(collector) or not _streams(collector, way):
        whole = 'cat "$@"'
    else:
        raise PykexecError(
            f"core_collector {collector.program} writes no stream, which this dump target needs",
            hint="use makedumpfile -F",
        )
    to_file = "cp" if words[0] in ("scp", "dd", "cat") else shlex.join(words)
    yield f'collect() {{ {to_file} "$@"; }}'
    yield f"collect_stream() {{ {whole}; }}"


_MESSAGES = 7
"""makedumpfile's progress, messages and errors, its default; /init looks for all of them."""


def _messages(collector: Collector) -> Sequence[str]:
    """Return the words for what makedumpfile has to say, besides what is asked for."""
    level = collector.message_level
    wanted = _MESSAGES if level is None else level | _MESSAGES
    return () if level in (None, wanted) else ("--message-level", str(wanted))


def needs_root(settings: Settings) -> bool:
    """Return whether the root file system has to be known, too."""
    return settings.failure_action is Action.DUMP_TO_ROOTFS

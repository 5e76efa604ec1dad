"""/etc/pykdump.conf of the capture system: shell assignments that its /init reads, every value quoted."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from pykexec.errors import PykexecError
from pykexec.kdump.capture.destination import Destination, Way
from pykexec.kdump.capture.errors import OutOfReach
from pykexec.kdump.config.settings import Action, Collector, Dialect, Settings
from pykexec.memory import KIB

_PATIENCE = 60
"""Seconds to wait for a disk or a network card to be found."""
_SUFFIXES = {"gzip": ".gz", "bzip2": ".bz2", "xz": ".xz", "lzma": ".lzma", "zstd": ".zst", "lz4": ".lz4"}


def render(
    settings: Settings, release: str, destination: Destination, root: Destination | None, host: str
) -> str:
    """The file's text. `root` is the root file system, for failure_action dump_to_rootfs; `host` begins the
    names of dumps' folders.

    Raises PykexecError for what cannot be done.
    """
    lines = [
        *_assignments(
            {"RELEASE": release, **_target(destination), "HOST": host, "PATIENCE": str(_PATIENCE)}
        ),
        *_assignments(_saving(settings, destination)),
        *_assignments(_ending(settings)),
        *_collect(settings.collector, destination.way),
        *_function("use_root_filesystem", _root(root)),
    ]
    return "\n".join(lines) + "\n"


def _assignments(values: dict[str, str]) -> Iterator[str]:
    for name, value in values.items():
        yield f"{name}={shlex.quote(value)}"


def _function(name: str, values: dict[str, str]) -> Iterator[str]:
    yield f"{name}() {{"
    yield from (f"    {line}" for line in _assignments(values))
    yield "}"


def _target(to: Destination) -> dict[str, str]:
    device, superblock, network = to.device, to.superblock, to.network
    # Nothing is written to a whole file system by its place, nor to a bare device by its content.
    bare = device if to.way is Way.RAW else None
    return {
        "WAY": to.way.value,
        "FOLDER": to.folder,
        "ASSEMBLE": " ".join(f"{layer.kind}:{layer.name}" for layer in to.stack.layers),
        "UUID": superblock.uuid if superblock else "",
        "FILESYSTEM": superblock.type if superblock else "",
        "OPTIONS": to.options,
        "LOCATION": bare.location if bare else "",
        "PARTITION": str(bare.partition) if bare else "",
        "SECTORS": str(bare.sectors) if bare else "",
        "SERVER": network.server if network else "",
        "REMOTE": to.remote,
        "MAC": network.mac if network else "",
        "ADDRESS": network.address if network else "",
        "GATEWAY": network.gateway if network else "",
    }


def _root(root: Destination | None) -> dict[str, str]:
    # A function of a shell has to have something in it.
    return {"KEEP_OLD": ""} if root is None else {**_target(root), "KEEP_OLD": ""}


def _saving(settings: Settings, to: Destination) -> dict[str, str]:
    return {
        "SAVE_LOG": str(int(settings.save_log)),
        "SAVE_DUMP": str(int(settings.save_dump)),
        "VMCORE": _file_name(settings.collector, to.way),
        "COMPRESS": settings.collector.compress_with,
        "FREE_KIB": str(settings.free_space // KIB),
        "KEEP_OLD": _old_dumps(settings),
        "HOST_KEY_ALIAS": settings.target.address.rpartition("@")[2] if to.way is Way.SSH else "",
    }


def _ending(settings: Settings) -> dict[str, str]:
    return {
        "HOOK_BEFORE": settings.hooks.before,
        "HOOK_AFTER": settings.hooks.after,
        "FAILURE_ACTION": settings.failure_action.value,
        "FAILURE_COMMAND": settings.failure_command,
        "FINAL_ACTION": settings.final_action.value,
    }


def _old_dumps(settings: Settings) -> str:
    """How many older ones stay beside the new one; empty: all.

    openSUSE counts the old ones, and -1 stands for none; Debian counts the new one, too.
    """
    kept = settings.keep_old_dumps
    if kept == 0:
        return ""
    return str(max(kept - 1 if settings.dialect is Dialect.DEBIAN else kept, 0))


def _streams(collector: Collector, way: Way) -> bool:
    return way in (Way.RAW, Way.SSH) or bool(collector.compress_with)


def _is_makedumpfile(collector: Collector) -> bool:
    return collector.program.rpartition("/")[2] == "makedumpfile"


def _file_name(collector: Collector, way: Way) -> str:
    flat = ".flat" if _streams(collector, way) and _is_makedumpfile(collector) else ""
    return f"vmcore{flat}{_SUFFIXES.get(collector.compress_with, '')}"


def _collect(collector: Collector, way: Way) -> Iterator[str]:
    if collector.command:
        raise OutOfReach("running KDUMP_TRANSFER's own command", instead="leave KDUMP_TRANSFER empty")
    words = list(collector.words)
    yield f'collect() {{ {shlex.join(words)} "$@"; }}'
    if _is_makedumpfile(collector):
        words += [] if "-F" in words else ["-F"]
        whole = f'{shlex.join(words)} "$@"'
    elif collector.program in ("cp", "scp", "dd", "cat") or not _streams(collector, way):
        whole = 'cat "$@"'
    else:
        raise PykexecError(
            f"core_collector {collector.program} writes no stream, which this dump target needs",
            hint="use makedumpfile -F",
        )
    through = f" | {collector.compress_with}" if collector.compress_with else ""
    yield f"collect_stream() {{ {whole}{through}; }}"


def needs_root(settings: Settings) -> bool:
    """Whether the root file system has to be known, too."""
    return settings.failure_action is Action.DUMP_TO_ROOTFS

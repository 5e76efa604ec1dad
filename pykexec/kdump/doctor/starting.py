"""Check what `pykdump start` would refuse: its own code answers, for a snapshot as far as it can."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from pykexec.errors import FileError, PykexecError
from pykexec.kdump import programs
from pykexec.kdump.capture import contents, destination, image, nfs
from pykexec.kdump.capture.errors import Unsupported
from pykexec.kdump.capture.layers import kind_of_mapped
from pykexec.kdump.config.settings import Settings, TargetKind
from pykexec.kdump.doctor.facts import Facts, Mount
from pykexec.kdump.doctor.finding import Check, Judgement, Stage, fine, said, unknown, wrong
from pykexec.kdump.files import STATE
from pykexec.kdump.service import actions
from pykexec.kdump.service import plan as plans
from pykexec.machine import Machine

_ANOTHERS_IMAGE = "start --initrd FILE takes a distribution's capture image"


def image_is_ours(facts: Facts) -> bool | None:
    """Return whether pykdump makes the capture image; None where that is not known."""
    if facts.settings is not None and facts.settings.initrd:
        return False
    path = facts.loaded.initrd if facts.loaded else facts.initrd_path
    if path is not None and (facts.loaded or facts.places.size(path) is not None):
        return path.startswith(f"{STATE}/")
    return True if facts.places.are_known else None


def _start(facts: Facts) -> Judgement:
    settings = facts.settings
    if settings is None:
        return unknown(facts.unconfigured)
    if not settings.enabled:
        return unknown("kdump is switched off (L18)")
    ours = image_is_ours(facts)
    if ours is False:
        return fine(f"the capture image is not made by pykdump: {facts.initrd_path or settings.initrd}")
    refused = list(_refusals(facts, settings))
    if refused and ours is None:
        return unknown(f"where pykdump makes the capture image, its start refuses: {refused[0].what}")
    if refused:
        return wrong(
            "pykdump start would refuse this, and load nothing",
            *(line for error in refused for line in said(error)),
            remedy=f"correct what is named there; {_ANOTHERS_IMAGE}",
        )
    if not facts.machine.is_live or os.geteuid() != 0:
        return unknown("only the machine itself tells all that start looks at, to root")
    plan = plans.make(facts.machine)
    return fine(plan.kernel, str(destination.resolve(settings)), *plan.warnings)


def _refusals(facts: Facts, settings: Settings) -> Iterator[PykexecError]:
    """Yield the errors that start would raise, each once."""
    asked: list[Callable[[], object]] = [
        *(partial(_require_program, facts, name) for name in _programs(facts, settings)),
        lambda: image.refuse_what_cannot_be(settings),
        lambda: destination.require_possible(settings.target),
        lambda: _require_mountable(facts, settings),
    ]
    if facts.machine.is_live and os.geteuid() == 0:
        machine = facts.machine
        asked += [
            lambda: plans.make(machine).options(hotplug=False),
            lambda: destination.resolve(settings),
            lambda: _require_image(machine, settings, facts.capture_release),
        ]
    told: dict[str, PykexecError] = {}
    for ask in asked:
        try:
            ask()
        except PykexecError as error:
            told.setdefault(error.what, error)
    yield from told.values()


def _require_image(machine: Machine, settings: Settings, release: str) -> None:
    """Raise PykexecError for what keeps the image from being made, or volumes' keys from getting to it."""
    volumes = contents(plans.fitting(settings, machine)[0], release).volumes
    actions.find_keys(machine, plans.make(machine), volumes)


def _programs(facts: Facts, settings: Settings) -> Sequence[str]:
    """Return the names of the programs that start puts into the image."""
    way = destination.way_of(settings.target)
    ways = [way] if way else []
    return image.program_names(settings, ways=ways, assemblers=tuple(_assemblers(facts, settings)))


def _require_program(facts: Facts, name: str) -> None:
    """Raise FileError for a program that is known to be missing."""
    paths = programs.places(name)
    # Ask for all: a snapshot's listing has only what was asked.
    there = [facts.places.size(path) is not None for path in paths]
    if all(facts.places.tells(path) for path in paths) and not any(there):
        raise FileError(f"{name} is not there, and the capture image needs it")


def _assemblers(facts: Facts, settings: Settings) -> Iterator[str]:
    """Yield the kinds of layers that the dump target's device is made of, as far as its name tells."""
    mount = target_mount(facts, settings)
    if mount is None:
        return
    if mount.source.startswith("/dev/md"):
        yield "md"
    for device in facts.machine.root.names("sys/block"):
        uuid = facts.text(f"sys/block/{device}/dm/uuid") or "" if device.startswith("dm-") else ""
        names = (f"/dev/{device}", f"/dev/mapper/{facts.text(f'sys/block/{device}/dm/name')}")
        if mount.source in names and (kind := kind_of_mapped(uuid)):
            yield kind


def target_mount(facts: Facts, settings: Settings) -> Mount | None:
    """Return the mount that dumps go to on the running system; None where it is not a mount."""
    if facts.mounts is None:
        return None
    if settings.target.kind is TargetKind.LOCAL:
        return facts.mount_below_overlays(settings.path)
    return next((mount for mount in facts.mounts if mount.source == settings.target.address), None)


def _require_mountable(facts: Facts, settings: Settings) -> None:
    """Raise Unsupported for a target on a file system that our own image cannot mount."""
    mount = target_mount(facts, settings)
    kind = settings.target.kind
    if kind is TargetKind.LOCAL and mount is not None:
        destination.require_mountable(settings.path, mount.type, mount.source)
    if kind is TargetKind.FILESYSTEM:
        destination.require_type(settings.target.filesystem)
    if mount is not None and mount.type in nfs.TYPES:
        nfs.parse(mount.options, mount.type)


# File systems that go away with the running kernel, or that no capture system can mount.
_NOWHERE = ("tmpfs", "ramfs", "rootfs", "devtmpfs", "overlay", "aufs", "squashfs", "zfs")


def file_system(facts: Facts) -> Judgement:
    """Judge, before a crash, whether the capture system can mount the file system that dumps go to."""
    settings = facts.settings
    if settings is None:
        return unknown(facts.unconfigured)
    if facts.loaded is not None and facts.proven is not None and facts.proven.proves(facts.loaded):
        return fine("a test with what is loaded has left a dump (L19)")
    if settings.target.kind not in (TargetKind.LOCAL, TargetKind.FILESYSTEM):
        return fine(f"no file system of this machine: {settings.target}")
    mount = target_mount(facts, settings)
    try:
        _require_mountable(facts, settings)
        # Only Unsupported counts here: other errors (V4) may hold only for the user who looks now.
        if facts.machine.is_live and os.geteuid() == 0:
            return fine(str(destination.resolve(settings)))
    except Unsupported as error:
        hopeless = mount is not None and (mount.type in _NOWHERE or mount.type.startswith("fuse"))
        if not image_is_ours(facts) and not hopeless:
            return unknown(f"what another's capture image can do is not known, but {error.what}")
        return wrong(
            "the capture system cannot mount the file system that dumps go to",
            *said(error),
            remedy="let dumps go to a folder on ext4, XFS or btrfs, or to another machine (ssh, nfs)",
        )
    if settings.target.kind is TargetKind.FILESYSTEM:
        return fine(str(settings.target))
    return unknown("no /proc/self/mounts") if mount is None else fine(f"{mount.source} ({mount.type})")


CHECKS = (
    Check(
        "V4",
        Stage.TOOLS,
        "pykdump start can do what is configured",
        _start,
        looks_at="What pykdump start asks before it loads: programs, target, settings.",
        matters="A start that is refused leaves loaded what was loaded before, or nothing.",
        mend="Correct what is named; pykdump start --initrd FILE takes a distribution's image.",
    ),
)

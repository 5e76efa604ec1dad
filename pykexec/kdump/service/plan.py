"""Plan what the service would load now, from settings and a machine's facts. This changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pykexec import cli, optionparser
from pykexec.booting.kernel import release_of
from pykexec.errors import FileError, PykexecError, UsageError
from pykexec.files import FileData
from pykexec.kdump import config, makedumpfile
from pykexec.kdump.config import capture_line
from pykexec.kdump.config.errors import ConfigError
from pykexec.kdump.config.settings import Dialect, KernelChoice, LogLevels, Settings, TargetKind
from pykexec.kdump.files import image_path, kernel_candidates
from pykexec.kdump.service import cluster
from pykexec.machine import Machine
from pykexec.options import Options
from pykexec.purpose import Purpose


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """What to load, before any of its files is read."""

    settings: Settings
    kernel: str
    """The kernel's path."""
    release: str
    """The kernel's release; the capture image needs its modules."""
    initrd: str
    """The path of the capture image."""
    own_image: bool
    """Whether pykdump makes that image."""
    command_line: str
    warnings: tuple[str, ...] = ()

    def options(self, *, hotplug: bool) -> Options:
        """Return pykexec's options for KEXEC_ARGS and the rest of the plan.

        `hotplug`: the running kernel updates core headers itself. Raises ConfigError for an unknown
        argument, or one that is not for loading a crash kernel.
        """
        words = [*self.settings.kexec_arguments, "-p", f"--initrd={self.initrd}"]
        words += [f"--append={self.command_line}"]
        try:
            found = optionparser.parse([*words, self.kernel])
            if hotplug and found.system_call != "file":
                found = optionparser.parse([*words, "--hotplug", self.kernel])
            task = cli.resolve(found)
        except UsageError as error:
            raise self._wrong_arguments(error.what) from error
        if not task.load or task.purpose is not Purpose.CRASH or found.load or found.reuse_cmdline:
            raise self._wrong_arguments("they change what is loaded")
        return found

    def _wrong_arguments(self, why: str) -> ConfigError:
        given = " ".join(self.settings.kexec_arguments)
        file = next(reversed(self.settings.files), "the configuration")
        return ConfigError(
            f"{file}: KEXEC_ARGS (KEXEC_OPTIONS) {given!r}: {why}", hint="pykexec --help lists all"
        )


def make(machine: Machine, *, initrd: str | None = None) -> ServicePlan:
    """Return the plan for this machine's configuration; `initrd` is a capture image to use instead of ours.

    Raises ConfigError where there is no configuration or it cannot be understood, PykexecError where it
    turns kdump off, FileError where the kernel is not there.
    """
    settings = config.required(machine.root)
    if not settings.enabled:
        raise PykexecError(f"{settings.files[0]} turns kdump off", hint="USE_KDUMP=1 turns it on")
    return of_settings(settings, machine, initrd=initrd)


def of_settings(settings: Settings, machine: Machine, *, initrd: str | None = None) -> ServicePlan:
    """Return the plan for these settings. Raises as `make` does, but not where they turn kdump off."""
    own_image = not (initrd or settings.initrd)
    settings, doubt = fitting(settings, machine, own_image=own_image)
    kernel = _kernel(settings, machine.kernel_release)
    release = _release(settings.kernel, kernel) or machine.kernel_release
    given = initrd or settings.initrd
    line = capture_line.build(settings, capture_line.read_facts(machine, kernel, release))
    return ServicePlan(
        settings,
        kernel,
        release,
        given or str(image_path(release)),
        own_image,
        capture_line.for_own_image(line.text, settings.command_line) if own_image else line.text,
        (
            *settings.warnings,
            *line.notes,
            *doubt,
            *_warnings(settings, own_image=own_image),
            *filter(None, [cluster.warning(settings, machine.root) if own_image else None]),
        ),
    )


def fitting(
    settings: Settings, machine: Machine, *, own_image: bool = True
) -> tuple[Settings, tuple[str, ...]]:
    """Return settings that lose no page, and warnings about the configured ones.

    Another's image cannot be changed: there is only a warning.
    """
    found = makedumpfile.here(machine, settings.collector)
    warnings = (
        makedumpfile.warning(settings.collector, found, own_image=own_image),
        makedumpfile.compression_warning(settings.collector, found, own_image=own_image),
    )
    if own_image:
        settings = replace(settings, collector=makedumpfile.safe(settings.collector, found))
    return settings, tuple(warning for warning in warnings if warning is not None)


_NAMED_BY = {
    Dialect.FEDORA: "KDUMP_KERNELVER, KDUMP_BOOTDIR, KDUMP_IMG and KDUMP_IMG_EXT say",
    Dialect.DEBIAN: "KDUMP_KERNEL says",
    Dialect.SUSE: "KDUMP_KERNELVER says",
}


def _kernel(settings: Settings, running: str) -> str:
    candidates = list(kernel_candidates(settings.kernel, running))
    for path in candidates:
        if Path(path).is_file():
            return path
    hint = f"{_NAMED_BY[settings.dialect]} which one it is"
    if not settings.files:
        hint = "install the package of the kernel that runs, or copy its file there"
    raise FileError(f"the capture kernel is not there: {', '.join(candidates)}", hint=hint)


def _release(choice: KernelChoice, path: str) -> str | None:
    if choice.version:
        return choice.version
    return release_of(FileData.open(path, "kernel")) if choice.path else None


_WITHOUT_OLD_DUMPS = (TargetKind.SSH, TargetKind.RAW)
"""Targets where no old dump is removed: a server's may be another machine's (openSUSE's kdump(5))."""


def _warnings(settings: Settings, *, own_image: bool) -> Iterator[str]:
    """Yield warnings of configured features that the service does not have."""
    if own_image and settings.dracut.unused:
        unused = ", ".join(settings.dracut.unused)
        yield f"dracut_args: without effect on pykdump's own capture image: {unused}"
    if settings.log_levels != LogLevels():
        yield "KDUMP_STDLOGLVL and its like have no effect: what pykdump says is in the journal"
    if settings.auto_reset_crashkernel:
        yield "auto_reset_crashkernel: crashkernel= stays as it is; pykdump doctor tells if it is too small"
    if settings.auto_resize:
        yield "KDUMP_AUTO_RESIZE: the reservation is left as it is; pykdump resize shrinks it"
    if own_image and settings.network not in ("", "auto"):
        yield "KDUMP_NETCONFIG: the capture system takes the interface and address that reach the server now"
    if own_image and dict(settings.target.options).get("host_key") == "*":
        yield "KDUMP_HOST_KEY: the server's key is checked all the same, by /root/.ssh/known_hosts"
    if own_image and settings.keep_old_dumps and settings.target.kind in _WITHOUT_OLD_DUMPS:
        yield f"the number of old dumps to keep: on {settings.target} all dumps stay as they are"
    if own_image and settings.target.kind is TargetKind.CIFS:
        share = settings.target.address
        yield f"the password for {share} is in the capture image, which root alone can read"
    if settings.mail:
        yield "KDUMP_SMTP_SERVER, KDUMP_NOTIFICATION_TO: pykdump sends no mail"

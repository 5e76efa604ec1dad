"""The service's actions: load, unload, and load again when something has changed."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from pykexec import cli, kernelconfig, loader, report, values, writing
from pykexec.booting import crash
from pykexec.errors import FileError, NoCrashMemoryError, PykexecError
from pykexec.files import FileData
from pykexec.kdump import capture
from pykexec.kdump.capture import handover, keys
from pykexec.kdump.capture.keys import Key
from pykexec.kdump.config.settings import Rebuild
from pykexec.kdump.service import plan as plans
from pykexec.kdump.service import rawdump, trust
from pykexec.kdump.service import receipt as receipts
from pykexec.kdump.service.lock import exclusive
from pykexec.kdump.service.plan import ServicePlan
from pykexec.kdump.service.receipt import Receipt
from pykexec.machine import Machine
from pykexec.machine.sysfs import read_number
from pykexec.plan import FileLoadPlan, LoadPlan, Request
from pykexec.privilege import may_boot, require_no_xen
from pykexec.purpose import Purpose

_LOADS_MAX = 5
_SYSCTL = Path("/proc/sys")

Tell = Callable[[str], None]
"""A function that reports progress, a line each time."""


@dataclass(frozen=True, slots=True)
class _Image:
    """The capture image to load, as it is on disk."""

    target: str
    inputs: str
    volumes: tuple[str, ...] = ()
    """The encrypted volumes whose keys it takes in memory, or from the kernel."""


def start(machine: Machine, tell: Tell, warn: Tell, *, initrd: str | None = None) -> Receipt:
    """Load what the configuration asks for, and return the receipt. The previous load stays until then.

    Raises PykexecError.
    """
    _require_possible(machine)
    with exclusive():
        return _start(machine, tell, warn, initrd)


def _start(machine: Machine, tell: Tell, warn: Tell, initrd: str | None) -> Receipt:
    plan = plans.make(machine, initrd=initrd)
    for warning in plan.warnings:
        warn(warning)
    _require_memory(machine)  # without a reservation the image would be of no use
    trust.require_private(plan.kernel, "kernel")
    _take_over_dump(plan, tell, warn)
    image = _prepare_image(machine, plan, tell)
    trust.require_private(plan.initrd, "capture image")
    done, receipt = _load_until_it_fits(machine, plan, image, tell, warn)
    for warning in done.warnings:
        warn(warning)
    _set_sysctl(plan.settings.sysctl, warn)
    return receipt


def _require_memory(machine: Machine) -> None:
    """Raise NoCrashMemoryError where no memory is reserved."""
    try:
        crash.survey(machine)
    except NoCrashMemoryError as error:
        raise NoCrashMemoryError(error.what, hint="pykdump status says why, and what to do") from None


def _load_until_it_fits(
    machine: Machine, plan: ServicePlan, image: _Image, tell: Tell, warn: Tell
) -> tuple[FileLoadPlan | LoadPlan, Receipt]:
    """Load, and load again if memory or CPUs came or went meanwhile.

    udev's rule ignores such events before the service is active.
    """
    for _ in range(_LOADS_MAX):
        tell(f"loading {plan.kernel} with {plan.initrd}")
        # The facts may be older than the image.
        machine = machine.anew()
        done, receipt = _load(machine, plan, image)
        try:
            has_changed = receipt.hardware != receipts.hardware(machine.anew())
        except PykexecError as error:  # the kernel is loaded nevertheless
            warn(f"whether memory or CPUs have changed meanwhile cannot be told: {error.what}")
            break
        if not has_changed:
            break
        tell("memory or CPUs have changed meanwhile")
    else:
        warn("memory or CPUs do not stop changing: the dump would miss some; in the end: pykdump reload")
    return done, receipt


def _load(machine: Machine, plan: ServicePlan, image: _Image) -> tuple[FileLoadPlan | LoadPlan, Receipt]:
    """Load, and leave a receipt. Raises PykexecError.

    Space for the receipt is reserved first: without it nothing is loaded. Whoever interrupts this leaves no
    receipt, so nothing tells what is loaded.
    """
    options = plan.options(hotplug=_has_hotplug(machine))
    request = cli.request_of(options, Purpose.CRASH, machine)
    found_keys = find_keys(machine, plan, image.volumes)
    named, before = keys.by_name(found_keys), _handed_over(machine)
    request = values.replace(request, additions=(*request.additions, *keys.tables(found_keys)))
    call = "file" if named else cli.system_call_of(options)
    attempts: list[tuple[FileLoadPlan | LoadPlan, Receipt]] = []
    is_loaded = False
    try:
        with receipts.replaced() as note, handover.arranged(named, before, handover.FOLDER) as handed:

            def prepare(found: FileLoadPlan | LoadPlan) -> None:
                made = _receipt(machine, plan, request, image, found)
                way = keys.ways(found_keys)
                target = f"{image.target}, with its key {way}" if way else image.target
                receipt = replace(made, target=target, keys=handed)
                note(receipt, report.as_json(found))
                attempts.append((found, receipt))

            with _plain_errors():
                loader.load_request(machine, request, call, prepare)
            is_loaded = True
    except PykexecError as error:
        if is_loaded:
            raise PykexecError(
                f"the capture kernel is loaded, but pykdump status cannot tell which: {error.what}",
                hint="pykdump start loads it again",
            ) from error
        # A file that changed during the load may have stayed loaded, damaged.
        if not any(file.has_changed for found, _ in attempts for file in found.files):
            _put_back(machine)
        raise
    return attempts[-1]


def find_keys(machine: Machine, plan: ServicePlan, volumes: Sequence[str]) -> Sequence[Key]:
    """Return the way of the keys of a plan's encrypted volumes. Raises PykexecError where one has none."""
    if not volumes:
        return ()
    system_call = cli.system_call_of(plan.options(hotplug=_has_hotplug(machine)))
    has_key = None
    # Only kexec_file_load takes them.
    if handover.is_offered(handover.FOLDER) and system_call != "load" and _takes_keys(machine, plan.release):
        has_key = handover.in_keyring_or_loaded(_handed_over(machine), handover.FOLDER)
    return keys.find(volumes, allowed=plan.settings.hand_over_keys, has_key=has_key)


def _takes_keys(machine: Machine, release: str) -> bool:
    """Return whether a capture kernel is known to take keys that the running one hands over."""
    if release == machine.kernel_release:
        return True
    config = kernelconfig.installed(machine, release)
    return config is not None and config.get("CONFIG_CRASH_DM_CRYPT") == "y"


def _handed_over(machine: Machine) -> str:
    """Return what stands for the keys that the loaded kernel has been handed over; "" for none."""
    before = loaded_now(machine)
    return before.keys if before else ""


def _has_hotplug(machine: Machine) -> bool:
    return machine.kexec_state.elfcorehdr_size is not None


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Turn the load's OSError into PykexecError: it is not one of the files that are being written then."""
    try:
        yield
    except OSError as error:
        raise PykexecError(f"{error.filename or 'the load'}: {error.strerror}") from error


def _put_back(machine: Machine) -> None:
    """Restore the receipt of the loaded kernel, if one is still loaded."""
    if loader.status(Purpose.CRASH, machine):
        with suppress(FileError):  # then nothing tells what is loaded
            receipts.put_back()


def stop(machine: Machine) -> None:
    """Unload the capture kernel. Raises PykexecError."""
    _require_possible(machine)
    with exclusive():
        receipts.set_aside()
        try:
            loader.unload(Purpose.CRASH, machine)
        except PykexecError:
            _put_back(machine)
            raise
        receipts.forget()
        handover.forget(handover.FOLDER)


def reload(machine: Machine, tell: Tell, warn: Tell, *, initrd: str | None = None) -> tuple[Receipt, str]:
    """Load again if something has changed since the last load; return the receipt, and what had changed.

    Raises PykexecError.
    """
    _require_possible(machine)
    with exclusive():
        before = loaded_now(machine)
        if before is None:
            return _start(machine, tell, warn, initrd), "nothing was loaded"
        changed = changes(before, machine, plans.make(machine, initrd=initrd))
        if not changed:
            return before, ""
        return _start(machine, tell, warn, initrd), ", ".join(changed)


def loaded_now(machine: Machine) -> Receipt | None:
    """Return the receipt of what is loaded; None where nothing is, or pykexec loaded or unloaded later.

    The running kernel tells that something is loaded, not what: a load by another program goes unnoticed.
    """
    receipt = receipts.load(receipts.LOADED)
    if not loader.status(Purpose.CRASH, machine) or receipt is None or receipt.boot != receipts.boot_id():
        return None
    return receipt


def changes(before: Receipt, machine: Machine, plan: ServicePlan) -> list[str]:
    """Return what differs between the last load and one made now. Raises PykexecError."""
    found = []
    if before.kernel_sha256 != receipts.digest(FileData.open(plan.kernel, "kernel")):
        found.append("the kernel")
    if plan.own_image and plan.settings.rebuild is not Rebuild.NEVER:
        if before.inputs != capture.contents(plan.settings, plan.release).fingerprint:
            found.append("the capture image")
    elif before.initrd_sha256 != receipts.digest(FileData.open(plan.initrd, "initrd")):
        found.append("the initrd")
    if before.command_line != plan.command_line:
        found.append("the command line")
    # Where the kernel updates core headers itself, they are up to date.
    if before.hardware != receipts.hardware(machine) and not _follows_hotplug(machine):
        found.append("memory or CPUs")
    return found


def make_image(what: capture.Contents, output: Path, tell: Tell, *, always: bool = False) -> None:
    """Bring an image file of ours up to date; `always` rebuilds it in any case. Raises PykexecError."""
    if not always and _stamped(output) == what.fingerprint:
        return
    writing.make_private_folder(output.parent)
    writing.remove_file(_stamp(output))
    for each in (output, _stamp(output)):
        writing.remove_unfinished(each)
    capture.build(what, output, lambda path: tell(f"making {output}: {path}"))
    writing.write_file(_stamp(output), f"{what.fingerprint}\n", mode=0o600)


def _stamp(image: Path) -> Path:
    return image.with_name(f"{image.name}.inputs")


def _stamped(image: Path) -> str:
    """Return the fingerprint stored with an image; "" where there is none, or others can have made it."""
    try:
        files = (image.lstat(), _stamp(image).lstat())
        text = _stamp(image).read_text()
    except (OSError, ValueError):
        return ""
    return text.strip() if all(trust.is_private(each) for each in files) else ""


def _prepare_image(machine: Machine, plan: ServicePlan, tell: Tell) -> _Image:
    if not plan.own_image:
        if not Path(plan.initrd).is_file():
            raise FileError(
                f"the capture image {plan.initrd} is not there", hint="make it, or leave it to pykdump"
            )
        return _Image(f"as {plan.initrd} has it", "")
    output = Path(plan.initrd)
    if plan.settings.rebuild is Rebuild.NEVER and output.is_file():
        needed = plan.settings.hand_over_keys or handover.is_offered(handover.FOLDER)
        volumes = capture.contents(plan.settings, plan.release).volumes if needed else ()
        return _Image("as the image has it (force_no_rebuild)", _stamped(output), volumes)
    tell("looking for the dump target, programs and modules")
    what = capture.contents(plan.settings, plan.release)
    find_keys(machine, plan, what.volumes)  # better refused before the image is made
    make_image(what, output, tell, always=plan.settings.rebuild is Rebuild.ALWAYS)
    return _Image(str(what.destination), what.fingerprint, what.volumes)


def _take_over_dump(plan: ServicePlan, tell: Tell, warn: Tell) -> None:
    """Copy the last crash's dump from a raw target.

    A failure only warns: the next crash must be saved, too.
    """
    try:
        folder = rawdump.take_over(plan.settings, warn)
    except PykexecError as error:
        warn(str(error))
        return
    if folder is not None:
        tell(f"the last crash's dump is now in {folder}")


def _set_sysctl(assignments: str, warn: Tell) -> None:
    """Set the values of KDUMP_SYSCTL (Debian's configuration), once a capture kernel is loaded."""
    for each in assignments.split():
        name, equals, value = each.partition("=")
        parts = sysctl_path(name)
        if not equals or not parts:
            warn(f"KDUMP_SYSCTL: {each!r} is no assignment such as kernel.panic_on_oops=1")
            continue
        try:
            writing.write_value(_SYSCTL.joinpath(*parts), f"{value}\n", root=_SYSCTL)
        except FileError as error:
            warn(f"KDUMP_SYSCTL: {error.what}")


def sysctl_path(name: str) -> tuple[str, ...]:
    """Return the names below /proc/sys for a name of sysctl(8); none for another text.

    The first of dot and slash in the name separates its parts; inside a part the other one stands for it:
    net.ipv4.conf.eth0/1.forwarding and net/ipv4/conf/eth0.1/forwarding are the same.
    """
    first = next((character for character in name if character in "./"), "")
    if first == ".":
        name = name.translate(str.maketrans("./", "/."))
    parts = tuple(name.split("/"))
    return () if any(part in ("", ".", "..") or "\0" in part for part in parts) else parts


def _require_possible(machine: Machine) -> None:
    require_no_xen(machine)
    if not may_boot(machine):
        raise PykexecError("loading and unloading a capture kernel take CAP_SYS_BOOT", hint="run as root")


def _follows_hotplug(machine: Machine) -> bool:
    names = ("cpu", "memory")
    return all(read_number(machine.root, f"sys/devices/system/{name}/crash_hotplug") == 1 for name in names)


def _receipt(
    machine: Machine,
    plan: ServicePlan,
    request: Request,
    image: _Image,
    found: FileLoadPlan | LoadPlan,
) -> Receipt:
    return Receipt(
        boot=receipts.boot_id(),
        kernel=plan.kernel,
        kernel_sha256=receipts.digest(request.kernel),
        initrd=plan.initrd,
        initrd_sha256=receipts.digest(request.initrd) if request.initrd else "",
        command_line=plan.command_line,
        target=image.target,
        hardware=receipts.hardware(machine),
        inputs=image.inputs,
        system_call="kexec_file_load" if isinstance(found, FileLoadPlan) else "kexec_load",
        time=now(),
    )


def now() -> str:
    """Return the time in UTC, as in ISO 8601."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

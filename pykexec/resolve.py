"""Turn a request into a plain one: a kernel without containers, at most one initrd, one command line.

Boot entries, the running kernel's files, containers with more than a kernel, and several initrds become such
a request, with a note of what was taken from where.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pykexec import bootentries, checks, command_line, formats, initramfs
from pykexec.bootentries import BootEntry, RunningKernel
from pykexec.bootpaths import first_file, view
from pykexec.errors import FileError, ImageError, MachineError, UsageError, printable
from pykexec.files import FileData
from pykexec.formats import identify, magic
from pykexec.machine import Machine
from pykexec.machine.root import Folder, Root
from pykexec.plan import Purpose, Request
from pykexec.values import dataclass, field, replace

DEFAULT = "default"
"""The name by which --entry-id knows the entry that a reboot would start."""

_COMPATIBLE = "proc/device-tree/compatible"
_OF_THE_RESERVATION = ("crashkernel",)
_OF_EFI = "linux,uefi-"
"""Begins properties of /chosen: Documentation/arch/arm/uefi.rst; distributions' linux,uefi-secure-boot."""


@dataclass(frozen=True, slots=True)
class _Found:
    """A kernel, and the files that come with it."""

    kernel: FileData
    where: str = ""
    """The source of all of it, for people."""
    initrds: tuple[FileData, ...] = ()
    command_line: str | None = None
    device_tree: FileData | None = None
    overlays: tuple[FileData, ...] = ()
    """Overlays for the device tree."""
    profile: str | None = None
    addons: tuple[FileData, ...] = ()
    container: str = ""
    taken: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    parts: tuple[str, ...] = field(default=())
    """The names of the initrds."""


def resolve(machine: Machine, request: Request) -> Request:
    """Return the same request with a kernel out of its containers and at most one initrd.

    Reads facts of the machine and files, changes nothing. Raises PykexecError where something is missing,
    damaged, or not what it should be.
    """
    found = _unpacked(machine, request, _find(machine, request))
    initrd, put_together = _initrd(machine, request, found)
    tree, of_tree = _device_tree(machine, request, found)
    line, of_line = _command_line(request, found)
    return replace(
        request,
        kernel=found.kernel,
        initrd=initrd,
        initrds=(),
        additions=(),
        entry_id=None,
        reuse_kernel=False,
        profile=None,
        format=None if request.format in checks.BUNDLES else request.format,
        device_tree=tree,
        append=line,
        container=found.container,
        taken=(*request.taken, *found.taken, *of_line, *put_together, *of_tree),
        warnings=(*request.warnings, *found.warnings),
    )


def _find(machine: Machine, request: Request) -> _Found:
    named = [
        name
        for name, given in {
            "a kernel": bool(request.kernel.path),
            "entry_id": request.entry_id is not None,
            "reuse_kernel": request.reuse_kernel,
        }.items()
        if given
    ]
    if len(named) != 1:
        raise UsageError(f"one kernel at a time, not {' and '.join(named) or 'none'}")
    if request.entry_id is not None:
        return _of_entry(machine, request, request.entry_id)
    if request.reuse_kernel:
        return _of_running(machine, request)
    kernel = request.kernel
    if kernel.descriptor is None:
        return _Found(kernel, profile=request.profile)
    top, path = Folder("/"), str(Path(kernel.path).resolve())
    return _Found(
        kernel,
        profile=request.profile,
        addons=_addons(top, path, kernel),
        warnings=tuple(_left_out(top, path, kernel)),
    )


def _of_entry(machine: Machine, request: Request, wanted: str) -> _Found:
    entry = _entry(machine, wanted)
    initrds = () if request.initrd is not None else entry.initrds
    overlays = entry.overlays if entry.device_tree else ()
    kernel = _file(machine.root, entry.kernel, "kernel")
    return _Found(
        kernel=kernel,
        where=f"boot entry {printable(entry.id)}",
        initrds=tuple(_file(machine.root, path, "initrd") for path in initrds),
        command_line=entry.options or None,
        device_tree=_file(machine.root, entry.device_tree, "device tree") if entry.device_tree else None,
        overlays=tuple(_file(machine.root, path, "device tree overlay") for path in overlays),
        profile=entry.profile if request.profile is None else request.profile,
        addons=(
            *_addons(machine.root, entry.kernel, kernel),
            *(_file(machine.root, path, "add-on") for path in entry.extras if _is_addon(path)),
        ),
        taken=(f"boot entry {_name(entry)}: /{entry.source}",),
        warnings=(*_doubts(entry), *_left_out(machine.root, entry.kernel, kernel, entry.extras)),
        parts=tuple(f"/{path}" for path in initrds),
    )


def _entry(machine: Machine, wanted: str) -> BootEntry:
    known = bootentries.entries(machine.root, machine.uname_machine)
    is_default = wanted == DEFAULT and not any(wanted in (entry.id, entry.file_name) for entry in known)
    # Where there are entry files, GRUB's menu is made from them.
    found = None if known else bootentries.of_grub(machine.root, None if is_default else wanted)
    if found:
        return found
    return bootentries.default(machine.root, known) if is_default else bootentries.find(known, wanted)


def _name(entry: BootEntry) -> str:
    has_title = entry.title and not entry.id.endswith(entry.title)
    return printable(f"{entry.id} ({entry.title})" if has_title else entry.id)


def _is_addon(path: str) -> bool:
    return path.lower().endswith(".addon.efi")


def _doubts(entry: BootEntry) -> Iterator[str]:
    for note in entry.notes:
        yield printable(f"/{entry.source}: {note}")
    if entry.tries_left == 0:
        yield f"boot entry {entry.id}: its boot counter says that it failed each time it was tried"
    if entry.overlays and not entry.device_tree:
        names = ", ".join(f"/{path}" for path in entry.overlays)
        yield f"boot entry {entry.id}: its overlays are left out, for it has no device tree: {names}"


def _left_out(root: Root, path: str, kernel: FileData, extras: Sequence[str] = ()) -> Iterator[str]:
    """Yield a warning about what systemd's stub would hand on with an image and pykexec does not."""
    if not magic.may_be_bundle(kernel.data):
        return
    found = [
        *bootentries.companions(root, path.lstrip("/")),
        *(each for each in extras if not _is_addon(each)),
    ]
    if found:
        names = ", ".join(f"/{each}" for each in found)
        yield f"what systemd's stub would hand on with {kernel.path} is left out: {names}"


def _of_running(machine: Machine, request: Request) -> _Found:
    running = _running(machine)
    initrds = () if request.initrd is not None else running.initrds
    kernel = _file(machine.root, running.kernel, "kernel")
    lacks_initrd = not (initrds or request.initrd or request.initrds or magic.may_be_bundle(kernel.data))
    note = f"no initrd was found beside /{running.kernel}; where it takes one, give it: --initrd=FILE"
    return _Found(
        kernel=kernel,
        where="the running kernel",
        initrds=tuple(_file(machine.root, path, "initrd") for path in initrds),
        profile=running.profile if request.profile is None else request.profile,
        addons=_addons(machine.root, running.kernel, kernel),
        taken=(f"the running kernel: /{running.kernel} (by {running.why})",),
        warnings=((note,) if lacks_initrd else ()) + tuple(_left_out(machine.root, running.kernel, kernel)),
        parts=tuple(f"/{path}" for path in initrds),
    )


def _running(machine: Machine) -> RunningKernel:
    """Find the running kernel as the boot loader names it, or by the usual names."""
    root, release, line = machine.root, machine.kernel_release, machine.command_line
    if "BOOT_IMAGE" not in line:  # which GRUB sets, and systemd-boot does not
        known = bootentries.entries(root, machine.uname_machine)
        entry = bootentries.running(root, known, release)
        if entry is not None:
            why = f"boot entry {entry.id}, which was selected"
            return RunningKernel(entry.kernel, entry.initrds, why, entry.profile)
    return bootentries.running_kernel(root, release, line)


def _file(root: Root, path: str, what: str) -> FileData:
    """Open a file below the root as if the user had named it. Raises FileError where there is none."""
    if isinstance(root, Folder):
        return replace(FileData.open(root.path_of(path), what), path=f"/{path}")
    if first_file(root, [path]) is None:
        raise FileError(f"cannot read the {what} /{path}: there is no such file")
    return FileData.from_bytes(f"/{path}", view(root, path))


def _addons(root: Root, path: str, kernel: FileData) -> tuple[FileData, ...]:
    """Return the add-ons of a kernel, if it can have any; they are looked for beside its file."""
    if not magic.may_be_bundle(kernel.data):
        return ()
    names = bootentries.addons(root, path.lstrip("/"))
    return tuple(_file(root, name, "add-on") for name in names)


def _unpacked(machine: Machine, request: Request, found: _Found) -> _Found:
    """Return the kernel out of its containers, with everything else that is in these."""
    found = _unwrapped(found)
    if formats.is_bundle(found.kernel) or found.profile is not None:
        found = _unwrapped(_opened(machine, request, found))
        if formats.is_bundle(found.kernel):
            what = identify.describe(found.kernel.data)
            raise ImageError(
                f"{found.kernel.path}: {found.container}, in it {what}: a kernel cannot be wrapped in both"
            )
    elif request.format in checks.BUNDLES:
        what = identify.describe(found.kernel.data) or "of no known type"
        raise ImageError(f"-t {request.format}: {found.kernel.path} is {what}", hint="leave out -t")
    return found


def _unwrapped(found: _Found) -> _Found:
    """Take the kernel out of containers that hold nothing else."""
    if not magic.is_wrapped(found.kernel.data):
        return found
    kernel, wrappings = formats.unwrap(found.kernel, keep_bundles=True)
    return replace(found, kernel=kernel, container=", ".join(filter(None, (found.container, wrappings))))


def _opened(machine: Machine, request: Request, found: _Found) -> _Found:
    path = found.kernel.path
    bundle = formats.open_bundle(
        found.kernel,
        found.profile,
        compatible=_compatible(machine),
        addons=found.addons,
        options=found.command_line,
        secure_boot=found.command_line is not None and machine.has_secure_boot,
    )
    kind = "fit" if bundle.format.startswith("FIT") else "uki"
    if request.format in checks.BUNDLES and request.format != kind:
        raise ImageError(f"-t {request.format}: {path} is a {bundle.format}", hint="leave out -t")
    notes = list(found.taken)
    notes.append(f"kernel out of the {bundle.format} {path}")
    notes += [f"add-on {each.path}" for each in found.addons]
    embedded = bundle.initrds
    if embedded and request.initrd is not None and request.purpose is Purpose.CRASH:
        # kdumpctl loads the installed image with a capture kernel's initrd. With both initrds the
        # reservation would hold what only a usual boot needs.
        notes.append(f"not the initrd in {path}: {request.initrd.path} is given instead")
        embedded = ()
    tree, overlays = found.device_tree, found.overlays
    if tree is None and bundle.device_tree is not None:
        tree = FileData.from_bytes(f"{path} (device tree)", bundle.device_tree, [found.kernel])
        overlays = tuple(
            FileData.from_bytes(f"{path} (overlay)", each, [found.kernel]) for each in bundle.overlays
        )
    return replace(
        found,
        kernel=FileData.from_bytes(path, bundle.kernel, [found.kernel, *found.addons]),
        where=found.where or path,
        initrds=(*(FileData.from_bytes(path, each, [found.kernel]) for each in embedded), *found.initrds),
        parts=(*(f"{path} ({each.nbytes:,} bytes of it)" for each in embedded), *found.parts),
        command_line=bundle.command_line,
        device_tree=tree,
        overlays=overlays,
        container=", ".join(filter(None, (found.container, bundle.format))),
        taken=tuple(notes),
        warnings=(*found.warnings, *bundle.notes),
    )


def _compatible(machine: Machine) -> list[str]:
    """Return the machine's names in its device tree, the most specific first."""
    data = machine.read(_COMPATIBLE)
    return data.decode("latin-1").rstrip("\0").split("\0") if data else []


def _initrd(machine: Machine, request: Request, found: _Found) -> tuple[FileData | None, list[str]]:
    """Return one initrd made of all there are, and notes on its parts."""
    parts = [*found.initrds, *([request.initrd] if request.initrd else []), *request.initrds]
    names = [*found.parts, *(each.path for each in parts[len(found.initrds) :])]
    nothing = not request.additions and not any(map(checks.has_content, parts))
    if nothing and _wants_an_initrd(machine, request, found):
        note = "an empty initrd: without one, the new kernel would take what EFI handed to this one"
        return FileData.from_bytes("an empty initramfs", initramfs.empty()), [note]
    if len(parts) == 1 and not request.additions:
        return parts[0], [f"initrd: {names[0]}"] if found.initrds else []
    if not parts and not request.additions:
        return None, []
    joined = initramfs.assemble([each.data for each in parts], request.additions)
    names += [f"/{each.path} put in" for each in request.additions]
    paths = dict.fromkeys(each.path for each in parts)
    name = " + ".join(paths) or "files put in"
    return FileData.from_bytes(name, joined, parts), [f"initrd: {', then '.join(names)}"]


def _wants_an_initrd(machine: Machine, request: Request, found: _Found) -> bool:
    """Return whether the kernel must get an initrd, because it would find an old one otherwise."""
    if request.modules or not checks.has_stale_initrd(machine, request):
        return False
    # Of all kernels that can be loaded only Multiboot kernels are not Linux.
    return "Multiboot" not in (identify.describe(found.kernel.data) or "")


def _command_line(request: Request, found: _Found) -> tuple[str | None, list[str]]:
    """Return the command line of --append and --reuse-cmdline, else the one that came with the kernel."""
    if found.command_line is None or request.append is not None or request.reuse_command_line:
        return request.append, []
    line = found.command_line
    if request.purpose is Purpose.CRASH:
        line = command_line.without(line, _OF_THE_RESERVATION)
    return line, [f"command line of {found.where}"]


def _device_tree(machine: Machine, request: Request, found: _Found) -> tuple[FileData | None, list[str]]:
    if request.device_tree is not None or found.device_tree is None:
        return request.device_tree, []
    from pykexec.devicetree import FIRMWARE_TREE, UNPACKED_TREE

    given = found.device_tree
    running = machine.read(FIRMWARE_TREE)
    if running is None and not machine.root.names(UNPACKED_TREE):
        return None, [f"not the device tree {given.path}: this machine has none"]
    names = [given.path, *(each.path for each in found.overlays)]
    return _completed(_overlaid(given, found.overlays), running), [f"device tree {', then '.join(names)}"]


def _overlaid(given: FileData, overlays: Sequence[FileData]) -> FileData:
    if not overlays:
        return given
    from pykexec import overlays as changes
    from pykexec.devicetree import DeviceTree

    tree = DeviceTree(given.data, given.path)
    for each in overlays:
        changes.apply(tree, DeviceTree(each.data, each.path), each.path)
    return FileData.from_bytes(given.path, tree.to_bytes(), [given, *overlays])


def _completed(given: FileData, running: bytes | None) -> FileData:
    """Add to a board's device tree what firmware adds before a kernel sees it: memory, and where EFI is.

    Devicetree Specification, 3.4 "/memory node"; U-Boot's fdt_fixup_memory.
    """
    if running is None:
        return given
    from pykexec.devicetree import FIRMWARE_TREE, DeviceTree

    tree, told = DeviceTree(given.data, given.path), DeviceTree(running, f"/{FIRMWARE_TREE}")
    nodes = dict(told.nodes())
    memory = {path: node for path, node in nodes.items() if _is_memory(node)}
    if memory and tree.cells != told.cells:
        raise MachineError(
            f"{given.path}: its #address-cells and #size-cells are not those of /{FIRMWARE_TREE}",
            hint="it is most likely not for this machine; give one with --dtb",
        )
    if memory:
        for path, node in list(tree.nodes()):
            if _is_memory(node):
                tree.remove(path, "reg")
    chosen = nodes.get("/chosen", {})
    of_efi = {name: value for name, value in chosen.items() if name.startswith(_OF_EFI)}
    for path, properties in {**memory, "/chosen": of_efi}.items():
        for name, value in properties.items():
            tree.set(path, name, value)
    return FileData.from_bytes(given.path, tree.to_bytes(), [given])


def _is_memory(node: Mapping[str, bytes]) -> bool:
    return node.get("device_type") == b"memory\0"


__all__: Sequence[str] = ("DEFAULT", "resolve")

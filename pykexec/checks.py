"""What is looked at before a load: whether the files are likely to do what they are loaded for.

What cannot work at all, the loaders refuse; here is what most likely will not. A usual kernel with a usual
initrd shall not wait for this: what takes a closer look imports what that needs.
"""

from __future__ import annotations

from pykexec.errors import PykexecError
from pykexec.formats import magic
from pykexec.memory import KIB, MIB
from pykexec.purpose import Purpose

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pykexec.arch import Arch
    from pykexec.booting.kernel import KernelFacts
    from pykexec.files import FileData
    from pykexec.machine import Machine
    from pykexec.plan import Request

_TRAILER = b"TRAILER!!!"
_EARLY_MAX = 32 * MIB  # microcode for all CPUs of both makers comes to half of that
_STEP = 1 * MIB
_SAMPLE = 4 * KIB


def is_plain(machine: Machine, request: Request) -> bool:
    """Whether the request names the kernel's own file and at most one initrd, so that nothing is to be
    looked for, taken out, or put together."""
    names_more = (
        *(request.initrds, request.additions, request.entry_id, request.reuse_kernel),
        request.profile is not None,
        request.format in BUNDLES,
    )
    data = request.kernel.data
    if any(names_more) or magic.may_be_bundle(data) or magic.is_wrapped(data):
        return False
    return has_content(request.initrd) or not has_stale_initrd(machine, request)


BUNDLES = ("uki", "fit")
"""The types (-t) that hold more than a kernel."""


def has_content(initrd: FileData | None) -> bool:
    """Whether there is an initrd, and something in it."""
    return initrd is not None and initrd.size > 0


def has_stale_initrd(machine: Machine, request: Request) -> bool:
    """Whether a kernel without an initrd may take the running kernel's, from memory long used otherwise.

    Whoever starts a kernel through its EFI stub, systemd's stub and newer GRUBs for instance, can hand an
    initrd over in memory; the kernel's stub then names its place in a table of EFI's
    (LINUX_EFI_INITRD_MEDIA_GUID), which outlives kexec. A kernel that is told of no initrd reads that table
    (drivers/firmware/efi/efi.c efi_config_parse_tables, Linux 6.1 and later), and panics ("Cannot find place
    for new RAMDISK") or unpacks what it finds. See https://github.com/flatcar/Flatcar/issues/1833. Nothing
    below /sys tells whether the table is there, so that EFI itself has to do as evidence.
    """
    return request.hand_over_efi and bool(machine.root.names("sys/firmware/efi"))


def warnings(machine: Machine, request: Request) -> list[str]:
    """Why the files of a plain request will probably not do."""
    found = list(_initrd(request.initrd))
    if request.purpose is Purpose.CRASH:
        from pykexec import arch
        from pykexec.booting import kernel

        found += _left_out(request)
        own = arch.find(machine.uname_machine)
        facts = kernel.told(request.kernel, own)
        found += _configuration(machine, request, facts)
        reserved = sum(each.size for each in machine.crash_regions)
        needed = _needed_at_least(request, kernel.memory_of(request.kernel, facts), reserved, own)
        found += list(_room(request, needed, reserved)) or _room_beside_devices(
            machine, request, needed, reserved
        )
    return found


def _left_out(request: Request) -> Iterator[str]:
    """Yield a warning for what a capture kernel rarely does without."""
    if request.initrd is None:
        yield "no --initrd: the capture kernel has to find by itself what saves the dump"
    if not request.append and not request.reuse_command_line:
        yield "no --append or --reuse-cmdline: the capture kernel's command line is empty"


def _initrd(file: FileData | None) -> Iterator[str]:
    if file is None or _is_usual(file.data):
        return
    if not file.size:
        yield f"{file.path} is empty: the new kernel gets no initrd"
        return
    from pykexec import initramfs

    contents = initramfs.inspect(file.data)
    if contents.warning is not None:
        yield f"{file.path}: {contents.warning}"
    elif contents.kind is initramfs.Kind.EMPTY:
        yield f"{file.path} has no files in it: the new kernel gets an empty initramfs"


def _is_usual(data: memoryview) -> bool:
    """Whether it is a whole archive, or something compressed, perhaps behind an archive of early files."""
    if magic.compression(data):
        return True
    if bytes(data[:6]) not in magic.CPIO:
        return False
    end = bytes(data[-_SAMPLE:]).rstrip(b"\0")
    if end.endswith(_TRAILER):
        return True
    for start in range(0, min(data.nbytes, _EARLY_MAX), _STEP):
        at = bytes(data[start : start + _STEP + len(_TRAILER)]).find(_TRAILER)
        if at >= 0:
            behind = start + at + len(_TRAILER)
            zeros = bytes(data[behind : behind + _SAMPLE])
            return bool(magic.compression(data[behind + len(zeros) - len(zeros.lstrip(b"\0")) :]))
    return False


_NEEDED = {
    "CONFIG_CRASH_DUMP": "it will not find the crashed kernel's memory",
    "CONFIG_PROC_VMCORE": "it will have no /proc/vmcore",
}
"""What a capture kernel is built with (kernel/Kconfig.kexec, fs/proc/Kconfig), and why."""


def _configuration(machine: Machine, request: Request, facts: KernelFacts | None) -> Iterator[str]:
    """By the configuration beside the kernel, or in it where nothing has to be unpacked for that."""
    kernel, release = request.kernel, facts.release if facts else None
    text = _text_beside(machine, release) if release and "/" not in release else None
    if text is not None:
        lacks = [name for name in _NEEDED if f"# {name} is not set\n" in text]
    elif request.container or (facts is not None and facts.program is not None):
        lacks = _lacks(kernel)
    else:
        return
    for name in lacks:
        yield f"{kernel.path} was built without {name}: {_NEEDED[name]}"


def _lacks(kernel: FileData) -> list[str]:
    from pykexec import kernelconfig

    try:
        config = kernelconfig.embedded(kernel.path, kernel.data)
    except PykexecError:
        return []  # whoever loads this kernel says what is wrong with it
    return [name for name in _NEEDED if config is not None and config.get(name) == "n"]


def _text_beside(machine: Machine, release: str) -> str | None:
    try:
        for path in (f"boot/config-{release}", f"lib/modules/{release}/config"):
            data = machine.read(path)
            if data is not None:
                return data.decode("utf-8", "replace")
    except PykexecError:
        pass  # such as one that only root may read
    return None


_EXPANSION = 6
"""More than an initrd comes to when it is unpacked, whatever it is compressed with."""


def _room(request: Request, needed: int, reserved: int) -> Iterator[str]:
    """Yield a warning where there is no room for the unpacked initramfs.

    `needed` is what the capture kernel takes before that, of the bytes that are `reserved`.
    """
    initrd = request.initrd.size if request.initrd else 0
    if needed + initrd * _EXPANSION <= reserved:
        return
    unpacked = None
    if request.initrd is not None:
        from pykexec import initramfs

        unpacked = initramfs.inspect(request.initrd.data).unpacked
    needed += unpacked or initrd
    if needed > reserved:
        yield (
            f"the capture kernel will probably run out of memory: {reserved // MIB} MiB are reserved, kernel"
            f" and initramfs alone take about {needed // MIB} MiB; see pykdump estimate"
        )


def _room_beside_devices(machine: Machine, request: Request, needed: int, reserved: int) -> Iterator[str]:
    """Yield a warning where what is set aside for devices leaves too little for the kernel itself."""
    from pykexec import arch

    found = arch.find(machine.uname_machine)
    usual = 0 if found is None else (found.cma or 0) + (found.swiotlb or 0)
    if not usual or needed + usual <= reserved:
        return
    from pykexec import command_line
    from pykexec.booting import devicememory

    line = command_line.for_request(request, machine.command_line)
    aside = devicememory.set_aside(machine, request.kernel, line)
    if needed + aside > reserved:
        yield (
            f"the capture kernel will probably run out of memory: of {reserved // MIB} MiB that are reserved"
            f" it sets {aside // MIB} MiB aside for devices, and takes"
            f" about {needed // MIB} MiB itself; append cma=0 swiotlb=noforce, or see pykdump estimate"
        )


def _needed_at_least(request: Request, kernel: int, reserved: int, arch: Arch | None) -> int:
    """Return the bytes that a capture kernel takes before its initramfs is unpacked.

    Not a sum of all that is needed (see pykdump estimate), but what there is no doing without. `kernel` is
    what that takes where it runs.
    """
    initrd = request.initrd.size if request.initrd else 0
    # One struct page of 64 bytes for each page (include/linux/mm_types.h).
    return kernel + initrd + reserved // 64 + (0 if arch is None else arch.running)

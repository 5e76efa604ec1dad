"""Shell scripts that several cases run in a guest, and readers of what they bring out."""

import os
import re
import struct
from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from tools.lab import X86_64, Arch, Kernel, Machine, Stage
from tools.lab.arches.ppc64le import ARCH as PPC64LE

FURTHER = pytest.mark.further
_NONE: Mapping[Arch, Iterable[str]] = {}


def further(*values: Any, id: str) -> Any:
    """As pytest.param, for a case that only `tools/test --all` runs."""
    return pytest.param(*values, id=id, marks=FURTHER)


def cases(
    name: str, versions: Mapping[Arch, Iterable[str]], further: Mapping[Arch, Iterable[str]] = _NONE
) -> list[Any]:
    """Parameters (arch, version), each with an id such as "crash-6.1" or "crash-arm64-6.1".

    Those of `further` are for `tools/test --all`.
    """
    return [
        pytest.param(
            arch,
            version,
            id=f"{name}-{version}" if arch is X86_64 else f"{name}-{arch.name}-{version}",
            marks=marks,
        )
        for group, marks in ((versions, ()), (further, FURTHER))
        for arch, each in group.items()
        for version in each
    ]


# With ACPI QEMU announces an ITS whether there is one or not.
WITH_ITS = ("-machine", "its=on")

EFI_LOOK = """
insmod /efivarfs.ko
mount -t efivarfs efivarfs /sys/firmware/efi/efivars
ls /sys/firmware/efi/efivars > "$OUT/variables"
dmesg | sed -n 's/.*\\(Secure boot [a-z ]*\\).*/\\1/p' > "$OUT/secure-boot"
"""
"""Listing the variables takes calls of the firmware's code."""


def efivarfs(kernel: Kernel) -> Mapping[str, bytes]:
    """The module that `EFI_LOOK` takes."""
    (module,) = (path for folder in kernel.folders for path in folder.rglob("efivarfs.ko"))
    return {"/efivarfs.ko": module.read_bytes()}


RESERVATION = """
cp /proc/iomem "$OUT"
chosen=/proc/device-tree/chosen/linux,crashkernel
[ ! -e $chosen-base ] || cat $chosen-base $chosen-size > "$OUT/reservation"
"""
"""Brings out where memory is reserved, for `reserved`: on powerpc /proc/iomem does not tell."""

POWER8_IN_BLOCKS = Machine(PPC64LE, memory="1G,slots=4,maxmem=8G", extra=("-cpu", "power8"))
"""With a hash table instead of page tables, and memory told of by blocks (ibm,dynamic-memory-v2)."""

_LOOK_AROUND = """
set -e
cp /proc/cmdline /proc/iomem "$OUT"
"""
_MAKEDUMPFILE = """
makedumpfile -l -d 31 /proc/vmcore "$OUT/vmcore"
# From the saved dump, not from memory: that is what has to be readable later.
makedumpfile --dump-dmesg "$OUT/vmcore" "$OUT/dmesg.txt"
rm "$OUT/vmcore"
"""
# The C vmcore-dmesg finds the log through the virtual addresses in the headers.
_VMCORE_DMESG = """
vmcore-dmesg /proc/vmcore > "$OUT/dmesg.txt"
"""


def all_are_asked_for() -> bool:
    """Return whether this is `tools/test --all`."""
    return "PYKEXEC_TEST_ALL" in os.environ


def capture(kernel: Kernel, *, saved: bool | None = None) -> str:
    """Brings out the capture kernel's view, and the crashed kernel's log as another tool finds it.

    `saved`: out of a dump by makedumpfile, where that knows the kernel. Such a dump takes as long as a boot:
    cases that are about something else have it with `tools/test --all`.
    """
    wanted = all_are_asked_for() if saved is None else saved
    readable = wanted and kernel.version not in kernel.arch.no_dump
    return _LOOK_AROUND + (_MAKEDUMPFILE if readable else _VMCORE_DMESG)


def crash_load(loader: str, marker: str, kernel: Kernel) -> str:
    """Loads a capture kernel with `marker` in its command line, and writes `marker` to the log."""
    return f"""
set -e
{RESERVATION}
{loader} -p "$KERNEL" --initrd "$SECOND_IMAGE" --append "{capture_command_line(marker, kernel)}"
echo "{marker}" > /dev/kmsg
"""


def capture_command_line(marker: str, kernel: Kernel) -> str:
    line = f"{kernel.arch.line} nr_cpus=1 irqpoll reset_devices marker={marker}"
    return " ".join(filter(None, (line, kernel.arch.capture)))


def own_words(arch: Arch, command_line: str) -> str:
    """A kernel's command line without what the loader tells it there."""
    words = command_line.strip().split(" ")
    return " ".join(each for each in words if each.partition("=")[0] not in arch.told_by_line)


def ranges(iomem: str, name: str) -> list[range]:
    """The physical addresses of all entries of /proc/iomem with that name, adjacent ones joined.

    The kernel sets boot data that its loader passed it (struct setup_data) apart in entries of their own.
    """
    return _ranges(iomem, rf" *([0-9a-f]+)-([0-9a-f]+) : {re.escape(name)}")


def all_memory(iomem: str) -> list[range]:
    """System RAM with what is reserved for a crash, which on some machines stands beside it."""
    return _ranges(iomem, r"([0-9a-f]+)-([0-9a-f]+) : (?:System RAM|Crash kernel)")


def _ranges(iomem: str, line: str) -> list[range]:
    found: list[range] = []
    for start, last in re.findall(f"^{line}$", iomem, re.MULTILINE):
        part = range(int(start, 16), int(last, 16) + 1)
        if found and found[-1].stop == part.start:
            part = range(found.pop().start, part.stop)
        found.append(part)
    return found


def reserved(stage: Stage) -> list[range]:
    """The physical addresses that `RESERVATION` has brought out."""
    told = stage.folder / "reservation"
    if not told.exists():
        return ranges(stage.read("iomem"), "Crash kernel")
    start, size = struct.unpack(">QQ", told.read_bytes())
    return [range(start, start + size)]


def memory_with_reservation(stage: Stage) -> int:
    """MemTotal of a kernel without a crash reservation, from the meminfo of one that has brought it out."""
    return memory_total(stage.read("meminfo")) + sum(map(len, reserved(stage)))


def memory_total(meminfo: str) -> int:
    """MemTotal in bytes."""
    match = re.search(r"^MemTotal: +(\d+) kB$", meminfo, re.MULTILINE)
    assert match is not None
    return int(match.group(1)) << 10

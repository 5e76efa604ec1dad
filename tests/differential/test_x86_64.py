"""pykexec's loads mean what the C kexec's mean, but for the differences listed here."""

import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pykexec.files import FileData
from pykexec.loader import plan_load
from pykexec.machine import Machine
from pykexec.plan import Purpose, Request
from tests.differential.ckexec import CKexec, Loaded
from tests.differential.meaning import Facts, facts
from tests.support.machines import FOLDER, X86_64_SNAPSHOTS, write
from tools.lab import X86_64, Kernel
from tools.lab.images import kexec_tools

INITRD = bytes(range(256)) * 4000

_HANDED_ON = "the running kernel's boot_params has it, and nobody can ask the firmware again"
_EDD = "from the running boot_params; the C tool has it only while the edd module is loaded"
INTENDED: Mapping[str, str] = {
    "boot_params.alt_mem_k": "the C tool takes the inclusive end for the exclusive one: 1 KiB less",
    "boot_params.aux_device_info": "today the high byte of boot_flag, which the C tool clears",
    "boot_params.cl_magic and cl_offset": "boot protocol before 2.02, which has no 64-bit entry",
    "boot_params.root_dev": "the C tool names /dev/hda (0x300), which no machine has any more",
    "boot_params.ist_info": _HANDED_ON,
    "boot_params.edid_info": _HANDED_ON,
    "boot_params.secure_boot": _HANDED_ON,
    "boot_params.eddbuf_entries": _EDD,
    "boot_params.edd_mbr_sig_buf_entries": _EDD,
    "boot_params.edd_mbr_sig_buffer": _EDD,
    "boot_params.eddbuf": _EDD,
    "core: notes": "CPUs behind a gap in the numbers have their notes in the dump, too",
    "e820 below 1 MiB": "the firmware's own; the C tool cuts off the first KiB, to place nothing there",
}


@dataclass(frozen=True)
class Case:
    """A machine and what is loaded on it."""

    name: str
    snapshot: str
    purpose: Purpose
    changes: Mapping[str, str | bytes] = field(default_factory=dict)
    append: str = "console=ttyS0 quiet"
    reuse: bool = False


def firmware_entries(ranges: list[tuple[int, int, str]], start: int) -> dict[str, str | bytes]:
    files: dict[str, str | bytes] = {}
    for number, (first, last, kind) in enumerate(ranges, start):
        folder = f"sys/firmware/memmap/{number}"
        files |= {
            f"{folder}/start": f"{first:#x}\n",
            f"{folder}/end": f"{last:#x}\n",
            f"{folder}/type": f"{kind}\n",
        }
    return files


def efi_files() -> dict[str, str | bytes]:
    folder = "sys/firmware/efi"
    files: dict[str, str | bytes] = {
        f"{folder}/systab": "ACPI20=0x3fb7e014\nACPI=0x3fb7e000\nSMBIOS=0x3f9cc000\n",
        f"{folder}/fw_vendor": "0x3fea7d98\n",
        f"{folder}/runtime": "0x3fbedb18\n",
        f"{folder}/config_table": "0x3f9eba98\n",
    }
    for number, (kind, physical, pages) in enumerate(
        [(5, 0x3F8EC000, 16), (6, 0x3F9CC000, 8), (11, 0xFFC00000, 1024)]
    ):
        entry = f"{folder}/runtime-map/{number}"
        files |= {
            f"{entry}/type": f"{kind:#x}\n",
            f"{entry}/phys_addr": f"{physical:#x}\n",
            f"{entry}/virt_addr": f"{0xFFFFFFFEF0000000 + physical:#x}\n",
            f"{entry}/num_pages": f"{pages:#x}\n",
            f"{entry}/attribute": "0x800000000000000f\n",
        }
    return files


def efi_boot_params() -> bytes:
    """boot_params of an EFI machine: efi_info and a framebuffer."""
    with tarfile.open(FOLDER / "qemu-6.1-1g.tar") as tar:
        file = tar.extractfile("sys/kernel/boot_params/data")
        assert file is not None
        page = bytearray(file.read())
    page[0x1C0:0x1E0] = b"EL64" + b"".join(
        n.to_bytes(4, "little") for n in (0x3FBEC018, 48, 1, 0x3E99C018, 0x1830, 0, 0)
    )
    page[0x0F] = 0x70  # VIDEO_TYPE_EFI
    page[0x12:0x1C] = (1024).to_bytes(2, "little") + (768).to_bytes(2, "little") + b"\x20\0" + b"\0\0\0\x80"
    page[0x1EC] = 2  # Secure Boot off
    page[0x70:0x78] = (0x3FB7E014).to_bytes(8, "little")
    return bytes(page)


EDD = bytearray(efi_boot_params())
EDD[0x1E9:0x1EB] = b"\1\1"
EDD[0x290:0x294] = b"\xde\xad\xbe\xef"
EDD[0xD00 : 0xD00 + 82] = bytes(range(82))
IST = bytearray(efi_boot_params())
IST[0x60:0x70] = bytes(range(16))
IST[0x140:0x1C0] = bytes(range(128))

CPU = "sys/devices/system/cpu/cpu"
MANY = [(0x40000000 + (i << 21), 0x400FFFFF + (i << 21), "System RAM") for i in range(200)]
MORE_KINDS = [
    (0x7F000000, 0x7F00FFFF, "ACPI Tables"),
    (0x7F010000, 0x7F01FFFF, "ACPI Non-volatile Storage"),
    (0x100000000, 0x17FFFFFFF, "Persistent Memory"),
    (0x180000000, 0x1FFFFFFFF, "Persistent Memory (legacy)"),
]
PLAIN = "qemu-6.1-1g"


def iomem_of(name: str, extra: str) -> str:
    with tarfile.open(FOLDER / f"{name}.tar") as tar:
        file = tar.extractfile("proc/iomem")
        assert file is not None
        return file.read().decode() + extra


def cases() -> Iterator[Case]:
    for purpose in Purpose:
        for name in X86_64_SNAPSHOTS:
            yield Case(f"{name}-{purpose.value}", name, purpose)
        variations: dict[str, Mapping[str, str | bytes]] = {
            "efi": {**efi_files(), "sys/kernel/boot_params/data": efi_boot_params()},
            "edd": {"sys/kernel/boot_params/data": bytes(EDD)},
            "ist": {"sys/kernel/boot_params/data": bytes(IST)},
            "many-e820": firmware_entries(MANY, 100),
            "kinds": {
                **firmware_entries(MORE_KINDS, 100),
                "proc/iomem": iomem_of(
                    PLAIN, "".join(f"{a:08x}-{b:08x} : {kind}\n" for a, b, kind in MORE_KINDS)
                ),
            },
            "kmem": {"proc/iomem": iomem_of(PLAIN, "100000000-13fffffff : System RAM (kmem)\n")},
            "sparse-cpus": {f"{CPU}9/crash_notes": "3f000000\n", f"{CPU}9/crash_notes_size": "400\n"},
        }
        for name, changes in variations.items():
            yield Case(f"{name}-{purpose.value}", PLAIN, purpose, changes)
        cmdline = "BOOT_IMAGE=/vmlinuz root=/dev/vda crashkernel=512M,high quiet\n"
        yield Case(f"reuse-{purpose.value}", PLAIN, purpose, {"proc/cmdline": cmdline}, "a=1", reuse=True)


@pytest.fixture(scope="session")
def kernel() -> Path:
    return Kernel.get("6.1", X86_64).image


@pytest.fixture(scope="session")
def c_kexec(tmp_path_factory: pytest.TempPathFactory) -> CKexec:
    shim = tmp_path_factory.mktemp("shim") / "shim.so"
    source = Path(__file__).with_name("shim.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-Wall", "-Werror", "-o", shim, source, "-ldl"], check=True)
    program, libraries = kexec_tools(X86_64)
    return CKexec(program, libraries, shim)


def both(case: Case, c_kexec: CKexec, kernel: Path, folder: Path) -> tuple[Facts, Facts]:
    """What the two loads mean."""
    root = folder / case.name
    with tarfile.open(FOLDER / f"{case.snapshot}.tar") as tar:
        tar.extractall(root, filter="data")
    for path, content in case.changes.items():
        write(root, path, content)
    initrd = folder / "initrd"
    initrd.write_bytes(INITRD)
    image = kernel.read_bytes()
    proper = image[(image[0x1F1] + 1) * 512 :]
    request = Request(
        FileData.open(kernel, "kernel"),
        purpose=case.purpose,
        initrd=FileData.open(initrd, "initrd"),
        append=case.append,
        reuse_command_line=case.reuse,
        seed=bytes(64),
    )
    ours = Loaded.of(plan_load(Machine.from_snapshot(root), request))
    option = "-p" if case.purpose is Purpose.CRASH else "-l"
    reuse = ["--reuse-cmdline"] if case.reuse else []
    theirs = c_kexec.load(
        root, [option, str(kernel), f"--initrd={initrd}", *reuse, f"--append={case.append}"]
    )
    return facts(theirs, proper, INITRD), facts(ours, proper, INITRD)


def differences(theirs: Facts, ours: Facts) -> dict[str, tuple[object, object]]:
    names = theirs.keys() | ours.keys()
    return {
        name: (theirs.get(name), ours.get(name))
        for name in sorted(names)
        if theirs.get(name) != ours.get(name)
    }


@pytest.fixture(scope="session")
def found(
    c_kexec: CKexec, kernel: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, tuple[object, object]]]:
    """The differences of every case."""
    folder = tmp_path_factory.mktemp("machines")
    return {case.name: differences(*both(case, c_kexec, kernel, folder)) for case in cases()}


@pytest.mark.xdist_group("differential")
@pytest.mark.parametrize("name", [case.name for case in cases()])
def test_only_intended_differences(name: str, found: dict[str, dict[str, tuple[object, object]]]) -> None:
    unlisted = {what: values for what, values in found[name].items() if what not in INTENDED}
    assert unlisted == {}


@pytest.mark.xdist_group("differential")
def test_every_listed_difference_occurs(found: dict[str, dict[str, tuple[object, object]]]) -> None:
    occurring = set().union(*found.values())
    assert set(INTENDED) == occurring

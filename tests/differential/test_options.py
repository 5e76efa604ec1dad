"""Each option of kexec-tools does to a load with kexec_load what it does in the C tool, old and new, but for
what is listed. Which system call is made, and with what: test_system_calls.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest

from pykexec import cli, loader, optionparser, options
from pykexec.machine import Machine
from pykexec.plan import Purpose
from tests.differential.cases import _BZIMAGE, _EFI, Case
from tests.differential.ckexec import CKexec, Loaded
from tests.differential.comparison import INITRD, Loads, differences, unintended
from tests.differential.meaning import joined

IN_PURGATORY = "where purgatory prints is in its own block, not in what the next kernel is told"
WHICH_CALL = "test_system_calls"

WITHOUT_ARGUMENT = [
    "-d",
    "-x",
    "-y",
    "-i",
    "--noefi",
    "--reuse-video-type",
    "--elf32-core-headers",
    "--elf64-core-headers",
    "--args-linux",
    "--args-elf",
    "--args-none",
    "--console-serial",
    "--reset-vga",
]
"""Given before --append: after it, the C tool forgets the command line for three of them."""
WITH_ARGUMENT = {
    "--serial": "0x2f8",
    "--serial-baud": "9600",
    "--mem-min": "0x10000000",
    "--mem-max": "0x3effffff",
    "--type": "bzImage64",
}
OTHERS = {
    "--load": "the action itself: all cases",
    "--load-panic": "the action itself: all cases",
    "--initrd": "in all cases",
    "--append": "in all cases",
    "--reuse-cmdline": "in the cases of test_x86_64",
    "--kexec-syscall": "how all of these are loaded",
    "--kexec-syscall-auto": WHICH_CALL,
    "--kexec-file-syscall": WHICH_CALL,
    "--exec": "loads nothing",
    "--force": "what follows a load",
    "--unload": "loads nothing",
    "--status": "loads nothing",
    "--help": "loads nothing",
    "--version": "loads nothing",
    "--print-ckr-size": WHICH_CALL,
    "--hotplug": "below",
    "--no-cma": WHICH_CALL,
    "--force-dtb": WHICH_CALL,
    "--reuseinitrd": "an error in the C tool on this architecture",
    "--load-preserve-context": "below",
    "--load-jump-back-helper": "below",
    "--load-live-update": "for Xen",
    "--exec-live-update": "for Xen",
    "--dtb": "not for a bzImage's 64-bit entry; the C tool ignores it there, we refuse",
    "--module": "for Multiboot kernels",
    "--real-mode": "another entry: below, and tests/vm/test_formats",
    "--entry-32bit": "another entry: tests/vm/test_formats",
    "--entry": "below",
    "--pass-memmap-cmdline": "its words name segments, and those lie elsewhere: tests/unit/test_x86_64_plan",
    "--console-vga": IN_PURGATORY,
    "--dt-no-old-root": "for other architectures",
    "--atags": "for other architectures",
    "--reuse-node": "for other architectures",
    "--image-size": "for other architectures",
    "--page-offset": "for other architectures",
}


def test_no_option_is_forgotten() -> None:
    tried = {*WITHOUT_ARGUMENT, *WITH_ARGUMENT, *OTHERS}
    for option in options.OPTIONS:
        assert option.ours or tried & set(option.names), option.names


@pytest.mark.parametrize("purpose", Purpose)
@pytest.mark.parametrize(
    "option", [[name] for name in WITHOUT_ARGUMENT] + [[*each] for each in WITH_ARGUMENT.items()]
)
@pytest.mark.parametrize("tool", ["c_kexec", "newest_c_kexec"])
def test_option(
    option: Sequence[str], purpose: Purpose, tool: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    case = Case("-".join(option), purpose, files=_EFI)
    loads = both(case, option, request.getfixturevalue(tool), tmp_path)
    assert unintended(differences(case, loads)) == {}
    assert loads.ours.flags == loads.theirs.flags & ~_KEXEC_DEBUG
    if option[0] == "--mem-min":
        assert all(address >= 0x10000000 for address, _, _ in loads.ours.segments)
    if option[0] == "--mem-max":
        assert all(address + size <= 0x3F000000 for address, size, _ in loads.ours.segments)


def test_entry(c_kexec: CKexec, tmp_path: Path) -> None:
    loads = both(Case("entry", Purpose.BOOT), ["--entry=0x3f000000"], c_kexec, tmp_path)
    assert loads.ours.entry == loads.theirs.entry == 0x3F000000


def test_preserve_context(c_kexec: CKexec, tmp_path: Path) -> None:
    """Both lend the new kernel the same memory; where in that things are, each decides for itself."""
    case = Case("jump", Purpose.BOOT)
    loads = both(case, ["--load-preserve-context", "--mem-max=0xfffffff"], c_kexec, tmp_path)
    assert loads.ours.flags == loads.theirs.flags
    assert memory(loads.ours) == memory(loads.theirs)


def test_jump_back(c_kexec: CKexec, tmp_path: Path) -> None:
    """The C tool names the address alone, which the running kernel's page tables may not map, and no
    architecture."""
    case = Case("back", Purpose.BOOT)
    case.write(tmp_path / "root")
    arguments = ["--load-jump-back-helper", "--entry=0x3f000000", "-x"]
    theirs = c_kexec.load(tmp_path / "root", arguments)
    assert ours(tmp_path / "root", arguments).flags == theirs.flags | 62 << 16
    assert theirs.entry == 0x3F000000
    assert memory(theirs) == []


def test_real_mode(c_kexec: CKexec, tmp_path: Path) -> None:
    """Both give the setup code the same header, but for addresses, the heap, and who the loader is."""
    loads = both(Case("real-mode", Purpose.BOOT), ["--real-mode"], c_kexec, tmp_path)
    theirs, ours = (setup_header(loaded) for loaded in (loads.theirs, loads.ours))
    assert {name for name in theirs if theirs[name] != ours[name]} <= {
        *("code32_start", "ramdisk_image", "cmd_line_ptr", "heap_end_ptr", "loadflags", "type_of_loader"),
    }
    assert theirs["ramdisk_size"] == ours["ramdisk_size"] == len(INITRD)


def memory(loaded: Loaded) -> list[tuple[int, int]]:
    """What is in segments, whatever they hold."""
    return joined((address, address + size) for address, size, _ in loaded.segments if size)


def setup_header(loaded: Loaded) -> dict[str, int | bytes]:
    """Fields of the segment that has the setup code (boot.rst)."""
    (segment,) = (data for _, _, data in loaded.segments if data[0x202:0x206] == b"HdrS")
    fields = {"code32_start": 0x214, "ramdisk_image": 0x218, "ramdisk_size": 0x21C, "cmd_line_ptr": 0x228}
    numbers = {name: int.from_bytes(segment[at : at + 4], "little") for name, at in fields.items()}
    others = {"type_of_loader": (0x210, 1), "loadflags": (0x211, 1), "heap_end_ptr": (0x224, 2)}
    rest = bytearray(segment[0x1F1:0x268])
    for at, size in [*((at, 4) for at in fields.values()), *others.values()]:
        rest[at - 0x1F1 : at - 0x1F1 + size] = bytes(size)
    return {**numbers, **{name: segment[at] for name, (at, _) in others.items()}, "rest": bytes(rest)}


def test_hotplug(newest_c_kexec: CKexec, tmp_path: Path) -> None:
    """KEXEC_UPDATE_ELFCOREHDR, room to grow, and a digest less."""
    files = {**_EFI, "sys/kernel/crash_elfcorehdr_size": "8192\n"}
    case = Case("hotplug", Purpose.CRASH, files=files)
    loads = both(case, ["--hotplug"], newest_c_kexec, tmp_path)
    assert unintended(differences(case, loads)) == {}
    assert loads.ours.flags == loads.theirs.flags == 0x3E0005
    rooms = [
        next(memsz for _, memsz, data in each.segments if data[:4] == b"\x7fELF" and data[16] == 4)
        for each in (loads.theirs, loads.ours)
    ]
    assert rooms[0] == rooms[1] == 8192


_KEXEC_DEBUG = 0x10  # never passed on: kernels that do not know it refuse the load


def both(case: Case, option: Sequence[str], c_kexec: CKexec, folder: Path) -> Loads:
    root, kernel, initrd = folder / "root", folder / "vmlinuz", folder / "initrd"
    case.write(root)
    kernel.write_bytes(_BZIMAGE)
    initrd.write_bytes(INITRD)
    actions = {Purpose.CRASH: ["-p"], Purpose.BOOT: [] if "--load-preserve-context" in option else ["-l"]}
    arguments = [
        *option,
        *actions[case.purpose],
        str(kernel),
        f"--initrd={initrd}",
        f"--append={case.append}",
    ]
    return Loads(root, _BZIMAGE, c_kexec.load(root, arguments), ours(root, arguments))


def ours(root: Path, arguments: Sequence[str]) -> Loaded:
    machine = Machine.from_snapshot(root)
    given = optionparser.parse(["-c", *arguments])
    request = cli.request_of(given, cli.resolve(given).purpose, machine)
    return Loaded.of(loader.plan_load(machine, dataclasses.replace(request, seed=bytes(64))))

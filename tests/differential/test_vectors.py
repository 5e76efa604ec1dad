"""The C kexec behind the shim does what it was seen to do on such a machine: what the comparison stands on.

The numbers were measured apart from this suite, on a stock build of a later version, with Debian's 6.1
kernel, whose sizes the made one has. Where purgatory's entry lies depends on the build, and is not compared.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from pykexec.plan import Purpose
from tests.differential.cases import TWO_RESERVATIONS, VECTOR_KERNEL, Case
from tests.differential.ckexec import CKexec, Loaded
from tests.differential.meaning import facts

Load = Callable[..., Loaded]
INITRD = bytes(range(250)) * 1200


@pytest.fixture
def load(c_kexec: CKexec, tmp_path: Path) -> Load:
    """Load the kernel with these options on the machine with two reservations."""
    root, kernel, initrd = tmp_path / "root", tmp_path / "vmlinuz", tmp_path / "initrd"
    Case("", Purpose.CRASH, None, TWO_RESERVATIONS).write(root)
    kernel.write_bytes(VECTOR_KERNEL)
    initrd.write_bytes(INITRD)

    def run(*options: str, with_initrd: bool) -> Loaded:
        return c_kexec.load(root, [*options, *([f"--initrd={initrd}"] if with_initrd else []), str(kernel)])

    return run


def test_crash(load: Load) -> None:
    loaded = load("-p", "--reuse-cmdline", "--append=nr_cpus=1", with_initrd=True)
    assert loaded.flags == 0x3E0001
    assert [(address, memsz, len(data)) for address, memsz, data in loaded.segments] == [
        (0x420000000, 0x1000, 0x30),  # setup_data: a seed
        (0x43BA00000, 0x3378000, 0xD827C0),  # kernel
        (0x43EF04000, 0x4A000, 0x493E0),  # initrd
        (0x43EF4E000, 0x6000, 0x5082),  # boot_params
        (0x43EF54000, 0x9000, 0x70E0),  # purgatory
        (0x43EF5D000, 0x4000, 0x400),  # core headers
        (0x43EF61000, 0x9F000, 0x9EC00),  # backup
    ]
    line = loaded.segments[3][2][0x5000:].partition(b"\0")[0]
    assert line == b"root=/dev/vda xcrashkernel=1 quiet nr_cpus=1 elfcorehdr=17808756K"


def test_what_a_crash_load_means(load: Load) -> None:
    loaded = load("-p", "--reuse-cmdline", "--append=nr_cpus=1", with_initrd=True)
    meaning = facts(loaded, VECTOR_KERNEL, INITRD)
    linear = 0xFFFF9C8000000000
    assert meaning["core: kernel text"] == (0x1000000, 0xFFFFFFFF81000000, 0x2000000, 0x1000000)
    assert meaning["core: memory"] == [
        (start, linear + start, size, offset)
        for start, size, offset in [
            (0x1000, 0x9EC00, "backup"),
            (0x100000, 0xA4F00000, 0x100000),
            (0xB5000000, 0xAFE0000, 0xB5000000),
            (0x100000000, 0x320000000, 0x100000000),
            (0x43F000000, 0x1000000, 0x43F000000),
        ]
    ]
    below = {1: [(0x1000, 0x9FC00)], 2: [(0, 0x1000), (0x9FC00, 0x100000)]}
    assert meaning["e820 below 1 MiB"] == below
    above = {1: [(0xA5000000, 0xB5000000), (0x420000000, 0x43F000000)], 3: [(0xBFFE0000, 0xC0000000)]}
    assert meaning["e820 from 1 MiB"] == above


def test_bounds(load: Load) -> None:
    loaded = load("-l", "--mem-min=0x100000000", "--mem-max=0x13fffffff", with_initrd=False)
    addresses = [address for address, _, _ in loaded.segments]
    assert addresses == [0x100000000, 0x13CC00000, 0x13FFF1000, 0x13FFF7000]

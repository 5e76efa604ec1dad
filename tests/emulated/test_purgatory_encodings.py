"""Purgatory's common code on CPUs of another word size and byte order than those it is shipped for.

It is built with a few lines in the place of an architecture's code, by the compilers that the shipped ones
are built with: arm64's makes big-endian code too, and x86_64's code of 32 bits.
"""

import hashlib
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pytest
from unicorn.arm64_const import UC_ARM64_REG_SP, UC_ARM64_REG_X0
from unicorn.unicorn import Uc, UcError
from unicorn.unicorn_const import (
    UC_ARCH_ARM64,
    UC_ARCH_X86,
    UC_MODE_32,
    UC_MODE_ARM,
    UC_MODE_BIG_ENDIAN,
)
from unicorn.x86_const import UC_X86_REG_ECX, UC_X86_REG_ESP

from pykexec import purgatory
from pykexec.purgatory import Backup, Blob, Console, ConsoleKind, Digest
from tools.crossbuild import FLAGS, PURGATORY, PURGATORY_FLAGS

pytestmark = pytest.mark.programs

_ARCH = """
#include "purgatory.h"

/* The "firmware" writes to memory, and its reset leaves a number there. */
static char *text;

struct compression arch_begin(const struct params *params)
{
	(void)params;
	return (struct compression){ sha256_portable, 0 };
}

void arch_end(const struct params *params)
{
	(void)params;
}

void arch_put_byte(u8 byte)
{
	if (!text)
		text = (char *)(unsigned long)purgatory_params.console_base;
	if (purgatory_params.console == CONSOLE_FIRMWARE)
		*text++ = (char)byte;
}

void arch_copy(u64 destination, u64 source, u64 size)
{
	for (u64 i = 0; i < size; i++)
		((u8 *)(unsigned long)destination)[i] = ((u8 *)(unsigned long)source)[i];
}

void arch_reset(void)
{
	*text = (char)purgatory_params.reset;
	__builtin_trap();
}

#ifdef __i386__
__attribute__((fastcall))
#endif
typedef void kernel(unsigned long argument);

__attribute__((section(".head.text"))) void purgatory_entry(void)
{
	purgatory();
	((kernel *)(unsigned long)purgatory_params.jump_to)((unsigned long)purgatory_params.arguments[0]);
}
"""
AT, STACK, OUTPUT, KERNEL, DATA = 0x10000, 0x80000, 0x90000, 0xA0000, 0x100000
ARGUMENT, RESET = 0x1234_5678, 7


@dataclass(frozen=True)
class Cpu:
    """A compiler and an emulator."""

    compiler: str
    flags: Sequence[str]
    emulator: tuple[int, int]
    stack_pointer: int
    first_argument: int


CPUS = {
    "arm64be": Cpu(
        "aarch64-linux-gnu-gcc",
        ("-mbig-endian", "-mstrict-align"),
        (UC_ARCH_ARM64, UC_MODE_ARM | UC_MODE_BIG_ENDIAN),
        UC_ARM64_REG_SP,
        UC_ARM64_REG_X0,
    ),
    "i386": Cpu(
        "x86_64-linux-gnu-gcc", ("-m32",), (UC_ARCH_X86, UC_MODE_32), UC_X86_REG_ESP, UC_X86_REG_ECX
    ),
}
"""By our names for their architectures."""


@pytest.fixture(scope="module", params=CPUS)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Cpu, Blob]:
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "arch.c").write_text(_ARCH)
    cpu = CPUS[request.param]
    output = str(folder / f"{request.param}.elf")
    sources = [*sorted(map(str, (PURGATORY / "common").glob("*.c"))), str(folder / "arch.c")]
    flags = [*FLAGS, *PURGATORY_FLAGS, "-mgeneral-regs-only", *cpu.flags]
    subprocess.run([cpu.compiler, *flags, "-o", output, *sources], cwd=PURGATORY, check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(purgatory, "_PREBUILT", str(folder))
        return cpu, purgatory.load_blob(request.param)


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    text: str
    argument: int | None
    """What the kernel was started with; None: the machine was reset."""
    reset: int
    memory: bytes
    """From `DATA` on."""


def run(
    built: tuple[Cpu, Blob],
    contents: Mapping[int, bytes],
    digests: Sequence[Digest],
    backup: Backup | None = None,
) -> Outcome:
    cpu, blob = built
    image = purgatory.build(
        blob,
        jump_to=KERNEL,
        arguments=(ARGUMENT,),
        digests=digests,
        console=Console(ConsoleKind.FIRMWARE, OUTPUT),
        backup=backup,
        reset=RESET,
    )
    uc = Uc(*cpu.emulator)
    uc.mem_map(0, 0x200000)
    uc.mem_write(AT, image)
    for address, content in contents.items():
        uc.mem_write(address, content)
    uc.reg_write(cpu.stack_pointer, STACK)
    argument: int | None = None
    try:
        uc.emu_start(AT + blob.entry_offset, KERNEL)
        argument = uc.reg_read(cpu.first_argument)
    except UcError:  # the trap
        pass
    text, _, rest = bytes(uc.mem_read(OUTPUT, 0x8000)).partition(b"\0")
    if argument is None:
        text, rest = text[:-1], text[-1:]
    return Outcome(
        text.decode("ascii").replace("\r", ""), argument, rest[0], bytes(uc.mem_read(DATA, 0x80000))
    )


SIZES = [*range(0, 130, 7), 55, 56, 63, 64, 65, 119, 120, 127, 128, 5000]
CONTENTS = {
    DATA + 0x2000 * number + number % 4: hashlib.shake_128(bytes([number])).digest(size)
    for number, size in enumerate(SIZES)
}
DIGESTS = [
    Digest(f"region {number}", address, len(content), hashlib.sha256(content).digest())
    for number, (address, content) in enumerate(CONTENTS.items())
]


def test_what_is_intact_is_started(built: tuple[Cpu, Blob]) -> None:
    outcome = run(built, CONTENTS, DIGESTS)
    assert outcome.text == (f"purgatory: verifying {len(SIZES)} regions\npurgatory: starting the kernel\n")
    assert outcome.argument == ARGUMENT


@pytest.mark.parametrize("number", [3, 17, len(SIZES) - 1])
def test_what_is_damaged_is_named(number: int, built: tuple[Cpu, Blob]) -> None:
    digest = DIGESTS[number]
    damaged = b"x" + CONTENTS[digest.address][1:]
    outcome = run(built, {**CONTENTS, digest.address: damaged}, DIGESTS)
    assert (outcome.argument, outcome.reset) == (None, RESET)
    assert outcome.text.splitlines()[1:] == [
        f"purgatory: region {digest.name} is damaged: {digest.size} bytes at 0x{digest.address:016x}",
        f"purgatory:   loaded {digest.sha256.hex()}",
        f"purgatory:   found  {hashlib.sha256(damaged).hexdigest()}",
        "purgatory: resetting the machine",
    ]


def test_memory_is_saved(built: tuple[Cpu, Blob]) -> None:
    outcome = run(built, {DATA: b"low memory"}, [], Backup(DATA, DATA + 0x1000, 10))
    assert outcome.argument == ARGUMENT
    assert outcome.memory[0x1000:0x1010] == b"low memory".ljust(16, b"\0")

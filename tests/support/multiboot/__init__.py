"""Multiboot kernels made with gcc, and their messages when they run."""

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_SOURCE = Path(__file__).with_name("kernel.c")
_FLAGS = (
    "-m32", "-Os", "-ffreestanding", "-nostdlib", "-fpie", "-fvisibility=hidden", "-fno-stack-protector",
    "-fcf-protection=none", "-fno-asynchronous-unwind-tables", "-mno-sse", "-Wall", "-Werror",
    "-Wl,--build-id=none", "-Wl,-z,noexecstack", "-Wl,--no-warn-rwx-segments", "-no-pie", "-static",
)  # fmt: skip
_LAYOUT = """
ENTRY(start)
PHDRS { image PT_LOAD FLAGS(7); }
SECTIONS
{
	. = %s;
	.text : { *(.header) *(.text .text.*) } :image
	.rodata : { *(.rodata .rodata.*) } :image
	.data : { *(.data .data.*) *(.got .got.*) } :image
	image_end = .;
	.bss : { *(.bss .bss.*) *(COMMON) } :image
	bss_end = .;
	/DISCARD/ : { *(.comment) *(.note .note.*) *(.eh_frame) }
}
"""


def build(
    folder: Path, version: int, *, at: int = 0x100000, output: str = "elf32-i386", **defined: str
) -> Path:
    """Return a kernel linked to an address.

    `output` is objcopy's format, `defined` are macros of kernel.c.
    """
    name = "-".join([f"multiboot{version}", output, *defined])
    layout, program = folder / f"{name}.lds", folder / name
    layout.write_text(_LAYOUT % hex(at))
    macros = [f"-D{key}={value}" for key, value in {"VERSION": str(version), **defined}.items()]
    linked = folder / f"{name}.linked"
    _run("gcc", *_FLAGS, *macros, f"-Wl,-T,{layout}", "-o", linked, _SOURCE)
    _run("objcopy", "-O", output, linked, program)
    return program


def _run(*command: str | Path) -> None:
    subprocess.run(list(map(str, command)), check=True)


@dataclass(frozen=True)
class Told:
    """The messages of such a kernel."""

    lines: Mapping[str, Sequence[str]]
    """The facts by name, in their order."""

    def one(self, name: str) -> str:
        (value,) = self.lines[name]
        return value

    def numbers(self, name: str) -> list[list[int]]:
        return [[int(number, 16) for number in line.split()] for line in self.lines.get(name, ())]


def told(console: str) -> Told:
    """Read the console's text; the kernel must have reached its end."""
    found: dict[str, list[str]] = {}
    for line in console.replace("\r", "").splitlines():
        if line.startswith("MB "):
            name, _, value = line.removeprefix("MB ").partition(" ")
            found.setdefault(name, []).append(value)
    assert "end" in found, f"the kernel did not come to its end:\n{console[-3000:]}"
    return Told(found)

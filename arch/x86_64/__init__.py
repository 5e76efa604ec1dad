"""x86_64: bzImage through the 64-bit entry of the Linux boot protocol (Documentation/arch/x86/boot.rst)."""

from dataclasses import dataclass

from pykexec.machine import Machine
from pykexec.plan import LoadPlan, Request


@dataclass(frozen=True, slots=True)
class X86_64:  # noqa: N801 (the architecture's name)
    name: str = "x86_64"
    machines: tuple[str, ...] = ("x86_64",)
    formats: tuple[str, ...] = ("bzImage64",)
    facts: tuple[str, ...] = ("sys/kernel/boot_params/data",)

    def plan(self, machine: Machine, request: Request) -> LoadPlan:
        from pykexec.arch.x86_64 import loader

        return loader.plan(machine, request)


ARCH = X86_64()

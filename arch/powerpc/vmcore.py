"""Dumps of powerpc: registers, and the linear map, in which the kernel itself is."""

from pykexec.vmcore.paging import to_page_end
from pykexec.vmcore.part import Place, Registers, VmcorePart
from pykexec.vmcore.vmcoreinfo import VmcoreInfo


def part(start: int, end: int, register: str) -> VmcorePart:
    """Return what is known of dumps whose kernels map memory from physical address 0 on at `start` to `end`.

    `register` is the one that the other word size has not.
    """

    def linear(info: VmcoreInfo, virtual: int) -> Place | None:
        if not start <= virtual < end:
            return None
        return Place(virtual - start, to_page_end(info, virtual))

    return VmcorePart(
        # arch/powerpc/include/uapi/asm/ptrace.h, struct pt_regs
        registers=Registers(
            " ".join(f"r{number}" for number in range(32))
            + f" nip msr orig_r3 ctr lr xer ccr {register} trap dar dsisr result",
            pc="nip",
            sp="r1",
        ),
        image=linear,
        char_is_signed=False,
    )


POWERPC64 = part(0xC000000000000000, 0xC008000000000000, "softe")
"""All physical memory is there (asm/book3s/64/radix.h and hash.h: with pages of 4 KiB the hash MMU has less
of it, and nothing else there)."""

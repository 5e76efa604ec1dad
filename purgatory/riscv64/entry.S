/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Entered from riscv_kexec_relocate, or in a crash from riscv_kexec_norelocate, in S-mode with the MMU off and
 * interrupts masked: a0 is the hart's number. Left as the boot protocol wants it (Documentation/arch/riscv/boot.rst):
 * a0 as it came, a1 the device tree, satp zero.
 */
#include "offsets.h"

	.hidden	arch_reset
	.hidden	purgatory
	.hidden	purgatory_params

	.section .head.text, "ax"
	.globl	purgatory_entry
	.type	purgatory_entry, @function
	.balign	4
purgatory_entry:
	/* In a crash this is where stvec points: what faults from now on shall not come here again. */
	lla	t0, trap
	csrw	stvec, t0
	mv	s0, a0
	lla	sp, stack_end
	call	purgatory

	lla	t0, purgatory_params
	ld	t1, PARAMS_JUMP_TO(t0)
	ld	a1, PARAMS_ARGUMENTS(t0)
	mv	a0, s0
	jr	t1
	.size	purgatory_entry, . - purgatory_entry

	.balign	4
	.type	trap, @function
trap:
	lla	sp, stack_end
	j	arch_reset
	.size	trap, . - trap

	.section .bss, "aw", @nobits
	.balign	16
	.skip	4096
stack_end:

	.section .note.GNU-stack, "", @progbits

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Entered from relocate_new_kernel in ARM state, in SVC or HYP mode, MMU and data cache off, interrupts masked: r1 is
 * the machine's number. Left as the boot protocol wants it (Documentation/arch/arm/booting.rst): r0 zero, r1 as it
 * came, r2 the device tree.
 */
#include "offsets.h"

	.hidden	purgatory
	.hidden	purgatory_params

	.section .head.text, "ax"
	.globl	purgatory_entry
	.type	purgatory_entry, %function
	.balign	4
purgatory_entry:
	mov	r4, r1
	ldr	sp, stack
here:	add	sp, pc, sp
	bl	purgatory

	ldr	r5, params
there:	add	r5, pc, r5
	ldr	r2, [r5, #PARAMS_ARGUMENTS]
	mov	r1, r4
	mov	r0, #0
	ldr	pc, [r5, #PARAMS_JUMP_TO]	/* an even address: ARM state */
	.size	purgatory_entry, . - purgatory_entry

/* pc is 8 bytes ahead */
stack:	.word	stack_end - (here + 8)
params:	.word	purgatory_params - (there + 8)

	.section .bss, "aw", %nobits
	.balign	16
	.skip	4096
stack_end:

	.section .note.GNU-stack, "", %progbits

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Entered from arm64_relocate_new_kernel at EL1 or EL2, MMU and data cache off, interrupts masked. Left as the
 * boot protocol wants it (Documentation/arch/arm64/booting.rst): x0 the device tree, x1 to x3 zero.
 */
#include "offsets.h"

	.hidden	clean_invalidate_image
	.hidden	purgatory
	.hidden	purgatory_params

	.section .head.text, "ax"
	.globl	purgatory_entry
	.type	purgatory_entry, %function
purgatory_entry:
	/* The kernel has cleaned all of this; nothing that is still cached may come to lie over what is written now. */
	bl	clean_invalidate_image
	adrp	x19, stack_end
	add	x19, x19, :lo12:stack_end
	mov	sp, x19
	bl	purgatory

	adrp	x4, purgatory_params
	add	x4, x4, :lo12:purgatory_params
	ldr	x5, [x4, #PARAMS_JUMP_TO]
	ldr	x0, [x4, #PARAMS_ARGUMENTS]
	mov	x1, xzr
	mov	x2, xzr
	mov	x3, xzr
	br	x5
	.size	purgatory_entry, . - purgatory_entry

	.section .bss, "aw", %nobits
	.balign	16
	.skip	4096
stack_end:

	.section .note.GNU-stack, "", %progbits

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Entered from relocate_new_kernel in P1, where kernels have memory cached and untranslated, with interrupts masked and
 * on register bank 0 (arch/sh/kernel/relocate_kernel.S). Kernels want nothing in registers.
 */
#include "offsets.h"

	.hidden	purgatory
	.hidden	purgatory_params

	.section .head.text, "ax"
	.globl	purgatory_entry
	.type	purgatory_entry, @function
	.balign	4
purgatory_entry:
	mova	stack, r0
	mov.l	stack, r15
	add	r0, r15
	mova	function, r0
	mov.l	function, r1
	add	r0, r1
	jsr	@r1
	 nop
	mova	params, r0
	mov.l	params, r1
	add	r0, r1
	mov.l	@(PARAMS_JUMP_TO, r1), r0
	jmp	@r0
	 nop
	.size	purgatory_entry, . - purgatory_entry

	/* From each word to what it stands for. */
	.balign	4
stack:		.long	stack_end - stack
function:	.long	purgatory - function
params:		.long	purgatory_params - params

	.section .bss, "aw", @nobits
	.balign	16
	.skip	4096
stack_end:
	/*
	 * The running kernel writes its data cache back before it copies, not after (machine_kexec()), and instructions
	 * come from memory. So the code above must have left that cache when it is jumped to: copying this, which is
	 * more than it holds, does that.
	 */
	.skip	64 * 1024

	.section .note.GNU-stack, "", @progbits

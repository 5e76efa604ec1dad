/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Entered from relocate_new_kernel in the cached window at 0x9000... (arch/loongarch/kernel/relocate_kernel.S),
 * with interrupts off, on CPU 0: a0 says whether EFI started the machine, a2 has the address of EFI's system table.
 * Left as the boot protocol wants it (Documentation/arch/loongarch/booting.rst): these as they came, a1 the command
 * line. What comes in a1 is the kernel's one copy of a command line, which a later load has overwritten.
 */
#include "offsets.h"

/* LoongArch Reference Manual 1, 7.5.7: direct mapping windows; the last two are for data only */
#define CSR_DMW3     0x183
#define ALL_PHYSICAL 0x11 /* addresses as they are, for privilege level 0, coherent and cached */
#define CACHED       -0x700 /* the top 12 bits of addresses in the kernel's cached window */

	.hidden	purgatory
	.hidden	purgatory_params

	.section .head.text, "ax"
	.globl	purgatory_entry
	.type	purgatory_entry, @function
purgatory_entry:
	move	$s0, $a0
	move	$s2, $a2
	li.w	$s3, ALL_PHYSICAL
	csrwr	$s3, CSR_DMW3 # which gives what it was
	la.local	$sp, stack_end
	bl	purgatory

	la.local	$t0, purgatory_params
	ld.d	$t1, $t0, PARAMS_JUMP_TO
	ld.d	$a1, $t0, PARAMS_ARGUMENTS
	lu52i.d	$t2, $zero, CACHED
	or	$t1, $t1, $t2
	or	$a1, $a1, $t2
	move	$a0, $s0
	move	$a2, $s2
	csrwr	$s3, CSR_DMW3
	ibar	0 # what was copied here is code from now on
	jr	$t1
	.size	purgatory_entry, . - purgatory_entry

	.section .bss, "aw", @nobits
	.balign	16
	.skip	4096
stack_end:

	.section .note.GNU-stack, "", @progbits

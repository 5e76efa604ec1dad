/* SPDX-License-Identifier: BSD-3-Clause */
	.text

	.globl	_start
	.type	_start, @function
_start:
	mov	r15, r4
	mov.l	1f, r0
	jsr	@r0
	 nop
	.balign	4
1:	.long	start

	.globl	system_call
	.type	system_call, @function
system_call:
	mov	r4, r3
	mov	r5, r4
	mov	r6, r5
	mov	r7, r6
	mov.l	@r15, r7
	mov.l	@(4, r15), r0
	mov.l	@(8, r15), r1
	trapa	#0x16	/* 0x10, and the number of arguments */
	.rept	5	/* some SH-4 need that many instructions there that access no memory (glibc, SYSCALL_INST_PAD) */
	or	r0, r0
	.endr
	rts
	 nop

	.section .note.GNU-stack, "", @progbits

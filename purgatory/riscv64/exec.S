/* SPDX-License-Identifier: BSD-3-Clause */
	.text

	.globl	_start
	.type	_start, @function
_start:
	mv	a0, sp
	call	start

	.globl	system_call
	.type	system_call, @function
system_call:
	mv	a7, a0
	mv	a0, a1
	mv	a1, a2
	mv	a2, a3
	mv	a3, a4
	mv	a4, a5
	mv	a5, a6
	ecall
	ret

	.section .note.GNU-stack, "", @progbits

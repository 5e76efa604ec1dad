/* SPDX-License-Identifier: BSD-3-Clause */
	.text

	.globl	_start
	.type	_start, %function
_start:
	mov	x29, #0
	mov	x30, #0
	mov	x0, sp
	bl	start

	.globl	system_call
	.type	system_call, %function
system_call:
	mov	x8, x0
	mov	x0, x1
	mov	x1, x2
	mov	x2, x3
	mov	x3, x4
	mov	x4, x5
	mov	x5, x6
	svc	#0
	ret

	.section .note.GNU-stack, "", %progbits

/* SPDX-License-Identifier: BSD-3-Clause */
	.text

	.globl	_start
	.type	_start, @function
_start:
	lgr	%r2, %r15
	aghi	%r15, -160 # the frame of a called function
	xc	0(8, %r15), 0(%r15)
	brasl	%r14, start

	/* The number of a call that does not fit the instruction goes to r1. */
	.globl	system_call
	.type	system_call, @function
system_call:
	stg	%r6, 48(%r15)
	lgr	%r1, %r2
	lgr	%r2, %r3
	lgr	%r3, %r4
	lgr	%r4, %r5
	lgr	%r5, %r6
	lg	%r6, 160(%r15) # the sixth argument, from the stack
	svc	0
	lg	%r6, 48(%r15)
	br	%r14

	.section .note.GNU-stack, "", @progbits

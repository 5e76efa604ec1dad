/* SPDX-License-Identifier: BSD-3-Clause */
/* The same instructions in either word size and byte order. */
	.globl	system_call
	.type	system_call, @function
system_call:
	mr	0, 3
	mr	3, 4
	mr	4, 5
	mr	5, 6
	mr	6, 7
	mr	7, 8
	mr	8, 9
	sc
	bnslr
	neg	3, 3
	blr

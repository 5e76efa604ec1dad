/* SPDX-License-Identifier: BSD-3-Clause */
	.text

	.globl	_start
	.type	_start, @function
_start:
	bcl	20, 31, 0f
0:	mflr	12
	addis	2, 12, (.TOC. - 0b)@ha
	addi	2, 2, (.TOC. - 0b)@l
	mr	3, 1
	li	0, 0
	stdu	0, -32(1)
	bl	start
	nop

#include "system_call.h"

	.section .note.GNU-stack, "", @progbits

/* SPDX-License-Identifier: BSD-3-Clause */
	.text

	.globl	_start
	.type	_start, @function
_start:
	mr	3, 1
	li	0, 0
	stwu	0, -16(1)
	bl	start

#include "../powerpc/system_call.h"

	.section .note.GNU-stack, "", @progbits

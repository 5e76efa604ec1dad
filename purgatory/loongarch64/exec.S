/* SPDX-License-Identifier: BSD-3-Clause */
	.text

	.globl	_start
	.type	_start, @function
_start:
	move	$a0, $sp
	bl	start

	.globl	system_call
	.type	system_call, @function
system_call:
	move	$a7, $a0
	move	$a0, $a1
	move	$a1, $a2
	move	$a2, $a3
	move	$a3, $a4
	move	$a4, $a5
	move	$a5, $a6
	syscall	0
	jr	$ra

	.section .note.GNU-stack, "", @progbits

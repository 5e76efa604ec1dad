/* SPDX-License-Identifier: BSD-3-Clause */
	.text

	.globl	_start
	.type	_start, @function
_start:
	xor	%ebp, %ebp
	mov	%esp, %eax
	and	$-16, %esp
	sub	$12, %esp
	push	%eax
	call	start

/* The first of the two ways in: it takes no page of the kernel's, and any CPU has it. */
	.globl	system_call
	.type	system_call, @function
system_call:
	push	%ebx
	push	%esi
	push	%edi
	push	%ebp
	mov	20(%esp), %eax
	mov	24(%esp), %ebx
	mov	28(%esp), %ecx
	mov	32(%esp), %edx
	mov	36(%esp), %esi
	mov	40(%esp), %edi
	mov	44(%esp), %ebp
	int	$0x80
	pop	%ebp
	pop	%edi
	pop	%esi
	pop	%ebx
	ret

	.section .note.GNU-stack, "", @progbits

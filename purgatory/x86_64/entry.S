/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Entered from the kernel's relocate_kernel in 64-bit mode, on identity-mapped page tables, interrupts off,
 * with whatever segments the old kernel had. Left as the 64-bit boot protocol wants it (boot.rst): CS 0x10 and
 * DS, ES, SS 0x18 flat from a GDT of our own, RSI the boot_params, interrupts off.
 */
#include "offsets.h"

#define BOOT_CS 0x10
#define BOOT_DS 0x18

	.hidden	purgatory
	.hidden	purgatory_params

	.section .head.text, "ax"
	.globl	purgatory_entry
	.type	purgatory_entry, @function
purgatory_entry:
	cli
	cld
	leaq	stack_end(%rip), %rsp

	/* The GDT's own address is known only here. */
	leaq	gdt(%rip), %rax
	movq	%rax, gdt_base(%rip)
	lgdt	gdt_pointer(%rip)
	movl	$BOOT_DS, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss
	xorl	%eax, %eax
	movl	%eax, %fs
	movl	%eax, %gs
	leaq	reloaded(%rip), %rax
	pushq	$BOOT_CS
	pushq	%rax
	lretq
reloaded:
	call	purgatory

	movq	purgatory_params + PARAMS_ARGUMENTS(%rip), %rsi
	movq	purgatory_params + PARAMS_JUMP_TO(%rip), %rax
	leaq	stack_end(%rip), %rsp
	pushq	%rax
	xorl	%eax, %eax
	xorl	%ebx, %ebx
	xorl	%ecx, %ecx
	xorl	%edx, %edx
	xorl	%edi, %edi
	xorl	%ebp, %ebp
	xorl	%r8d, %r8d
	xorl	%r9d, %r9d
	xorl	%r10d, %r10d
	xorl	%r11d, %r11d
	xorl	%r12d, %r12d
	xorl	%r13d, %r13d
	xorl	%r14d, %r14d
	xorl	%r15d, %r15d
	retq
	.size	purgatory_entry, . - purgatory_entry

/* An empty IDT makes the next exception a triple fault, which resets every machine. */
	.globl	triple_fault
	.type	triple_fault, @function
triple_fault:
	lidt	no_idt(%rip)
	ud2
1:	hlt
	jmp	1b
	.size	triple_fault, . - triple_fault

	.section .data, "aw"
	.balign	16
gdt:
	.quad	0
	.quad	0
	.quad	0x00af9a000000ffff	/* 0x10: 64-bit code, flat */
	.quad	0x00cf92000000ffff	/* 0x18: data, flat */
gdt_end:
	.balign	8
	.word	0, 0, 0			/* so that the base is aligned */
gdt_pointer:
	.word	gdt_end - gdt - 1
gdt_base:
	.quad	0
	.balign	8
no_idt:
	.word	0
	.quad	0

	.section .bss, "aw", @nobits
	.balign	16
	.skip	4096
stack_end:

	.section .note.GNU-stack, "", @progbits

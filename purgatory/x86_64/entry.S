/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Entered from the kernel's relocate_kernel in 64-bit mode, on identity-mapped page tables, interrupts off,
 * with whatever segments the old kernel had. Left as the 64-bit boot protocol wants it (boot.rst): CS 0x10 and
 * DS, ES, SS 0x18 flat from a GDT of our own, RSI the boot_params, interrupts off; or, where the last argument is
 * not zero, as the 32-bit boot protocol and Multiboot want it: the same selectors, but 32-bit ones, and paging off.
 *
 * The arguments are RSI, RBX, RAX, and how to leave: 0 in 64-bit mode, 1 in 32-bit mode, 2 back into a kernel that
 * has called its purgatory (kexec jump); then the first two are what CR3 has to hold with four levels of page
 * tables and with five; 3 in real mode, where the first two are the data segments and SP, and what is jumped to is a
 * segment (high half) with an offset.
 */
#include "offsets.h"

#define BOOT_CS 0x10
#define BOOT_DS 0x18
#define BOOT_CODE16 0x20
#define BOOT_DATA16 0x28

#define LEAVE_32BIT 1
#define LEAVE_BACK  2
#define LEAVE_REAL  3

#define ARGUMENT(n) purgatory_params + PARAMS_ARGUMENTS + 8 * (n)

#define CR0_PE    0x1
#define CR0_PG    0x80000000
#define CR4_LA57  12			/* the bit's number */
#define MSR_EFER  0xc0000080
#define EFER_MODE 0x901			/* SCE, LME, NXE: what 32-bit code does not expect to be on */

	.hidden	purgatory
	.hidden	purgatory_params

	.section .head.text, "ax"
	.globl	purgatory_entry
	.type	purgatory_entry, @function
purgatory_entry:
	cli
	cld
	testl	$CALLED, purgatory_params + PARAMS_FLAGS(%rip)
	jz	1f
	movq	(%rsp), %rax
	movq	%rax, purgatory_params + PARAMS_JUMP_BACK_ENTRY(%rip)
1:	leaq	stack_end(%rip), %rsp

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

	cmpl	$LEAVE_BACK, ARGUMENT(3)(%rip)
	je	jump_back
	cmpl	$0, ARGUMENT(3)(%rip)
	jne	leave_long_mode

	movq	ARGUMENT(0)(%rip), %rsi
	movq	ARGUMENT(1)(%rip), %rbx
	movq	ARGUMENT(2)(%rip), %rax
	leaq	stack_end(%rip), %rsp
	pushq	purgatory_params + PARAMS_JUMP_TO(%rip)
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

/*
 * Both kernels go on behind the call in their relocate_kernel. What then lies on the stack they take for the address
 * to call the next time, and their page tables they have from their own data: but they have to be mapped until then.
 * The kernel that was there first has all memory mapped; the one that we come from need not have the other's. So the
 * first is told to call us, and the second, when it is called, to come by here again.
 */
	.type	jump_back, @function
jump_back:
	movq	ARGUMENT(0)(%rip), %rax
	movq	%cr4, %rcx
	btl	$CR4_LA57, %ecx
	jnc	1f
	movq	ARGUMENT(1)(%rip), %rax
1:	movq	%rax, %cr3
	leaq	stack_end(%rip), %rsp
	leaq	called_again(%rip), %rax
	pushq	%rax
	jmpq	*purgatory_params + PARAMS_JUMP_TO(%rip)
called_again:
	movq	(%rsp), %rax
	movq	%rax, purgatory_params + PARAMS_JUMP_TO(%rip)
	leaq	stack_end(%rip), %rsp
	leaq	purgatory_entry(%rip), %rax
	pushq	%rax
	jmpq	*purgatory_params + PARAMS_JUMP_BACK_ENTRY(%rip)
	.size	jump_back, . - jump_back

/*
 * Through compatibility mode, with paging on, to protected mode without (Intel SDM volume 3, "Switching Out of
 * IA-32e Mode Operation"). All of this lies below 4 GiB. Addresses cannot be computed there: what is needed is
 * fetched before.
 */
	.type	leave_long_mode, @function
leave_long_mode:
	leaq	gdt32(%rip), %rax
	movq	%rax, gdt_base(%rip)
	lgdt	gdt_pointer(%rip)
	movl	$BOOT_DS, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %fs
	movl	%eax, %gs
	movl	%eax, %ss
	movl	ARGUMENT(0)(%rip), %esi
	movl	ARGUMENT(1)(%rip), %ebx
	movl	ARGUMENT(2)(%rip), %ebp
	movl	purgatory_params + PARAMS_JUMP_TO(%rip), %edi
	leaq	stack_end(%rip), %rsp
	pushq	ARGUMENT(3)(%rip)

	/* For real mode: a code segment with a base (SDM volume 3, 3.4.5) from which 16 bits reach; below 1 MiB. */
	leaq	real_mode(%rip), %rax
	shlq	$16, %rax
	orq	%rax, gdt32_code16(%rip)

	leaq	compatible(%rip), %rax
	pushq	$BOOT_CS
	pushq	%rax
	lretq

	.code32
compatible:
	movl	%cr0, %eax
	andl	$~CR0_PG, %eax
	movl	%eax, %cr0
	movl	$MSR_EFER, %ecx
	rdmsr
	andl	$~EFER_MODE, %eax
	wrmsr
	xorl	%eax, %eax
	movl	%eax, %cr4
	movl	%eax, %cr3
	popl	%eax
	cmpl	$LEAVE_REAL, %eax
	je	leave_protected_mode
	movl	%ebp, %eax
	pushl	%edi
	xorl	%ecx, %ecx
	xorl	%edx, %edx
	xorl	%edi, %edi
	xorl	%ebp, %ebp
	ret
	.size	leave_long_mode, . - leave_long_mode

#include "../x86/leave_protected_mode.h"
	.code64

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
	.quad	0, 0
gdt_end:
gdt32:					/* as long as the other */
	.quad	0
	.quad	0
	.quad	0x00cf9a000000ffff	/* 0x10: 32-bit code, flat */
	.quad	0x00cf92000000ffff	/* 0x18: data, flat */
gdt32_code16:
	.quad	0x00009a000000ffff	/* 0x20: 16-bit code, 64 KiB */
	.quad	0x000092000000ffff	/* 0x28: data, 64 KiB */
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

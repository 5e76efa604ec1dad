/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Entered from the kernel's relocate_kernel in protected mode, paging and interrupts off, with flat segments whose
 * table is gone: they can be used, but not loaded again. Left as the 32-bit boot protocol and Multiboot want it
 * (boot.rst): CS 0x10 and DS, ES, SS 0x18 flat from a GDT of our own, interrupts off.
 *
 * The arguments are ESI, EBX, EAX, and how to leave, in x86_64's numbers: 1 in protected mode; 2 back into a kernel
 * that has called its purgatory (kexec jump); 3 in real mode, where the first two are the data segments and SP, and
 * what is jumped to is a segment (high half) with an offset.
 */
#include "offsets.h"

#define BOOT_CS 0x10
#define BOOT_DS 0x18
#define BOOT_CODE16 0x20
#define BOOT_DATA16 0x28

#define LEAVE_BACK 2
#define LEAVE_REAL 3

#define CR0_PE	   0x1

/* Nothing is relative to the program counter here: EBP has the address of `here`, which all else is a distance from. */
#define AT(symbol)	((symbol) - here)(%ebp)
#define ARGUMENT(n)	AT(purgatory_params + PARAMS_ARGUMENTS + 8 * (n))

	.hidden	purgatory
	.hidden	purgatory_params

	.section .head.text, "ax"
	.globl	purgatory_entry
	.type	purgatory_entry, @function
purgatory_entry:
	cli
	cld
	movl	(%esp), %eax
	call	here
here:
	popl	%ebp
	testl	$CALLED, AT(purgatory_params + PARAMS_FLAGS)
	jz	1f
	movl	%eax, AT(purgatory_params + PARAMS_JUMP_BACK_ENTRY)
1:	leal	AT(stack_end), %esp
	call	purgatory

	cmpl	$LEAVE_BACK, ARGUMENT(3)
	je	jump_back

	/* The GDT's own address is known only here. */
	leal	AT(gdt), %eax
	movl	%eax, AT(gdt_base)
	lgdt	AT(gdt_pointer)
	movl	$BOOT_DS, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %fs
	movl	%eax, %gs
	movl	%eax, %ss
	leal	AT(reloaded), %eax
	pushl	$BOOT_CS
	pushl	%eax
	lretl
reloaded:
	movl	ARGUMENT(0), %esi
	movl	ARGUMENT(1), %ebx
	movl	AT(purgatory_params + PARAMS_JUMP_TO), %edi
	cmpl	$LEAVE_REAL, ARGUMENT(3)
	je	to_real_mode
	movl	ARGUMENT(2), %eax
	pushl	%edi
	xorl	%ecx, %ecx
	xorl	%edx, %edx
	xorl	%edi, %edi
	xorl	%ebp, %ebp
	ret
	.size	purgatory_entry, . - purgatory_entry

/*
 * Both kernels go on behind the call in their relocate_kernel, and take what then lies on the stack for the address to
 * call the next time. That is each other's, for neither has paging on there. They may load the segments that came with
 * the call again: these are not touched.
 */
	.type	jump_back, @function
jump_back:
	pushl	AT(purgatory_params + PARAMS_JUMP_BACK_ENTRY)
	jmpl	*AT(purgatory_params + PARAMS_JUMP_TO)
	.size	jump_back, . - jump_back

/* A code segment with a base (SDM volume 3, 3.4.5) from which 16 bits reach; below 1 MiB. */
	.type	to_real_mode, @function
to_real_mode:
	leal	AT(real_mode), %eax
	movw	%ax, AT(gdt_code16 + 2)
	shrl	$16, %eax
	movb	%al, AT(gdt_code16 + 4)
	.size	to_real_mode, . - to_real_mode
#include "../x86/leave_protected_mode.h"
	.code32

/* An empty IDT makes the next exception a triple fault, which resets every machine. */
	.globl	triple_fault
	.type	triple_fault, @function
triple_fault:
	pushl	$0
	pushw	$0
	lidt	(%esp)
	ud2
1:	hlt
	jmp	1b
	.size	triple_fault, . - triple_fault

	.section .data, "aw"
	.balign	16
gdt:
	.quad	0
	.quad	0
	.quad	0x00cf9a000000ffff	/* 0x10: 32-bit code, flat */
	.quad	0x00cf92000000ffff	/* 0x18: data, flat */
gdt_code16:
	.quad	0x00009a000000ffff	/* 0x20: 16-bit code, 64 KiB */
	.quad	0x000092000000ffff	/* 0x28: data, 64 KiB */
gdt_end:
	.word	0			/* so that the base is aligned */
gdt_pointer:
	.word	gdt_end - gdt - 1
gdt_base:
	.long	0

	.section .bss, "aw", @nobits
	.balign	16
	.skip	4096
stack_end:

	.section .note.GNU-stack, "", @progbits

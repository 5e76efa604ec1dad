/* SPDX-License-Identifier: BSD-3-Clause */
/* What x86_64's and i386's entry.S share: how a kernel is entered in real mode. */
/* SDM volume 3, "Switching Back to Real-Address Mode". */
	.type	leave_protected_mode, @function
leave_protected_mode:
	pushl	$0			/* the BIOS's interrupt vectors: 0 to 0x3ff */
	pushw	$0x3ff
	lidt	(%esp)
	ljmp	$BOOT_CODE16, $0
real_mode:
	.code16
	movw	$BOOT_DATA16, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %fs
	movw	%ax, %gs
	movw	%ax, %ss
	movl	%cr0, %eax
	andb	$~CR0_PE, %al
	movl	%eax, %cr0
	movw	%si, %ds
	movw	%si, %es
	movw	%si, %fs
	movw	%si, %gs
	movw	%si, %ss
	movzwl	%bx, %esp
	pushl	%edi
	xorl	%eax, %eax
	xorl	%ebx, %ebx
	xorl	%ecx, %ecx
	xorl	%edx, %edx
	xorl	%esi, %esi
	xorl	%edi, %edi
	xorl	%ebp, %ebp
	lretw
	.size	leave_protected_mode, . - leave_protected_mode

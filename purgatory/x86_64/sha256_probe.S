/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Whether the CPU has the instructions of sha256_ni.S; if so they are made usable: the old kernel may have left
 * SSE off, and relocate_kernel clears all of CR4 that it does not need.
 *
 * In a guest with encrypted state (SEV-ES, TDX) CPUID and writes of control registers may raise an exception
 * that the kernel would handle, and here nobody does: that would reset the machine. While asking, any exception
 * therefore means no.
 */

#define CPUID_1_ECX_SSSE3 (1 << 9)
#define CPUID_1_EDX_SSE2_FXSR (1 << 26 | 1 << 24)
#define CPUID_7_EBX_SHA   (1 << 29)

#define CR0_MP		  (1 << 1)
#define CR0_EM_TS	  (1 << 2 | 1 << 3)
#define CR4_OSFXSR	  (1 << 9)

#define VECTORS		  32
#define INTERRUPT_GATE	  0x8e00	/* present, ring 0, 64-bit (Intel SDM volume 3, 6.14.1) */

	.text
	.globl	sha256_probe
	.hidden	sha256_probe
	.type	sha256_probe, @function
sha256_probe:				/* RDI: where CR0 and CR4 are saved; returns 1 or 0 */
	pushq	%rbx
	movq	%cr0, %r8
	movq	%cr4, %r9
	movq	%r8, (%rdi)
	movq	%r9, 8(%rdi)

	leaq	refused(%rip), %rdx
	leaq	gates(%rip), %rsi
	movl	%cs, %ebx
	movl	$VECTORS, %ecx
1:	movw	%dx, (%rsi)
	movw	%bx, 2(%rsi)
	movw	$INTERRUPT_GATE, 4(%rsi)
	movq	%rdx, %rax
	shrq	$16, %rax
	movw	%ax, 6(%rsi)
	shrq	$16, %rax
	movl	%eax, 8(%rsi)
	movl	$0, 12(%rsi)
	addq	$16, %rsi
	decl	%ecx
	jnz	1b
	sidt	kernels_idt(%rip)
	leaq	gates(%rip), %rax
	movw	$(16 * VECTORS - 1), own_idt(%rip)
	movq	%rax, own_idt + 2(%rip)
	movq	%rsp, stack(%rip)
	lidt	own_idt(%rip)

	call	sha256_in_cpuid
	testl	%eax, %eax
	jz	refused

	movq	%r9, %rax
	orq	$CR4_OSFXSR, %rax
	movq	%rax, %cr4
	movq	%r8, %rax
	andq	$~CR0_EM_TS, %rax
	orq	$CR0_MP, %rax
	movq	%rax, %cr0
	movl	$1, %eax
	jmp	2f

refused:
	movq	stack(%rip), %rsp
	xorl	%eax, %eax
2:	lidt	kernels_idt(%rip)
	popq	%rbx
	ret
	.size	sha256_probe, . - sha256_probe

/* Returns 1 or 0. Changes RBX, RCX and RDX. */
	.type	sha256_in_cpuid, @function
sha256_in_cpuid:
	xorl	%eax, %eax
	cpuid
	cmpl	$7, %eax
	jb	1f
	movl	$1, %eax
	cpuid
	testl	$CPUID_1_ECX_SSSE3, %ecx
	jz	1f
	notl	%edx
	testl	$CPUID_1_EDX_SSE2_FXSR, %edx
	jnz	1f
	movl	$7, %eax
	xorl	%ecx, %ecx
	cpuid
	testl	$CPUID_7_EBX_SHA, %ebx
	jz	1f
	movl	$1, %eax
	ret
1:	xorl	%eax, %eax
	ret
	.size	sha256_in_cpuid, . - sha256_in_cpuid

	.section .bss, "aw", @nobits
	.balign	16
gates:
	.skip	16 * VECTORS
stack:
	.skip	8
	.balign	8
	.skip	6				/* so that the bases are aligned */
kernels_idt:
	.skip	10
	.skip	6
own_idt:
	.skip	10

	.section .note.GNU-stack, "", @progbits

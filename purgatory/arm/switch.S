/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Switching MMU and caches of an ARMv7 CPU. While memory is seen once beside the data cache and once through it,
 * nothing may be on the stack: this uses registers only.
 */
	.arch	armv7-a

#define SCTLR_C (1 << 2)

	.text

	.macro	forget				/* what the CPU remembers of translations and code */
	mov	r3, #0
	dsb
	mcr	p15, 0, r3, c8, c7, 0		/* TLBIALL */
	mcr	p15, 0, r3, c7, c5, 0		/* ICIALLU */
	mcr	p15, 0, r3, c7, c5, 6		/* BPIALL */
	dsb
	isb
	.endm

	.macro	write_translation		/* r4: TTBCR, r5: TTBR0, r6: DACR */
	mcr	p15, 0, r4, c2, c0, 2
	mcr	p15, 0, r5, c2, c0, 0
	mcr	p15, 0, r6, c3, c0, 0
	isb
	.endm

/* void mmu_on(const struct translation *) */
	.globl	mmu_on
	.hidden	mmu_on
	.type	mmu_on, %function
mmu_on:
	push	{r4-r7}
	ldmia	r0, {r2, r4-r6}
	write_translation
	forget
	mcr	p15, 0, r2, c1, c0, 0
	isb
	pop	{r4-r7}
	bx	lr
	.size	mmu_on, . - mmu_on

/*
 * void mmu_off(const struct translation *): the registers as they shall be, with the MMU off. The data cache goes
 * first, so that nothing new comes into it; then what is in it is brought to memory, stack included.
 */
	.globl	mmu_off
	.hidden	mmu_off
	.type	mmu_off, %function
mmu_off:
	push	{r4-r11, lr}
	ldmia	r0, {r2, r4-r6}
	mrc	p15, 0, r3, c1, c0, 0
	bic	r3, r3, #SCTLR_C
	mcr	p15, 0, r3, c1, c0, 0
	isb
	bl	clean_invalidate_all
	mcr	p15, 0, r2, c1, c0, 0
	isb
	write_translation
	forget
	pop	{r4-r11, pc}
	.size	mmu_off, . - mmu_off

/*
 * All data caches up to the point of coherency, by set and way (Arm ARM DDI 0406, B2.2.7); changes r0, r1, r3 and
 * r7 to r12.
 */
	.type	clean_invalidate_all, %function
clean_invalidate_all:
	dmb
	mrc	p15, 1, r0, c0, c0, 1		/* CLIDR */
	ubfx	r1, r0, #24, #3			/* LoC */
	mov	r10, #0				/* the cache's level, times two */
1:	cmp	r10, r1, lsl #1
	bhs	4f
	add	r3, r10, r10, lsr #1
	lsr	r3, r0, r3
	and	r3, r3, #7			/* Ctype */
	cmp	r3, #2
	blo	3f				/* no data cache at this level */
	mcr	p15, 2, r10, c0, c0, 0		/* CSSELR */
	isb
	mrc	p15, 1, r3, c0, c0, 0		/* CCSIDR */
	ubfx	r7, r3, #0, #3
	add	r7, r7, #4			/* log2 of the bytes in a line: where the set begins */
	ubfx	r8, r3, #3, #10			/* the last way */
	clz	r9, r8				/* where the way begins; a single way is at bit 0, with 32 */
	ubfx	r11, r3, #13, #15		/* the last set */
2:	mov	r12, r8
5:	lsl	r3, r12, r9
	orr	r3, r3, r10
	orr	r3, r3, r11, lsl r7
	mcr	p15, 0, r3, c7, c14, 2		/* DCCISW */
	subs	r12, r12, #1
	bge	5b
	subs	r11, r11, #1
	bge	2b
3:	add	r10, r10, #2
	dsb
	b	1b
4:	mov	r10, #0
	mcr	p15, 2, r10, c0, c0, 0
	dsb
	isb
	bx	lr
	.size	clean_invalidate_all, . - clean_invalidate_all

	.section .note.GNU-stack, "", %progbits

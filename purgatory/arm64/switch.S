/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Switching MMU and caches. While memory is seen once beside the data cache and once through it, nothing may be
 * on the stack: this uses registers only. What is fetched as code is the same in both views.
 */

/* CurrentEL */
#define EL2 (2 << 2)

	.hidden	image_start
	.hidden	image_end

	.text

/* void clean_invalidate(u64 start, u64 end): to the point of coherency; changes x0 to x3 only. */
	.globl	clean_invalidate
	.hidden	clean_invalidate
	.type	clean_invalidate, %function
clean_invalidate:
	mrs	x2, ctr_el0
	ubfx	x2, x2, #16, #4			/* DminLine: log2 of the words in a line */
	mov	x3, #4
	lsl	x2, x3, x2
	sub	x3, x2, #1
	bic	x0, x0, x3
	b	2f
1:	dc	civac, x0
	add	x0, x0, x2
2:	cmp	x0, x1
	b.lo	1b
	dsb	sy
	ret
	.size	clean_invalidate, . - clean_invalidate

/* The same for purgatory's own memory, stack and tables included. */
	.globl	clean_invalidate_image
	.hidden	clean_invalidate_image
	.type	clean_invalidate_image, %function
clean_invalidate_image:
	adrp	x0, image_start
	add	x0, x0, :lo12:image_start
	adrp	x1, image_end
	add	x1, x1, :lo12:image_end
	b	clean_invalidate
	.size	clean_invalidate_image, . - clean_invalidate_image

	.macro	write_translation el	/* x10: MAIR, x11: TCR, x12: TTBR0 */
	msr	mair_\el, x10
	msr	tcr_\el, x11
	msr	ttbr0_\el, x12
	isb
	.endm

/* What the CPU remembers of translations and code: the old kernel's, or of the map that was just switched off. */
	.macro	forget tlbi
	dsb	nshst
	tlbi	\tlbi
	ic	iallu
	dsb	nsh
	isb
	.endm

/*
 * void mmu_on(const struct translation *): with MMU and data cache off. Cleaning what has been written beside the
 * cache makes way for what is in memory.
 */
	.globl	mmu_on
	.hidden	mmu_on
	.type	mmu_on, %function
mmu_on:
	mov	x9, x30
	ldp	x10, x11, [x0]
	ldp	x12, x13, [x0, #16]
	bl	clean_invalidate_image
	mrs	x0, CurrentEL
	cmp	x0, #EL2
	b.eq	1f
	write_translation el1
	forget	vmalle1
	msr	sctlr_el1, x13
	isb
	ret	x9
1:	write_translation el2
	forget	alle2
	msr	sctlr_el2, x13
	isb
	ret	x9
	.size	mmu_on, . - mmu_on

/*
 * void mmu_off(const struct translation *): the registers as they shall be, with the MMU off. What is in the
 * cache of the stack, and of all else that was written, is brought to memory before anything is read there.
 */
	.globl	mmu_off
	.hidden	mmu_off
	.type	mmu_off, %function
mmu_off:
	mov	x9, x30
	ldp	x10, x11, [x0]
	ldp	x12, x13, [x0, #16]
	dsb	sy
	mrs	x0, CurrentEL
	cmp	x0, #EL2
	b.eq	1f
	isb					/* Falkor erratum 1041 wants one just before */
	msr	sctlr_el1, x13
	isb
	bl	clean_invalidate_image
	write_translation el1
	forget	vmalle1
	ret	x9
1:	isb
	msr	sctlr_el2, x13
	isb
	bl	clean_invalidate_image
	write_translation el2
	forget	alle2
	ret	x9
	.size	mmu_off, . - mmu_off

/* void instruction_cache(u64 sctlr): SCTLR with the instruction cache on or off, and that empty. */
	.globl	instruction_cache
	.hidden	instruction_cache
	.type	instruction_cache, %function
instruction_cache:
	ic	iallu
	dsb	nsh
	isb
	mrs	x1, CurrentEL
	cmp	x1, #EL2
	b.eq	1f
	msr	sctlr_el1, x0
	isb
	ret
1:	msr	sctlr_el2, x0
	isb
	ret
	.size	instruction_cache, . - instruction_cache

	.section .note.GNU-stack, "", %progbits

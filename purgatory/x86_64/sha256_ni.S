/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * SHA-256 with the instructions made for it (Intel SDM volume 2, SHA256RNDS2, SHA256MSG1, SHA256MSG2).
 *
 * The instructions keep the eight variables in two registers, from the highest word to the lowest: ABEF and
 * CDGH. SHA256RNDS2 does two rounds: its destination has CDGH and gets the new ABEF; the old ABEF is then the
 * new CDGH, so that the two registers change their parts, and are as before after the next two rounds.
 *
 * Each of these needs the one before: the CPU waits more than it works. Two messages at once take little longer
 * than one.
 */
#define WK	%xmm0	/* the words plus constants of the next rounds; the instruction wants them here */
#define ABEF	%xmm1
#define CDGH	%xmm2
#define TEMP	%xmm13
#define ABEF2	%xmm7	/* of the second message */
#define CDGH2	%xmm8
#define TEMP2	%xmm14
#define ORDER	%xmm15

	.hidden	sha256_K

/* DCBA and HGFE, highest word first, become ABEF and CDGH. */
	.macro	load_state at, abef, cdgh, temp
	movdqu	\at(%rdi), \abef
	movdqu	\at+16(%rdi), \cdgh
	pshufd	$0x1b, \abef, \temp
	pshufd	$0x1b, \cdgh, \cdgh
	movdqa	\cdgh, \abef
	punpckhqdq \temp, \abef
	punpcklqdq \temp, \cdgh
	.endm

	.macro	store_state at, abef, cdgh, temp
	movdqa	\cdgh, \temp
	punpckhqdq \abef, \cdgh
	punpcklqdq \abef, \temp
	pshufd	$0x1b, \cdgh, \cdgh
	pshufd	$0x1b, \temp, \temp
	movdqu	\cdgh, \at(%rdi)
	movdqu	\temp, \at+16(%rdi)
	.endm

	.macro	load_block from, W0, W1, W2, W3
	movdqu	(\from), \W0
	movdqu	16(\from), \W1
	movdqu	32(\from), \W2
	movdqu	48(\from), \W3
	.irp	W, \W0, \W1, \W2, \W3
	pshufb	ORDER, \W
	.endr
	addq	$64, \from
	.endm

/* Rounds 4 * quad to 4 * quad + 3. W0 has their words, W1 to W3 the next twelve; W0 gets the four after those. */
	.macro	rounds quad, abef, cdgh, temp, W0, W1, W2, W3
	movdqa	\W0, WK
	paddd	16 * (\quad)(%rax), WK
	sha256rnds2 \abef, \cdgh
	.if	(\quad) < 12
	sha256msg1 \W1, \W0
	movdqa	\W3, \temp
	palignr	$4, \W2, \temp
	paddd	\temp, \W0
	sha256msg2 \W3, \W0
	.endif
	pshufd	$0x0e, WK, WK
	sha256rnds2 \cdgh, \abef
	.endm

	.macro	of_first quad, W0, W1, W2, W3
	rounds	\quad, ABEF, CDGH, TEMP, \W0, \W1, \W2, \W3
	.endm

	.macro	of_both quad, W0, W1, W2, W3, V0, V1, V2, V3
	rounds	\quad, ABEF, CDGH, TEMP, \W0, \W1, \W2, \W3
	rounds	\quad, ABEF2, CDGH2, TEMP2, \V0, \V1, \V2, \V3
	.endm

	.text
	.globl	sha256_ni
	.hidden	sha256_ni
	.type	sha256_ni, @function
sha256_ni:				/* RDI: H, RSI: data, RDX: blocks */
	testq	%rdx, %rdx
	jz	2f
	leaq	sha256_K(%rip), %rax
	movdqa	big_endian(%rip), ORDER
	load_state 0, ABEF, CDGH, TEMP

1:	movdqa	ABEF, %xmm8
	movdqa	CDGH, %xmm9
	load_block %rsi, %xmm3, %xmm4, %xmm5, %xmm6
	.irp	quad, 0, 4, 8, 12
	of_first \quad, %xmm3, %xmm4, %xmm5, %xmm6
	of_first \quad + 1, %xmm4, %xmm5, %xmm6, %xmm3
	of_first \quad + 2, %xmm5, %xmm6, %xmm3, %xmm4
	of_first \quad + 3, %xmm6, %xmm3, %xmm4, %xmm5
	.endr
	paddd	%xmm8, ABEF
	paddd	%xmm9, CDGH
	decq	%rdx
	jnz	1b

	store_state 0, ABEF, CDGH, TEMP
2:	ret
	.size	sha256_ni, . - sha256_ni

/* The variables as they are before a block are on the stack: all registers are taken. */
	.globl	sha256_ni_two
	.hidden	sha256_ni_two
	.type	sha256_ni_two, @function
sha256_ni_two:				/* RDI: H of both, RSI and RDX: data, RCX: blocks of each */
	testq	%rcx, %rcx
	jz	2f
	subq	$64, %rsp
	leaq	sha256_K(%rip), %rax
	movdqa	big_endian(%rip), ORDER
	load_state 0, ABEF, CDGH, TEMP
	load_state 32, ABEF2, CDGH2, TEMP2

1:	movdqu	ABEF, (%rsp)
	movdqu	CDGH, 16(%rsp)
	movdqu	ABEF2, 32(%rsp)
	movdqu	CDGH2, 48(%rsp)
	load_block %rsi, %xmm3, %xmm4, %xmm5, %xmm6
	load_block %rdx, %xmm9, %xmm10, %xmm11, %xmm12
	.irp	quad, 0, 4, 8, 12
	of_both	\quad, %xmm3, %xmm4, %xmm5, %xmm6, %xmm9, %xmm10, %xmm11, %xmm12
	of_both	\quad + 1, %xmm4, %xmm5, %xmm6, %xmm3, %xmm10, %xmm11, %xmm12, %xmm9
	of_both	\quad + 2, %xmm5, %xmm6, %xmm3, %xmm4, %xmm11, %xmm12, %xmm9, %xmm10
	of_both	\quad + 3, %xmm6, %xmm3, %xmm4, %xmm5, %xmm12, %xmm9, %xmm10, %xmm11
	.endr
	movdqu	(%rsp), TEMP
	paddd	TEMP, ABEF
	movdqu	16(%rsp), TEMP
	paddd	TEMP, CDGH
	movdqu	32(%rsp), TEMP2
	paddd	TEMP2, ABEF2
	movdqu	48(%rsp), TEMP2
	paddd	TEMP2, CDGH2
	decq	%rcx
	jnz	1b

	store_state 0, ABEF, CDGH, TEMP
	store_state 32, ABEF2, CDGH2, TEMP2
	addq	$64, %rsp
2:	ret
	.size	sha256_ni_two, . - sha256_ni_two

	.section .rodata, "a"
	.balign	16
big_endian:
	.byte	3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12

	.section .note.GNU-stack, "", @progbits

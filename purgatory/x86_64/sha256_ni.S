/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * SHA-256 with the instructions made for it (Intel SDM volume 2, SHA256RNDS2, SHA256MSG1, SHA256MSG2).
 *
 * The instructions keep the eight variables in two registers, from the highest word to the lowest: ABEF and
 * CDGH. SHA256RNDS2 does two rounds: its destination has CDGH and gets the new ABEF; the old ABEF is then the
 * new CDGH, so that the two registers change their parts, and are as before after the next two rounds.
 */
#define WK	%xmm0	/* the words plus constants of the next rounds; the instruction wants them here */
#define ABEF	%xmm1
#define CDGH	%xmm2
#define ORDER	%xmm7
#define TEMP	%xmm10

	.hidden	sha256_K

/* Rounds 4 * quad to 4 * quad + 3. W0 has their words, W1 to W3 the next twelve; W0 gets the four after those. */
	.macro	rounds quad, W0, W1, W2, W3
	movdqa	\W0, WK
	paddd	16 * \quad(%rax), WK
	sha256rnds2 ABEF, CDGH
	.if	\quad < 12
	sha256msg1 \W1, \W0
	movdqa	\W3, TEMP
	palignr	$4, \W2, TEMP
	paddd	TEMP, \W0
	sha256msg2 \W3, \W0
	.endif
	pshufd	$0x0e, WK, WK
	sha256rnds2 CDGH, ABEF
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

	/* DCBA and HGFE, highest word first, become ABEF and CDGH. */
	movdqu	(%rdi), ABEF
	movdqu	16(%rdi), CDGH
	pshufd	$0x1b, ABEF, TEMP
	pshufd	$0x1b, CDGH, CDGH
	movdqa	CDGH, ABEF
	punpckhqdq TEMP, ABEF
	punpcklqdq TEMP, CDGH

1:	movdqa	ABEF, %xmm8
	movdqa	CDGH, %xmm9
	movdqu	(%rsi), %xmm3
	movdqu	16(%rsi), %xmm4
	movdqu	32(%rsi), %xmm5
	movdqu	48(%rsi), %xmm6
	.irp	W, %xmm3, %xmm4, %xmm5, %xmm6
	pshufb	ORDER, \W
	.endr
	rounds	 0, %xmm3, %xmm4, %xmm5, %xmm6
	rounds	 1, %xmm4, %xmm5, %xmm6, %xmm3
	rounds	 2, %xmm5, %xmm6, %xmm3, %xmm4
	rounds	 3, %xmm6, %xmm3, %xmm4, %xmm5
	rounds	 4, %xmm3, %xmm4, %xmm5, %xmm6
	rounds	 5, %xmm4, %xmm5, %xmm6, %xmm3
	rounds	 6, %xmm5, %xmm6, %xmm3, %xmm4
	rounds	 7, %xmm6, %xmm3, %xmm4, %xmm5
	rounds	 8, %xmm3, %xmm4, %xmm5, %xmm6
	rounds	 9, %xmm4, %xmm5, %xmm6, %xmm3
	rounds	10, %xmm5, %xmm6, %xmm3, %xmm4
	rounds	11, %xmm6, %xmm3, %xmm4, %xmm5
	rounds	12, %xmm3, %xmm4, %xmm5, %xmm6
	rounds	13, %xmm4, %xmm5, %xmm6, %xmm3
	rounds	14, %xmm5, %xmm6, %xmm3, %xmm4
	rounds	15, %xmm6, %xmm3, %xmm4, %xmm5
	paddd	%xmm8, ABEF
	paddd	%xmm9, CDGH
	addq	$64, %rsi
	decq	%rdx
	jnz	1b

	movdqa	CDGH, TEMP
	punpckhqdq ABEF, CDGH
	punpcklqdq ABEF, TEMP
	pshufd	$0x1b, CDGH, CDGH
	pshufd	$0x1b, TEMP, TEMP
	movdqu	CDGH, (%rdi)
	movdqu	TEMP, 16(%rdi)
2:	ret
	.size	sha256_ni, . - sha256_ni

	.section .rodata, "a"
	.balign	16
big_endian:
	.byte	3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12

	.section .note.GNU-stack, "", @progbits

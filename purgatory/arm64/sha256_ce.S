/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * SHA-256 with the instructions made for it (Arm ARM, C7.2: SHA256H, SHA256H2, SHA256SU0, SHA256SU1).
 *
 * SHA256H and SHA256H2 do four rounds for one half of the variables each: abcd and efgh. The second needs abcd
 * as the first found it. No caller keeps anything in vector registers, so all of them are used.
 */
	.arch	armv8-a+crypto

	.hidden	sha256_K

	abcd	.req v0
	efgh	.req v1
	before	.req v2
	wk	.req v3

/* Rounds 4 * quad to 4 * quad + 3. w0 has their words, w1 to w3 the next twelve; w0 gets the four after those. */
	.macro	rounds quad, constants, w0, w1, w2, w3
	add	wk.4s, v\w0\().4s, v\constants\().4s
	mov	before.16b, abcd.16b
	sha256h	q0, q1, wk.4s
	sha256h2 q1, q2, wk.4s
	.if	\quad < 12
	sha256su0 v\w0\().4s, v\w1\().4s
	sha256su1 v\w0\().4s, v\w2\().4s, v\w3\().4s
	.endif
	.endm

/*
 * Loads are of bytes or words in vectors: where memory is of the Device kind (no MMU) only the alignment of an
 * element counts.
 */
	.text
	.globl	sha256_ce
	.hidden	sha256_ce
	.type	sha256_ce, %function
sha256_ce:				/* x0: H, x1: data, x2: blocks */
	cbz	x2, 2f
	adrp	x3, sha256_K
	add	x3, x3, :lo12:sha256_K
	ld1	{v16.4s - v19.4s}, [x3], #64
	ld1	{v20.4s - v23.4s}, [x3], #64
	ld1	{v24.4s - v27.4s}, [x3], #64
	ld1	{v28.4s - v31.4s}, [x3]
	ld1	{abcd.4s, efgh.4s}, [x0]

1:	ld1	{v4.16b - v7.16b}, [x1], #64
	rev32	v4.16b, v4.16b
	rev32	v5.16b, v5.16b
	rev32	v6.16b, v6.16b
	rev32	v7.16b, v7.16b
	mov	v8.16b, abcd.16b
	mov	v9.16b, efgh.16b
	rounds	 0, 16, 4, 5, 6, 7
	rounds	 1, 17, 5, 6, 7, 4
	rounds	 2, 18, 6, 7, 4, 5
	rounds	 3, 19, 7, 4, 5, 6
	rounds	 4, 20, 4, 5, 6, 7
	rounds	 5, 21, 5, 6, 7, 4
	rounds	 6, 22, 6, 7, 4, 5
	rounds	 7, 23, 7, 4, 5, 6
	rounds	 8, 24, 4, 5, 6, 7
	rounds	 9, 25, 5, 6, 7, 4
	rounds	10, 26, 6, 7, 4, 5
	rounds	11, 27, 7, 4, 5, 6
	rounds	12, 28, 4, 5, 6, 7
	rounds	13, 29, 5, 6, 7, 4
	rounds	14, 30, 6, 7, 4, 5
	rounds	15, 31, 7, 4, 5, 6
	add	abcd.4s, abcd.4s, v8.4s
	add	efgh.4s, efgh.4s, v9.4s
	subs	x2, x2, #1
	b.ne	1b

	st1	{abcd.4s, efgh.4s}, [x0]
2:	ret
	.size	sha256_ce, . - sha256_ce

	.section .note.GNU-stack, "", %progbits

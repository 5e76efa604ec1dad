// SPDX-License-Identifier: BSD-3-Clause
/*
 * SHA-256 as FIPS 180-4 defines it. The function and variable names are the standard's.
 *
 * The compression function here is for CPUs without instructions of their own for it; it uses no vector
 * registers. It must be fast all the same: the machine is down while it runs.
 */
#include "purgatory.h"

#define BLOCK_SIZE 64
#define WORDS 16

/*
 * Messages are of big-endian words (3.1). The compiler makes this one load, and one instruction to swap its bytes
 * where that is needed, if the CPU has it; otherwise it shifts. There is nothing that it could call.
 */
static inline u32 big_endian(const u8 *bytes)
{
	return (u32)bytes[0] << 24 | (u32)bytes[1] << 16 | (u32)bytes[2] << 8 | bytes[3];
}

/* Section 4.2.2: the fractional parts of the cube roots of the first 64 primes. */
const u32 sha256_K[64] __attribute__((aligned(16))) = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

/* Section 5.3.3: the fractional parts of the square roots of the first 8 primes. */
static const u32 H0[8] = {
	0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
};

#ifdef NO_ROTATION
/*
 * Section 4.1.2, for CPUs of 64 bits without an instruction that rotates: there a word that is followed by itself is
 * shifted. Only the low 32 bits of a result count, so that nothing need be done about the others after each step.
 */
typedef u64 word;

static inline word twice(word x)
{
	word high = x << 32;

	return high | high >> 32;
}

static inline word Sigma0(word x)
{
	return twice(x) >> 2 ^ twice(x) >> 13 ^ twice(x) >> 22;
}

static inline word Sigma1(word x)
{
	return twice(x) >> 6 ^ twice(x) >> 11 ^ twice(x) >> 25;
}

static inline word sigma0(word x)
{
	return twice(x) >> 7 ^ twice(x) >> 18 ^ (u32)x >> 3;
}

static inline word sigma1(word x)
{
	return twice(x) >> 17 ^ twice(x) >> 19 ^ (u32)x >> 10;
}
#else
typedef u32 word;

static inline u32 rotr(u32 x, int n)
{
	return (x >> n) | (x << (32 - n));
}

/* Section 4.1.2. Nested, each rotation works on the last one's result: fewer instructions and registers. */
static inline u32 Sigma0(u32 x)
{
	return rotr(x ^ rotr(x ^ rotr(x, 9), 11), 2); /* by 2, 13, 22 */
}

static inline u32 Sigma1(u32 x)
{
	return rotr(x ^ rotr(x ^ rotr(x, 14), 5), 6); /* by 6, 11, 25 */
}

static inline u32 sigma0(u32 x)
{
	return rotr(x ^ rotr(x, 11), 7) ^ (x >> 3); /* by 7, 18 */
}

static inline u32 sigma1(u32 x)
{
	return rotr(x ^ rotr(x, 2), 17) ^ (x >> 10); /* by 17, 19 */
}
#endif

static inline word Ch(word x, word y, word z)
{
	return z ^ (x & (y ^ z));
}

/*
 * One round (6.2.2, step 3). The variables are not moved along: the next round gets them under other names.
 * x_y and y_z are of Maj: a ^ b, which is b ^ c one round later. The sum begins with what is known first: that takes
 * the fewest registers.
 */
#define ROUND(i, a, b, c, d, e, f, g, h, x_y, y_z)                        \
	do {                                                              \
		h += (word)sha256_K[t + (i)] + W[i];                      \
		h += Sigma1(e);                                           \
		h += Ch(e, f, g);                                         \
		d += h;                                                   \
		x_y = a ^ b;                                              \
		h += Sigma0(a) + (b ^ (x_y & (y_z)));                     \
	} while (0)

#define FOUR_ROUNDS(i, a, b, c, d, e, f, g, h)                   \
	do {                                                     \
		ROUND((i) + 0, a, b, c, d, e, f, g, h, odd, even); \
		ROUND((i) + 1, h, a, b, c, d, e, f, g, even, odd); \
		ROUND((i) + 2, g, h, a, b, c, d, e, f, odd, even); \
		ROUND((i) + 3, f, g, h, a, b, c, d, e, even, odd); \
	} while (0)

/* The message schedule (6.2.2, step 1) as a ring of sixteen words. */
#define SCHEDULE(i) \
	(W[i] += sigma1(W[((i) + 14) % WORDS]) + W[((i) + 9) % WORDS] + sigma0(W[((i) + 1) % WORDS]))

#define FOUR_SCHEDULED(i)          \
	do {                       \
		SCHEDULE((i) + 0); \
		SCHEDULE((i) + 1); \
		SCHEDULE((i) + 2); \
		SCHEDULE((i) + 3); \
	} while (0)

/* `block` is at an address for words. */
static inline void compress(u32 H[8], const u8 *block)
{
	const u8 *words = __builtin_assume_aligned(block, sizeof(u32));
	word a = H[0], b = H[1], c = H[2], d = H[3], e = H[4], f = H[5], g = H[6], h = H[7];
	word even = b ^ c, odd;
	u32 W[WORDS];

#pragma GCC unroll 16
	for (int i = 0; i < WORDS; i++)
		W[i] = big_endian(words + 4 * i);
	for (int t = 0;; t += WORDS) {
		FOUR_ROUNDS(0, a, b, c, d, e, f, g, h);
		FOUR_ROUNDS(4, e, f, g, h, a, b, c, d);
		FOUR_ROUNDS(8, a, b, c, d, e, f, g, h);
		FOUR_ROUNDS(12, e, f, g, h, a, b, c, d);
		if (t == 64 - WORDS)
			break;
		FOUR_SCHEDULED(0);
		FOUR_SCHEDULED(4);
		FOUR_SCHEDULED(8);
		FOUR_SCHEDULED(12);
	}
	H[0] += a;
	H[1] += b;
	H[2] += c;
	H[3] += d;
	H[4] += e;
	H[5] += f;
	H[6] += g;
	H[7] += h;
}

/* Not a part of what calls it: the loop needs all registers. */
static __attribute__((noinline)) void compress_aligned(u32 H[8], const u8 *data, u64 blocks)
{
	for (; blocks; blocks--, data += BLOCK_SIZE)
		compress(H, data);
}

void sha256_portable(u32 H[8], const u8 *data, u64 blocks)
{
	u8 copy[BLOCK_SIZE] __attribute__((aligned(sizeof(u32))));

	if ((unsigned long)data % sizeof(u32) == 0) {
		compress_aligned(H, data, blocks);
		return;
	}
	/* Where memory is of the Device kind (arm64 without MMU) an unaligned access faults. */
	for (; blocks; blocks--, data += BLOCK_SIZE) {
		for (int i = 0; i < BLOCK_SIZE; i++)
			copy[i] = data[i];
		compress_aligned(H, copy, 1);
	}
}

/* What is left of a message when so many of its blocks are hashed, and the padding (5.1.1). */
static void finish(sha256_blocks *compress_blocks, u32 H[8], struct message *message, u64 hashed)
{
	u8 last[2 * BLOCK_SIZE] __attribute__((aligned(16)));
	u64 rest = message->size % BLOCK_SIZE;
	u64 padded = rest + 1 + 8 <= BLOCK_SIZE ? BLOCK_SIZE : 2 * BLOCK_SIZE;
	const u8 *end = message->data + message->size - rest;

	compress_blocks(H, message->data + hashed * BLOCK_SIZE, message->size / BLOCK_SIZE - hashed);
	for (u64 i = 0; i < padded; i++)
		last[i] = i < rest ? end[i] : i == rest ? 0x80 : 0;
	for (int i = 0; i < 8; i++)
		last[padded - 1 - (u64)i] = (u8)((message->size * 8) >> (8 * i));
	compress_blocks(H, last, padded / BLOCK_SIZE);

	for (int i = 0; i < DIGEST_SIZE; i++)
		message->digest[i] = (u8)(H[i / 4] >> (24 - 8 * (i % 4)));
}

void sha256(const struct compression *compression, struct message *messages, u32 count)
{
	u32 H[2][8] __attribute__((aligned(16)));
	u64 hashed = 0;

	for (int i = 0; i < 16; i++)
		H[i / 8][i % 8] = H0[i % 8];
	if (count == 2 && compression->two) {
		u64 smaller = messages[0].size < messages[1].size ? messages[0].size : messages[1].size;

		hashed = smaller / BLOCK_SIZE;
		compression->two(H, messages[0].data, messages[1].data, hashed);
	}
	for (u32 i = 0; i < count; i++)
		finish(compression->one, H[i], &messages[i], hashed);
}

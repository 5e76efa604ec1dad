// SPDX-License-Identifier: BSD-3-Clause
/*
 * SHA-256 as FIPS 180-4 defines it. The function and variable names are the standard's.
 *
 * The message schedule is kept as a ring of sixteen words and computed while it is used, so that the working
 * set stays in registers and one cache line; this runs while the machine is down.
 */
#include "purgatory.h"

#define BLOCK_SIZE 64

/* Section 4.2.2: the fractional parts of the cube roots of the first 64 primes. */
static const u32 K[64] = {
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

static inline u32 rotr(u32 x, int n)
{
	return (x >> n) | (x << (32 - n));
}

static inline u32 big_endian(const u8 *p)
{
	return ((u32)p[0] << 24) | ((u32)p[1] << 16) | ((u32)p[2] << 8) | p[3];
}

static void compress(u32 H[8], const u8 *block)
{
	u32 a = H[0], b = H[1], c = H[2], d = H[3], e = H[4], f = H[5], g = H[6], h = H[7];
	u32 W[16];

	for (int t = 0; t < 64; t++) {
		if (t < 16) {
			W[t] = big_endian(block + 4 * t);
		} else {
			u32 w1 = W[(t - 2) & 15], w14 = W[(t - 15) & 15];
			u32 sigma1 = rotr(w1, 17) ^ rotr(w1, 19) ^ (w1 >> 10);
			u32 sigma0 = rotr(w14, 7) ^ rotr(w14, 18) ^ (w14 >> 3);

			W[t & 15] += sigma1 + W[(t - 7) & 15] + sigma0;
		}
		u32 Sigma1 = rotr(e, 6) ^ rotr(e, 11) ^ rotr(e, 25);
		u32 Ch = (e & f) ^ (~e & g);
		u32 T1 = h + Sigma1 + Ch + K[t] + W[t & 15];
		u32 Sigma0 = rotr(a, 2) ^ rotr(a, 13) ^ rotr(a, 22);
		u32 Maj = (a & b) ^ (a & c) ^ (b & c);

		h = g;
		g = f;
		f = e;
		e = d + T1;
		d = c;
		c = b;
		b = a;
		a = T1 + Sigma0 + Maj;
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

void sha256(const u8 *data, u64 size, u8 digest[DIGEST_SIZE])
{
	u32 H[8];
	u8 last[2 * BLOCK_SIZE];
	u64 rest = size % BLOCK_SIZE;
	u64 padded = rest + 1 + 8 <= BLOCK_SIZE ? BLOCK_SIZE : 2 * BLOCK_SIZE;

	for (int i = 0; i < 8; i++)
		H[i] = H0[i];
	for (const u8 *end = data + (size - rest); data < end; data += BLOCK_SIZE)
		compress(H, data);

	for (u64 i = 0; i < padded; i++)
		last[i] = i < rest ? data[i] : i == rest ? 0x80 : 0;
	for (int i = 0; i < 8; i++)
		last[padded - 1 - (u64)i] = (u8)((size * 8) >> (8 * i));
	for (u64 i = 0; i < padded; i += BLOCK_SIZE)
		compress(H, last + i);

	for (int i = 0; i < DIGEST_SIZE; i++)
		digest[i] = (u8)(H[i / 4] >> (24 - 8 * (i % 4)));
}

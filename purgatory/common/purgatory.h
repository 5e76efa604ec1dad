/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef PURGATORY_H
#define PURGATORY_H

#include "params.h"

/* Hidden, so that no address is taken from a global offset table, which would need relocating. */
#pragma GCC visibility push(hidden)

/* The compression function of SHA-256 over so many blocks of 64 bytes, at any address. */
typedef void sha256_blocks(u32 H[8], const u8 *data, u64 blocks);

/* The same for two messages at once, so many blocks of each. */
typedef void sha256_two_blocks(u32 H[2][8], const u8 *data, const u8 *other, u64 blocks);

struct compression {
	sha256_blocks *one;
	sha256_two_blocks *two; /* zero: there is none */
};

struct message {
	const u8 *data;
	u64 size;
	u8 digest[DIGEST_SIZE];
};

/* Fills in the digests of one or two messages. Two of about the same size take less time than one by one. */
void sha256(const struct compression *compression, struct message *messages, u32 count);

sha256_blocks sha256_portable;
extern const u32 sha256_K[64];

void print(const char *text);
void format_hex(u64 number, char text[8]);
void print_hex(u64 number);
void print_decimal(u64 number);

/*
 * What each architecture supplies. Between arch_begin and arch_end the machine is as it hashes fastest:
 * only what params names may be touched, and no kernel started. Returns what to hash with.
 */
struct compression arch_begin(const struct params *params);
void arch_end(const struct params *params);

void arch_put_byte(u8 byte); /* to what params name, if the architecture has it */
void arch_copy(u64 destination, u64 source, u64 size);
void arch_reset(void) __attribute__((noreturn));

/* uart_mmio.c, for arch_put_byte: to a UART with registers in memory, if params name one. */
void uart_mmio_put_byte(u8 byte);

/* Called from the architecture's entry code; returns only when the kernel may be started. */
void purgatory(void);

#pragma GCC visibility pop

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef PURGATORY_H
#define PURGATORY_H

#include "params.h"

void sha256(const u8 *data, u64 size, u8 digest[DIGEST_SIZE]);

void print(const char *text);
void print_hex(u64 number);
void print_decimal(u64 number);

/* What each architecture supplies. */
void arch_put_byte(u8 byte);
void arch_copy(u64 destination, u64 source, u64 size);
void arch_reset(void) __attribute__((noreturn));
void arch_halt(void) __attribute__((noreturn));

/* Called from the architecture's entry code; returns only when the kernel may be started. */
void purgatory(void);

#endif

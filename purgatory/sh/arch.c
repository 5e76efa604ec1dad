// SPDX-License-Identifier: BSD-3-Clause
/* All addresses that purgatory is told are those of P1, as the running kernel has mapped memory there. */
#include "purgatory.h"

/* SCIF of SH-4 and SH-4A (SH7751 hardware manual, 16.2): a transmit FIFO, and the serial status register. */
enum { SCFTDR = 0x0c, SCFSR = 0x10, SCFSR_TDFE = 0x20, SCFSR_TEND = 0x40 };

/* Long enough for a byte at 1200 baud, for a device access of at least 100 ns. */
enum { POLLS_MAX = 100000 };

enum { CACHE_LINE = 32, CACHE_MAX = 64 * 1024 };

#define SR_MD	 0x40000000u /* privileged */
#define SR_BL	 0x10000000u /* exceptions blocked: one resets the CPU */
#define SR_IMASK 0x000000f0u
#define P1	 0x80000000u

struct compression arch_begin(const struct params *params)
{
	(void)params;
	return (struct compression){ sha256_portable, 0 };
}

/*
 * What was copied before the jump, and in arch_copy, may still be in the data cache only, from which no instruction is
 * fetched (entry.S). It is written back to make room for other memory, twice what a cache holds, since the line that
 * goes is the one used least recently.
 */
void arch_end(const struct params *params)
{
	const volatile u8 *kernel = (const volatile u8 *)(unsigned long)params->jump_to;

	for (u32 i = 0; i < 2 * CACHE_MAX; i += CACHE_LINE)
		(void)kernel[i];
}

void arch_put_byte(u8 byte)
{
	unsigned long base = (unsigned long)purgatory_params.console_base;
	volatile u8 *data = (volatile u8 *)(base + SCFTDR);
	volatile u16 *status = (volatile u16 *)(base + SCFSR);

	if (purgatory_params.console != CONSOLE_SCIF)
		return;
	for (int i = 0; i < POLLS_MAX && !(*status & SCFSR_TDFE); i++)
		;
	*data = byte;
	*status = (u16)(*status & ~(SCFSR_TDFE | SCFSR_TEND));
}

void arch_copy(u64 destination, u64 source, u64 size)
{
	u8 *to = (u8 *)(unsigned long)destination;
	const u8 *from = (const u8 *)(unsigned long)source;

	for (unsigned long i = 0; i < size; i++)
		to[i] = from[i];
}

/* An address error where none may happen is a manual reset (SH-4 software manual, 5.6.1); so Linux does it, too. */
void arch_reset(void)
{
	u32 found;

	__asm__ volatile("ldc %1, sr\n\tmov.l @%2, %0" : "=r"(found) : "r"(SR_MD | SR_BL | SR_IMASK), "r"(P1 + 1));
	for (;;)
		__asm__ volatile("");
}

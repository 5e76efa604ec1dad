// SPDX-License-Identifier: BSD-3-Clause
/* What 32-bit PowerPC supplies. Devices are driven on e500 cores alone: entry.S has mapped them. */
#include "cached.h"

/* params.reset */
enum { RESET_NONE = 0, RESET_RSTCR = 1 };

/* params.arguments, beside the device tree */
enum { RESET_REGISTER = 1 };

/* RSTCR of the global utilities block (MPC8544E reference manual, 18.4.1.17): asks the board for a hard reset. */
enum { HRESET_REQ = 2 };

void arch_put_byte(u8 byte)
{
	uart_mmio_put_byte(byte);
}

void arch_copy(u64 destination, u64 source, u64 size)
{
	u32 *to = (u32 *)(unsigned long)destination;
	const u32 *from = (const u32 *)(unsigned long)source;

	for (unsigned long i = 0; i < (unsigned long)size / sizeof(*to); i++)
		to[i] = from[i];
}

void arch_reset(void)
{
	const struct params *params = &purgatory_params;

	if (params->reset == RESET_RSTCR)
		*(volatile u32 *)(unsigned long)params->arguments[RESET_REGISTER] = HRESET_REQ;
	for (;;)
		;
}

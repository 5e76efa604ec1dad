// SPDX-License-Identifier: BSD-3-Clause
/* Memory is cached: entry.S has made it so for physical addresses. */
#include "cached.h"

enum {
	ARGUMENT_RESET_REGISTER = 1, /* where its address is; the first argument goes to a1 */
	RESET_BY_REGISTER = 1 << 8, /* in `reset`, above the byte that is written */
};

void arch_put_byte(u8 byte)
{
	uart_mmio_put_byte(byte);
}

void arch_copy(u64 destination, u64 source, u64 size)
{
	u8 *to = (u8 *)destination;
	const u8 *from = (const u8 *)source;

	for (u64 i = 0; i < size; i++)
		to[i] = from[i];
}

/* ACPI 6.5, 4.8.3.6: the reset register, which is a byte. Without one a watchdog may still reset the machine. */
void arch_reset(void)
{
	const struct params *params = &purgatory_params;

	if (params->reset & RESET_BY_REGISTER)
		*(volatile u8 *)params->arguments[ARGUMENT_RESET_REGISTER] = (u8)params->reset;
	for (;;)
		__asm__ volatile("idle 0");
}

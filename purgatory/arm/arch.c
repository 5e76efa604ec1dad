// SPDX-License-Identifier: BSD-3-Clause
#include "arm.h"

#define PSCI_SYSTEM_RESET 0x84000009u /* ARM DEN 0022, 5.9 */

struct compression arch_begin(const struct params *params)
{
	cache_begin(params);
	return (struct compression){ sha256_portable, 0 };
}

void arch_end(const struct params *params)
{
	(void)params;
	cache_end();
}

void arch_put_byte(u8 byte)
{
	uart_mmio_put_byte(byte);
}

void arch_copy(u64 destination, u64 source, u64 size)
{
	volatile u8 *to = (volatile u8 *)(unsigned long)destination;
	const volatile u8 *from = (const volatile u8 *)(unsigned long)source;

	for (unsigned long i = 0; i < size; i++)
		to[i] = from[i];
}

/* Without PSCI, or where its call would come back here (HVC in HYP mode), a watchdog may still reset it. */
void arch_reset(void)
{
	register u32 r0 __asm__("r0") = PSCI_SYSTEM_RESET;

	if (purgatory_params.reset == RESET_PSCI_HVC && !at_hyp())
		__asm__ volatile(".arch armv7-a\n\t.arch_extension virt\n\thvc #0\n\t.arch armv5te" : "+r"(r0) : : "memory");
	else if (purgatory_params.reset == RESET_PSCI_SMC)
		__asm__ volatile(".arch armv7-a\n\t.arch_extension sec\n\tsmc #0\n\t.arch armv5te" : "+r"(r0) : : "memory");
	for (;;)
		__asm__ volatile("");
}

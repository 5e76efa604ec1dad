// SPDX-License-Identifier: BSD-3-Clause
#include "arm64.h"

#define PSCI_SYSTEM_RESET 0x84000009u /* ARM DEN 0022, 5.9 */

struct compression arch_begin(const struct params *params)
{
	cache_begin(params);
	return (struct compression){ sha256_simd_begin() ? sha256_ce : sha256_portable, 0 };
}

void arch_end(const struct params *params)
{
	sha256_simd_end();
	cache_end(params);
}

void arch_put_byte(u8 byte)
{
	uart_mmio_put_byte(byte);
}

/* Bytewise: with the MMU off memory is of the Device kind, where an unaligned access faults. */
void arch_copy(u64 destination, u64 source, u64 size)
{
	volatile u8 *to = (volatile u8 *)destination;
	const volatile u8 *from = (const volatile u8 *)source;

	for (u64 i = 0; i < size; i++)
		to[i] = from[i];
}

void arch_reset(void)
{
	register u64 x0 __asm__("x0") = PSCI_SYSTEM_RESET;

	if (purgatory_params.reset == RESET_PSCI_HVC)
		__asm__ volatile("hvc #0" : "+r"(x0) : : "memory");
	else if (purgatory_params.reset == RESET_PSCI_SMC)
		__asm__ volatile("smc #0" : "+r"(x0) : : "memory");
	for (;;)
		__asm__ volatile("wfi");
}

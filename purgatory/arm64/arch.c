// SPDX-License-Identifier: BSD-3-Clause
#include "arm64.h"

/* PL011 registers and bits (ARM DDI 0183, table 3-1) */
enum { UARTDR = 0x00, UARTFR = 0x18, UARTFR_TXFF = 0x20 };

/* 8250 registers and bits (the names of include/uapi/linux/serial_reg.h) */
enum { UART_TX = 0, UART_LSR = 5, UART_LSR_THRE = 0x20 };

/* Long enough for a byte at 1200 baud, for a device access of at least 100 ns. */
enum { POLLS_MAX = 100000 };

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

static u32 read32(u64 address)
{
	return *(volatile u32 *)address;
}

static u8 read8(u64 address)
{
	return *(volatile u8 *)address;
}

static void write32(u64 address, u32 value)
{
	*(volatile u32 *)address = value;
}

static void write8(u64 address, u8 value)
{
	*(volatile u8 *)address = value;
}

void arch_put_byte(u8 byte)
{
	const struct params *params = &purgatory_params;
	u64 base = params->console_base;
	u64 lsr = base + ((u64)UART_LSR << params->console_shift);

	switch (params->console) {
	case CONSOLE_PL011:
		for (int i = 0; i < POLLS_MAX && (read32(base + UARTFR) & UARTFR_TXFF); i++)
			;
		write32(base + UARTDR, byte);
		break;
	case CONSOLE_8250_MMIO:
		for (int i = 0; i < POLLS_MAX && !(read8(lsr) & UART_LSR_THRE); i++)
			;
		write8(base + UART_TX, byte);
		break;
	case CONSOLE_8250_MMIO32:
		for (int i = 0; i < POLLS_MAX && !(read32(lsr) & UART_LSR_THRE); i++)
			;
		write32(base + UART_TX, byte);
		break;
	}
}

/* Bytewise: with the MMU off memory is of the Device kind, where an unaligned access faults. */
void arch_copy(u64 destination, u64 source, u64 size)
{
	for (u64 i = 0; i < size; i++)
		write8(destination + i, read8(source + i));
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

// SPDX-License-Identifier: BSD-3-Clause
/* UARTs whose registers are in memory: for architectures that have no other place for them. */
#include "purgatory.h"

/* PL011 registers and bits (ARM DDI 0183, table 3-1) */
enum { UARTDR = 0x00, UARTFR = 0x18, UARTFR_TXFF = 0x20 };

/* 8250 registers and bits (the names of include/uapi/linux/serial_reg.h) */
enum { UART_TX = 0, UART_LSR = 5, UART_LSR_THRE = 0x20 };

/* Long enough for a byte at 1200 baud, for a device access of at least 100 ns. */
enum { POLLS_MAX = 100000 };

static u32 read32(u64 address)
{
	return *(volatile u32 *)(unsigned long)address;
}

static u8 read8(u64 address)
{
	return *(volatile u8 *)(unsigned long)address;
}

static void write32(u64 address, u32 value)
{
	*(volatile u32 *)(unsigned long)address = value;
}

static void write8(u64 address, u8 value)
{
	*(volatile u8 *)(unsigned long)address = value;
}

void uart_mmio_put_byte(u8 byte)
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

// SPDX-License-Identifier: BSD-3-Clause
/* Memory is cached, without the MMU too: its attributes are the machine's own (PMA). */
#include "cached.h"

/* RISC-V SBI specification: extensions, and functions of theirs */
enum {
	LEGACY_CONSOLE_PUTCHAR = 0x01, /* 5.2; an extension of one function */
	BASE = 0x10, /* 4: every firmware has it since version 0.2 */
	BASE_PROBE_EXTENSION = 3,
	DEBUG_CONSOLE = 0x4442434e, /* 12: "DBCN" */
	DEBUG_CONSOLE_WRITE_BYTE = 2,
	SYSTEM_RESET = 0x53525354, /* 10: "SRST" */
	SYSTEM_RESET_NOW = 0,
};
enum { COLD_REBOOT = 1, SYSTEM_FAILURE = 1 };

struct answer {
	long error;
	long value;
};

static struct answer call(long extension, long function, long first, long second)
{
	register long a0 __asm__("a0") = first;
	register long a1 __asm__("a1") = second;
	register long a6 __asm__("a6") = function;
	register long a7 __asm__("a7") = extension;

	__asm__ volatile("ecall" : "+r"(a0), "+r"(a1) : "r"(a6), "r"(a7) : "memory");
	return (struct answer){ a0, a1 };
}

/* Old firmware has the older of the two calls, new firmware may have that one no longer. */
static void firmware_put_byte(u8 byte)
{
	struct answer probed = call(BASE, BASE_PROBE_EXTENSION, DEBUG_CONSOLE, 0);

	if (!probed.error && probed.value)
		call(DEBUG_CONSOLE, DEBUG_CONSOLE_WRITE_BYTE, byte, 0);
	else
		call(LEGACY_CONSOLE_PUTCHAR, 0, byte, 0);
}

void arch_put_byte(u8 byte)
{
	if (purgatory_params.console == CONSOLE_FIRMWARE)
		firmware_put_byte(byte);
	else
		uart_mmio_put_byte(byte);
}

void arch_copy(u64 destination, u64 source, u64 size)
{
	u8 *to = (u8 *)destination;
	const u8 *from = (const u8 *)source;

	for (u64 i = 0; i < size; i++)
		to[i] = from[i];
}

/* Firmware that has no such call can switch the machine off, no more: then a watchdog may still reset it. */
void arch_reset(void)
{
	call(SYSTEM_RESET, SYSTEM_RESET_NOW, COLD_REBOOT, SYSTEM_FAILURE);
	for (;;)
		__asm__ volatile("wfi");
}

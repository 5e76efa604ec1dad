/* SPDX-License-Identifier: BSD-3-Clause */
/* What 64-bit POWER supplies, in either byte order. */

/* params.reset: which firmware this machine has. */
enum firmware { NO_FIRMWARE = 0, RTAS = 1, OPAL = 2 };

/* params.arguments, beside the device tree */
enum { FIRMWARE_BASE = 1, FIRMWARE_ENTRY = 2, RTAS_SYSTEM_REBOOT = 3 };

/* Power Architecture Platform Reference, 14.5.3.1: H_PUT_TERM_CHAR; 14.5.2: return codes */
enum { H_PUT_TERM_CHAR = 0x58, H_BUSY = 1, RETRIES_MAX = 100000 };

/* skiboot, doc/opal-api; include/opal-api.h */
enum { OPAL_CONSOLE_WRITE = 1, OPAL_CEC_REBOOT = 6, OPAL_POLL_EVENTS = 10 };
enum { OPAL_BUSY = -2, OPAL_BUSY_EVENT = -12 };

__attribute__((noreturn)) void rtas_enter(void *arguments, u64 base, u64 entry);
long opal_call(u64 a, u64 b, u64 c, u64 token, u64 base, u64 entry);

/* Firmware's numbers are big-endian. */
static u32 big_endian_32(u32 number)
{
	return __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? number : __builtin_bswap32(number);
}

static long opal(u64 a, u64 b, u64 c, u64 token)
{
	const u64 *arguments = purgatory_params.arguments;

	return opal_call(a, b, c, token, arguments[FIRMWARE_BASE], arguments[FIRMWARE_ENTRY]);
}

static long hypervisor_put_byte(u64 terminal, u8 byte)
{
	register u64 r3 __asm__("r3") = H_PUT_TERM_CHAR;
	register u64 r4 __asm__("r4") = terminal;
	register u64 r5 __asm__("r5") = 1;
	register u64 r6 __asm__("r6") = (u64)byte << 56;
	register u64 r7 __asm__("r7") = 0;

	__asm__ volatile("sc 1"
			 : "+r"(r3), "+r"(r4), "+r"(r5), "+r"(r6), "+r"(r7)
			 :
			 : "r0", "r8", "r9", "r10", "r11", "r12", "ctr", "xer", "cr0", "cr1", "cr5", "cr6", "cr7",
			   "memory");
	return (long)r3;
}

static long opal_put_byte(u64 terminal, u8 byte)
{
	u32 length[2] = { 0, big_endian_32(1) };
	long result = opal(terminal, (u64)length, (u64)&byte, OPAL_CONSOLE_WRITE);

	opal(0, 0, 0, OPAL_POLL_EVENTS); /* it writes from there */
	return result == OPAL_BUSY || result == OPAL_BUSY_EVENT;
}

void arch_put_byte(u8 byte)
{
	const struct params *params = &purgatory_params;

	if (params->console != CONSOLE_FIRMWARE)
		return;
	for (int i = 0; i < RETRIES_MAX; i++) {
		if (params->reset == OPAL ? !opal_put_byte(params->console_base, byte) :
					    hypervisor_put_byte(params->console_base, byte) != H_BUSY)
			return;
	}
}

void arch_copy(u64 destination, u64 source, u64 size)
{
	u64 *to = (u64 *)destination;
	const u64 *from = (const u64 *)source;

	for (u64 i = 0; i < size / sizeof(*to); i++)
		to[i] = from[i];
}

void arch_reset(void)
{
	const u64 *arguments = purgatory_params.arguments;
	/* Power Architecture Platform Reference, 7.2.6: token, counts of arguments and of results, those */
	u32 call[4] __attribute__((aligned(16))) = {
		big_endian_32((u32)arguments[RTAS_SYSTEM_REBOOT]), 0, big_endian_32(1), 0
	};

	if (purgatory_params.reset == RTAS)
		rtas_enter(call, arguments[FIRMWARE_BASE], arguments[FIRMWARE_ENTRY]);
	if (purgatory_params.reset == OPAL)
		opal(0, 0, 0, OPAL_CEC_REBOOT);
	for (;;) {
		if (purgatory_params.reset == OPAL)
			opal(0, 0, 0, OPAL_POLL_EVENTS);
	}
}

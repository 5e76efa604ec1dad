// SPDX-License-Identifier: BSD-3-Clause
#include "cached.h"

/* The arguments, in a crash; all are 0 in a boot. */
enum {
	ARGUMENT_REGION = 0, /* where the memory begins that is reserved for the capture kernel */
	ARGUMENT_REGION_SIZE = 1,
};

#pragma GCC visibility push(hidden)
void exchange(u64 region, u64 size);
void give_up(void) __attribute__((noreturn));
void take_service_signal(void);
#pragma GCC visibility pop

/* Of the region's first 64 KiB: the crashed kernel's lowcore, and what is purgatory's (arch/s390x/loader.py). */
enum { LOWCORE_END = 0x2000, EXCHANGED_FROM = 0x10000 };

static int is_crash(void)
{
	return purgatory_params.arguments[ARGUMENT_REGION_SIZE] != 0;
}

void arch_copy(u64 destination, u64 source, u64 size)
{
	u8 *to = (u8 *)destination;
	const u8 *from = (const u8 *)source;

	for (u64 i = 0; i < size; i++)
		to[i] = from[i];
}

/*
 * Exchange the region with as much memory from 0 on: the capture kernel runs there, and looks for the crashed one's
 * memory in the region. The lowcore is copied: the capture kernel goes on with the one that is there. What is between
 * it and EXCHANGED_FROM no kernel uses.
 */
void exchange(u64 region, u64 size)
{
	arch_copy(region, 0, LOWCORE_END);
	for (u64 at = EXCHANGED_FROM; at < size; at += sizeof(u64)) {
		u64 *low = (u64 *)at, *high = (u64 *)(region + at);
		u64 word = *low;

		*low = *high;
		*high = word;
	}
}

/*
 * The service-call logical processor (SCLP), as Linux uses it: drivers/s390/char/sclp.h, sclp_early_core.c
 */
enum { WRITE_EVENT_DATA = 0x00760005, WRITE_EVENT_MASK = 0x00780005 };
enum { INITIATED = 0, BUSY = 2 }; /* condition codes */
enum { NORMAL_COMPLETION = 0x0020 };
enum { VT220_MESSAGE = 0x1a };
enum { EVENT_MASK_SIZE = 4 };
enum { VT220_MASK = 1U << (32 - VT220_MESSAGE) };
enum { LINE_MAX = 128 };
/* A command takes milliseconds; another one may have to end before. In units of the TOD clock: a tenth of a second. */
#define PATIENCE (100000ULL << 12)

struct header {
	u16 length;
	u8 function;
	u8 control[3];
	volatile u16 response;
};

struct event_mask {
	struct header header;
	u16 reserved;
	u16 mask_size;
	u32 receive;
	u32 send;
	u32 can_receive;
	u32 can_send;
};

struct text_event {
	struct header header;
	u16 length; /* from here on */
	u8 type;
	u8 flags;
	u16 reserved;
	char text[LINE_MAX];
};

/* In one piece, below 2 GiB: see send(). */
static union {
	struct header header;
	struct event_mask mask;
	struct text_event text;
} block __attribute__((aligned(256)));

static int service_call(u32 command)
{
	int condition;

	__asm__ volatile(".insn rre, 0xb2200000, %1, %2\n\tipm %0\n\tsrl %0, 28"
			 : "=d"(condition)
			 : "d"(command), "a"(&block)
			 : "cc", "memory");
	return condition;
}

static u64 now(void)
{
	u64 time;

	__asm__ volatile("stck %0" : "=Q"(time) : : "cc");
	return time;
}

/* Returns whether the service processor did it. On a running machine another CPU may take the interruption. */
static int done(u32 command)
{
	u64 began = now();
	int condition;

	block.header.response = 0;
	do {
		take_service_signal();
		condition = service_call(command);
	} while (condition == BUSY && now() - began < PATIENCE);
	if (condition != INITIATED)
		return 0;
	while (!block.header.response && now() - began < PATIENCE)
		;
	take_service_signal();
	return block.header.response == NORMAL_COMPLETION;
}

/* The crashed kernel has said already which messages it sends; after a reset nobody has. */
static void allow_messages(void)
{
	static int asked;

	if (asked || is_crash())
		return;
	asked = 1;
	block.mask = (struct event_mask){
		.header.length = sizeof(struct event_mask),
		.mask_size = EVENT_MASK_SIZE,
		.send = VT220_MASK,
	};
	done(WRITE_EVENT_MASK);
}

static void send(const char *text, u32 length)
{
	/* The service processor has addresses of 31 bits. */
	if ((u64)(&block + 1) >> 31)
		return;
	allow_messages();
	block.text.header = (struct header){
		.length = (u16)(sizeof(struct text_event) - LINE_MAX + length),
	};
	block.text.length = (u16)(block.text.header.length - sizeof(struct header));
	block.text.type = VT220_MESSAGE;
	block.text.flags = 0;
	block.text.reserved = 0;
	for (u32 i = 0; i < length; i++)
		block.text.text[i] = text[i];
	done(WRITE_EVENT_DATA);
}

/* Line by line: each message takes milliseconds. */
void arch_put_byte(u8 byte)
{
	static char line[LINE_MAX];
	static u32 length;

	if (purgatory_params.console != CONSOLE_FIRMWARE)
		return;
	line[length++] = (char)byte;
	if (byte == '\n' || length == LINE_MAX) {
		send(line, length);
		length = 0;
	}
}

/* In a crash the old kernel goes on; else this is a new start of what the machine was last started with. */
void arch_reset(void)
{
	register u64 subcode __asm__("r1") = 3; /* arch/s390/include/asm/diag.h, DIAG308_LOAD_CLEAR */
	static const u64 stop[2] __attribute__((aligned(8))) = { 0x0002000180000000, 0 }; /* a disabled wait */

	if (is_crash())
		give_up();
	__asm__ volatile("lghi 0, 0\n\tdiag 0, %0, 0x308" : : "d"(subcode) : "r0", "memory");
	for (;;)
		__asm__ volatile("lpswe %0" : : "Q"(stop));
}

// SPDX-License-Identifier: BSD-3-Clause
/*
 * The kernel enters purgatory with MMU and data cache off: every load then goes to memory, and hashing takes many
 * times as long. So, on an ARMv7 CPU in SVC mode, an identity map is made of sections (1 MiB) with what is hashed,
 * purgatory itself and the UART, and the caches are on while hashing. Registers and descriptors: Arm ARM DDI 0406, B3
 * and B4.
 *
 * On older CPUs, in HYP mode, and for addresses that are none here, nothing is changed; the result is the same, later.
 *
 * The kernel has cleaned and invalidated all of its caches (machine_kexec.c, cpu_reset). So there is nothing old in
 * them when they are switched on; switch.S does the same for what comes in here.
 */
#include "arm.h"

/* CTR: its format is what tells an ARMv7 CPU (and ARMv8) from an ARM1176, whose other registers call it one, too. */
enum { CTR_FORMAT = 29, CTR_FORMAT_V7 = 4 };

/* SCTLR; TRE and AFE change what descriptors mean, WXN and UWXN forbid to run what can be written. */
#define SCTLR_M (1u << 0)
#define SCTLR_A (1u << 1)
#define SCTLR_C (1u << 2)
#define SCTLR_Z (1u << 11)
#define SCTLR_I (1u << 12)
#define SCTLR_WXN (1u << 19)
#define SCTLR_UWXN (1u << 20)
#define SCTLR_TRE (1u << 28)
#define SCTLR_AFE (1u << 29)

/* Sections of domain 0, whose accesses are not checked (DACR 3). */
#define SECTION 2u
#define EXECUTE_NEVER (1u << 4)
#define READ_AND_WRITE (3u << 10)
#define NORMAL (SECTION | READ_AND_WRITE | 1u << 12 | 3u << 2) /* write-back, allocating, not shareable */
#define DEVICE (SECTION | READ_AND_WRITE | EXECUTE_NEVER | 1u << 2)
#define MANAGER 3u
#define WALKS 0x48u /* TTBR0: tables in write-back memory */

enum { SECTION_SHIFT = 20, SECTIONS = 4096 };

/* switch.S has the offsets. */
struct translation {
	u32 sctlr;
	u32 ttbcr;
	u32 ttbr0;
	u32 dacr;
};

#pragma GCC visibility push(hidden)
void mmu_on(const struct translation *translation);
void mmu_off(const struct translation *translation);

extern const u8 image_start[];
extern const u8 image_end[];
#pragma GCC visibility pop

/* The table is aligned to its size within this: aligned by the linker it would take that much of the file, too. */
static u32 room[2 * SECTIONS];
static u32 *table;
static struct translation saved;
static int mapped;

#define READ(name, operands)                                                      \
	static u32 read_##name(void)                                              \
	{                                                                         \
		u32 value;                                                        \
                                                                                  \
		__asm__ volatile("mrc p15, 0, %0, " operands : "=r"(value));      \
		return value;                                                     \
	}

READ(ctr, "c0, c0, 1")
READ(sctlr, "c1, c0, 0")
READ(ttbr0, "c2, c0, 0")
READ(ttbcr, "c2, c0, 2")
READ(dacr, "c3, c0, 0")

static int map(u64 address, u64 size, u32 descriptor)
{
	u64 end = address + size;

	if (!size)
		return 1;
	if (end > 1ull << 32 || end < address)
		return 0;
	for (u32 i = (u32)address >> SECTION_SHIFT; i <= (u32)(end - 1) >> SECTION_SHIFT; i++) {
		u32 wanted = i << SECTION_SHIFT | descriptor;

		if (table[i] && table[i] != wanted)
			return 0;
		table[i] = wanted;
	}
	return 1;
}

static int map_all(const struct params *params)
{
	table = (u32 *)(((unsigned long)room + sizeof(room) / 2 - 1) & -(sizeof(room) / 2));
	for (int i = 0; i < SECTIONS; i++)
		table[i] = 0;
	if (!map((unsigned long)image_start, (unsigned long)(image_end - image_start), NORMAL))
		return 0;
	for (u32 i = 0; i < params->region_count; i++)
		if (!map(params->regions[i].address, params->regions[i].size, NORMAL))
			return 0;
	return params->console == CONSOLE_NONE || map(params->console_base, 1, DEVICE);
}

void cache_begin(const struct params *params)
{
	struct translation translation;

	mapped = 0;
	if (at_hyp() || read_ctr() >> CTR_FORMAT != CTR_FORMAT_V7)
		return;
	saved = (struct translation){ read_sctlr(), read_ttbcr(), read_ttbr0(), read_dacr() };
	if (saved.sctlr & (SCTLR_M | SCTLR_C) || !map_all(params))
		return;
	translation.sctlr = saved.sctlr & ~(SCTLR_A | SCTLR_WXN | SCTLR_UWXN | SCTLR_TRE | SCTLR_AFE);
	translation.sctlr |= SCTLR_M | SCTLR_C | SCTLR_I | SCTLR_Z;
	translation.ttbcr = 0;
	translation.ttbr0 = (u32)(unsigned long)table | WALKS;
	translation.dacr = MANAGER;
	mapped = 1;
	mmu_on(&translation);
}

void cache_end(void)
{
	if (mapped)
		mmu_off(&saved);
}

// SPDX-License-Identifier: BSD-3-Clause
/*
 * The kernel enters purgatory with MMU and data cache off: every load then goes to memory, and hashing takes
 * many times as long. So an identity map is made of what is hashed, of purgatory itself and of the UART, and the
 * caches are on while hashing. Nothing else is mapped, so that the CPU cannot speculate into it.
 *
 * Where that cannot be done, because of the CPU or of the addresses, nothing is changed but the instruction
 * cache; the result is the same, later. Registers and descriptors: Arm ARM, D8 and D19.2.
 *
 * What the caches may hold when purgatory is entered. The kernel has cleaned what it loaded to memory: a segment
 * at its final place when it was loaded (kexec_segment_flush) or by the relocation code after copying it. A line
 * of it that is in the cache all the same is either a copy of memory, or was written later through the old
 * kernel's mapping: that is damage. Clean and invalidate (DC CIVAC) is right for both: the copy goes away, so
 * that a change in memory behind the cache is seen; and damage is written to memory, where the check finds it.
 * It would otherwise get there at any time after the check. Invalidating alone (DC IVAC) might or might not lose
 * it, would lose a neighbour's bytes in the same line, and is the same as CIVAC under some hypervisors.
 */
#include "arm64.h"

#define PAGE_SIZE 4096ull
#define ENTRIES 512 /* of a table: a page of eight bytes each */

/* SCTLR_EL1, SCTLR_EL2 */
enum { SCTLR_M = 1 << 0, SCTLR_A = 1 << 1, SCTLR_C = 1 << 2, SCTLR_I = 1 << 12, SCTLR_WXN = 1 << 19 };

/* ID_AA64MMFR0_EL1 */
enum { MMFR0_PARANGE = 0, MMFR0_TGRAN4 = 28, TGRAN4_NONE = 0xf };

/* ID_AA64MMFR3_EL1 */
enum { MMFR3_TCRX = 0 };

/* TCR: 48 bits of address, tables of 4 KiB in write-back memory that is inner shareable, no upper half. */
enum { ADDRESS_BITS = 48 };
#define TCR_COMMON ((64 - ADDRESS_BITS) | 1 << 8 | 1 << 10 | 3 << 12)
#define TCR_EL1_EPD1 (1ull << 23)
#define TCR_EL1_IPS 32
#define TCR_EL2_RES1 (1ull << 31 | 1ull << 23)
#define TCR_EL2_PS 16

/* MAIR: Device-nGnRnE, as all memory is without MMU; and normal memory, write-back, allocating. */
enum { ATTRIBUTE_DEVICE = 0, ATTRIBUTE_NORMAL = 1 };
#define MAIR 0xff00ull

/* Descriptors */
#define VALID (1ull << 0)
#define TABLE (1ull << 1) /* and, at the last level, a page */
#define ATTRIBUTE(n) ((u64)(n) << 2)
#define USER (1ull << 6) /* one at EL2, where there is no user */
#define READ_ONLY (1ull << 7)
#define INNER_SHAREABLE (3ull << 8)
#define ACCESSED (1ull << 10)
#define PXN (1ull << 53)
#define XN (1ull << 54)
#define ADDRESS_MASK 0x0000fffffffff000ull
#define SHIFT_PAGE 12
#define SHIFT_LARGEST_BLOCK 30
#define SHIFT_ROOT 39

/*
 * A root, a table for each 512 GiB, one for each 1 GiB, and two for the ends of a range that are not multiples
 * of 2 MiB: half of this is enough for what a kernel needs.
 */
enum { TABLES = 24 };

/* switch.S has the offsets. */
struct translation {
	u64 mair;
	u64 tcr;
	u64 ttbr0;
	u64 sctlr;
};

#pragma GCC visibility push(hidden)
void mmu_on(const struct translation *translation);
void mmu_off(const struct translation *translation);
void instruction_cache(u64 sctlr);
void clean_invalidate(u64 start, u64 end);

extern const u8 image_start[];
extern const u8 image_end[];
#pragma GCC visibility pop

static u64 tables[TABLES][ENTRIES] __attribute__((aligned(4096)));
static u32 tables_used;
static struct translation saved;
static u64 saved_tcr2;
static int mapped;

static u64 *new_table(void)
{
	if (tables_used == TABLES)
		return 0;
	for (int i = 0; i < ENTRIES; i++)
		tables[tables_used][i] = 0;
	return tables[tables_used++];
}

static u64 block_size(u64 address, u64 end)
{
	int shift = SHIFT_LARGEST_BLOCK;

	while (shift > SHIFT_PAGE && (address & ((1ull << shift) - 1) || end - address < 1ull << shift))
		shift -= 9;
	return 1ull << shift;
}

/* One block or page. Zero if there is no table left, or something else is mapped there. */
static int map_block(u64 address, u64 size, u64 descriptor)
{
	u64 *table = tables[0];
	u64 *entry;

	for (int shift = SHIFT_ROOT;; shift -= 9) {
		entry = &table[(address >> shift) % ENTRIES];
		if (size == 1ull << shift)
			break;
		if (!*entry) {
			u64 *next = new_table();

			if (!next)
				return 0;
			*entry = (u64)next | TABLE | VALID;
		} else if (!(*entry & TABLE)) {
			return 0;
		}
		table = (u64 *)(*entry & ADDRESS_MASK);
	}
	descriptor |= address | ACCESSED | VALID;
	if (size == PAGE_SIZE)
		descriptor |= TABLE;
	if (*entry && *entry != descriptor)
		return 0;
	*entry = descriptor;
	return 1;
}

/* Nothing outside of the pages that the range touches: these are purgatory's, as segments are of whole pages. */
static int map(u64 address, u64 size, u64 descriptor, u64 limit)
{
	u64 end = (address + size + PAGE_SIZE - 1) & -PAGE_SIZE;

	if (!size)
		return 1;
	if (address + size < address || end > limit || address + size > limit)
		return 0;
	for (address &= -PAGE_SIZE; address < end; address += size) {
		size = block_size(address, end);
		if (!map_block(address, size, descriptor))
			return 0;
	}
	return 1;
}

/* Adjacent rows as one range: where they meet need not be the edge of a block. Returns the row after those. */
static u32 next_range(const struct params *params, u32 row, u64 *start, u64 *size)
{
	*start = params->regions[row].address;
	*size = 0;
	do
		*size += params->regions[row++].size;
	while (row < params->region_count && params->regions[row].address == *start + *size);
	return row;
}

static int map_all(const struct params *params, u64 limit)
{
	/* Where EL2 is alone in its translation regime there is one XN, and no choice about USER. */
	u64 alone = at_el2() && !with_e2h() ? USER : 0;
	u64 normal = ATTRIBUTE(ATTRIBUTE_NORMAL) | INNER_SHAREABLE | alone;
	u64 no_execution = XN | (alone ? 0 : PXN);
	u64 start, size;

	tables_used = 0;
	new_table();
	if (!map((u64)image_start, (u64)(image_end - image_start), normal | (alone ? 0 : XN), limit))
		return 0;
	for (u32 row = 0; row < params->region_count;) {
		row = next_range(params, row, &start, &size);
		if (!map(start, size, normal | READ_ONLY | no_execution, limit))
			return 0;
	}
	return params->console == CONSOLE_NONE ||
	       map(params->console_base, 1, ATTRIBUTE(ATTRIBUTE_DEVICE) | no_execution | alone, limit);
}

/* Whole pages, as they are mapped: what the CPU reads ahead may be in the rest of a page. */
static void clean_invalidate_regions(const struct params *params)
{
	for (u32 i = 0; i < params->region_count; i++) {
		const struct region *region = &params->regions[i];

		clean_invalidate(region->address & -PAGE_SIZE,
				 (region->address + region->size + PAGE_SIZE - 1) & -PAGE_SIZE);
	}
}

static struct translation read_translation(void)
{
	if (at_el2())
		return (struct translation){ read_register(mair_el2), read_register(tcr_el2),
					     read_register(ttbr0_el2), read_register(sctlr_el2) };
	return (struct translation){ read_register(mair_el1), read_register(tcr_el1), read_register(ttbr0_el1),
				     read_register(sctlr_el1) };
}

/* TCR2, where there is one, changes what descriptors mean; all of it off is as without. */
static u64 exchange_tcr2(u64 value)
{
	u64 old;

	if (!id_field(read_register(S3_0_C0_C7_3), MMFR3_TCRX))
		return 0;
	if (at_el2()) {
		old = read_register(S3_4_C2_C0_3);
		write_register(S3_4_C2_C0_3, value);
	} else {
		old = read_register(S3_0_C2_C0_3);
		write_register(S3_0_C2_C0_3, value);
	}
	instruction_barrier();
	return old;
}

/* The size of physical addresses as ID_AA64MMFR0_EL1.PARange has it; TCR takes the same values. */
static u64 physical_range(u64 mmfr0)
{
	u32 range = id_field(mmfr0, MMFR0_PARANGE);

	return range > 5 ? 5 : range; /* 5: 48 bits */
}

static u64 physical_limit(u64 range)
{
	static const u8 bits[] = { 32, 36, 40, 42, 44, 48 };

	return 1ull << bits[range];
}

void cache_begin(const struct params *params)
{
	u64 mmfr0 = read_register(id_aa64mmfr0_el1);
	u64 range = physical_range(mmfr0);
	struct translation translation = {
		.mair = MAIR,
		.tcr = TCR_COMMON,
		.ttbr0 = (u64)tables[0],
	};

	mapped = 0;
	saved = read_translation();
	if (saved.sctlr & (SCTLR_M | SCTLR_C))
		return; /* whoever entered like this has mapped what is needed */
	translation.sctlr = saved.sctlr & ~(u64)(SCTLR_A | SCTLR_WXN);
	translation.sctlr |= SCTLR_M | SCTLR_C | SCTLR_I;
	if (at_el2() && !with_e2h())
		translation.tcr |= TCR_EL2_RES1 | range << TCR_EL2_PS;
	else
		translation.tcr |= TCR_EL1_EPD1 | range << TCR_EL1_IPS;

	instruction_cache(saved.sctlr | SCTLR_I);
	if (id_field(mmfr0, MMFR0_TGRAN4) == TGRAN4_NONE || !map_all(params, physical_limit(range)))
		return;
	mapped = 1;
	clean_invalidate_regions(params);
	saved_tcr2 = exchange_tcr2(0);
	mmu_on(&translation);
}

/* Afterwards no line of what was mapped is in the cache: the kernel writes there beside it before it maps it. */
void cache_end(const struct params *params)
{
	if (saved.sctlr & (SCTLR_M | SCTLR_C))
		return;
	if (mapped) {
		struct translation back = saved;

		back.sctlr |= SCTLR_I;
		mmu_off(&back);
		exchange_tcr2(saved_tcr2);
		clean_invalidate_regions(params);
	}
	instruction_cache(saved.sctlr);
}

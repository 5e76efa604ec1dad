// SPDX-License-Identifier: BSD-3-Clause
/* Compare what was loaded with its digests, then let the kernel be started; or say what is damaged, and reset. */
#include "offsets.h"
#include "purgatory.h"

_Static_assert(__builtin_offsetof(struct params, flags) == PARAMS_FLAGS, "entry.S");
_Static_assert(FLAG_CALLED == CALLED, "entry.S");
_Static_assert(__builtin_offsetof(struct params, jump_to) == PARAMS_JUMP_TO, "entry.S");
_Static_assert(__builtin_offsetof(struct params, arguments) == PARAMS_ARGUMENTS, "entry.S");
_Static_assert(__builtin_offsetof(struct params, console_base) == PARAMS_CONSOLE_BASE, "entry.S");
_Static_assert(__builtin_offsetof(struct params, jump_back_entry) == PARAMS_JUMP_BACK_ENTRY, "entry.S");
_Static_assert(__builtin_offsetof(struct params, reset) == PARAMS_RESET, "entry.S");

/*
 * Not zero-initialised data: the linker must give the block bytes in the file, for the loader to fill in.
 */
struct params purgatory_params = {
	.magic = PARAMS_MAGIC,
	.version = PARAMS_VERSION,
	.size = sizeof(struct params),
};

#ifndef REFUSAL
#define REFUSAL "resetting the machine" /* what arch_reset() does */
#endif

static int same(const u8 *a, const u8 *b)
{
	u8 difference = 0;

	for (int i = 0; i < DIGEST_SIZE; i++)
		difference |= a[i] ^ b[i];
	return difference == 0;
}

static void print_digest(const char *what, const u8 *digest)
{
	print("purgatory:   ");
	print(what);
	for (int i = 0; i < 8; i++)
		print_hex(((u64)digest[4 * i] << 24) | (digest[4 * i + 1] << 16) | (digest[4 * i + 2] << 8) |
			  digest[4 * i + 3]);
	print("\n");
}

static int intact(const struct region *region, const u8 *digest)
{
	if (same(digest, region->digest))
		return 1;
	print("purgatory: region ");
	print(region->name);
	print(" is damaged: ");
	print_decimal(region->size);
	print(" bytes at 0x");
	print_hex(region->address >> 32);
	print_hex(region->address);
	print("\n");
	print_digest("loaded ", region->digest);
	print_digest("found  ", digest);
	return 0;
}

/* Two regions at a time: the loader makes large ones of equal parts. */
static int all_intact(const struct params *params)
{
	struct compression compression = arch_begin(params);
	struct message messages[2];
	int damaged = 0;

	for (u32 i = 0, count; i < params->region_count; i += count) {
		count = params->region_count - i < 2 ? 1 : 2;
		for (u32 j = 0; j < count; j++) {
			messages[j].data = (const u8 *)(unsigned long)params->regions[i + j].address;
			messages[j].size = params->regions[i + j].size;
		}
		sha256(&compression, messages, count);
		for (u32 j = 0; j < count; j++)
			damaged |= !intact(&params->regions[i + j], messages[j].digest);
	}
	arch_end(params);
	return !damaged;
}

void purgatory(void)
{
	struct params *params = &purgatory_params;

	print("purgatory: verifying ");
	print_decimal(params->region_count);
	print(" regions\n");
	if (!all_intact(params)) {
		print("purgatory: " REFUSAL "\n");
		arch_reset();
	}
	if (params->jump_back_digits) {
		char *digits = (char *)(unsigned long)params->jump_back_digits;

		format_hex(params->jump_back_entry >> 32, digits);
		format_hex(params->jump_back_entry, digits + 8);
	}
	if (params->backup_size)
		arch_copy(params->backup_destination, params->backup_source, params->backup_size);
	print("purgatory: starting the kernel\n");
}

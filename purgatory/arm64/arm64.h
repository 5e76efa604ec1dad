/* SPDX-License-Identifier: BSD-3-Clause */
/* What the files of this folder share. */
#ifndef ARM64_H
#define ARM64_H

#include "purgatory.h"

#define read_register(name)                                             \
	({                                                              \
		u64 value_;                                             \
		__asm__ volatile("mrs %0, " #name : "=r"(value_));      \
		value_;                                                 \
	})
#define write_register(name, value) __asm__ volatile("msr " #name ", %0" : : "r"((u64)(value)) : "memory")

static inline void instruction_barrier(void)
{
	__asm__ volatile("isb" : : : "memory");
}

/* The exception level purgatory runs at: EL1 or EL2, never another. */
static inline int at_el2(void)
{
	return ((read_register(CurrentEL) >> 2) & 3) == 2;
}

/* HCR_EL2.E2H: registers of EL2 have the layouts of EL1's (a kernel that runs at EL2 itself, "VHE"). */
static inline int with_e2h(void)
{
	return at_el2() && (read_register(hcr_el2) >> 34 & 1);
}

/* A field of four bits of an ID register. */
static inline u32 id_field(u64 id, int shift)
{
	return (u32)(id >> shift) & 0xf;
}

/* What the loader says of resetting (params.h): by which instruction PSCI is called; 0: not known. */
enum { RESET_PSCI_HVC = 1, RESET_PSCI_SMC = 2 };

#pragma GCC visibility push(hidden)

/* cache.c: the data cache on, over an identity map, where that is possible; and all as it was. */
void cache_begin(const struct params *params);
void cache_end(const struct params *params);

/* sha256_simd.c: the vector registers on, if there is an instruction for SHA-256. */
int sha256_simd_begin(void);
void sha256_simd_end(void);
sha256_blocks sha256_ce;

#pragma GCC visibility pop

#endif

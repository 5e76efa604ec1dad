// SPDX-License-Identifier: BSD-3-Clause
/*
 * Access to the vector registers, which the old kernel has off most of the time. Register fields: Arm ARM, D19.2.
 */
#include "arm64.h"

/* ID_AA64ISAR0_EL1.SHA2, ID_AA64PFR0_EL1.AdvSIMD, ID_AA64PFR1_EL1.SME */
enum { ISAR0_SHA2 = 12, PFR0_ADVSIMD = 20, PFR1_SME = 24, ADVSIMD_NONE = 0xf };

/* CPACR_EL1, and CPTR_EL2 with E2H: accesses that do not trap. */
#define CPACR_FPEN (3ull << 20)
#define CPACR_SMEN (3ull << 24)
/* CPTR_EL2 without E2H: accesses that trap. */
#define CPTR_TFP (1ull << 10)
#define CPTR_TSM (1ull << 12)

static u64 saved;
static int changed;

static u64 read_access(void)
{
	return at_el2() ? read_register(cptr_el2) : read_register(cpacr_el1);
}

static void write_access(u64 value)
{
	if (at_el2())
		write_register(cptr_el2, value);
	else
		write_register(cpacr_el1, value);
	instruction_barrier();
}

int sha256_simd_begin(void)
{
	int sme = id_field(read_register(id_aa64pfr1_el1), PFR1_SME) != 0;

	changed = id_field(read_register(id_aa64isar0_el1), ISAR0_SHA2) != 0 &&
		  id_field(read_register(id_aa64pfr0_el1), PFR0_ADVSIMD) != ADVSIMD_NONE;
	if (!changed)
		return 0;
	saved = read_access();
	if (at_el2() && !with_e2h())
		write_access(saved & ~(CPTR_TFP | (sme ? CPTR_TSM : 0)));
	else
		write_access(saved | CPACR_FPEN | (sme ? CPACR_SMEN : 0));
	/* SMSTOP SM: the crash may have interrupted a program in streaming mode, which lacks these instructions. */
	if (sme)
		__asm__ volatile(".inst 0xd503427f" : : : "memory");
	return 1;
}

void sha256_simd_end(void)
{
	if (changed)
		write_access(saved);
}

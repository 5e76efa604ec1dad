// SPDX-License-Identifier: BSD-3-Clause
#include "purgatory.h"

struct control {
	u64 cr0;
	u64 cr4;
};

#pragma GCC visibility push(hidden)
int sha256_probe(struct control *saved);
sha256_blocks sha256_ni;
sha256_two_blocks sha256_ni_two;
#pragma GCC visibility pop

/* As they were, where the probe changed them. */
static struct control saved;
static int changed;

struct compression arch_begin(const struct params *params)
{
	(void)params;
	changed = sha256_probe(&saved);
	return changed ? (struct compression){ sha256_ni, sha256_ni_two } : (struct compression){ sha256_portable, 0 };
}

void arch_end(const struct params *params)
{
	(void)params;
	if (!changed)
		return;
	__asm__ volatile("mov %0, %%cr0" : : "r"(saved.cr0) : "memory");
	__asm__ volatile("mov %0, %%cr4" : : "r"(saved.cr4) : "memory");
}

#include "../x86/pc.h"

/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef ARM_H
#define ARM_H

#include "purgatory.h"

/* struct params, reset; booting/psci.py has the same numbers. */
enum { RESET_NONE = 0, RESET_PSCI_HVC = 1, RESET_PSCI_SMC = 2 };

/* CPSR.M */
enum { MODE_MASK = 0x1f, MODE_HYP = 0x1a };

static inline int at_hyp(void)
{
	u32 cpsr;

	__asm__ volatile("mrs %0, cpsr" : "=r"(cpsr));
	return (cpsr & MODE_MASK) == MODE_HYP;
}

#pragma GCC visibility push(hidden)
void cache_begin(const struct params *params);
void cache_end(void);
#pragma GCC visibility pop

#endif

// SPDX-License-Identifier: BSD-3-Clause
#include "purgatory.h"

struct compression arch_begin(const struct params *params)
{
	(void)params;
	return (struct compression){ sha256_portable, 0 };
}

void arch_end(const struct params *params)
{
	(void)params;
}

#include "../x86/pc.h"

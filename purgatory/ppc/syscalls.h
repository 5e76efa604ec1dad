/* SPDX-License-Identifier: BSD-3-Clause */
#include "../powerpc/syscalls.h"

enum { NR_mmap2 = 192, NR_mmap = NR_mmap2 }; /* whose offset is in units of 4 KiB */

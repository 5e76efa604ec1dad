/* SPDX-License-Identifier: BSD-3-Clause */
#include "../powerpc/syscalls.h"

enum { NR_mmap = 90 };

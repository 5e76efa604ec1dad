/* SPDX-License-Identifier: BSD-3-Clause */
/* What of Linux's interface to programs is riscv64's own. */
#include "generic.h"

enum { O_DIRECTORY = 0200000 }; /* include/uapi/asm-generic/fcntl.h */

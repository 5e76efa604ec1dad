/* SPDX-License-Identifier: BSD-3-Clause */
/* What of Linux's interface to programs is arm64's own. */
#include "generic.h"

enum { O_DIRECTORY = 040000 }; /* arch/arm64/include/uapi/asm/fcntl.h */

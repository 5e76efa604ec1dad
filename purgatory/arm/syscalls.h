/* SPDX-License-Identifier: BSD-3-Clause */
/* What of Linux's interface to programs is arm's own. */
#include "classic.h"

/* arch/arm/tools/syscall.tbl (EABI) */
enum {
	NR_mmap2 = 192,
	NR_mmap = NR_mmap2, /* whose offset is in pages */
	NR_getdents64 = 217,
	NR_exit_group = 248,
	NR_socket = 281,
	NR_openat = 322,
	NR_readlinkat = 332,
	NR_kexec_load = 347,
	NR_kexec_file_load = -1, /* it has a number, but no kernel has the call: ENOSYS */
};

enum { O_DIRECTORY = 040000 }; /* arch/arm/include/uapi/asm/fcntl.h */

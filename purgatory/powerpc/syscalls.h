/* SPDX-License-Identifier: BSD-3-Clause */
/* What of Linux's interface to programs is POWER's own, of either word size and byte order. */
#include "classic.h"

/* arch/powerpc/kernel/syscalls/syscall.tbl */
enum {
	NR_getdents64 = 202,
	NR_exit_group = 234,
	NR_kexec_load = 268,
	NR_openat = 286,
	NR_readlinkat = 296,
	NR_socket = 326,
	NR_kexec_file_load = 382,
};

enum { O_DIRECTORY = 040000 }; /* arch/powerpc/include/uapi/asm/fcntl.h */

/* SPDX-License-Identifier: BSD-3-Clause */
/* What of Linux's interface to programs is s390x's own (arch/s390/kernel/syscalls/syscall.tbl). */
#include "classic.h"

enum {
	NR_mmap = 90,
	NR_getdents64 = 220,
	NR_exit_group = 248,
	NR_kexec_load = 277,
	NR_openat = 288,
	NR_readlinkat = 298,
	NR_socket = 359,
	NR_kexec_file_load = 381,
};

enum { O_DIRECTORY = 0200000 }; /* include/uapi/asm-generic/fcntl.h */

#define MMAP_TAKES_ADDRESS /* of its arguments (arch/s390/kernel/syscall.c, struct s390_mmap_arg_struct) */

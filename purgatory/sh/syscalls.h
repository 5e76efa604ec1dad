/* SPDX-License-Identifier: BSD-3-Clause */
/* What of Linux's interface to programs is sh's own. */
#include "classic.h"

/* arch/sh/kernel/syscalls/syscall.tbl */
enum {
	NR_mmap2 = 192,
	NR_mmap = NR_mmap2, /* whose offset is in pages */
	NR_getdents64 = 220,
	NR_exit_group = 252,
	NR_kexec_load = 283,
	NR_openat = 295,
	NR_readlinkat = 305,
	NR_socket = 340,
	NR_kexec_file_load = -1, /* there is none: ENOSYS */
};

enum { O_DIRECTORY = 0200000 }; /* include/uapi/asm-generic/fcntl.h */

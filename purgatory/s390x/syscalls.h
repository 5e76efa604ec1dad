/* SPDX-License-Identifier: BSD-3-Clause */
/* What of Linux's interface to programs is s390x's own (arch/s390/kernel/syscalls/syscall.tbl). */
enum {
	NR_read = 3,
	NR_write = 4,
	NR_close = 6,
	NR_execve = 11,
	NR_lseek = 19,
	NR_sync = 36,
	NR_ioctl = 54,
	NR_reboot = 88,
	NR_mmap = 90,
	NR_uname = 122,
	NR_personality = 136,
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

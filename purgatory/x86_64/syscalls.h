/* SPDX-License-Identifier: BSD-3-Clause */
/* What of Linux's interface to programs is x86_64's own. */

/* arch/x86/entry/syscalls/syscall_64.tbl */
enum {
	NR_read = 0,
	NR_write = 1,
	NR_close = 3,
	NR_lseek = 8,
	NR_mmap = 9,
	NR_ioctl = 16,
	NR_socket = 41,
	NR_execve = 59,
	NR_uname = 63,
	NR_personality = 135,
	NR_sync = 162,
	NR_reboot = 169,
	NR_getdents64 = 217,
	NR_exit_group = 231,
	NR_kexec_load = 246,
	NR_openat = 257,
	NR_readlinkat = 267,
	NR_kexec_file_load = 320,
};

enum { O_DIRECTORY = 0200000 }; /* include/uapi/asm-generic/fcntl.h */

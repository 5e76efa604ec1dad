/* SPDX-License-Identifier: BSD-3-Clause */
/* The numbers of system calls that younger architectures share (include/uapi/asm-generic/unistd.h). */
#ifndef GENERIC_H
#define GENERIC_H

enum {
	NR_ioctl = 29,
	NR_openat = 56,
	NR_close = 57,
	NR_getdents64 = 61,
	NR_lseek = 62,
	NR_read = 63,
	NR_write = 64,
	NR_readlinkat = 78,
	NR_sync = 81,
	NR_personality = 92,
	NR_exit_group = 94,
	NR_kexec_load = 104,
	NR_reboot = 142,
	NR_uname = 160,
	NR_socket = 198,
	NR_execve = 221,
	NR_mmap = 222,
	NR_kexec_file_load = 294,
};

#endif

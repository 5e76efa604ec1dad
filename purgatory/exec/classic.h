/* SPDX-License-Identifier: BSD-3-Clause */
/* The numbers that the oldest architectures have in common: those of i386 when they began. */
#ifndef CLASSIC_H
#define CLASSIC_H

enum {
	NR_read = 3,
	NR_write = 4,
	NR_close = 6,
	NR_execve = 11,
	NR_lseek = 19,
	NR_sync = 36,
	NR_ioctl = 54,
	NR_reboot = 88,
	NR_uname = 122,
	NR_personality = 136,
};

#endif

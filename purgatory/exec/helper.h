/* SPDX-License-Identifier: BSD-3-Clause */
/* `kexec-exec`: what of kexec needs no more than a few system calls, for where no Python is. */
#ifndef HELPER_H
#define HELPER_H

#include "syscalls.h" /* the architecture's: NR_* and O_DIRECTORY */

enum { STDOUT = 1, STDERR = 2 };

/* The exit codes of kexec-tools (and pykexec/errors.py). */
enum { DONE = 0, WRONG = 1, UNAVAILABLE = 253, FAILED = 255 };

/* include/uapi/linux/fcntl.h */
enum { AT_FDCWD = -100 };

/* The errno values that decide something (include/uapi/asm-generic/errno-base.h, errno.h). */
enum { ENOEXEC = 8, EINVAL = 22, ENOSYS = 38, EOPNOTSUPP = 95 };

enum {
	LOAD = 1 << 0,
	LOAD_PANIC = 1 << 1,
	UNLOAD = 1 << 2,
	EXECUTE = 1 << 3,
	STATUS = 1 << 4,
	DEBUG = 1 << 5,
	NO_SYNC = 1 << 6,
	NO_IFDOWN = 1 << 7,
};

struct request {
	unsigned asked; /* of the values above */
	const char *kernel;
	const char *initrd;
	const char *command_line;
};

/* actions.c: each returns an exit code. */
int status(const struct request *request);
int unload(const struct request *request);
int load(const struct request *request);
int execute(const struct request *request);

/* text.c: text is collected, up to TEXT_MAX bytes, then written in one call, for a console is shared. */
enum { TEXT_MAX = 1024 };
void put(const char *text);
void put_number(unsigned long number);
void put_error(long negative_errno);
void flush(int descriptor);
/* Write what is wrong (with "kexec: " before it), and on a second line what to do about it. */
void complain(const char *what, const char *hint);
int same(const char *a, const char *b);
unsigned long length(const char *text);

/* <architecture>/exec.S; a result from -4095 to -1 is a negative errno. */
long system_call(long number, long a, long b, long c, long d, long e);

#define SYSTEM_CALL(name, a, b, c, d, e) \
	system_call(NR_##name, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e))

#endif

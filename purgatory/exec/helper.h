/* SPDX-License-Identifier: BSD-3-Clause */
/* `kexec-exec`: what of kexec needs no more than a few system calls, for where no Python is. */
#ifndef HELPER_H
#define HELPER_H

#include "syscalls.h" /* the architecture's: NR_* and O_DIRECTORY */

enum { STDOUT = 1, STDERR = 2 };

/* The exit codes of kexec-tools (and pykexec/errors.py). */
enum { DONE = 0, WRONG = 1, UNAVAILABLE = 253, FAILED = 255 };

/* include/uapi/linux/fcntl.h */
enum { AT_FDCWD = -100, O_CLOEXEC = 02000000 };

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
	SNAPSHOT = 1 << 8,
};

/* struct new_utsname, include/uapi/linux/utsname.h */
enum { UTS_LEN = 65 };
struct names {
	char system[UTS_LEN];
	char node[UTS_LEN];
	char release[UTS_LEN];
	char version[UTS_LEN];
	char machine[UTS_LEN];
	char domain[UTS_LEN];
};

struct machine {
	struct names names; /* as uname -a prints them */
	unsigned long page_size;
};

struct request {
	unsigned asked; /* of the values above */
	const char *kernel;
	const char *initrd;
	const char *command_line;
	const char *plan;
	const struct machine *machine;
};

/* actions.c: each returns an exit code. */
int status(const struct request *request);
int unload(const struct request *request);
int load(const struct request *request);
int execute(const struct request *request);
/* Complains where no memory is reserved for a crash kernel. */
int require_crash_memory(void);

/* planfile.c, snapshot.c: the same. */
int load_plan(const struct request *request);
int snapshot(const struct machine *machine);

/* files.c: a result below 0 is a negative errno. */
long open(const char *path, long flags);
void close(long descriptor);
/* Read a file to its end, or as much as there is room for; returns the number of bytes. */
long read_to_end(long descriptor, void *buffer, unsigned long room);

/* include/linux/dirent.h: u64 and s64 on all architectures */
struct entry {
	unsigned long long d_ino;
	long long d_off;
	unsigned short d_reclen;
	unsigned char d_type;
	char d_name[];
};
enum { DT_DIR = 4, DT_LNK = 10 };

struct folder {
	long descriptor;
	long at, size; /* of what has been read */
	char entries[2048] __attribute__((aligned(8)));
};

long open_folder(struct folder *folder, const char *path);
/* The next entry, as long as there is one; then 0. */
struct entry *next_entry(struct folder *folder);

/* text.c: text is collected, up to TEXT_MAX bytes, then written in one call, for a console is shared. */
enum { TEXT_MAX = 2048 };
void put(const char *text);
void put_number(unsigned long number);
void put_hex(unsigned long long number);
/* Text of a stranger's: what is not printable becomes a question mark. */
void put_foreign(const char *text);
void put_error(long negative_errno);
void flush(int descriptor);
/* What is collected, instead of writing it: valid until the next text. */
const char *take_text(void);
/* Write what is wrong (with "kexec: " before it), and on a second line what to do about it. */
void complain(const char *what, const char *hint);
/* The same of a system call; returns `code`. */
int failed(const char *what, long error, const char *hint, int code);
int same(const char *a, const char *b);
unsigned long length(const char *text);

/* <architecture>/exec.S; a result from -4095 to -1 is a negative errno. */
long system_call(long number, long a, long b, long c, long d, long e, long f);

#define SYSTEM_CALL_6(name, a, b, c, d, e, f) \
	system_call(NR_##name, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))
#define SYSTEM_CALL(name, a, b, c, d, e) SYSTEM_CALL_6(name, a, b, c, d, e, 0)

#endif

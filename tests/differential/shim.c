// SPDX-License-Identifier: BSD-3-Clause
/*
 * Preloaded into the C kexec: it sees the files below $KEXEC_ROOT instead of the machine's /proc and /sys, has
 * $KEXEC_CPUS processors, and what it would load is written to $KEXEC_OUT: entry, count and flags, then for each
 * segment its address, size in memory, number of bytes, and the bytes; all numbers as 64 bits, little-endian.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <endian.h>
#include <fcntl.h>
#include <linux/fb.h>
#include <mntent.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static const char *redirected(const char *path, char *buffer, size_t size)
{
	static const char *const below[] = { "/proc/", "/sys/", "/dev/fb", "/etc/mtab" };

	for (size_t i = 0; i < sizeof(below) / sizeof(*below); i++) {
		if (strncmp(path, below[i], strlen(below[i])) == 0) {
			snprintf(buffer, size, "%s%s", getenv("KEXEC_ROOT"), path);
			return buffer;
		}
	}
	return path;
}

int open(const char *path, int flags, ...)
{
	char buffer[4096];
	va_list arguments;

	va_start(arguments, flags);
	mode_t mode = (flags & O_CREAT) ? va_arg(arguments, mode_t) : 0;
	va_end(arguments);
	return REAL(open)(redirected(path, buffer, sizeof(buffer)), flags, mode);
}

FILE *fopen(const char *path, const char *mode)
{
	char buffer[4096];

	return REAL(fopen)(redirected(path, buffer, sizeof(buffer)), mode);
}

/* Programs of 32 bits have these instead, which open the same files. */
int open64(const char *path, int flags, ...)
{
	return open(path, flags, 0);
}

FILE *fopen64(const char *path, const char *mode)
{
	return fopen(path, mode);
}

FILE *setmntent(const char *path, const char *mode)
{
	char buffer[4096];

	return REAL(setmntent)(redirected(path, buffer, sizeof(buffer)), mode);
}

DIR *opendir(const char *path)
{
	char buffer[4096];

	return REAL(opendir)(redirected(path, buffer, sizeof(buffer)));
}

/* Which calls another opendir() than that. */
int scandir(const char *path, struct dirent ***names, int (*filter)(const struct dirent *),
	    int (*compare)(const struct dirent **, const struct dirent **))
{
	char buffer[4096];

	return REAL(scandir)(redirected(path, buffer, sizeof(buffer)), names, filter, compare);
}

int access(const char *path, int mode)
{
	char buffer[4096];

	return REAL(access)(redirected(path, buffer, sizeof(buffer)), mode);
}

int stat(const char *path, struct stat *status)
{
	char buffer[4096];

	return REAL(stat)(redirected(path, buffer, sizeof(buffer)), status);
}

int stat64(const char *path, struct stat64 *status)
{
	char buffer[4096];

	return REAL(stat64)(redirected(path, buffer, sizeof(buffer)), status);
}

int lstat(const char *path, struct stat *status)
{
	char buffer[4096];

	return REAL(lstat)(redirected(path, buffer, sizeof(buffer)), status);
}

int lstat64(const char *path, struct stat64 *status)
{
	char buffer[4096];

	return REAL(lstat64)(redirected(path, buffer, sizeof(buffer)), status);
}

/* The framebuffer's driver is the one that /sys/class/graphics/fb0/name tells. */
int ioctl(int fd, unsigned long request, ...)
{
	char buffer[4096];
	va_list arguments;

	(void)fd;
	va_start(arguments, request);
	void *answer = va_arg(arguments, void *);
	va_end(arguments);
	if (request == FBIOGET_VSCREENINFO) {
		memset(answer, 0, sizeof(struct fb_var_screeninfo));
		return 0;
	}
	if (request == FBIOGET_FSCREENINFO) {
		struct fb_fix_screeninfo *fix = memset(answer, 0, sizeof(*fix));
		FILE *name = REAL(fopen)(redirected("/sys/class/graphics/fb0/name", buffer, sizeof(buffer)), "r");

		if (!name || fscanf(name, "%15s", fix->id) != 1)
			abort();
		fclose(name);
		return 0;
	}
	abort(); /* nothing else is expected of it */
}

long sysconf(int name)
{
	if (name == _SC_NPROCESSORS_CONF || name == _SC_NPROCESSORS_ONLN)
		return atol(getenv("KEXEC_CPUS"));
	return REAL(sysconf)(name);
}

struct segment {
	const void *buf;
	size_t bufsz;
	const void *mem;
	size_t memsz;
};

static void put(FILE *out, uint64_t number)
{
	number = htole64(number);
	fwrite(&number, sizeof(number), 1, out);
}

static long load(unsigned long entry, unsigned long count, const struct segment *segments, unsigned long flags)
{
	FILE *out = REAL(fopen)(getenv("KEXEC_OUT"), "wb");

	if (!out)
		abort();
	put(out, entry);
	put(out, count);
	put(out, flags);
	for (unsigned long i = 0; i < count; i++) {
		put(out, (unsigned long)segments[i].mem);
		put(out, segments[i].memsz);
		put(out, segments[i].bufsz);
		fwrite(segments[i].buf, 1, segments[i].bufsz, out);
	}
	fclose(out);
	return 0;
}

long syscall(long number, ...)
{
	unsigned long a[4];
	va_list arguments;

	va_start(arguments, number);
	for (int i = 0; i < 4; i++)
		a[i] = va_arg(arguments, unsigned long);
	va_end(arguments);
	if (number == SYS_kexec_load)
		return load(a[0], a[1], (const struct segment *)a[2], a[3]);
	if (number == SYS_getrandom)
		return REAL(syscall)(number, a[0], a[1], a[2]);
	abort(); /* nothing else is expected of it */
}

void sync(void)
{
}

int reboot(int command)
{
	(void)command;
	abort();
}

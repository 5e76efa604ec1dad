// SPDX-License-Identifier: BSD-3-Clause
/*
 * Preloaded before shim.c: a line in $KEXEC_LOG for each thing the C kexec does to the system, and nothing is done.
 * kexec_file_load(2) fails with the number in $KEXEC_FILE_ERROR, kexec_load(2) with that in $KEXEC_LOAD_ERROR.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* include/uapi/linux/kexec.h: KEXEC_FILE_UNLOAD, KEXEC_FILE_ON_CRASH */
#define UNLOAD 1
#define ON_CRASH 2

static void note(const char *format, ...)
{
	char line[8192];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	FILE *log = fopen(getenv("KEXEC_LOG"), "a");

	if (!log || fputs(line, log) < 0)
		abort();
	fclose(log);
}

/* What the kernel would show of it. */
static long loaded(long result, int crash, const char *state)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/sys/kernel/kexec%s_loaded", getenv("KEXEC_ROOT"), crash ? "_crash" : "");
	FILE *file = result ? NULL : fopen(path, "w");

	if (file) {
		fputs(state, file);
		fclose(file);
	}
	return result;
}

static const char *file_of(int number, char *buffer, size_t size)
{
	char link[64];

	if (number < 0)
		return "-";
	snprintf(link, sizeof(link), "/proc/self/fd/%d", number);
	ssize_t length = readlink(link, buffer, size - 1);
	buffer[length < 0 ? 0 : length] = '\0';
	return buffer;
}

static long answer(const char *variable)
{
	const char *number = getenv(variable);

	if (!number)
		return 0;
	errno = atoi(number);
	return -1;
}

long syscall(long number, ...)
{
	char kernel[4096], initrd[4096];
	unsigned long a[6];
	va_list arguments;
	long (*next)(long, ...) = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");

	va_start(arguments, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(arguments, unsigned long);
	va_end(arguments);
	switch (number) {
	case SYS_kexec_file_load:
		if (a[4] & UNLOAD)
			note("file-unload\t%#lx\n", a[4]);
		else
			note("file\t%#lx\t%s\t%s\t%lu\t%.*s\n", a[4], file_of(a[0], kernel, sizeof(kernel)),
			     file_of(a[1], initrd, sizeof(initrd)), a[2], (int)a[2], (const char *)a[3]);
		return loaded(answer("KEXEC_FILE_ERROR"), a[4] & ON_CRASH, a[4] & UNLOAD ? "0\n" : "1\n");
	case SYS_kexec_load:
		note("%s\t%#lx\n", a[1] ? "load" : "unload", a[3]);
		if (answer("KEXEC_LOAD_ERROR"))
			return -1;
		loaded(0, a[3] & 1, a[1] ? "1\n" : "0\n");
		if (!a[1])
			return 0;
	}
	return next(number, a[0], a[1], a[2], a[3]);
}

void sync(void)
{
	note("sync\n");
}

struct if_nameindex *if_nameindex(void)
{
	static struct if_nameindex none;

	note("ifdown\n");
	return &none;
}

void if_freenameindex(struct if_nameindex *list)
{
	(void)list;
}

int reboot(int command)
{
	note("reboot\t%#x\n", command);
	_exit(0); /* where there is no coming back */
}

int execv(const char *path, char *const arguments[])
{
	(void)path;
	note("shutdown\t%s\n", arguments[0]);
	_exit(0);
}

int execve(const char *path, char *const arguments[], char *const environment[])
{
	(void)environment;
	return execv(path, arguments);
}

// SPDX-License-Identifier: BSD-3-Clause
/*
 * /init of guests without a C library: does what the lines of /script say, and tells of each on the console. What of
 * it is an architecture's own is that half of the static kexec (purgatory/<name>/syscalls.h, exec.S).
 *
 *	run PROGRAM [ARGUMENT]...        run a program
 *	into FILE PROGRAM [ARGUMENT]...  the same, with its output in that file
 *	show FILE                        the file's bytes, in base64
 *	pages FILE                       its pages that are not all zeros, each behind its offset
 *	write FILE TEXT                  write the rest of the line, and a line feed, to a file
 *
 * Then it restarts the machine, which ends QEMU; not all machines can be switched off.
 */
#include "helper.h"

/* The old numbers, the same on all architectures of 32 bits that have them (arch/.../syscalls/syscall.tbl). */
enum { NR_fork = 2, NR_mount = 21, NR_dup2 = 63, NR_wait4 = 114 };

/* include/uapi/asm-generic/fcntl.h */
enum { O_WRONLY = 1, O_CREAT = 0100 };

/* include/uapi/linux/reboot.h */
#define LINUX_REBOOT_MAGIC1 0xfee1deadUL
#define LINUX_REBOOT_MAGIC2 672274793UL
#define LINUX_REBOOT_CMD_RESTART 0x01234567UL

enum { WORDS_MAX = 32, PAGE = 4096, ROW = 57 /* makes 76 characters */ };

static char script[65536];
static unsigned char page[PAGE];

static long create(const char *path)
{
	return SYSTEM_CALL(openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644, 0);
}

static void say(const char *text)
{
	put(text);
	flush(STDOUT);
}

static void put_base64(const unsigned char *bytes, long size)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	for (long i = 0; i < size; i += 3) {
		unsigned long bits = (unsigned long)bytes[i] << 16;
		char four[5];

		if (i + 1 < size)
			bits |= (unsigned long)bytes[i + 1] << 8;
		if (i + 2 < size)
			bits |= bytes[i + 2];
		for (int j = 0; j < 4; j++)
			four[j] = digits[bits >> (18 - 6 * j) & 63];
		if (i + 1 >= size)
			four[2] = '=';
		if (i + 2 >= size)
			four[3] = '=';
		four[4] = 0;
		put(four);
	}
}

static void say_base64(const unsigned char *bytes, long size)
{
	for (long at = 0; at < size; at += ROW) {
		put_base64(bytes + at, size - at < ROW ? size - at : ROW);
		say("\n");
	}
}

static int is_empty(long size)
{
	for (long i = 0; i < size; i++)
		if (page[i])
			return 0;
	return 1;
}

/* `sparse`: leave empty pages out, and say of each other one where it is. */
static long show(const char *path, int sparse)
{
	long descriptor = open(path, 0), size;
	unsigned long at = 0;

	if (descriptor < 0)
		return descriptor;
	while ((size = read_to_end(descriptor, page, sparse ? PAGE : PAGE / ROW * ROW)) > 0) {
		if (!sparse || !is_empty(size)) {
			if (sparse) {
				put("@");
				put_number(at);
				put("\n");
			}
			say_base64(page, size);
		}
		at += (unsigned long)size;
	}
	if (sparse) {
		put("@");
		put_number(at);
		say("\n");
	}
	close(descriptor);
	return size;
}

static long write_text(const char *path, const char *text)
{
	long descriptor = create(path);

	if (descriptor < 0)
		return descriptor;
	put(text);
	put("\n");
	flush((int)descriptor);
	close(descriptor);
	return 0;
}

/* Returns what wait4 gives, or a negative errno. */
static long run(char **words, const char *output)
{
	static char *no_environment[] = { 0 };
	long child = SYSTEM_CALL(fork, 0, 0, 0, 0, 0), descriptor;
	int status = 0;

	if (child == 0) {
		if (output) {
			descriptor = create(output);
			SYSTEM_CALL(dup2, descriptor, STDOUT, 0, 0, 0);
		}
		SYSTEM_CALL(execve, words[0], words, no_environment, 0, 0);
		SYSTEM_CALL(exit_group, 127, 0, 0, 0, 0);
	}
	if (child > 0)
		child = SYSTEM_CALL(wait4, child, &status, 0, 0, 0);
	return child < 0 ? child : status;
}

/* Splits off the first word, and returns what follows it. */
static char *split(char *text)
{
	while (*text && *text != ' ')
		text++;
	if (*text)
		*text++ = 0;
	return text;
}

static long do_line(char *command)
{
	char *words[WORDS_MAX + 1], *rest = split(command), *file;
	int count = 0;

	if (same(command, "show"))
		return show(rest, 0);
	if (same(command, "pages"))
		return show(rest, 1);
	file = rest;
	if (!same(command, "run"))
		rest = split(rest);
	if (same(command, "write"))
		return write_text(file, rest);
	while (*rest && count < WORDS_MAX) {
		words[count++] = rest;
		rest = split(rest);
	}
	words[count] = 0;
	return count ? run(words, same(command, "into") ? file : 0) : -EINVAL;
}

static void do_script(void)
{
	char *line = script, *next;
	long status;

	for (; *line; line = next) {
		for (next = line; *next && *next != '\n'; next++)
			;
		if (*next)
			*next++ = 0;
		put("\n>>> ");
		put(line);
		say("\n");
		status = do_line(line);
		put("\n<<< ");
		if (status < 0)
			put("-");
		put_number((unsigned long)(status < 0 ? -status : status));
		say("\n");
	}
}

__attribute__((noreturn)) void start(char **stack)
{
	long descriptor;

	(void)stack;
	SYSTEM_CALL(mount, "proc", "/proc", "proc", 0, 0);
	SYSTEM_CALL(mount, "sysfs", "/sys", "sysfs", 0, 0);
	SYSTEM_CALL(mount, "devtmpfs", "/dev", "devtmpfs", 0, 0);
	descriptor = open("/script", 0);
	read_to_end(descriptor, script, sizeof(script) - 1);
	do_script();
	for (;;)
		SYSTEM_CALL(reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_RESTART, 0, 0);
}

// SPDX-License-Identifier: BSD-3-Clause
/* A snapshot, as `pykexec --snapshot` writes it: a tar archive (pax(1p), "ustar Interchange Format"; tar(5)). */
#include "facts.h"
#include "helper.h"

enum { BLOCK = 512 };

struct header {
	char name[100];
	char mode[8];
	char uid[8];
	char gid[8];
	char size[12];
	char mtime[12];
	char checksum[8];
	char type;
	char linkname[100];
	char magic[6];
	char version[2];
	char user[32];
	char group[32];
	char device_major[8];
	char device_minor[8];
	char prefix[155];
	char unused[12];
};

_Static_assert(sizeof(struct header) == BLOCK, "a header is one block");

enum { FILE = '0', LONG_NAME = 'L' /* of the next file; GNU's */ };

static const char patterns[] = FACTS; /* each ends with a zero byte; then one more */
static long problem;                  /* the first error of a write */

static void write_out(const void *data, unsigned long size)
{
	const char *at = data;
	long written;

	while (size && !problem) {
		written = SYSTEM_CALL(write, STDOUT, at, size, 0, 0);
		if (written < 0)
			problem = written;
		at += written;
		size -= (unsigned long)written;
	}
}

static void write_padded(const void *data, unsigned long size)
{
	static char zeros[BLOCK];

	write_out(data, size);
	write_out(zeros, -size % BLOCK);
}

/* All digits of a field but the last byte, which ends it. */
static void put_octal(char *field, int size, unsigned long number)
{
	for (int i = size - 2; i >= 0; i--, number >>= 3)
		field[i] = (char)('0' + (number & 7));
	field[size - 1] = 0;
}

static void put_text(char *field, unsigned long size, const char *text)
{
	for (unsigned long i = 0; i < size && text[i]; i++)
		field[i] = text[i];
}

static void write_header(const char *name, char type, unsigned long size)
{
	struct header header;
	u8 *bytes = (u8 *)&header;
	unsigned long sum = 0;

	for (int i = 0; i < BLOCK; i++)
		bytes[i] = 0;
	put_text(header.name, sizeof(header.name), name);
	put_octal(header.mode, sizeof(header.mode), 0644);
	put_octal(header.uid, sizeof(header.uid), 0);
	put_octal(header.gid, sizeof(header.gid), 0);
	put_octal(header.size, sizeof(header.size), size);
	put_octal(header.mtime, sizeof(header.mtime), 0);
	put_text(header.checksum, sizeof(header.checksum), "        ");
	header.type = type;
	put_text(header.magic, sizeof(header.magic), "ustar");
	put_text(header.version, sizeof(header.version), "00");
	for (int i = 0; i < BLOCK; i++)
		sum += bytes[i];
	put_octal(header.checksum, sizeof(header.checksum) - 1, sum);
	write_out(&header, BLOCK);
}

static void write_file(const char *name, const void *data, unsigned long size)
{
	unsigned long name_size = length(name);

	if (name_size > sizeof(((struct header *)0)->name)) {
		write_header("././@LongLink", LONG_NAME, name_size + 1);
		write_padded(name, name_size + 1);
	}
	write_header(name, FILE, size);
	write_padded(data, size);
}

static void write_fact(const char *name, u8 *data, unsigned long size)
{
	write_file(name, data, size);
}

/* What no file below /proc or /sys has. */
static void write_identity(const struct machine *machine)
{
	const char *text;

	put("{\n \"machine\": \"");
	put(machine->names.machine);
	put("\",\n \"page_size\": ");
	put_number(machine->page_size);
	put("\n}\n");
	text = take_text();
	write_file("pykexec-snapshot.json", text, length(text));
}

int snapshot(const struct machine *machine)
{
	static char end[2 * BLOCK];

	write_identity(machine);
	for (const char *pattern = patterns; *pattern; pattern += length(pattern) + 1)
		each_fact(pattern, write_fact);
	/* Without its end nobody takes the archive for a whole one. */
	if (refused_fact()) {
		put("kexec: cannot take a snapshot: /");
		put(refused_fact());
		put(" cannot be read\n       run as root\n");
		flush(STDERR);
		return FAILED;
	}
	write_out(end, sizeof(end));
	return problem ? failed("cannot write the snapshot", problem, 0, FAILED) : DONE;
}

// SPDX-License-Identifier: BSD-3-Clause
#include "helper.h"

static char buffer[TEXT_MAX + 1];
static unsigned long used;

static const struct {
	short number;
	const char *text;
} errors[] = {
	{ 1, "Operation not permitted" },
	{ 2, "No such file or directory" },
	{ 5, "Input/output error" },
	{ ENOEXEC, "Exec format error" },
	{ 12, "Cannot allocate memory" },
	{ 13, "Permission denied" },
	{ 16, "Device or resource busy" },
	{ 20, "Not a directory" },
	{ 21, "Is a directory" },
	{ EINVAL, "Invalid argument" },
	{ 26, "Text file busy" },
	{ 27, "File too large" },
	{ ENOSYS, "Function not implemented" },
	{ 40, "Too many levels of symbolic links" },
	{ 61, "No data available" },
	{ 65, "Package not installed" },
	{ 74, "Bad message" },
	{ 80, "Accessing a corrupted shared library" },
	{ 90, "Message too long" },
	{ EOPNOTSUPP, "Operation not supported" },
	{ 99, "Cannot assign requested address" },
	{ 126, "Required key not available" },
	{ 129, "Key was rejected by service" },
};

unsigned long length(const char *text)
{
	unsigned long size = 0;

	while (text[size])
		size++;
	return size;
}

int same(const char *a, const char *b)
{
	while (*a && *a == *b) {
		a++;
		b++;
	}
	return *a == *b;
}

/* What does not fit is cut off. */
void put(const char *text)
{
	while (*text && used < TEXT_MAX)
		buffer[used++] = *text++;
}

void put_foreign(const char *text)
{
	char byte[2] = { 0, 0 };

	for (; *text; text++) {
		byte[0] = *text >= ' ' && *text <= '~' ? *text : '?';
		put(byte);
	}
}

void put_hex(unsigned long long number)
{
	char text[17];
	int i = 16;

	text[i] = 0;
	do {
		text[--i] = "0123456789abcdef"[number & 15];
		number >>= 4;
	} while (number);
	put(&text[i]);
}

void put_number(unsigned long number)
{
	char text[21];
	int i = 20;

	text[i] = 0;
	do {
		text[--i] = (char)('0' + number % 10);
		number /= 10;
	} while (number);
	put(&text[i]);
}

void put_error(long negative_errno)
{
	for (unsigned i = 0; i < sizeof(errors) / sizeof(*errors); i++) {
		if (errors[i].number == -negative_errno) {
			put(errors[i].text);
			return;
		}
	}
	put("error ");
	put_number((unsigned long)-negative_errno);
}

const char *take_text(void)
{
	buffer[used] = 0;
	used = 0;
	return buffer;
}

void flush(int descriptor)
{
	SYSTEM_CALL(write, descriptor, buffer, used, 0, 0);
	used = 0;
}

void complain(const char *what, const char *hint)
{
	put("kexec: ");
	put(what);
	put("\n");
	if (hint) {
		put("       ");
		put(hint);
		put("\n");
	}
	flush(STDERR);
}

int failed(const char *what, long error, const char *hint, int code)
{
	put("kexec: ");
	put(what);
	put(": ");
	put_error(error);
	put("\n");
	if (hint) {
		put("       ");
		put(hint);
		put("\n");
	}
	flush(STDERR);
	return code;
}

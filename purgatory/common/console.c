// SPDX-License-Identifier: BSD-3-Clause
#include "purgatory.h"

void print(const char *text)
{
	if (purgatory_params.console == CONSOLE_NONE && !(purgatory_params.flags & FLAG_VGA))
		return;
	for (; *text; text++) {
		if (*text == '\n')
			arch_put_byte('\r');
		arch_put_byte((u8)*text);
	}
}

/* The low 32 bits, eight digits. */
void format_hex(u64 number, char text[8])
{
	for (int i = 0; i < 8; i++) {
		u32 digit = (u32)(number >> (28 - 4 * i)) & 0xf;
		text[i] = (char)(digit < 10 ? '0' + digit : 'a' + digit - 10);
	}
}

void print_hex(u64 number)
{
	char text[9];

	format_hex(number, text);
	text[8] = 0;
	print(text);
}

void print_decimal(u64 number)
{
	char text[21];
	int i = 20;

	text[i] = 0;
	do {
		text[--i] = (char)('0' + number % 10);
		number /= 10;
	} while (number);
	print(&text[i]);
}

// SPDX-License-Identifier: BSD-3-Clause
/*
 * Passwords, keys and seeds do not leave the machine. pykexec/redact.py knows the forms that secrets have; here, without
 * regular expressions, more is covered than there, and by as many characters.
 */
#include "facts.h"
#include "helper.h"

/* In a name before = or :, anywhere; - and _ in the text do not count. */
static const char *const stems[] = {
	"passw",     "passphrase", "passcode",  "rootpw",     "secret",     "token",     "credential",
	"signature", "apikey",     "accesskey", "privatekey", "accountkey", "sharedkey", "authorization",
	"cookie",
};
/* Kernel and crypttab parameters that begin like these. */
static const char *const no_secrets[] = { "secretmem", "token-timeout" };
/* All of the last part of a name before =. */
static const char *const short_names[] = { "pass", "pw", "pwd", "sshpw", "sshpwd", "psk", "pin", "sig" };
/* What follows in the word is a secret. */
static const char *const marks[] = {
	"hooks.slack.com/", "discord.com/api/webhooks/", "discordapp.com/api/webhooks/", "api.telegram.org/",
	"grub.pbkdf2.",     "dhhc-1:",                   "$1$",                          "$5$",
	"$6$",              "$7$",                       "$2a$",                         "$2b$",
	"$2x$",             "$2y$",                      "$y$",                          "$gy$",
	"$sm3$",
};
/* A user and a password follow up to an @. */
static const char *const user_marks[] = { "://", "iscsi:" };
/* What follows such a word may be one. */
static const char *const words[] = {
	"-u", "-p", "--user", "echo", "printf", "sshpass", "mysql", "mariadb", "cryptomount", "-----begin",
};

#define COUNT(array) ((int)(sizeof(array) / sizeof(*(array))))

static u8 lower(u8 byte)
{
	return byte >= 'A' && byte <= 'Z' ? byte + ('a' - 'A') : byte;
}

static int is_alphanumeric(u8 byte)
{
	return (lower(byte) >= 'a' && lower(byte) <= 'z') || (byte >= '0' && byte <= '9');
}

static int is_of_name(u8 byte)
{
	return is_alphanumeric(byte) || byte == '_' || byte == '-' || byte == '.' || byte == '/' || byte > 127;
}

static int is_quote(u8 byte)
{
	return byte == '"' || byte == '\'' || byte == '\\';
}

/* The end of `word` where it stands at `at`, or 0. `loose`: - and _ in the text do not count. */
static u8 *match(u8 *at, u8 *end, const char *word, int loose)
{
	for (; *word; at++) {
		if (at == end)
			return 0;
		if (lower(*at) == (u8)*word)
			word++;
		else if (!loose || (*at != '-' && *at != '_'))
			return 0;
	}
	return at;
}

static u8 *match_any(u8 *at, u8 *end, const char *const *list, int count, int loose)
{
	u8 *found = 0;

	for (int i = 0; i < count && !found; i++)
		found = match(at, end, list[i], loose);
	return found;
}

/* Looked at is a copy: what is hidden may itself say that something behind it is a secret. */
static u8 original[FACT_MAX];
static u8 *shown;

static void hide(const u8 *from, const u8 *to)
{
	for (; from < to; from++)
		if (!is_quote(*from) && *from > ' ')
			shown[from - original] = 'X';
}

/* A name that says it is one of a secret: its value is hidden. That is in the word, or follows it. */
static void hide_named(u8 *word, u8 *stem_end, u8 *end, u8 *text_end)
{
	u8 *at = stem_end;
	int named;

	while (at < end && is_of_name(*at))
		at++;
	while (at < text_end && (is_quote(*at) || *at == '}' || *at == '+' || *at == ' ' || *at == '\t'))
		at++;
	named = at < text_end && (*at == '=' || *at == ':');
	if (named && at + 1 < end && !(is_quote(at[1]) && at + 2 >= end))
		hide(at + 1, end);
	else if (named)
		hide(at + 1, text_end);
	else if (*word == '-' || match(stem_end - 5, end, "passw", 0))
		hide(stem_end, text_end);
}

static void hide_short_named(u8 *word, u8 *equals, u8 *end)
{
	u8 *name = equals, *name_end = equals;

	while (name_end > word && (name_end[-1] == '+' || name_end[-1] == ':' || name_end[-1] == '}'))
		name_end--;
	if (name_end > word && name_end[-1] == '2')
		name_end--;
	for (name = name_end; name > word && is_alphanumeric(name[-1]);)
		name--;
	for (int i = 0; i < COUNT(short_names); i++)
		if (match(name, name_end, short_names[i], 0) == name_end)
			hide(equals + 1, end);
}

/* The password is between the first colon, which no port and path follow, and the last @. */
static void hide_password(u8 *from, u8 *end)
{
	u8 *at;

	while (from < end && *from != ':' && *from != '@')
		from++;
	for (at = from + 1; at < end && *at >= '0' && *at <= '9';)
		at++;
	if (from == end || *from == '@' || (at < end && *at == '/'))
		return;
	for (at = end; at > from && at[-1] != '@';)
		at--;
	hide(from + 1, at - (at > from));
}

/* Words end at white space; what is in quotes belongs together. */
static void redact_word(u8 *word, u8 *end, u8 *text_end)
{
	u8 *found;

	for (u8 *at = word; at < end; at++) {
		if ((at == word || !is_alphanumeric(at[-1])) && (found = match_any(at, end, words, COUNT(words), 0)))
			hide(found, text_end);
		if (!match_any(at, end, no_secrets, COUNT(no_secrets), 0) &&
		    (found = match_any(at, end, stems, COUNT(stems), 1)))
			hide_named(word, found, end, text_end);
		if (*at == '=')
			hide_short_named(word, at, end);
		if ((found = match_any(at, end, marks, COUNT(marks), 0)))
			hide(found, end);
		if ((found = match_any(at, end, user_marks, COUNT(user_marks), 0)))
			hide_password(found, end);
	}
}

void redact(u8 *given, unsigned long size)
{
	u8 *text = original, *end = original + size;

	shown = given;
	for (unsigned long i = 0; i < size; i++)
		original[i] = given[i];
	while (text < end) {
		u8 *word_end = text, *text_end = text, quote = 0;

		while (text_end < end && *text_end)
			text_end++;
		for (; word_end < text_end && (quote || *word_end > ' '); word_end++) {
			if (quote)
				quote = *word_end == quote ? 0 : quote;
			else if (*word_end == '"' || *word_end == '\'')
				quote = *word_end;
		}
		redact_word(text, word_end, text_end);
		text = word_end + 1;
	}
}

int is_seed(const char *property)
{
	return same(property, "kaslr-seed") || same(property, "rng-seed");
}

/* Device trees: Devicetree Specification, 5. All numbers are big-endian. */
enum { FDT_MAGIC = 0xd00dfeed, FDT_BEGIN_NODE = 1, FDT_END_NODE, FDT_PROP, FDT_NOP, FDT_END = 9 };
enum { TOTALSIZE = 4, OFF_STRUCT = 8, OFF_STRINGS = 12, SIZE_STRINGS = 32, SIZE_STRUCT = 36, HEADER_SIZE = 40 };

static u32 cell(const u8 *at)
{
	return (u32)at[0] << 24 | (u32)at[1] << 16 | (u32)at[2] << 8 | at[3];
}

/* Whether a text that ends is there. */
static int is_text(const u8 *at, const u8 *end)
{
	while (at < end && *at)
		at++;
	return at < end;
}

static void redact_property(const char *name, u8 *value, u32 size)
{
	if (!is_seed(name)) {
		redact(value, size);
		return;
	}
	while (size--)
		*value++ = 0;
}

int redact_tree(u8 *blob, unsigned long size)
{
	u32 total, structure, strings;
	u8 *at, *end, *names_end;
	int depth = 0, chosen = 0;

	if (size < HEADER_SIZE || cell(blob) != FDT_MAGIC)
		return -1;
	total = cell(blob + TOTALSIZE);
	structure = cell(blob + OFF_STRUCT);
	strings = cell(blob + OFF_STRINGS);
	if (total > size || structure > total || cell(blob + SIZE_STRUCT) > total - structure || structure % 4 ||
	    strings > total || cell(blob + SIZE_STRINGS) > total - strings)
		return -1;
	at = blob + structure;
	end = at + cell(blob + SIZE_STRUCT);
	names_end = blob + strings + cell(blob + SIZE_STRINGS);
	while (end - at >= 4) {
		u32 token = cell(at), length;

		at += 4;
		if (token == FDT_END)
			return 0;
		if (token == FDT_BEGIN_NODE) {
			if (!is_text(at, end))
				return -1;
			depth++;
			if (depth == 2)
				chosen = same((char *)at, "chosen");
			while (*at)
				at++;
			at = blob + ((at + 4 - blob) & ~3L);
		} else if (token == FDT_END_NODE) {
			depth--;
		} else if (token == FDT_PROP) {
			u8 *name;

			if (end - at < 8)
				return -1;
			length = cell(at);
			name = blob + strings + (cell(at + 4) < total ? cell(at + 4) : total);
			at += 8;
			if (length > (unsigned long)(end - at) || name >= names_end || !is_text(name, names_end))
				return -1;
			if (depth == 2 && chosen)
				redact_property((char *)name, at, length);
			at = blob + ((at + length + 3 - blob) & ~3L);
		} else if (token != FDT_NOP) {
			return -1;
		}
		if (at > end)
			return -1;
	}
	return -1;
}

// SPDX-License-Identifier: BSD-3-Clause
#include "facts.h"
#include "helper.h"

enum { O_NONBLOCK = 04000, EACCES = 13 }; /* include/uapi/asm-generic/fcntl.h, errno-base.h */
enum { PATH_MAX = 4096, DEPTH_MAX = 64 };

static const char *const memory_names[] = { MEMORY_NAMES }; /* pykexec/machine/iomem.py, in lower case */

/* Name and contents of the file at hand, and some more for what is written anew. */
static u8 room[PATH_MAX + FACT_MAX + 64] __attribute__((aligned(16)));
static u8 *const contents = &room[PATH_MAX];

static char path[PATH_MAX];
static char refused[PATH_MAX];
static fact_taker *taker;

const char *refused_fact(void)
{
	return *refused ? refused : 0;
}

static void refuse(const char *name)
{
	if (*refused)
		return;
	for (char *to = refused; (*to = *name); to++)
		name++;
}

static int begins(const char *text, const char *beginning)
{
	while (*beginning && *text == *beginning) {
		text++;
		beginning++;
	}
	return !*beginning;
}

static const char *last_part(const char *name)
{
	const char *last = name;

	for (; *name; name++)
		if (*name == '/')
			last = name + 1;
	return last;
}

/* Whether the file lies in the device tree's node /chosen. */
static int is_chosen(const char *name)
{
	const char *last = last_part(name);

	return begins(name, "proc/device-tree/") && last - name >= 8 && begins(last - 8, "/chosen/");
}

/* Whether Open Firmware has named a property as one that only root may read, such as its password: pykexec/redact.py. */
static int is_firmwares_secret(const char *name)
{
	return begins(name, "proc/device-tree/") && begins(last_part(name), "security-");
}

/* Whether readers without CAP_SYS_ADMIN see that: nothing but zeros (kernel/resource.c). */
static int hides_addresses(const u8 *text, unsigned long size)
{
	int in_name = 0;

	for (; size; size--, text++) {
		if (*text == ':' || *text == '\n')
			in_name = *text == ':';
		else if (!in_name && *text != '0' && *text != '-' && *text != ' ')
			return 0;
	}
	return 1;
}

/* Whether a line of /proc/kallsyms is that of the kernel's beginning: pykexec/machine/kallsyms.py. */
static int is_text_start(const u8 *line, const u8 *end)
{
	static const char name[] = " _stext";
	unsigned long size = sizeof(name) - 1;

	while (end > line && (end[-1] == ' ' || end[-1] == '\t' || end[-1] == '\n'))
		end--;
	return (unsigned long)(end - line) >= size && begins((const char *)end - size, name);
}

/* Whether a line of /proc/iomem tells of memory. */
static int is_of_memory(const u8 *line, const u8 *end)
{
	while (line < end && *line != ':')
		line++;
	line += 2;
	for (unsigned i = 0; i < sizeof(memory_names) / sizeof(*memory_names); i++) {
		const char *name = memory_names[i];
		const u8 *at = line;

		while (at < end && *name && (*at >= 'A' && *at <= 'Z' ? *at + 32 : *at) == *name) {
			at++;
			name++;
		}
		if (!*name)
			return 1;
	}
	return 0;
}

/* Keep some lines of a text. Returns its new size. */
static unsigned long keep_lines(u8 *text, unsigned long size, int (*wanted)(const u8 *line, const u8 *end))
{
	u8 *to = text, *end = text + size;

	while (text < end) {
		u8 *next = text;

		while (next < end && *next != '\n')
			next++;
		next += next < end;
		if (wanted(text, next))
			while (text < next)
				*to++ = *text++;
		text = next;
	}
	return (unsigned long)(to - (end - size));
}

/* Make the contents what a snapshot has. Returns the size, or -1 where the file is left out. */
static long make_safe(const char *name, unsigned long size)
{
	if (same(name, "proc/kcore"))
		return size ? (long)kcore_without_memory(contents, size) : -1;
	if (same(name, "proc/kallsyms"))
		return (long)keep_lines(contents, size, is_text_start);
	if (same(name, "proc/iomem") && hides_addresses(contents, size))
		refuse("proc/iomem (addresses)");
	if (same(name, "sys/firmware/fdt") && redact_tree(contents, size) < 0)
		return -1;
	if (is_chosen(name) && is_seed(last_part(name)))
		return -1;
	if (same(name, "proc/cmdline") || is_chosen(name))
		redact(contents, size);
	else if (is_firmwares_secret(name))
		for (unsigned long i = 0; i < size; i++)
			contents[i] = 0;
	return (long)size;
}

/* Only the headers and the notes of /proc/kcore are no memory. */
static long read_kcore(long descriptor)
{
	enum { FIRST = 128 }; /* the file header, and the first program header */
	long size = read_to_end(descriptor, contents, FIRST), more;
	unsigned long whole;

	if (size < 0)
		return size;
	whole = kcore_headers_size(contents, (unsigned long)size);
	if (whole <= (unsigned long)size)
		return (long)whole;
	more = read_to_end(descriptor, contents + size, whole - (unsigned long)size);
	return more < 0 ? more : size + more;
}

/* Give the file at `path`, if there is one that can be read. */
static void take_file(void)
{
	const char *name = path + 1;
	unsigned long name_size = length(name) + 1;
	long descriptor = open(path, O_NONBLOCK), size;
	u8 *start = contents - name_size;

	if (descriptor == -EACCES)
		refuse(name);
	if (descriptor < 0)
		return;
	size = same(name, "proc/kcore") ? read_kcore(descriptor) : read_to_end(descriptor, contents, FACT_MAX + 1);
	close(descriptor);
	if (size == -EACCES)
		refuse(name);
	if (size < 0 || size > FACT_MAX)
		return;
	size = make_safe(name, (unsigned long)size);
	if (size < 0)
		return;
	for (unsigned long i = 0; i < name_size; i++)
		start[i] = (u8)name[i];
	taker((const char *)start, contents, (unsigned long)size);
}

/* Put a slash and a name at the end of the path, which has so many bytes. Returns its new size, 0 if there is no room. */
static unsigned long append(unsigned long size, const char *name, unsigned long name_size)
{
	if (size + 1 + name_size >= PATH_MAX)
		return 0;
	path[size++] = '/';
	for (unsigned long i = 0; i < name_size; i++)
		path[size++] = name[i];
	path[size] = 0;
	return size;
}

/* A star stands for any characters. */
static int matches(const char *name, const char *pattern, const char *pattern_end)
{
	for (; pattern < pattern_end; pattern++, name++) {
		if (*pattern == '*') {
			for (;; name++) {
				if (matches(name, pattern + 1, pattern_end))
					return 1;
				if (!*name)
					return 0;
			}
		}
		if (*name != *pattern)
			return 0;
	}
	return !*name;
}

static void take_matching(unsigned long size, const char *pattern);

/* Each entry of the folder at `path` that matches, and of that what the rest of the pattern says. */
static void take_folder(unsigned long size, const char *part, const char *part_end, int depth)
{
	int all = same(part, "**");
	struct folder folder;
	struct entry *entry;
	long opened = depth < DEPTH_MAX ? open_folder(&folder, path) : -1;

	if (opened == -EACCES)
		refuse(path + 1);
	if (opened < 0)
		return;
	while ((entry = next_entry(&folder))) {
		unsigned long longer;

		if (same(entry->d_name, ".") || same(entry->d_name, "..") || !matches(entry->d_name, part, part_end))
			continue;
		longer = append(size, entry->d_name, length(entry->d_name));
		if (longer && all && entry->d_type == DT_DIR)
			take_folder(longer, part, part_end, depth + 1);
		else if (longer)
			take_matching(longer, part_end);
		path[size] = 0;
	}
	close(folder.descriptor);
}

/* `pattern` is what is still to be put at the end of the path. */
static void take_matching(unsigned long size, const char *pattern)
{
	const char *end;
	int has_star = 0;

	if (!*pattern) {
		take_file();
		return;
	}
	pattern += *pattern == '/';
	for (end = pattern; *end && *end != '/'; end++)
		has_star |= *end == '*';
	if (has_star) {
		take_folder(size, pattern, end, 0);
		return;
	}
	size = append(size, pattern, (unsigned long)(end - pattern));
	if (size)
		take_matching(size, end);
}

void each_fact(const char *pattern, fact_taker *take)
{
	taker = take;
	path[0] = 0;
	take_matching(0, pattern);
}

void digest(const void *data, unsigned long size, u8 digest[DIGEST_SIZE])
{
	static const struct compression compression = { .one = sha256_portable };
	struct message message;

	message.data = data;
	message.size = size;
	sha256(&compression, &message, 1);
	for (int i = 0; i < DIGEST_SIZE; i++)
		digest[i] = message.digest[i];
}

static u8 *sum;

static void add_digest(const char *name, u8 *data, unsigned long size)
{
	u8 of_file[DIGEST_SIZE];

	if (begins(name, NOT_COMPARED))
		return;
	if (same(name, "proc/iomem"))
		size = keep_lines(data, size, is_of_memory);
	digest(name, length(name) + 1 + size, of_file);
	for (int i = 0; i < DIGEST_SIZE; i++)
		sum[i] ^= of_file[i];
}

void digest_of(const char *pattern, u8 digest[DIGEST_SIZE])
{
	sum = digest;
	for (int i = 0; i < DIGEST_SIZE; i++)
		sum[i] = 0;
	each_fact(pattern, add_digest);
}

static u64 region_start, region_size;

static const u8 *read_hex(const u8 *text, u64 *number)
{
	for (*number = 0;; text++) {
		if (*text >= '0' && *text <= '9')
			*number = *number << 4 | (u64)(*text - '0');
		else if (*text >= 'a' && *text <= 'f')
			*number = *number << 4 | (u64)(*text - 'a' + 10);
		else
			return text;
	}
}

static void find_region(const char *name, u8 *text, unsigned long size)
{
	const u8 *line = text, *at;
	u64 first, last = 0;

	(void)name;
	text[size] = 0;
	while (*line) {
		while (*line == ' ')
			line++;
		at = read_hex(line, &first);
		if (*at == '-')
			at = read_hex(at + 1, &last);
		if ((begins((const char *)at, " : Crash kernel\n") || begins((const char *)at, " : Crash kernel (")) &&
		    first >= region_start) {
			region_start = first;
			region_size = last - first + 1;
		}
		while (*line && *line++ != '\n')
			;
	}
}

static u64 told;

static void read_cells(const char *name, u8 *cells, unsigned long size)
{
	(void)name;
	for (told = 0; size; size--)
		told = told << 8 | *cells++;
}

static void read_decimal(const char *name, u8 *text, unsigned long size)
{
	(void)name;
	for (told = 0; size && *text >= '0' && *text <= '9'; size--)
		told = told * 10 + (u64)(*text++ - '0');
}

/* The number that a file has; `missing` where there is no such file. */
static u64 number_in(const char *path, fact_taker *read, u64 missing)
{
	told = missing;
	each_fact(path, read);
	return told;
}

/* powerpc's kernels show it in the device tree alone, where it keeps the size that it had first: chosen.py. */
static void find_in_tree(void)
{
	u64 first = number_in("proc/device-tree/chosen/linux,crashkernel-size", read_cells, 0);
	u64 now = number_in("sys/kernel/kexec_crash_size", read_decimal, first);

	region_size = now < first ? now : first;
	region_start = region_size ? number_in("proc/device-tree/chosen/linux,crashkernel-base", read_cells, 0) : 0;
}

void crash_region(u64 *start, u64 *size)
{
	region_start = region_size = 0;
	each_fact("proc/iomem", find_region);
	if (!region_size)
		find_in_tree();
	*start = region_start;
	*size = region_size;
}

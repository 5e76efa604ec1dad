// SPDX-License-Identifier: BSD-3-Clause
/* The headers of /proc/kcore, of either class, in this machine's byte order: see pykexec/machine/kcore.py. */
#include "facts.h"
#include "helper.h"

enum { ET_CORE = 4, EV_CURRENT = 1, PT_LOAD = 1, PT_NOTE = 4, PN_XNUM = 0xffff };
enum { EI_CLASS = 4, EI_DATA = 5, EI_VERSION = 6, EI_PAD = 7, EI_NIDENT = 16 };

/* Where the fields are: elf(5). */
static const struct class {
	u8 word;        /* the bytes of an address */
	u8 header_size; /* the fields below in it: */
	u8 phoff, ehsize, phentsize, phnum;
	u8 row_size; /* of a program header, the fields below in it: */
	u8 offset, vaddr, paddr, filesz, memsz;
} classes[] = {
	{ 4, 52, 28, 40, 42, 44, 32, 4, 8, 12, 16, 20 },
	{ 8, 64, 32, 52, 54, 56, 56, 8, 16, 24, 32, 40 },
};

enum { E_TYPE = 16, E_MACHINE = 18, E_VERSION = 20, P_TYPE = 0 };

static const char note_name[] = "VMCOREINFO"; /* with its zero byte */

struct note {
	u32 name_size;
	u32 size;
	u32 type;
};

static u16 *half(u8 *at)
{
	return (u16 *)(void *)at;
}

static u32 *word(u8 *at)
{
	return (u32 *)(void *)at;
}

static u64 address(const struct class *class, u8 *at)
{
	return class->word == 4 ? *word(at) : *(u64 *)(void *)at;
}

static void put_address(const struct class *class, u8 *at, u64 value)
{
	if (class->word == 4)
		*word(at) = (u32)value;
	else
		*(u64 *)(void *)at = value;
}

static unsigned long padded(unsigned long size)
{
	return (size + 3) & ~3UL;
}

/* Returns 0 for what is no kcore, or has not all of its program headers there. */
static const struct class *class_of(const u8 *kcore, unsigned long size)
{
	const struct class *class;
	u8 *writable = (u8 *)kcore;

	if (size < EI_NIDENT || *word(writable) != *(const u32 *)(const void *)"\177ELF" || kcore[EI_CLASS] < 1 ||
	    kcore[EI_CLASS] > 2)
		return 0;
	class = &classes[kcore[EI_CLASS] - 1];
	if (size < class->header_size || address(class, writable + class->phoff) != class->header_size ||
	    *half(writable + class->phentsize) != class->row_size || *half(writable + class->phnum) == PN_XNUM)
		return 0;
	return class;
}

/* The first program header, which kernels let be that of the notes; 0 where it is not. */
static u8 *notes_row(const struct class *class, u8 *kcore)
{
	u8 *row = kcore + class->header_size;

	return *half(kcore + class->phnum) && *word(row + P_TYPE) == PT_NOTE ? row : 0;
}

unsigned long kcore_headers_size(const u8 *kcore, unsigned long size)
{
	const struct class *class = class_of(kcore, size);
	u8 *row;
	u64 offset, notes;

	if (!class || size < (unsigned long)class->header_size + class->row_size)
		return 0;
	row = notes_row(class, (u8 *)kcore);
	if (!row)
		return 0;
	offset = address(class, row + class->offset);
	notes = address(class, row + class->filesz);
	/* The notes are behind the headers: what is read up to their end is no memory. */
	if (offset != class->header_size + (u64)*half((u8 *)kcore + class->phnum) * class->row_size ||
	    notes > FACT_MAX - offset)
		return 0;
	return (unsigned long)(offset + notes);
}

static void move(u8 *to, const u8 *from, unsigned long size)
{
	while (size--)
		*to++ = *from++;
}

static void clear(u8 *at, unsigned long size)
{
	while (size--)
		*at++ = 0;
}

/* Write the one note to `to`, which is not behind the others. Returns its end. */
static u8 *keep_vmcoreinfo(u8 *to, u8 *from, u8 *end)
{
	struct note *kept = (struct note *)(void *)to;
	u8 *content = to + sizeof(*kept) + padded(sizeof(note_name));
	unsigned long size = 0;

	while ((unsigned long)(end - from) >= sizeof(struct note)) {
		struct note note = *(struct note *)(void *)from;
		u8 *name = from + sizeof(note);
		unsigned long left = (unsigned long)(end - name);

		if (note.name_size > left || padded(note.name_size) > left ||
		    note.size > left - padded(note.name_size))
			break;
		if (note.name_size == sizeof(note_name) && same((char *)name, note_name)) {
			size = note.size;
			move(content, name + padded(note.name_size), size);
			break;
		}
		if (padded(note.size) > left - padded(note.name_size))
			break;
		from = name + padded(note.name_size) + padded(note.size);
	}
	while (size && !content[size - 1])
		size--;
	clear(content + size, padded(size) - size);
	*kept = (struct note){ sizeof(note_name), (u32)size, 0 };
	clear(to + sizeof(*kept), padded(sizeof(note_name)));
	move(to + sizeof(*kept), (const u8 *)note_name, sizeof(note_name));
	return content + padded(size);
}

/* A program header that tells no more than where things are. */
static void write_row(const struct class *class, u8 *row, u32 type, u64 vaddr, u64 paddr, u64 size)
{
	clear(row, class->row_size);
	*word(row + P_TYPE) = type;
	put_address(class, row + class->vaddr, vaddr);
	put_address(class, row + class->paddr, paddr);
	put_address(class, row + class->filesz, size);
	put_address(class, row + class->memsz, size);
}

/* Kernels before 4.19 give no physical addresses, but zeros; what has none says so otherwise (fs/proc/kcore.c). */
static int has_addresses(const struct class *class, u8 *row, int count)
{
	for (; count; count--, row += class->row_size)
		if (*word(row + P_TYPE) == PT_LOAD && address(class, row + class->paddr))
			return 1;
	return 0;
}

unsigned long kcore_without_memory(u8 *kcore, unsigned long size)
{
	const struct class *class = class_of(kcore, size);
	unsigned long whole = kcore_headers_size(kcore, size);
	u8 *from, *to, *notes, *end;
	int count, addressed, kept = 1;

	if (!whole || whole > size)
		return 0;
	count = *half(kcore + class->phnum);
	notes = kcore + class->header_size + (unsigned long)count * class->row_size;
	from = to = kcore + class->header_size + class->row_size;
	addressed = has_addresses(class, from, count - 1);
	for (int i = 1; i < count; i++, from += class->row_size) {
		u64 paddr = address(class, from + class->paddr);

		if (*word(from + P_TYPE) != PT_LOAD)
			continue;
		if (!addressed || paddr == ~0U)
			paddr = ~0ULL;
		write_row(class, to, PT_LOAD, address(class, from + class->vaddr), paddr,
			  address(class, from + class->memsz));
		to += class->row_size;
		kept++;
	}
	end = keep_vmcoreinfo(to, notes, kcore + whole);
	from = kcore + class->header_size;
	write_row(class, from, PT_NOTE, 0, 0, (u64)(end - to));
	put_address(class, from + class->offset, (u64)(to - kcore));
	put_address(class, from + class->memsz, 0);

	clear(kcore + EI_PAD, EI_NIDENT - EI_PAD);
	clear(kcore + E_VERSION, class->header_size - E_VERSION);
	*half(kcore + E_TYPE) = ET_CORE;
	*word(kcore + E_VERSION) = EV_CURRENT;
	put_address(class, kcore + class->phoff, class->header_size);
	*half(kcore + class->ehsize) = class->header_size;
	*half(kcore + class->phentsize) = class->row_size;
	*half(kcore + class->phnum) = (u16)kept;
	return (unsigned long)(end - kcore);
}

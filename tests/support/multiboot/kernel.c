// SPDX-License-Identifier: BSD-3-Clause
/*
 * A Multiboot kernel (-DVERSION=1 or 2) that writes to the first serial port in which state it was entered and
 * what it was told, a fact a line, and then resets the machine. It runs wherever it is loaded.
 *
 * -DADDRESSES: the header has load addresses, and the file is what objcopy -O binary makes of it.
 * -DRELOCATABLE=min,max,align,preference: version 2's tag of that name.
 * -DREQUIRED=...: further words for the header, which no loader can fulfil.
 */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define STRING(...) STRING_(__VA_ARGS__)
#define STRING_(...) #__VA_ARGS__
#ifndef FLAGS
#define FLAGS 0x3 /* modules on page boundaries, memory information */
#endif

#if VERSION == 1 && defined(ADDRESSES)
#define HEADER \
	".long 0x1badb002, " STRING(FLAGS) " | 0x10000, -(0x1badb002 + (" STRING(FLAGS) " | 0x10000))\n" \
	".long header, image_start, image_end, bss_end, start\n"
#elif VERSION == 1
#define HEADER ".long 0x1badb002, " STRING(FLAGS) ", -(0x1badb002 + " STRING(FLAGS) ")\n"
#else
#ifdef ADDRESSES
#define ADDRESS_TAGS \
	".balign 8; .short 2, 0; .long 24, header, image_start, image_end, bss_end\n" \
	".balign 8; .short 3, 0; .long 12, start\n"
#else
#define ADDRESS_TAGS
#endif
#ifdef RELOCATABLE
#define RELOCATABLE_TAG ".balign 8; .short 10, 0; .long 24, " STRING(RELOCATABLE) "\n"
#else
#define RELOCATABLE_TAG
#endif
#ifdef REQUIRED
#define REQUIRED_TAG ".balign 8; 1: .short " STRING(REQUIRED) "\n"
#else
#define REQUIRED_TAG
#endif
#define HEADER \
	".long 0xe85250d6, 0, header_end - header, -(0xe85250d6 + header_end - header)\n" \
	".balign 8; .short 1, 0; .long 24, 1, 4, 6, 3\n" ADDRESS_TAGS RELOCATABLE_TAG REQUIRED_TAG \
	".balign 8; .short 0, 0; .long 8\n"
#endif

__asm__(".section .header, \"ax\"\n"
	".globl image_start, start\n"
	"image_start:\n"
	"start: cli; cld\n"
	"	jmp begin\n"
	"	.balign 8\n"
	"header:\n" HEADER
	"header_end:\n"
	"begin:\n"
	"	call 1f\n"
	"1:	pop %ebp\n"
	"	leal stack_end - 1b(%ebp), %esp\n"
	"	leal start - 1b(%ebp), %ecx\n"
	"	pushl %ecx\n"
	"	pushl %ebx\n"
	"	pushl %eax\n"
	"	call tell\n"
	"	.section .bss\n"
	"	.balign 16\n"
	"	.skip 16384\n"
	"stack_end:\n"
	"	.text\n");

static inline void outb(u16 port, u8 value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline u8 inb(u16 port)
{
	u8 value;

	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static void put(char c)
{
	for (int i = 0; i < 100000 && !(inb(0x3f8 + 5) & 0x20); i++)
		;
	outb(0x3f8, (u8)c);
}

static void text(const char *s)
{
	while (*s)
		put(*s++);
}

static void number(u64 n)
{
	put(' ');
	for (int i = 60; i >= 0; i -= 4)
		if (i == 0 || n >> i)
			put("0123456789abcdef"[(n >> i) & 15]);
}

static void line(const char *name, int count, const u64 *numbers)
{
	text("MB ");
	text(name);
	for (int i = 0; i < count; i++)
		number(numbers[i]);
	text("\r\n");
}

#define LINE(name, ...) \
	do { \
		u64 numbers[] = { __VA_ARGS__ }; \
		line(name, sizeof(numbers) / sizeof(u64), numbers); \
	} while (0)

static void quoted(const char *name, const char *s)
{
	text("MB ");
	text(name);
	text(" \"");
	text(s);
	text("\"\r\n");
}

static u32 sum(const void *at, u32 size)
{
	u32 total = 0;

	for (u32 i = 0; i < size; i++)
		total = total * 31 + ((const u8 *)at)[i];
	return total;
}

static void module(u32 start, u32 end, const char *s)
{
	quoted("module", s);
	LINE("module-at", start, end);
	LINE("module-size-and-sum", end - start, sum((void *)start, end - start));
}

static void rsdp(const char *name, const u8 *at, u32 size)
{
	u8 total = 0;

	for (u32 i = 0; i < size; i++)
		total += at[i];
	LINE(name, size, total, *(u32 *)(at + 16));
}

static void state(u32 eax, u32 at)
{
	u32 cr0, cr4, eflags, efer, unused, cs, ds, es, fs, gs, ss;

	__asm__ volatile("movl %%cr0, %0; movl %%cr4, %1; pushfl; popl %2" : "=r"(cr0), "=r"(cr4), "=r"(eflags));
	__asm__ volatile("rdmsr" : "=a"(efer), "=d"(unused) : "c"(0xc0000080));
	__asm__ volatile("movl %%cs, %0; movl %%ds, %1; movl %%es, %2" : "=r"(cs), "=r"(ds), "=r"(es));
	__asm__ volatile("movl %%fs, %0; movl %%gs, %1; movl %%ss, %2" : "=r"(fs), "=r"(gs), "=r"(ss));
	LINE("eax", eax);
	LINE("at", at);
	LINE("protection-and-paging", cr0 & 1, cr0 >> 31);
	LINE("vm86-and-interrupts", (eflags >> 17) & 1, (eflags >> 9) & 1);
	LINE("long-mode", (efer >> 8) & 1, (efer >> 10) & 1);
	LINE("pae-and-la57", (cr4 >> 5) & 1, (cr4 >> 12) & 1);
	u32 limits[6];
	u32 selectors[6] = { cs, ds, es, fs, gs, ss };
	for (int i = 0; i < 6; i++)
		__asm__ volatile("lsll %1, %0" : "=r"(limits[i]) : "r"(selectors[i]) : "cc");
	LINE("limits", limits[0], limits[1], limits[2], limits[3], limits[4], limits[5]);
}

static void tell1(const u32 *info)
{
	u32 flags = info[0];

	if (flags & 1)
		LINE("memory", info[1], info[2]);
	if (flags & 1 << 2)
		quoted("command-line", (char *)info[4]);
	if (flags & 1 << 3)
		for (u32 i = 0; i < info[5]; i++) {
			u32 *each = (u32 *)info[6] + 4 * i;
			module(each[0], each[1], (char *)each[2]);
		}
	if (flags & 1 << 6)
		for (u32 at = info[12]; at < info[12] + info[11]; at += *(u32 *)at + 4)
			LINE("map", *(u64 *)(at + 4), *(u64 *)(at + 12), *(u32 *)(at + 20));
	if (flags & 1 << 9)
		quoted("loader", (char *)info[16]);
	if (flags & 1 << 12) {
		const u8 *f = (const u8 *)info;
		LINE("framebuffer", *(u64 *)(f + 88), info[24], info[25], info[26], f[108], f[109]);
		if (f[109] == 1)
			LINE("colors", f[110], f[111], f[112], f[113], f[114], f[115]);
	}
}

static void tell2(const u32 *info)
{
	LINE("information-size-is-aligned", info[0] % 8 == 0, info[1]);
	for (const u32 *tag = info + 2; tag[0]; tag += (tag[1] + 7) / 8 * 2) {
		const u8 *f = (const u8 *)tag;
		switch (tag[0]) {
		case 1:
			quoted("command-line", (char *)(tag + 2));
			break;
		case 2:
			quoted("loader", (char *)(tag + 2));
			break;
		case 3:
			module(tag[2], tag[3], (char *)(tag + 4));
			break;
		case 4:
			LINE("memory", tag[2], tag[3]);
			break;
		case 6:
			for (u32 at = 16; at < tag[1]; at += tag[2])
				LINE("map", *(u64 *)(f + at), *(u64 *)(f + at + 8), *(u32 *)(f + at + 16));
			break;
		case 8:
			LINE("framebuffer", *(u64 *)(tag + 2), tag[4], tag[5], tag[6], f[28], f[29]);
			if (f[29] == 1)
				LINE("colors", f[32], f[33], f[34], f[35], f[36], f[37]);
			break;
		case 14:
			rsdp("rsdp-old", f + 8, 20);
			break;
		case 15:
			rsdp("rsdp-new", f + 8, tag[1] - 8);
			break;
		case 21:
			LINE("load-base", tag[2]);
			break;
		}
	}
}

__attribute__((used)) void tell(u32 eax, const u32 *info, u32 at)
{
	state(eax, at);
	if (eax == 0x2badb002)
		tell1(info);
	if (eax == 0x36d76289)
		tell2(info);
	text("MB end\r\n");
	for (;;) {
		outb(0xcf9, 0x02);
		outb(0xcf9, 0x06);
		outb(0x64, 0xfe);
	}
}

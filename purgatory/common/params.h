/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The parameter block: all that purgatory is told. purgatory/declared.py declares the same layout; a
 * change here needs a new PARAMS_VERSION, so that a blob and a loader that do not belong together notice.
 */
#ifndef PARAMS_H
#define PARAMS_H

#define PARAMS_MAGIC   0x47525550 /* "PURG" */
#define PARAMS_VERSION 3

#define REGIONS_MAX 64
#define REGION_NAME_SIZE 16
#define DIGEST_SIZE 32

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

enum {
	FLAG_VGA = 1 << 1,  /* print to the VGA text screen as well */
	FLAG_CALLED = 1 << 2, /* the old kernel can be returned to: its address is on the stack */
};

enum {
	CONSOLE_NONE = 0,
	CONSOLE_8250_PORT = 1, /* 8250-like UART behind x86 I/O ports */
	CONSOLE_PL011 = 2,
	CONSOLE_8250_MMIO = 3, /* registers of a byte each */
	CONSOLE_8250_MMIO32 = 4, /* registers of 32 bits each */
	CONSOLE_FIRMWARE = 5, /* the firmware writes, called as the architecture has it; no address is needed */
	CONSOLE_SCIF = 6, /* of SuperH CPUs */
};

struct region {
	u64 address;
	u64 size;
	char name[REGION_NAME_SIZE];
	u8 digest[DIGEST_SIZE];
};

struct params {
	u32 magic;
	u32 version;
	u32 size; /* of this struct */
	u32 flags;
	u64 jump_to;
	u64 arguments[4]; /* the first goes to RSI on x86_64, to x0 on arm64, to a1 on riscv64 */
	u32 console;
	u32 console_shift; /* registers lie 1 << shift bytes apart */
	u64 console_base;
	u32 console_divisor; /* of an 8250's clock, to set its speed; 0: leave it as it is */
	u32 unused;
	u64 backup_source;
	u64 backup_destination;
	u64 backup_size;
	u64 jump_back_digits; /* where to write 16 digits: jump_back_entry, for the kernel to be started; or 0 */
	u64 jump_back_entry;  /* where the old kernel goes on, from its stack */
	u32 region_count;
	u32 reset; /* how, where there is a choice: a number of the architecture's own; 0: none was made */
	struct region regions[REGIONS_MAX];
};

_Static_assert(sizeof(struct region) == 64, "as declared.py has it");
_Static_assert(__builtin_offsetof(struct params, regions) == 128, "as declared.py has it");

/* Hidden, so that no access goes through a global offset table, which would need relocating. */
extern struct params purgatory_params __attribute__((visibility("hidden")));

#endif

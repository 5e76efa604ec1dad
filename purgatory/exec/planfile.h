/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A plan's file: pykexec/planfile/declared.py declares the same layout. Numbers are in the machine's byte order,
 * texts end with a zero byte. After the header come the facts, then the segments, then what these hold.
 */
#ifndef PLANFILE_H
#define PLANFILE_H

#include "purgatory.h"

#define PLAN_MAGIC "KEXPLAN"
#define PLAN_VERSION 1

enum { UTS_NAME_SIZE = 72, PATTERN_SIZE = 64, SEGMENT_NAME_SIZE = 32 };
enum { SEGMENTS_MAX = 16 }; /* KEXEC_SEGMENT_MAX, include/uapi/linux/kexec.h */

struct plan {
	char magic[8];
	u64 version;
	u64 size;       /* of the file, in bytes */
	u8 digest[32];  /* SHA-256 of all that follows */
	char machine[UTS_NAME_SIZE];
	char release[UTS_NAME_SIZE];
	u64 page_size;
	u64 crash_start; /* the last region of /proc/iomem that is reserved for a crash kernel */
	u64 crash_size;
	u64 entry;
	u64 flags;
	u64 fact_count;
	u64 segment_count;
};

/* The state of the files that match a pattern: facts.c, digest_of. */
struct fact {
	char pattern[PATTERN_SIZE];
	u8 digest[DIGEST_SIZE];
};

struct segment {
	char name[SEGMENT_NAME_SIZE];
	u64 address;
	u64 memory_size;
	u64 offset; /* in the file */
	u64 size;
};

_Static_assert(sizeof(struct plan) == 256 && sizeof(struct fact) == 96 && sizeof(struct segment) == 64,
	       "pykexec/planfile/declared.py");

#endif

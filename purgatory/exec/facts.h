/* SPDX-License-Identifier: BSD-3-Clause */
/* Files that tell of the machine, as a snapshot has them: without the contents of memory, and nothing secret. */
#ifndef FACTS_H
#define FACTS_H

#include "purgatory.h"

/* The largest file that is read: pykexec/machine/sysfs.py, FILE_MAX. */
enum { FACT_MAX = 16 << 20 };

/*
 * `name` is a path without the slash at its beginning. It stands right before the `data`, so that both, with the zero
 * byte between them, are one piece of memory.
 */
typedef void fact_taker(const char *name, u8 *data, unsigned long size);

/* Give `take` all files that match a pattern: see pykexec/machine/snapshot.py, glob. */
void each_fact(const char *pattern, fact_taker *take);

/* A file that is there, but may not be read, of all that were asked for so far; 0: there was none. */
const char *refused_fact(void);

void digest(const void *data, unsigned long size, u8 digest[DIGEST_SIZE]);
/* The digest of the files that match a pattern: see pykexec/planfile/identity.py, digest. */
void digest_of(const char *pattern, u8 digest[DIGEST_SIZE]);

/* The last region that is shown as a crash kernel's, as in pykexec/machine/__init__.py; zeros for none. */
void crash_region(u64 *start, u64 *size);

/* redact.c: cover what may be a secret in text, which stays as long as it is. */
void redact(u8 *given, unsigned long size);
/* The same in a flattened device tree; returns -1 where it cannot be understood. */
int redact_tree(u8 *blob, unsigned long size);
/* Whether that property of /chosen is nothing but a secret. */
int is_seed(const char *property);

/* kcore.c: the number of bytes of /proc/kcore that its headers and notes take, by its first bytes; 0: none. */
unsigned long kcore_headers_size(const u8 *kcore, unsigned long size);
/* Write these anew, with no note but VMCOREINFO; returns the new size, 0 for what is no kcore. */
unsigned long kcore_without_memory(u8 *kcore, unsigned long size);

#endif

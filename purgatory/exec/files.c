// SPDX-License-Identifier: BSD-3-Clause
#include "helper.h"

long open(const char *path, long flags)
{
	return SYSTEM_CALL(openat, AT_FDCWD, path, flags | O_CLOEXEC, 0, 0);
}

void close(long descriptor)
{
	SYSTEM_CALL(close, descriptor, 0, 0, 0, 0);
}

long read_to_end(long descriptor, void *buffer, unsigned long room)
{
	enum { PIECE = 64 << 10 }; /* /proc/sys answers ENOMEM to a very large read (fs/proc/proc_sysctl.c) */
	unsigned long size = 0, piece;
	long got;

	while (size < room) {
		piece = room - size < PIECE ? room - size : PIECE;
		got = SYSTEM_CALL(read, descriptor, (char *)buffer + size, piece, 0, 0);
		if (got < 0)
			return got;
		if (!got)
			break;
		size += (unsigned long)got;
	}
	return (long)size;
}

long open_folder(struct folder *folder, const char *path)
{
	folder->at = folder->size = 0;
	folder->descriptor = open(path, O_DIRECTORY);
	return folder->descriptor;
}

struct entry *next_entry(struct folder *folder)
{
	struct entry *entry;

	if (folder->at >= folder->size) {
		folder->at = 0;
		folder->size = SYSTEM_CALL(getdents64, folder->descriptor, folder->entries, sizeof(folder->entries), 0, 0);
		if (folder->size <= 0)
			return 0;
	}
	entry = (struct entry *)&folder->entries[folder->at];
	folder->at += entry->d_reclen;
	return entry;
}

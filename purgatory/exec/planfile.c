// SPDX-License-Identifier: BSD-3-Clause
/*
 * A plan that was made elsewhere: everything about it is checked, and whether the machine is still the one that it
 * was made for, before the kernel is asked to load it. See pykexec/planfile.
 */
#include "planfile.h"

#include "facts.h"
#include "helper.h"

enum { FACTS_MAX = 64 };
enum { PAGE_SIZE_MIN = 1 << 12, PAGE_SIZE_MAX = 1 << 18 }; /* of all architectures: pykexec/machine, PAGE_SIZES */

enum { SEEK_END = 2, PROT_READ = 1, MAP_PRIVATE = 2 }; /* include/uapi/linux/fs.h, asm-generic/mman-common.h */

/* include/uapi/linux/kexec.h; all else in the low half changes what the segments mean. */
enum { KEXEC_ON_CRASH = 1, KEXEC_UPDATE_ELFCOREHDR = 4, KEXEC_CRASH_HOTPLUG_SUPPORT = 8 };
#define KNOWN_FLAGS (0xffff0000ULL | KEXEC_ON_CRASH | KEXEC_UPDATE_ELFCOREHDR | KEXEC_CRASH_HOTPLUG_SUPPORT)

/* struct kexec_segment */
struct kexec_segment {
	const void *buf;
	unsigned long bufsz;
	unsigned long mem;
	unsigned long memsz;
};

static const char *const checked[] = { CHECKED }; /* pykexec/planfile/identity.py */

static const char no_plan[] = "no plan, or only the beginning of one";
static const char remedy[] = "take a new snapshot (kexec --snapshot), and make the plan anew";

static int complain_of(const char *path, const char *what)
{
	put("kexec: ");
	put(path);
	put(": ");
	put(what);
	put("\n");
	flush(STDERR);
	return FAILED;
}

/* Whether a number fits a word, as all that the kernel gets has to. */
static int fits(u64 number)
{
	return number == (unsigned long)number;
}

static int ends(const char *text, unsigned long size)
{
	while (size && *text) {
		text++;
		size--;
	}
	return size != 0;
}

static const struct fact *facts_of(const struct plan *plan)
{
	return (const struct fact *)(plan + 1);
}

static const struct segment *segments_of(const struct plan *plan)
{
	return (const struct segment *)(facts_of(plan) + plan->fact_count);
}

static u64 swapped(u64 number)
{
	u64 other = 0;

	for (int i = 0; i < 8; i++, number >>= 8)
		other = other << 8 | (number & 0xff);
	return other;
}

/* Returns what is wrong with the file, or 0. */
static const char *fault(const struct plan *plan, unsigned long size)
{
	u8 found[DIGEST_SIZE];

	if (size < sizeof(*plan) || !same(plan->magic, PLAN_MAGIC))
		return no_plan;
	if (plan->version == swapped(PLAN_VERSION))
		return "a plan for a machine of the other byte order";
	if (plan->version != PLAN_VERSION)
		return "a plan of another version than this program's";
	if (plan->size != size)
		return "a plan whose end is missing, or that has something behind it";
	digest(plan->machine, size - __builtin_offsetof(struct plan, machine), found);
	for (int i = 0; i < DIGEST_SIZE; i++)
		if (found[i] != plan->digest[i])
			return "a damaged plan: its digest is another one";
	return 0;
}

static const char *segment_fault(const struct plan *plan, const struct segment *segment)
{
	u64 pages = plan->page_size - 1;

	if (!ends(segment->name, sizeof(segment->name)))
		return "a plan with a name that does not end";
	if ((segment->address | segment->memory_size | segment->offset) & pages)
		return "a plan with a segment that does not lie on pages";
	if (segment->size > segment->memory_size || !segment->offset || segment->offset >= plan->size ||
	    segment->size > plan->size - segment->offset)
		return "a plan with a segment that does not lie in the file, or has no room";
	if (!fits(segment->address) || !fits(segment->memory_size) ||
	    segment->memory_size > (u64)(0 - (unsigned long)segment->address) - 1)
		return "a plan with a segment beyond the addresses of this program";
	return 0;
}

/* The same of a file whose digest is right, and which a stranger may have made. */
static const char *table_fault(const struct plan *plan)
{
	const char *wrong = 0;

	if (!plan->segment_count || plan->segment_count > SEGMENTS_MAX || plan->fact_count > FACTS_MAX ||
	    plan->size < sizeof(*plan) + plan->fact_count * sizeof(struct fact) +
				 plan->segment_count * sizeof(struct segment))
		return "a plan with too many segments or facts, or none";
	if (!ends(plan->machine, sizeof(plan->machine)) || !ends(plan->release, sizeof(plan->release)))
		return "a plan with a name that does not end";
	if (plan->page_size < PAGE_SIZE_MIN || plan->page_size > PAGE_SIZE_MAX ||
	    plan->page_size & (plan->page_size - 1) || plan->flags & ~KNOWN_FLAGS || !fits(plan->entry))
		return "a plan with flags, an entry or a page size that this program does not know";
	if (plan->crash_size && plan->crash_start > 0 - plan->crash_size)
		return "a plan for a crash kernel's memory that ends nowhere";
	for (u64 i = 0; i < plan->fact_count; i++)
		if (!ends(facts_of(plan)[i].pattern, PATTERN_SIZE))
			return "a plan with a name that does not end";
	for (u64 i = 0; i < plan->segment_count && !wrong; i++)
		wrong = segment_fault(plan, &segments_of(plan)[i]);
	return wrong;
}

/* Begin, and end, the text of a refusal that a new plan helps against. */
static void begin(const char *path, const char *what)
{
	put("kexec: ");
	put(path);
	put(": the plan is for ");
	put(what);
}

static int end(const char *what, const char *hint)
{
	put(what);
	put("\n       ");
	put(hint);
	put("\n");
	flush(STDERR);
	return FAILED;
}

static int name_differs(const char *path, const char *what, const char *planned, const char *found)
{
	begin(path, what);
	put_foreign(planned);
	put(", this machine's is ");
	put(found);
	return end("", remedy);
}

static int page_size_differs(const char *path, u64 planned, unsigned long found)
{
	begin(path, "the page size ");
	put_number((unsigned long)planned);
	put(", this machine's is ");
	put_number(found);
	return end("", remedy);
}

/* As in /proc/iomem. */
static void put_region(u64 start, u64 size)
{
	if (!size) {
		put("nowhere");
		return;
	}
	put_hex(start);
	put("-");
	put_hex(start + size - 1);
}

static int region_differs(const char *path, const struct plan *plan, u64 start, u64 size)
{
	begin(path, "the crash kernel's memory ");
	put_region(plan->crash_start, plan->crash_size);
	put(", this machine's is ");
	put_region(start, size);
	return end("", remedy);
}

static int is_checked(const char *pattern)
{
	for (unsigned i = 0; i < sizeof(checked) / sizeof(*checked); i++)
		if (same(pattern, checked[i]))
			return 1;
	return 0;
}

/* Complains where a file may not be read. */
static int check_readable(const char *path)
{
	if (!refused_fact())
		return DONE;
	put("kexec: ");
	put(path);
	put(": cannot tell whether the plan is for this machine: /");
	put(refused_fact());
	return end(" cannot be read", "run as root");
}

static int check_fact(const char *path, const struct fact *fact)
{
	u8 found[DIGEST_SIZE];
	int differs = 0;

	if (!is_checked(fact->pattern))
		return complain_of(path, "the plan depends on something that this program does not know");
	digest_of(fact->pattern, found);
	if (check_readable(path) != DONE)
		return FAILED;
	for (int i = 0; i < DIGEST_SIZE; i++)
		differs |= found[i] != fact->digest[i];
	if (!differs)
		return DONE;
	begin(path, "another machine, or this one has changed: /");
	put(fact->pattern);
	return end(" differs", remedy);
}

/* Whether the machine is still that of the plan; complains where not. */
static int check_machine(const char *path, const struct plan *plan, const struct machine *machine)
{
	u64 start, size;
	int code;

	if (!same(plan->machine, machine->names.machine))
		return name_differs(path, "the machine type ", plan->machine, machine->names.machine);
	if (!same(plan->release, machine->names.release))
		return name_differs(path, "the kernel ", plan->release, machine->names.release);
	if (plan->page_size != machine->page_size)
		return page_size_differs(path, plan->page_size, machine->page_size);
	crash_region(&start, &size);
	code = check_readable(path);
	if (code == DONE && (plan->crash_start != start || plan->crash_size != size))
		return region_differs(path, plan, start, size);
	for (u64 i = 0; i < plan->fact_count && code == DONE; i++)
		code = check_fact(path, &facts_of(plan)[i]);
	return code;
}

static int check_purpose(const struct request *request, const struct plan *plan)
{
	int crash = (plan->flags & KEXEC_ON_CRASH) != 0;

	if (crash ? request->asked & (LOAD | EXECUTE) : request->asked & LOAD_PANIC) {
		complain_of(request->plan, crash ? "a plan for a panic, which -l and -e are not for" :
						   "a plan for a boot, which -p is not for");
		return WRONG;
	}
	return crash ? require_crash_memory() : DONE;
}

static int load_segments(const struct plan *plan)
{
	struct kexec_segment segments[SEGMENTS_MAX];
	unsigned long count = (unsigned long)plan->segment_count;
	long result;

	for (unsigned long i = 0; i < count; i++) {
		const struct segment *from = &segments_of(plan)[i];

		segments[i].buf = (const u8 *)plan + from->offset;
		segments[i].bufsz = (unsigned long)from->size;
		segments[i].mem = (unsigned long)from->address;
		segments[i].memsz = (unsigned long)from->memory_size;
	}
	result = SYSTEM_CALL(kexec_load, plan->entry, count, segments, plan->flags, 0);
	return result < 0 ? failed("kexec_load failed", result, 0, FAILED) : DONE;
}

/* Returns an exit code. */
static int load_mapped(const struct request *request, const struct plan *plan, unsigned long size)
{
	const char *wrong = fault(plan, size);
	int code;

	if (!wrong)
		wrong = table_fault(plan);
	if (wrong)
		return complain_of(request->plan, wrong);
	code = check_purpose(request, plan);
	if (code == DONE)
		code = check_machine(request->plan, plan, request->machine);
	return code == DONE ? load_segments(plan) : code;
}

static long map_file(long descriptor, long size)
{
#ifdef MMAP_TAKES_ADDRESS
	const long arguments[] = { 0, size, PROT_READ, MAP_PRIVATE, descriptor, 0 };

	return SYSTEM_CALL(mmap, arguments, 0, 0, 0, 0);
#else
	return SYSTEM_CALL_6(mmap, 0, size, PROT_READ, MAP_PRIVATE, descriptor, 0);
#endif
}

int load_plan(const struct request *request)
{
	long descriptor = open(request->plan, 0), size, mapped;

	if (descriptor < 0)
		return failed(request->plan, descriptor, 0, WRONG);
	size = SYSTEM_CALL(lseek, descriptor, 0, SEEK_END, 0, 0);
	if (size < (long)sizeof(struct plan))
		return complain_of(request->plan, no_plan);
	mapped = map_file(descriptor, size);
	if (mapped < 0 && mapped >= -4095)
		return failed(request->plan, mapped, 0, FAILED);
	return load_mapped(request, (const struct plan *)mapped, (unsigned long)size);
}

// SPDX-License-Identifier: BSD-3-Clause
/* The command line: as pykexec reads it, but for abbreviated names. */
#include "helper.h"

/* With which kind of argument an option comes; these follow the values of `asked`. */
enum { INITRD = 1 << 9, COMMAND_LINE = 1 << 10, PLAN = 1 << 11, HELP = 1 << 12, VERSION = 1 << 13 };

enum { TAKES_ARGUMENT = INITRD | COMMAND_LINE | PLAN };

static const struct option {
	char letter;
	unsigned short meaning;
	const char *name;
} options[] = {
	{ 'l', LOAD, "load" },
	{ 'p', LOAD_PANIC, "load-panic" },
	{ 'u', UNLOAD, "unload" },
	{ 'e', EXECUTE, "exec" },
	{ 'S', STATUS, "status" },
	{ 'd', DEBUG, "debug" },
	{ 'y', NO_SYNC, "no-sync" },
	{ 'x', NO_IFDOWN, "no-ifdown" },
	{ 'h', HELP, "help" },
	{ 'v', VERSION, "version" },
	/* The only way there is here. */
	{ 's', 0, "kexec-file-syscall" },
	{ 'a', 0, "kexec-syscall-auto" },
	{ 0, INITRD, "initrd" },
	{ 0, INITRD, "ramdisk" },
	{ 0, COMMAND_LINE, "append" },
	{ 0, COMMAND_LINE, "command-line" },
	{ 0, PLAN, "load-plan" },
	{ 0, SNAPSHOT, "snapshot" },
};

enum { OPTIONS = sizeof(options) / sizeof(*options) };

static const char help[] = "Usage: kexec [OPTIONS] [KERNEL]\n"
			   "The small helper of pykexec, for where there is no Python.\n"
			   "  -e, --exec        start the loaded kernel\n"
			   "    -y, --no-sync     without writing cached data to disk\n"
			   "    -x, --no-ifdown   without taking network interfaces down\n"
			   "  -l, --load        load KERNEL, to be started with -e\n"
			   "  -p, --load-panic  load KERNEL, to be started by a panic\n"
			   "    --initrd FILE, --append TEXT\n"
			   "    -s, -a            with kexec_file_load(2), as always here\n"
			   "  --load-plan FILE  load what pykexec --output made for this machine elsewhere\n"
			   "  --snapshot        write what such a plan needs to standard output, as a .tar\n"
			   "  -u, --unload      forget the loaded kernel (with -p: the crash kernel)\n"
			   "  -S, --status      exit with 1 if a crash kernel (-l: a kernel) is loaded, or 0\n"
			   "  -d, --debug       let the kernel log what it does\n"
			   "  -v, --version; -h, --help\n";

_Static_assert(sizeof(help) <= TEXT_MAX, "text.c");

enum { PER_LINUX = 0, AT_PAGESZ = 6 }; /* include/uapi/linux/personality.h, auxvec.h */

static int wrong(const char *what, const char *detail, const char *hint)
{
	put("kexec: ");
	put(what);
	put(detail);
	put("\n       ");
	put(hint);
	put("\n");
	flush(STDERR);
	return -1;
}

static int unknown(const char *word)
{
	return wrong("unknown here: ", word,
		     "this is pykexec's small helper, which knows what kexec -h shows; pykexec knows the rest");
}

static void take_argument(struct request *request, unsigned meaning, const char *argument)
{
	if (meaning == INITRD)
		request->initrd = argument;
	else if (meaning == PLAN)
		request->plan = argument;
	else
		request->command_line = argument;
}

/* The option `word` ("--name" or "--name=argument") is for; where an argument follows the name is in `end`. */
static const struct option *find(const char *word, const char **end)
{
	for (int i = 0; i < OPTIONS; i++) {
		const char *a = options[i].name, *b = word + 2;

		while (*a && *a == *b) {
			a++;
			b++;
		}
		if (!*a && (!*b || (*b == '=' && options[i].meaning & TAKES_ARGUMENT))) {
			*end = *b ? b + 1 : 0;
			return &options[i];
		}
	}
	return 0;
}

static int take_letters(struct request *request, const char *word)
{
	for (const char *letter = word + 1; *letter; letter++) {
		int i = 0;

		while (i < OPTIONS && options[i].letter != *letter)
			i++;
		if (i == OPTIONS)
			return unknown(word);
		request->asked |= options[i].meaning;
	}
	return 0;
}

static int take_operand(struct request *request, const char *word)
{
	if (request->kernel)
		return wrong("unexpected argument ", word, "a command line of several words needs quotes");
	request->kernel = word;
	return 0;
}

/* Returns 0, or -1 after complaining. What follows -h or -v is not looked at. */
static int parse(struct request *request, char **words)
{
	const struct option *option;
	const char *argument;
	int operands = 0;

	for (; *words && !(request->asked & (HELP | VERSION)); words++) {
		const char *word = *words;

		if (operands || word[0] != '-' || !word[1]) {
			if (take_operand(request, word))
				return -1;
		} else if (same(word, "--")) {
			operands = 1;
		} else if (word[1] != '-') {
			if (take_letters(request, word))
				return -1;
		} else if (!(option = find(word, &argument))) {
			return unknown(word);
		} else if (!(option->meaning & TAKES_ARGUMENT)) {
			request->asked |= option->meaning;
		} else if (argument || (argument = *++words)) {
			take_argument(request, option->meaning, argument);
		} else {
			return wrong(word, " requires an argument", "see kexec -h");
		}
	}
	return 0;
}

static int loads(const struct request *request)
{
	return (request->asked & (LOAD | LOAD_PANIC) || request->plan) && !(request->asked & UNLOAD);
}

/* Whether some of what is asked for excludes the rest. */
static int contradicts_itself(const struct request *request)
{
	unsigned asked = request->asked;

	if (asked & SNAPSHOT)
		return asked & (LOAD | LOAD_PANIC | UNLOAD | EXECUTE | STATUS) || request->kernel || request->plan;
	if (request->plan && (asked & (UNLOAD | STATUS) || request->kernel || request->initrd ||
			      *request->command_line))
		return 1;
	return (asked & EXECUTE && asked & (UNLOAD | LOAD_PANIC)) || (asked & LOAD && asked & LOAD_PANIC) ||
	       (request->kernel && !loads(request));
}

/* Whether it makes sense; complains where not. */
static int refuse(const struct request *request)
{
	if (!(request->asked & (LOAD | LOAD_PANIC | UNLOAD | EXECUTE | SNAPSHOT)) && !request->plan) {
		complain("nothing to do: one of -e, -l, -p, -u, -S is needed",
			 "this is pykexec's small helper; to load a kernel and shut down takes pykexec itself");
		return WRONG;
	}
	if (contradicts_itself(request)) {
		complain("these options, or they and a kernel, cannot go together", "see kexec -h");
		return WRONG;
	}
	if (loads(request) && !request->kernel && !request->plan) {
		complain("No kernel specified", "kexec -l KERNEL, or kexec -h");
		return FAILED;
	}
	return DONE;
}

static int run(struct request *request)
{
	int code;

	if (request->asked & (HELP | VERSION)) {
		put(request->asked & HELP ? help : "kexec-tools " KEXEC_TOOLS " (pykexec's small helper)\n");
		flush(STDOUT);
		return DONE;
	}
	if (request->asked & STATUS && !(request->asked & SNAPSHOT) && !request->plan)
		return status(request);
	code = refuse(request);
	if (code != DONE)
		return code;
	if (request->asked & UNLOAD)
		return unload(request);
	if (request->asked & SNAPSHOT)
		return snapshot(request->machine);
	if (loads(request))
		code = request->plan ? load_plan(request) : load(request);
	if (code == DONE && request->asked & EXECUTE)
		code = execute(request);
	return code;
}

/* The file beside this program, named as it is and `.program`, is run in its place: it is pykexec's command. In an
 * image that somebody has put this program alone into there is none. Returns where nothing can be run. */
static void hand_over(char **words, char **environment)
{
	static const char suffix[] = ".program";
	enum { PATH_MAX = 4096 /* include/uapi/linux/limits.h */, ROOM = PATH_MAX - sizeof(suffix) };
	char path[PATH_MAX];
	long size = SYSTEM_CALL(readlinkat, AT_FDCWD, "/proc/self/exe", path, ROOM, 0);

	if (size <= 0 || size == ROOM)
		return;
	for (unsigned long i = 0; i < sizeof(suffix); i++)
		path[size + i] = suffix[i];
	SYSTEM_CALL(execve, path, words, environment, 0, 0);
}

static int is_named(const char *path, const char *name)
{
	const char *last = path;

	for (; *path; path++)
		if (*path == '/')
			last = path + 1;
	return same(last, name);
}

/* Under this name it stands for the one command of pykexec's that it can do nothing of. */
static int refuse_log(void)
{
	put("vmcore-dmesg: pykexec, which it is a part of, is not here\n");
	flush(STDERR);
	return WRONG;
}

/* What the kernel says of itself; a personality (setarch) changes that, so that is put off. */
static void ask(struct machine *machine, const unsigned long *auxiliary)
{
	SYSTEM_CALL(personality, PER_LINUX, 0, 0, 0, 0);
	SYSTEM_CALL(uname, &machine->names, 0, 0, 0, 0);
	for (; *auxiliary; auxiliary += 2)
		if (*auxiliary == AT_PAGESZ)
			machine->page_size = auxiliary[1];
}

/*
 * `stack`: as the kernel leaves it: the number of words, the words, a null pointer, the environment, a null pointer,
 * the auxiliary vector.
 */
__attribute__((noreturn)) void start(char **stack)
{
	static struct machine machine;
	static struct request request; /* not on the stack: gcc would call memset(), which is not here */
	long count = (long)stack[0];
	char **words = stack + 1, **environment = words + count + 1, **auxiliary = environment;
	int code;

	hand_over(words, environment);
	request.command_line = "";
	request.machine = &machine;
	while (*auxiliary++)
		;
	ask(&machine, (const unsigned long *)auxiliary);
	if (count && is_named(words[0], "vmcore-dmesg"))
		code = refuse_log();
	else
		code = count && parse(&request, words + 1) ? WRONG : run(&request);

	for (;;)
		SYSTEM_CALL(exit_group, code, 0, 0, 0, 0);
}

// SPDX-License-Identifier: BSD-3-Clause
#include "helper.h"

/* include/uapi/linux/kexec.h */
enum { KEXEC_ON_CRASH = 1 };
enum {
	KEXEC_FILE_UNLOAD = 1,
	KEXEC_FILE_ON_CRASH = 2,
	KEXEC_FILE_NO_INITRAMFS = 4,
	KEXEC_FILE_DEBUG = 8,
};

/* include/uapi/linux/reboot.h */
#define LINUX_REBOOT_MAGIC1 0xfee1deadUL
#define LINUX_REBOOT_MAGIC2 672274793UL
#define LINUX_REBOOT_CMD_KEXEC 0x45584543UL

/* include/linux/socket.h, include/uapi/linux/sockios.h, include/uapi/linux/if.h */
enum { AF_NETLINK = 16, SOCK_DGRAM = 2, SOCK_CLOEXEC = O_CLOEXEC };
enum { SIOCGIFNAME = 0x8910, SIOCGIFFLAGS = 0x8913, SIOCSIFFLAGS = 0x8914 };
enum { IFNAMSIZ = 16, IFF_UP = 1 };

struct ifreq {
	char name[IFNAMSIZ];
	union {
		short flags;
		int index;
		struct ifmap {
			unsigned long mem_start;
			unsigned long mem_end;
			unsigned short base_addr;
			unsigned char irq;
			unsigned char dma;
			unsigned char port;
		} map; /* the largest */
	} u;
};

/* The first character of a file; 0 where it cannot be read. */
static char first_character(const char *path)
{
	long descriptor = open(path, 0);
	char character = 0;

	if (descriptor < 0)
		return 0;
	if (SYSTEM_CALL(read, descriptor, &character, 1, 0, 0) != 1)
		character = 0;
	close(descriptor);
	return character;
}

/* The same of one of the kernel's files on kexec, which newer kernels keep in a folder of their own. */
static char first_of(const char *newer, const char *older)
{
	char character = first_character(newer);

	return character ? character : first_character(older);
}

static char loaded(void)
{
	return first_of("/sys/kernel/kexec/loaded", "/sys/kernel/kexec_loaded");
}

static char crash_loaded(void)
{
	return first_of("/sys/kernel/kexec/crash_loaded", "/sys/kernel/kexec_crash_loaded");
}

static char crash_size(void)
{
	return first_of("/sys/kernel/kexec/crash_size", "/sys/kernel/kexec_crash_size");
}

int require_crash_memory(void)
{
	if (crash_size() != '0')
		return DONE;
	complain("Memory for crashkernel is not reserved", "boot with crashkernel=SIZE on the kernel command line");
	return WRONG;
}

int status(const struct request *request)
{
	char answer = request->asked & LOAD ? loaded() : crash_loaded();

	return answer ? answer != '0' : FAILED;
}

static long kexec_file_load(long kernel, long initrd, unsigned long size, const char *line, unsigned long flags)
{
	return SYSTEM_CALL(kexec_file_load, kernel, initrd, size, line, flags);
}

int unload(const struct request *request)
{
	int crash = request->asked & LOAD_PANIC;
	long result = kexec_file_load(-1, -1, 0, 0, KEXEC_FILE_UNLOAD | (crash ? KEXEC_FILE_ON_CRASH : 0));

	if (result == -ENOSYS)
		result = SYSTEM_CALL(kexec_load, 0, 0, 0, crash ? KEXEC_ON_CRASH : 0, 0);
	return result < 0 ? failed("kexec unload failed", result, 0, FAILED) : DONE;
}

static int empty(long descriptor)
{
	char byte;

	/* Nothing is read from it later: the kernel has its own position. */
	return SYSTEM_CALL(read, descriptor, &byte, 1, 0, 0) == 0;
}

static int refused(long error)
{
	if (error == -ENOSYS || error == -EINVAL || error == -ENOEXEC || error == -EOPNOTSUPP)
		return failed("syscall kexec_file_load not available", error,
			      "pykexec, and kexec of kexec-tools, have other ways to load a kernel", UNAVAILABLE);
	return failed("kexec_file_load failed", error, 0, FAILED);
}

int load(const struct request *request)
{
	unsigned long flags = request->asked & DEBUG ? KEXEC_FILE_DEBUG : 0;
	unsigned long size = length(request->command_line) + 1;
	long kernel, initrd = -1, result;

	if (request->asked & LOAD_PANIC) {
		flags |= KEXEC_FILE_ON_CRASH;
		if (require_crash_memory() != DONE)
			return WRONG;
	}
	kernel = open(request->kernel, 0);
	if (kernel < 0)
		return failed(request->kernel, kernel, 0, WRONG);
	if (request->initrd) {
		initrd = open(request->initrd, 0);
		if (initrd < 0)
			return failed(request->initrd, initrd, 0, WRONG);
	}
	if (initrd < 0 || empty(initrd)) {
		initrd = -1;
		flags |= KEXEC_FILE_NO_INITRAMFS;
	}
	result = kexec_file_load(kernel, initrd, size, request->command_line, flags);
	/* Kernels before 6.8 do not know the debug flag; it must not change whether a kernel is loaded. */
	if (result == -EINVAL && flags & KEXEC_FILE_DEBUG)
		result = kexec_file_load(kernel, initrd, size, request->command_line, flags & ~KEXEC_FILE_DEBUG);
	return result < 0 ? refused(result) : DONE;
}

/*
 * The interfaces that were up, as far as there is room, to put them up again when the jump fails; and one more
 * for that which is looked at.
 */
enum { DOWN_MAX = 256, INDEX_MAX = 4096 };
static struct ifreq down[DOWN_MAX + 1];
static int down_count;

/* The one that down[down_count] names. */
static void take_down(long control)
{
	struct ifreq *request = &down[down_count];
	long error;

	if (same(request->name, "lo"))
		return;
	error = SYSTEM_CALL(ioctl, control, SIOCGIFFLAGS, request, 0, 0);
	if (error == 0 && !(request->u.flags & IFF_UP))
		return;
	if (error == 0) {
		request->u.flags &= ~IFF_UP;
		error = SYSTEM_CALL(ioctl, control, SIOCSIFFLAGS, request, 0, 0);
	}
	if (error < 0)
		failed(request->name, error, "the interface stays as it is", FAILED);
	else if (down_count < DOWN_MAX)
		down_count++;
}

/* Interfaces are links there; the file bonding_masters is none. */
static void take_down_listed(long control, struct folder *folder)
{
	struct entry *entry;

	while ((entry = next_entry(folder))) {
		const char *name = entry->d_name;

		for (int i = 0; i < IFNAMSIZ - 1; i++)
			down[down_count].name[i] = *name ? *name++ : 0;
		if (entry->d_type == DT_LNK)
			take_down(control);
	}
}

/* Without sysfs: by number. */
static void take_down_numbered(long control)
{
	for (int index = 1; index <= INDEX_MAX; index++) {
		down[down_count].u.index = index;
		if (SYSTEM_CALL(ioctl, control, SIOCGIFNAME, &down[down_count], 0, 0) == 0)
			take_down(control);
	}
}

/* So that no card writes to memory any more. What goes wrong here stops nothing. Returns the socket. */
static long take_interfaces_down(void)
{
	/* A netlink socket: there may be no IPv4. */
	long control = SYSTEM_CALL(socket, AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, 0, 0, 0);
	struct folder folder;

	if (control < 0)
		return control;
	if (open_folder(&folder, "/sys/class/net") < 0) {
		take_down_numbered(control);
	} else {
		take_down_listed(control, &folder);
		close(folder.descriptor);
	}
	return control;
}

static void put_interfaces_up(long control)
{
	for (int i = 0; i < down_count; i++) {
		down[i].u.flags |= IFF_UP;
		SYSTEM_CALL(ioctl, control, SIOCSIFFLAGS, &down[i], 0, 0);
	}
}

int execute(const struct request *request)
{
	long control = -1, error;

	if (loaded() == '0') {
		complain("Nothing has been loaded!", "load a kernel first: kexec -l KERNEL ...");
		return WRONG;
	}
	if (!(request->asked & NO_SYNC))
		SYSTEM_CALL(sync, 0, 0, 0, 0, 0);
	if (!(request->asked & NO_IFDOWN))
		control = take_interfaces_down();
	error = SYSTEM_CALL(reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_KEXEC, 0, 0);
	put_interfaces_up(control);
	return failed("kexec failed", error, 0, FAILED);
}

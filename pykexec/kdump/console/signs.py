"""The wordings that tell a console log's lines apart.

They are regular expressions, each searched in a single line. The wordings come from the kernel (with the
file they come from), makedumpfile, systemd, dracut, initramfs-tools, mkinitcpio and the distributions' kdump
scripts. `rules` has the conclusions.
"""

from __future__ import annotations

PANIC = r"Kernel panic - not syncing: ?(.*)"
BANNER = r"Linux version \d+\.\d"
"""The first line of a kernel (init/version.c)."""

QUOTES = (
    # "Command line: " (arch/x86/kernel/setup.c), "Kernel command line: " (init/main.c), "Command line is: "
    # (drivers/of/fdt.c), "Final command line is: " (arch/x86/kernel/kexec-bzimage64.c), "Using kernel
    # command line parameters: " (dracut)
    r"[Cc]ommand[ -]line(?: [\w ]{1,40})?: ?",
    r"Unknown kernel command line parameters|Malformed early option|Booting kernel: ",  # init/main.c
    r"\] {5,}\S+$",  # "debug": init's arguments and environment (init/main.c)
    # Text that is only in a command line, or in the configuration of a boot loader or of kdump
    r"\b(?:BOOT_IMAGE|elfcorehdr|bootargs|\w*cmdline|\w*CMDLINE\w*|\w*COMMANDLINE\w*|KDUMP_\w+)\s?[:=]",
    r"^\s*(?:linux(?:16|efi)?|kernel|module2?|append|options|setparams|menuentry)\s+(?:['(/$]|[\w.]+=)",
    r"--(?:append|command-line|reuse-cmdline)\b",  # kexec's options
    r"@\d+\([^)]*\): |^\++ ",  # set -x of shells, rd.debug of dracut
)
"""Lines that repeat a command line, a configuration or a script. No word in them reports an event."""

OF_A_CAPTURE = r"[Cc]ommand line: .*\belfcorehdr=|for elfcorehdr|[Ff]irmware-assisted dump is active"
"""Lines of a kernel that was started to capture a dump (fadump: arch/powerpc/platforms/*/*-fadump.c)."""

OOPS = (
    r"\[#[1-9]\d*\]|Oops(?:: | - )|"  # die() of all architectures counts them
    # arch/x86/mm/fault.c, arch/powerpc/mm/fault.c, arch/*/kernel/traps.c, lib/bug.c
    r"BUG: (?:[Uu]nable to handle|kernel |stack guard|TASK stack guard)|[Kk]ernel BUG (?:at|in) |"
    r"Unable to handle kernel |general protection fault(?:,|:| maybe)|PANIC: double fault|"
    # arch/arm64/kernel/traps.c, arch/riscv/kernel/traps.c, arch/powerpc/kernel/traps.c
    r"SError Interrupt on CPU|Bad mode in .* handler|Insufficient stack space to handle exception|"
    r"[Mm]achine check in kernel mode"
)
"""Lines where a kernel reports an error of its own."""

SURVIVED = r"---\[ end trace"  # kernel/panic.c, oops_exit(): the kernel goes on after an oops

SYSRQ = r"sysrq: (?:SysRq : )?Trigger a crash"
"""drivers/tty/sysrq.c"""

LOCKUP = (
    # kernel/watchdog.c, kernel/rcu/tree_stall.h, kernel/rcu/tasks.h, kernel/workqueue.c,
    # kernel/locking/spinlock_debug.c
    r"soft lockup - CPU|detected hard LOCKUP|INFO: rcu_\w+ |rcu.*self-detected stall|"
    r"rcu.*detected (?:expedited )?stalls|workqueue lockup|spinlock lockup"
)
"""Lines about a CPU that is stuck."""

HUNG = r"INFO: task .* blocked.* for more than \d+ seconds"  # kernel/hung_task.c

CRASHDUMP = r"(?:Starting|Loading) crashdump kernel"  # machine_crash_shutdown(), except on x86

LOADED = r"Kdump: loaded"  # lib/dump_stack.c, dump_stack_print_info()

ON_THE_WAY = (
    rf"{CRASHDUMP}|\bBye(?:!|\.\.\.)|I'm in purgatory|^purgatory: |"
    r"Will call new kernel at|kexec: Starting switchover sequence|sha256 digests do not match|digest: "
)
"""Lines of a crashed kernel that lets go (arch/*/kernel/machine_kexec*.c), and from between the kernels."""

PLAIN_KEXEC = r"kexec\S*: Starting new kernel"  # kernel/kexec_core.c, kernel_kexec()

GONE = r"\bBye(?:!|\.\.\.)|I'm in purgatory|purgatory: starting the kernel"
"""The crashed kernel says nothing after this."""

NOT_TAKEN_OVER = r"---\[ end Kernel panic|Rebooting in \d+ seconds"
"""kernel/panic.c prints this only when no crash kernel took over."""

AFTER_NOTIFIERS = rf"{NOT_TAKEN_OVER}|Kernel Offset: |PHYS_OFFSET: 0x|Memory Limit: "
"""The same, and output of the panic's notifiers, which may run before the crash kernel is started."""

NOT_STOPPED = (
    # arch/arm64/kernel/machine_kexec.c, arch/arm64/kernel/smp.c, arch/riscv/kernel/machine_kexec.c,
    # drivers/firmware/psci/psci.c
    r"Some CPUs may be stale|failed to stop secondary CPUs|CPU\d+:? may not have shut down cleanly|"
    r"CPU\d+: is stuck in kernel|"
    # arch/powerpc/kexec/crash.c, arch/arm/kernel/machine_kexec.c
    r"ERROR: \d+ cpu\(s\) not responding|Non-crashing CPUs did not react to IPI"
)
"""Other CPUs of the crashed kernel go on."""

CANNOT_LOAD = r"Can't kexec: CPUs are stuck in the kernel"
"""arch/arm64/kernel/machine_kexec.c, machine_kexec_prepare(): nothing can be loaded."""

USERLAND = (
    r"Run /\S+ as init process|"  # init/main.c
    r"(?:^|[\s\]])(?:systemd|dracut|kdump|kdumpctl|pykdump|udevd)[\w.-]*\[\d+\]: |\bdracut(?:-\w+)?: |"
    r"\b(?:py)?kdump: |\bkdump-(?:config|tools|save)\b|\bmakedumpfile\b|"
    r"^(?:Begin: |Loading, please wait)|^\[(?:  OK  |FAILED|DEPEND|[ *]{6})\] |A start job is running for"
)
"""Lines of a program in the capture system, or just before it starts."""

SAVED = (
    r"The dumpfile is saved to (?!STDOUT)|saving vmcore complete|saved vmcore (?:in|via)|"
    r"Finished saving vmcore|\bSaved vmcore$"
)
"""makedumpfile, kdump-utils, kdump-tools, kdump-save. Data that goes to STDOUT may not arrive."""

NOT_SAVED = (
    r"makedumpfile Failed|saving vmcore failed|failed to save vmcore|kdump: the dump was not saved|"
    r"Failed saving vmcore|\bDeleting vmcore$"
)

UNSUPPORTED = r"The kernel version is not supported|The makedumpfile operation may be incomplete"
"""makedumpfile.c, get_kernel_version(): it goes on with a kernel that it does not know."""

OTHER_WAY = r"makedumpfile failed, falling back|copying all of memory instead"
"""kdump-tools and pykdump's image go on with a copy."""

LOG_SAVED = r"saving vmcore-dmesg\.txt complete"
SAVING = r"saving vmcore$"
LEFT = r"pykdump: (?:rebooting|halting|powering off|exit leaves this shell)"
"""pykdump's image has finished."""

WRITING = (
    rf"{SAVING}|Copying data *:|Checking for memory holes|Excluding (?:unnecessary|free) pages|"
    r"The dumpfile is saved to STDOUT|(?:running|sending) makedumpfile|Kdump Vmcore Save|\bSaved dmesg$"
)
"""The dump is being written."""

PLACE = r"\b(?:[RE]?IP|NIP|ERA|era|epc|pc|PC|PSW)\b.*\+0x[0-9a-f]+/0x[0-9a-f]+"
"""The place where a kernel failed: show_regs() of all architectures."""

MODULE = r"\+0x[0-9a-f]+/0x[0-9a-f]+ \[(?P<driver>[A-Za-z0-9_-]+)(?: [0-9a-f]{16,64})?\]"
"""The module of a function (lib/vsprintf.c, %pS), perhaps with its build id."""

_TROUBLE = (
    r"[Tt]im(?:e|ed)[ -]?[Oo]ut|TIMEOUT|not (?:yet )?(?:ready|respond)|[Nn]o response|[Ss]talled|"
    r"\b[Hh](?:ung|ang)\b|[Ff]ault.?state|FAULT|[Oo]ffline|[Ll]ockup|LOCKUP|\bdied\b|\bdead\b|aborting|"
    r"DMA .*error|controller is down|[Ff]ail\w* .{0,40}(?:init|reset|start|prob|ready|respon)|"
    r"(?:init|reset|start|prob|hca).{0,40} fail|"
    r"\*ERROR\*|adapter (?:abort|reset)|bus reset|[Ww]aiting for FW|recovery"
)
_DEVICE = (
    # PCI, platform and virtio devices, NVMe controllers, Hyper-V's channels
    r"(?:[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]|[0-9a-f]{6,}\.[\w@-]+|[\w-]+\.\d+(?:\.auto)?|"
    r"virtio\d+|nvme\d+|[0-9a-f]{8}-[0-9a-f-]{27})"
)
DRIVERS = (
    # dev_printk(): driver, device, message (a name starts after a space, so the search takes linear time)
    rf"(?:^|[\s\]])(?!pci |pcieport )(?P<driver>[a-z][\w-]*) \[?{_DEVICE}\b.*(?:{_TROUBLE})",
    # drivers/scsi: names that are the driver's own
    rf"\b(?P<driver>mpt[23]sas)_cm\d+: .*(?:{_TROUBLE})",
    rf"\b(?P<driver>aacraid|arcmsr|hpsa|megaraid_sas|megasas|mptbase|qla2xxx|lpfc|amdgpu|nouveau|i915)\b.*"
    rf"(?:{_TROUBLE})",
    # drivers/ata/libata-core.c, libata-eh.c
    r"\b(?P<device>ata\d+)(?:\.\d+)?: .*(?:(?:softreset|hardreset|COMRESET|SRST|reset) failed|"
    r"qc timeout|link is slow to respond|not ready|failed to (?:resume|IDENTIFY)|lost interrupt|"
    r"exception Emask|failed command)",
    # drivers/scsi/scsi_error.c, sd.c, scsi_transport_*.c
    r"\b(?P<device>(?:sd|sr|scsi) \d+:\d+:\d+:\d+): .*(?:timing out command|Device offlined|offline device|"
    r"task abort|[Tt]imed out)",
    # drivers/usb/core/hub.c, drivers/mmc/host/sdhci.c, drivers/char/tpm, drivers/xen/xenbus
    r"\b(?P<device>usb \d[\d.-]*): .*(?:error -110|not accepting address|not responding)",
    rf"\b(?P<device>mmc\d+|tpm tpm\d+): .*(?:{_TROUBLE})",
    r"\b(?P<device>xenbus_probe_frontend|XENBUS): .*(?:[Tt]imeout|Waiting for devices)",
    # kernel/irq/spurious.c
    r"\b(?P<device>irq \d+): nobody cared",
    # drivers/iommu/intel/dmar.c, iommu.c; amd/iommu.c; arm/arm-smmu*
    r"DMAR: .*Request device \[(?P<device>[0-9a-f:.]+)\].*fault|DMAR: .*fault",
    r"AMD-Vi: (?:Event logged|\w+ logged).*device=(?P<device>[0-9a-f:.]+)|"
    r"AMD-Vi: (?:Event|Completion-Wait loop timed out|Command buffer timeout)",
    r"\barm-smmu\S* .*(?:Unhandled context fault|event 0x[0-9a-f]+ received|CMDQ? ?\w* timeout)",
    # kernel/hung_task.c; the workers of udev load modules
    HUNG,
    r"udevd\[\d+\]: (?P<device>\S+): .*(?:is taking (?:a )?long|[Tt]imed? ?out)",
    r"udevd\[\d+\]: .*timeout.*kill",
    r"start job is running for .*\budev\b",
)
"""A driver waits for its device in vain, or a device does what nobody asked for; the first match counts."""

ABOUT = rf"(?:^|[\s\]])(?!pci |pcieport )(?P<driver>[a-z][\w-]*) \[?{_DEVICE}\]?:? "
"""A driver says something about a device."""

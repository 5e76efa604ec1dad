"""The one table of options, from which the parser, ``--help``, the manual page and the completions are made.

It imports nothing slow (dataclasses, enum, re, typing), because ``-S`` and ``-e`` must be quick.
"""

from __future__ import annotations

from pykexec.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Option:
    """One option, however many names it has."""

    __slots__ = (
        "choices",
        "convert",
        "field",
        "group",
        "help",
        "is_for",
        "metavar",
        "names",
        "needs_kexec_load",
        "only_for_crashes",
        "ours",
        "repeats",
        "request",
        "special",
        "value",
    )

    def __init__(
        self,
        names: str,
        field: str,
        help: str,
        *,
        group: str,
        metavar: str | None = None,
        value: object = True,
        convert: Callable[[str, str], object] | None = None,
        choices: Sequence[str] = (),
        repeats: bool = False,
        is_for: str | None = None,
        request: str = "",
        needs_kexec_load: bool = False,
        only_for_crashes: bool = False,
        special: str | None = None,
    ) -> None:
        self.names = tuple(names.split())
        """The names as typed, the shorter ones first."""
        self.field = field
        """The attribute of `Options` that it sets."""
        self.help = help
        self.group = group
        """The heading under which it is listed."""
        self.metavar = metavar
        """The name of its argument in texts; None: it has no argument."""
        self.value = value
        """The value that an option without an argument sets."""
        self.convert = convert
        """Makes a value from the option's name and the argument's text; raises UsageError."""
        self.choices = tuple(choices)
        self.repeats = repeats
        """Each use adds an argument; otherwise the last one wins."""
        self.is_for = _IS_FOR.get(group, "") if is_for is None else is_for
        """KERNEL, PLAN or LOAD; "" for an option that is not only for loads."""
        self.request = request or field
        """The field of `plan.Request` that it sets, perhaps one inside it: "console.vga"."""
        self.needs_kexec_load = needs_kexec_load
        """Whether kexec_file_load(2) has no argument for it."""
        self.only_for_crashes = only_for_crashes
        """Whether it makes no difference for a boot."""
        self.special = special
        """Its name in `plan.SPECIAL`, where only some architectures can honour it."""
        self.ours = group == OURS
        """Whether kexec-tools does not know it. Such options cannot be abbreviated, so kexec-tools'
        abbreviations stay unambiguous."""

    @property
    def takes_file(self) -> bool:
        return self.metavar in ("FILE", "TAR", "TAR|DIR")

    @property
    def spelling(self) -> str:
        """The name to use in messages: the short one for an action, the long one for other options."""
        if self.group == ACTIONS:
            return self.names[0]
        return next(name for name in self.names if name.startswith("--"))


class Options:
    """The parsed command line: an attribute for each field, with its default. `cli.resolve` checks it."""

    kernel: str | None = None
    # What to do.
    load: bool = False
    load_panic: bool = False
    unload: bool = False
    execute: bool = False
    force: bool = False
    status: bool = False
    preserve_context: bool = False
    jump_back_helper: bool = False
    live_update: str | None = None
    print_crash_size: bool = False
    help: bool = False
    version: bool = False
    # What to load.
    initrd: str | None = None
    reuse_initrd: bool = False
    dtb: str | None = None
    append: str | None = None
    reuse_cmdline: bool = False
    modules: tuple[str, ...] = ()
    format: str | None = None
    # How.
    system_call: str = "auto"
    no_checks: bool = False
    no_ifdown: bool = False
    no_sync: bool = False
    mem_min: int | None = None
    mem_max: int | None = None
    entry: int | None = None
    hotplug: bool = False
    no_cma: bool = False
    force_dtb: bool = False
    entry_32bit: bool = False
    real_mode: bool = False
    no_efi: bool = False
    memmap_parameters: bool = False
    video_type: bool = False
    atags: bool = False
    image_size: int | None = None
    page_offset: int | None = None
    core_header_bits: int | None = None
    arguments: str | None = None
    console_vga: bool = False
    reset_vga: bool = False
    console_serial: bool = False
    serial: str | None = None
    serial_baud: int | None = None
    meaningless: tuple[str, ...] = ()
    # Ours.
    debug: bool = False
    add_initrd: tuple[str, ...] = ()
    initrd_files: tuple[str, ...] = ()
    entry_id: str | None = None
    reuse_kernel: bool = False
    profile: str | None = None
    dry_run: bool = False
    json: bool = False
    map: bool = False
    svg: str | None = None
    machine: str | None = None
    output: str | None = None
    load_plan: str | None = None
    snapshot: str | None = None
    completion: str | None = None
    manual: bool = False

    def __init__(self, **given: object) -> None:
        unknown = given.keys() - self.__class__.__annotations__.keys()
        if unknown:
            raise TypeError(f"no such options: {unknown}")
        self.__dict__.update(given)

    def given(self) -> set[str]:
        """Return the fields that are not at their defaults."""
        return {name for name, value in self.__dict__.items() if value != getattr(self.__class__, name)}


_DIGITS_MAX = 100  # int() raises for thousands


def number(name: str, text: str) -> int:
    """Return the number in a text as C writes it: 0x10, 020, 16 (strtoul with base 0). Raises UsageError."""
    digits, base, allowed = text, 10, "0123456789"
    if text[:2] in ("0x", "0X"):
        digits, base, allowed = text[2:], 16, "0123456789abcdefABCDEF"
    elif text.startswith("0"):
        base, allowed = 8, "01234567"
    value = (
        int(digits, base) if digits and len(digits) <= _DIGITS_MAX and set(digits) <= set(allowed) else -1
    )
    if not 0 <= value < 1 << 64:
        raise UsageError(f"Bad option value in {name}={text}", hint="give a number: 0x1000000, 16777216")
    return value


BAUD_MAX = 115200
"""The greatest speed of a 16550: that at which its divisor is 1."""


def _serial(name: str, text: str) -> str:
    """Check a serial port: a terminal's name, or an I/O port as a hexadecimal number. Raises UsageError."""
    if text.startswith(("0x", "0X")) and number(name, text) >= 1 << 16:
        raise UsageError(f"Bad serial port base {text!r}", hint="I/O ports end at 0xffff")
    if not text.startswith(("tty", "0x", "0X")):
        raise UsageError(
            f"Bad serial port base {text!r}",
            hint="give a terminal, such as ttyS0, or an I/O port: 0x3f8",
        )
    return text


def _baud(name: str, text: str) -> int:
    value = int(text) if text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX else 0
    if not 9600 <= value <= BAUD_MAX or BAUD_MAX % value:
        raise UsageError(
            f"Bad serial port baud rate {text!r}",
            hint=f"a divisor of {BAUD_MAX}, 9600 or more: 9600, 38400",
        )
    return value


ACTIONS, LOADING, SYSTEM_CALL, STARTING = "Actions", "What to load", "How to load", "Starting"
X86, GENERAL, OURS, IGNORED = "x86", "General", "Not in kexec-tools", "For other kernels and machines"

KERNEL, PLAN, LOAD = "kernel", "plan", "load"
"""What an option is about: the kernel, the plan, or how to load. Where nothing is loaded, an option of the
first two kinds is an error, one of the last is ignored: scripts give the same options to the load and to the
start."""
_IS_FOR = {LOADING: KERNEL, OURS: KERNEL, SYSTEM_CALL: LOAD, X86: LOAD, IGNORED: LOAD}

_NOTHING_HERE = "Accepted; it has no meaning for the kernels and machines pykexec knows."

OPTIONS: tuple[Option, ...] = (
    Option("-l --load", "load", "Load KERNEL, to be started with -e.", group=ACTIONS),
    Option(
        "-p --load-panic", "load_panic", "Load KERNEL, to be started when the system panics.", group=ACTIONS
    ),
    Option("-e --exec", "execute", "Start the loaded kernel, without a shutdown.", group=ACTIONS),
    Option("-f --force", "force", "Load KERNEL and start it, without a shutdown.", group=ACTIONS),
    Option("-u --unload", "unload", "Forget the loaded kernel (with -p: the crash kernel).", group=ACTIONS),
    Option(
        "-S --status",
        "status",
        "Exit with 1 if a crash kernel (with -l: a kernel) is loaded, 0 if not, 255 if it cannot be told.",
        group=ACTIONS,
    ),
    Option(
        "--print-ckr-size",
        "print_crash_size",
        "Print the size in bytes of the crash kernel's memory.",
        group=ACTIONS,
    ),
    Option(
        "--load-preserve-context",
        "preserve_context",
        "Load KERNEL into the memory below --mem-max from where it can come back (CONFIG_KEXEC_JUMP).",
        group=ACTIONS,
        needs_kexec_load=True,
        special="preserve_context",
    ),
    Option(
        "--load-jump-back-helper",
        "jump_back_helper",
        "Prepare to go back, with -e, to the kernel this one was started by, or to the one at --entry.",
        group=ACTIONS,
        request="jump_back",
        needs_kexec_load=True,
        special="jump_back",
    ),
    Option(
        "--load-live-update",
        "live_update",
        "For Xen only: an error without it.",
        group=ACTIONS,
        value="--load-live-update",
    ),
    Option(
        "--exec-live-update",
        "live_update",
        "For Xen only: an error without it.",
        group=ACTIONS,
        value="--exec-live-update",
    ),
    Option("--initrd --ramdisk", "initrd", "Initial ramdisk for KERNEL.", group=LOADING, metavar="FILE"),
    Option(
        "--reuseinitrd",
        "reuse_initrd",
        "Use the initial ramdisk this system was booted with (retain_initrd).",
        group=LOADING,
    ),
    Option("--append --command-line", "append", "Command line for KERNEL.", group=LOADING, metavar="TEXT"),
    Option(
        "--reuse-cmdline",
        "reuse_cmdline",
        "Put the running kernel's command line before that of --append.",
        group=LOADING,
    ),
    Option(
        "--dtb --devicetreeblob",
        "dtb",
        "Device tree for KERNEL, instead of the running kernel's.",
        group=LOADING,
        metavar="FILE",
        request="device_tree",
        needs_kexec_load=True,
        special="device_tree",
    ),
    Option(
        "--atags",
        "atags",
        "Tell KERNEL of the machine by tags, as the running one was, instead of a device tree.",
        group=LOADING,
        needs_kexec_load=True,
        special="atags",
    ),
    Option(
        "--image-size",
        "image_size",
        "The bytes of memory that KERNEL takes once it is unpacked, where it does not tell itself.",
        group=LOADING,
        metavar="SIZE",
        convert=number,
        needs_kexec_load=True,
        special="image_size",
    ),
    Option(
        "--page-offset",
        "page_offset",
        "The virtual address at which the running kernel has its memory, for a crash kernel.",
        group=LOADING,
        metavar="OFFSET",
        convert=number,
        needs_kexec_load=True,
        only_for_crashes=True,
        special="page_offset",
    ),
    Option(
        "--module",
        "modules",
        "A module for a Multiboot kernel: a file, and its arguments.",
        group=LOADING,
        metavar='"FILE ARGS"',
        repeats=True,
        needs_kexec_load=True,
        special="modules",
    ),
    Option(
        "-t --type",
        "format",
        "Take KERNEL for this type of file only (see Types of kernel).",
        group=LOADING,
        metavar="TYPE",
        is_for=LOAD,
        needs_kexec_load=True,
    ),
    Option(
        "-a --kexec-syscall-auto",
        "system_call",
        "Use kexec_file_load(2), and kexec_load(2) where that will not do. The default.",
        group=SYSTEM_CALL,
        value="auto",
        is_for="",
    ),
    Option(
        "-s --kexec-file-syscall",
        "system_call",
        "Use kexec_file_load(2).",
        group=SYSTEM_CALL,
        value="file",
        is_for="",
    ),
    Option(
        "-c --kexec-syscall", "system_call", "Use kexec_load(2).", group=SYSTEM_CALL, value="load", is_for=""
    ),
    Option(
        "-i --no-checks",
        "no_checks",
        "Start KERNEL without comparing digests first.",
        group=SYSTEM_CALL,
        request="skip_checks",
        needs_kexec_load=True,
    ),
    Option(
        "--mem-min",
        "mem_min",
        "Load nothing below this physical address.",
        group=SYSTEM_CALL,
        metavar="ADDRESS",
        convert=number,
        request="within",
        needs_kexec_load=True,
    ),
    Option(
        "--mem-max",
        "mem_max",
        "Load nothing above this physical address.",
        group=SYSTEM_CALL,
        metavar="ADDRESS",
        convert=number,
        request="within",
        needs_kexec_load=True,
    ),
    Option(
        "--entry",
        "entry",
        "Enter KERNEL at this physical address.",
        group=SYSTEM_CALL,
        metavar="ADDRESS",
        convert=number,
        needs_kexec_load=True,
    ),
    Option(
        "--hotplug",
        "hotplug",
        "Let the kernel keep a crash kernel's core headers up to date as CPUs and memory come and go.",
        group=SYSTEM_CALL,
        only_for_crashes=True,
    ),
    Option(
        "--no-cma", "no_cma", "kexec_file_load(2): do not put KERNEL into CMA memory.", group=SYSTEM_CALL
    ),
    Option(
        "--force-dtb",
        "force_dtb",
        "kexec_file_load(2): hand the device tree on where that is not done anyway.",
        group=SYSTEM_CALL,
        special="force_dtb",
    ),
    Option("-x --no-ifdown", "no_ifdown", "Leave network interfaces up.", group=STARTING),
    Option("-y --no-sync", "no_sync", "Do not write cached data to disk first.", group=STARTING),
    Option(
        "--entry-32bit",
        "entry_32bit",
        "Enter a bzImage through its 32-bit entry.",
        group=X86,
        is_for=KERNEL,
        needs_kexec_load=True,
        special="entry_32bit",
    ),
    Option(
        "--real-mode",
        "real_mode",
        "Enter a bzImage through its 16-bit entry, with a PC's BIOS (-l).",
        group=X86,
        is_for=KERNEL,
        needs_kexec_load=True,
        special="real_mode",
    ),
    Option(
        "--noefi",
        "no_efi",
        "Do not hand EFI's tables and services on.",
        group=X86,
        is_for=KERNEL,
        request="hand_over_efi",
        needs_kexec_load=True,
        special="hand_over_efi",
    ),
    Option(
        "--pass-memmap-cmdline",
        "memmap_parameters",
        "Tell a crash kernel of its memory on the command line (memmap=).",
        group=X86,
        is_for=KERNEL,
        needs_kexec_load=True,
        only_for_crashes=True,
        special="memmap_parameters",
    ),
    Option(
        "--serial",
        "serial",
        "Serial port for what runs between the kernels.",
        group=X86,
        metavar="PORT",
        convert=_serial,
        request="console.port",
        needs_kexec_load=True,
    ),
    Option(
        "--serial-baud",
        "serial_baud",
        "Its speed; as it is, if not given.",
        group=X86,
        metavar="RATE",
        convert=_baud,
        request="console.baud",
        needs_kexec_load=True,
        special="console_baud",
    ),
    Option(
        "--console-serial",
        "console_serial",
        "Messages between the kernels go to --serial.",
        group=X86,
        request="console.serial",
        needs_kexec_load=True,
    ),
    Option(
        "--console-vga",
        "console_vga",
        "Messages between the kernels go to the VGA text screen.",
        group=X86,
        request="console.vga",
        needs_kexec_load=True,
        special="console_vga",
    ),
    Option("--reset-vga", "reset_vga", "Accepted; the next kernel sets its screen up itself.", group=X86),
    Option(
        "--reuse-video-type", "video_type", "Accepted; the screen is always handed on as it is.", group=X86
    ),
    Option(
        "--elf32-core-headers",
        "core_header_bits",
        "Core headers of 32 bits; those of a 64-bit kernel have 64 all the same.",
        group=X86,
        value=32,
        only_for_crashes=True,
    ),
    Option(
        "--elf64-core-headers",
        "core_header_bits",
        "Core headers of 64 bits, as a 32-bit kernel has them only where memory takes it.",
        group=X86,
        value=64,
        only_for_crashes=True,
    ),
    Option(
        "--args-linux",
        "arguments",
        "For ELF kernels: Linux arguments, as they always are.",
        group=IGNORED,
        value="linux",
    ),
    Option("--args-elf", "arguments", _NOTHING_HERE, group=IGNORED, value="elf"),
    Option("--args-none", "arguments", _NOTHING_HERE, group=IGNORED, value="none"),
    Option("--dt-no-old-root", "meaningless", _NOTHING_HERE, group=IGNORED, repeats=True),
    Option("--reuse-node", "meaningless", _NOTHING_HERE, group=IGNORED, metavar="NODE", repeats=True),
    Option("-d --debug", "debug", "Tell the story of the load on standard error.", group=GENERAL),
    Option("-h --help", "help", "Show this text.", group=GENERAL),
    Option("-v --version", "version", "Show the version.", group=GENERAL),
    Option(
        "--add-initrd",
        "add_initrd",
        "A further initial ramdisk, behind --initrd and what comes with KERNEL.",
        group=OURS,
        metavar="FILE",
        repeats=True,
    ),
    Option(
        "--initrd-file",
        "initrd_files",
        "Put a file into the initial ramdisk.",
        group=OURS,
        metavar="FILE:PATH",
        repeats=True,
    ),
    Option(
        "--entry-id",
        "entry_id",
        'Load a boot loader\'s entry instead of KERNEL; "default" is what a reboot would start.',
        group=OURS,
        metavar="ID",
    ),
    Option(
        "--reuse-kernel",
        "reuse_kernel",
        "Load the running kernel's file and initial ramdisk instead of KERNEL.",
        group=OURS,
    ),
    Option(
        "--profile",
        "profile",
        "Take this profile of a unified kernel image, or this configuration of a FIT image.",
        group=OURS,
        metavar="NAME",
    ),
    Option("--dry-run", "dry_run", "Print the plan; load nothing.", group=OURS, is_for=PLAN),
    Option("--json", "json", "Print the plan as JSON.", group=OURS, is_for=PLAN),
    Option("--map", "map", "Draw what the plan does with memory; load nothing.", group=OURS, is_for=PLAN),
    Option(
        "--svg",
        "svg",
        "Draw it into this file, as a picture for a browser; load nothing.",
        group=OURS,
        metavar="FILE",
        is_for=PLAN,
    ),
    Option(
        "--machine",
        "machine",
        "Plan for the machine of this snapshot; load nothing.",
        group=OURS,
        metavar="TAR|DIR",
        is_for=PLAN,
    ),
    Option(
        "--output",
        "output",
        "Write the plan, for kexec_load(2), as a file that --load-plan loads on its machine; load nothing.",
        group=OURS,
        metavar="FILE",
        is_for=PLAN,
    ),
    Option(
        "--load-plan",
        "load_plan",
        "Load the plan in this file, if the machine is still the one that it was made for.",
        group=OURS,
        metavar="FILE",
        is_for=PLAN,
    ),
    Option(
        "--snapshot",
        "snapshot",
        "Write what a plan needs to know of this machine, and nothing secret.",
        group=OURS,
        metavar="TAR",
        is_for="",
    ),
    Option(
        "--completion",
        "completion",
        "Print what completes these options in bash, zsh or fish.",
        group=OURS,
        metavar="SHELL",
        choices=("bash", "zsh", "fish"),
        is_for="",
    ),
    Option("--man", "manual", "Print the manual page: pykexec --man | man -l -", group=OURS, is_for=""),
)


def spelling(field: str) -> str:
    """Return the name to use in messages for the option that sets that field."""
    return next(option.spelling for option in OPTIONS if option.field == field)


def spelling_of(field: str, value: object) -> str:
    """Return the same where several options set the field, each to its own value."""
    return next(
        option.spelling for option in OPTIONS if option.field == field and option.value in (value, True)
    )

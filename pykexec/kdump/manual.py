"""Manual pages of ``pykdump`` and ``vmcore-dmesg``, from click's definitions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click

from pykexec import roff
from pykexec.kdump.files import STATE

_DATE = "2026-11-30"
"""The day of the last change of the texts here."""

_DESCRIPTION = (
    "pykdump has a capture kernel ready that saves what is in memory when the running kernel panics. It"
    " reads the configuration that the distribution's own service has, makes the initial ramdisk of the"
    " capture kernel for the dump's target, and loads both into the memory that crashkernel= reserves.",
    "It tells before a crash whether there will be a dump, and after it what is in one.",
)
_FILES = (
    ("/etc/kdump.conf, /etc/sysconfig/kdump", "The configuration of Fedora, RHEL and openEuler."),
    ("/etc/default/kdump-tools", "That of Debian and Ubuntu."),
    ("/etc/sysconfig/kdump", "Without /etc/kdump.conf: that of openSUSE."),
    (
        "/etc/default/pykdump",
        "PYKDUMP_ARGS: options of start for the service. PYKDUMP_REHEARSE_UPDATES=yes: when a kernel is"
        " installed, a crash of it is rehearsed, in the background; status tells what came of it.",
    ),
    (str(STATE), "Capture images, and what has been proven."),
    ("/run/pykdump", "What is loaded."),
    ("/etc/systemd/system/pykdump.service", "The service, from pykdump install."),
    (
        "/etc/kernel/postinst.d/zz-pykdump, /etc/kernel/install.d/95-pykdump.install",
        "The hooks that have new kernels rehearsed, from pykdump install.",
    ),
)
_EXIT_STATUS = (
    ("0", "Done."),
    (
        "1",
        "It failed, or wrong usage. Of doctor: armed, but something is wrong, or the console's log does not"
        " tell. Of dmesg and info: the dump is damaged.",
    ),
    (
        "3",
        "Of status and doctor: a crash will leave no dump, or did not. Of doctor, too: that cannot be told.",
    ),
    ("129, 130, 143", "It was ended by SIGHUP, from the keyboard, or by SIGTERM, and has tidied up."),
)
_EXAMPLES = (
    (
        "Have the service on, where nothing is configured yet:",
        (
            'echo "path /var/crash" > /etc/kdump.conf',
            "pykdump install",
            "systemctl enable --now pykdump",
            "pykdump status",
        ),
    ),
    ("Prove that it works, by a crash:", ("pykdump test",)),
    (
        "Read the log of the kernel that crashed:",
        ("pykdump dmesg /var/crash/127.0.0.1-2026-11-28-02:40:11/vmcore",),
    ),
)
_BUGS = (
    "Whether a machine saves a dump, only a crash can prove: pykdump test. What was seen to work is in the"
    " README; all of it in QEMU, none of it on other machines.",
    "The capture image that pykdump makes saves to ext2, ext3, ext4, XFS and btrfs, to a partition, to NFS"
    " and to a server of ssh. For other targets the distribution's image has to do it (pykdump start"
    " --initrd).",
    "fadump of POWER is not set up.",
    "A fault is told best with what pykdump snapshot writes. Look at it before you publish it: names of"
    " machines and users are in it.",
)
_SEE_ALSO = (
    "pykdump.conf(5)",
    "pykexec-json(5)",
    "crash(8)",
    "makedumpfile(8)",
    "pykexec(8)",
    "vmcore-dmesg(8)",
)

_DMESG_DESCRIPTION = (
    "vmcore-dmesg writes the log of a crashed kernel to standard output, a line for each record with its"
    " time in seconds since the boot. FILE is /proc/vmcore or a dump that was saved of it: an ELF file, or"
    " what makedumpfile writes, flattened or not.",
    "It has no options. What is damaged is told on standard error, and left out.",
)
_DMESG_EXIT_STATUS = (
    ("0", "The log was written."),
    ("1", "Wrong usage, or a fault that the C program does not know."),
    ("2", "The file cannot be opened."),
    ("3, 4", "It is too short, or no dump that can be read."),
    ("10, 11, 12, 16", "Its headers are damaged."),
    ("20", "Its notes are damaged."),
    ("30", "What is needed of the memory is not in the dump."),
    ("40", "The file cannot be read."),
    ("50", "There is no VMCOREINFO, or it does not tell where the log is."),
    ("51, 65", "The log's buffer is damaged."),
    ("53", "The log cannot be written, is larger than 2 GiB, or nobody reads on."),
    (
        "69",
        "Records of it are damaged, in a log of Linux 3.5 to 5.9: in others the C program, whose statuses"
        " these are, does not look for damage, and the status is 0. pykdump dmesg ends with 1 for any.",
    ),
    ("130", "It was interrupted from the keyboard."),
)
_DMESG_EXAMPLES = (
    ("In a capture system, the log of the kernel that crashed:", ("vmcore-dmesg /proc/vmcore > dmesg.txt",)),
)
_DMESG_BUGS = (
    "The log is found by VMCOREINFO alone. In a dump without it crash(8) may find one, by the kernel's"
    " symbols.",
)


def page(group: click.Group) -> str:
    """Return the manual page of ``pykdump``, in roff."""
    context = click.Context(group, info_name="pykdump", **group.context_settings)
    return _page(
        "pykdump",
        "set up crash dumps, and say whether there will be one",
        ["\\fICOMMAND\\fR [\\fIOPTION\\fR]... [\\fIARGUMENT\\fR]..."],
        [
            *roff.section("Description", *roff.paragraphs(_DESCRIPTION)),
            *roff.section("Options", *_options(context)),
            *roff.section("Commands", *_commands(group, context)),
            *roff.section("Exit status", *roff.definitions(_EXIT_STATUS)),
            *roff.section("Files", *roff.definitions(_FILES)),
            *roff.section("Examples", *roff.examples(_EXAMPLES)),
            *roff.section("Bugs", *roff.paragraphs(_BUGS)),
            *roff.section("See also", *roff.references(*_SEE_ALSO)),
        ],
    )


def vmcore_dmesg_page() -> str:
    """Return the manual page of ``vmcore-dmesg``, in roff."""
    return _page(
        "vmcore-dmesg",
        "print the log of a crashed kernel",
        ["\\fIFILE\\fR"],
        [
            *roff.section("Description", *roff.paragraphs(_DMESG_DESCRIPTION)),
            *roff.section("Exit status", *roff.definitions(_DMESG_EXIT_STATUS)),
            *roff.section("Examples", *roff.examples(_DMESG_EXAMPLES)),
            *roff.section("Bugs", *roff.paragraphs(_DMESG_BUGS)),
            *roff.section("See also", *roff.references("dmesg(1)", "makedumpfile(8)", "pykdump(8)")),
        ],
    )


def _page(name: str, purpose: str, synopsis: Sequence[str], rest: Sequence[str]) -> str:
    lines = [
        roff.title(name, _DATE, section=8),
        *roff.section("Name", f"{roff.escape(name)} \\- {purpose}"),
        *roff.section("Synopsis", f".B {roff.escape(name)}", *synopsis),
        *rest,
    ]
    return "\n".join(lines) + "\n"


def _commands(group: click.Group, parent: click.Context) -> Iterator[str]:
    for name in group.list_commands(parent):
        command = group.get_command(parent, name)
        assert command is not None
        context = click.Context(command, parent, name)
        pieces = [piece for piece in command.collect_usage_pieces(context) if piece != "[OPTIONS]"]
        yield ".SS " + " ".join([roff.bold(f"pykdump {name}"), *map(roff.italic, pieces)])
        for index, paragraph in enumerate((command.help or "").split("\n\n")):
            yield from [".PP"] * bool(index)
            yield from roff.prose(" ".join(paragraph.split()))
        yield from _options(context)


def _options(context: click.Context) -> Iterator[str]:
    # Each command has --help; the page shows it once.
    told_above = context.command.get_help_option(context) if context.parent else None
    for parameter in context.command.get_params(context):
        record = parameter.get_help_record(context)
        if record is None or parameter is told_above or not isinstance(parameter, click.Option):
            continue
        names, text = record
        yield ".TP"
        yield roff.bold(names)
        yield from roff.prose(" ".join(text.split()))

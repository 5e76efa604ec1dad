"""The manual page and the completions of ``pykexec``, from the table of options."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from pykexec import roff
from pykexec.arch import all_architectures
from pykexec.errors import UsageError
from pykexec.options import OPTIONS, OURS, Option

_FORMAT_OPTION = "format"
_DATE = "2026-11-30"
"""The date of the last change to the texts below."""


def page(options: Sequence[Option] = OPTIONS) -> str:
    """Return the manual page, in roff with the macros of man(7)."""
    lines = [
        roff.comment("Made from the table of options: pykexec --man"),
        roff.title("pykexec", _DATE, section=8),
        *roff.section("Name", "pykexec \\- load a second Linux kernel, and start it now or at a panic"),
        *roff.section("Synopsis", *_SYNOPSIS),
        *roff.section("Description", *roff.paragraphs(_DESCRIPTION)),
        ".SH OPTIONS",
        *roff.paragraphs([_ABBREVIATIONS]),
        *_option_lists(options),
        *roff.section("Types of kernel", *_types()),
        *roff.section("Plans as files", *roff.paragraphs(_PLANS)),
        *roff.section("Exit status", *roff.definitions(_EXIT_STATUS)),
        *roff.section("Files", *roff.definitions(_FILES)),
        *roff.section("Examples", *roff.examples(_EXAMPLES)),
        *roff.section("Notes", *roff.paragraphs(_NOTES)),
        *roff.section("Bugs", *roff.paragraphs(_BUGS)),
        *roff.section("See also", *roff.references(*_SEE_ALSO)),
    ]
    return "\n".join(lines) + "\n"


_SYNOPSIS = (
    ".B pykexec",
    "\\fB\\-l\\fR | \\fB\\-p\\fR",
    "[\\fIOPTION\\fR]... \\fIKERNEL\\fR",
    ".br",
    ".B pykexec",
    "\\fB\\-e\\fR [\\fB\\-x\\fR] [\\fB\\-y\\fR]",
    ".br",
    ".B pykexec",
    "[\\fB\\-p\\fR] \\fB\\-u\\fR",
    ".br",
    ".B pykexec",
    "[\\fB\\-l\\fR] \\fB\\-S\\fR",
    ".br",
    ".B pykexec",
    "[\\fB\\-f\\fR] [\\fIOPTION\\fR]... \\fIKERNEL\\fR",
)

_DESCRIPTION = (
    "pykexec loads a second Linux kernel into the memory of the running one. That kernel is started without"
    " firmware and boot loader: at once, at the end of a shutdown, or, when it was loaded with -p, the"
    " moment the running kernel panics, to save what is left in memory.",
    "It takes the options of kexec (kexec-tools) and answers with its exit codes. Without -l, -p, -e, -f or"
    " -u it loads KERNEL, shuts the system down, and starts it. The order of options does not matter; of"
    " options that cannot go together, none is dropped silently: that is an error, and nothing is done.",
    "A kernel for panics needs memory that was reserved at boot, with crashkernel=256M on the kernel command"
    " line, say.",
    "Loading and starting kernels takes the capability CAP_SYS_BOOT.",
)
_ABBREVIATIONS = (
    "Long options may be abbreviated as long as they stay unambiguous, except those under"
    f' "{OURS}". An argument may follow after a space or after =.'
)

_PLANS = (
    "--output writes a plan for the machine of a snapshot (--machine) as a file that needs nothing else:"
    " not the kernel, not the host that made it. On that machine pykexec, or the small static kexec where"
    " there is no Python, loads it with kexec_load(2), if it is still the machine of the snapshot. Alone,"
    " --load-plan loads and does no more; with -e it starts what it has loaded; with -l or -p it refuses a"
    " plan for the other purpose. pykexec-plan(5) tells what is in the file, and what of the machine is"
    " compared.",
)
_EXIT_STATUS = (
    ("0", "Done. With -S: nothing is loaded."),
    (
        "1",
        "Wrong usage; no memory is reserved for a crash kernel; nothing is loaded. With -S: it is loaded.",
    ),
    ("130", "It was interrupted from the keyboard."),
    ("253", "-s was given, and kexec_file_load(2) is missing or cannot load such a kernel."),
    ("255", "It failed. With -S: it cannot be told."),
)
_FILES = (
    ("/sys/kernel/kexec_loaded, /sys/kernel/kexec_crash_loaded", "Whether a kernel is loaded."),
    ("/sys/kernel/kexec_crash_size", "How much memory is reserved for a crash kernel, in bytes."),
    ("/sys/kernel/kexec", "Newer kernels have the same in here: loaded, crash_loaded, crash_size."),
    ("/proc/sys/kernel/kexec_load_disabled", "Where it says 1, no kernel can be loaded until a reboot."),
    ("/proc/iomem, /sys/firmware, /proc/kcore", "What pykexec has to know of the machine."),
)
_EXAMPLES = (
    (
        "Start a kernel with the command line of the running one:",
        ("pykexec -l /boot/vmlinuz --initrd=/boot/initrd.img --reuse-cmdline", "systemctl kexec"),
    ),
    (
        "Keep one ready for a panic, and see whether it is:",
        (
            "pykexec -p /boot/vmlinuz --initrd=/boot/kdump.img \\",
            "    --reuse-cmdline --append=nr_cpus=1",
            "pykexec -S; echo $?",
        ),
    ),
    (
        "Load a kernel on a machine that has no Python:",
        (
            "kexec --snapshot > target.tar   # there",
            "pykexec -l Image --initrd=initrd.img \\",
            "    --machine=target.tar --output=plan.kexec",
            "kexec --load-plan plan.kexec    # there",
        ),
    ),
    (
        "See what would go where in memory, without loading anything:",
        ("pykexec --dry-run -p /boot/vmlinuz --initrd=/boot/kdump.img",),
    ),
)
_NOTES = (
    "As kexec, pykexec serves the tools of distributions. python3 -m pykexec.integration install"
    " --alternatives puts it in the place of /sbin/kexec, with the C tool beside it, and offers vmcore-dmesg"
    " in the same way; with --documentation it installs the manual pages, and what completes options. With"
    " remove in place of install all of that is undone.",
    "In an initramfs, and at the end of a shutdown when the root file system is gone, there is no"
    " Python. With --dracut or --initramfs-tools the same command puts into each new initramfs what a"
    " load takes, or with --static a small kexec that needs none.",
    "systemctl kexec runs kexec to load a kernel, and at the end of the shutdown kexec -e. systemd from"
    " April 2026 on calls kexec_file_load(2) itself, and runs kexec only where that fails. A loaded"
    " kernel can also be what systemctl reboot starts, until pykexec -u forgets it.",
)
_BUGS = (
    "Kernels were loaded and started on machines that QEMU emulates, not yet on others. Before you rely on"
    " it for crashes, have one: pykdump test.",
    "Under Xen nothing can be loaded.",
    "A fault is told best with what pykexec -d says, and with what pykexec --snapshot writes, which has"
    " nothing secret in it, but names of devices.",
)
_SEE_ALSO = (
    "systemctl(1)",
    "kexec_load(2)",
    "reboot(2)",
    "pykexec-json(5)",
    "pykexec-plan(5)",
    "kexec(8)",
    "pykdump(8)",
    "vmcore-dmesg(8)",
)


def _option_lists(options: Sequence[Option]) -> Iterator[str]:
    for group in dict.fromkeys(option.group for option in options):
        yield f".SS {group}"
        for option in options:
            if option.group == group:
                yield ".TP"
                yield _heading(option)
                yield from roff.prose(option.help)
                if option.choices:
                    yield from roff.prose(f"One of: {', '.join(option.choices)}.")


def _heading(option: Option) -> str:
    names = ", ".join(roff.bold(name) for name in option.names)
    if option.metavar is None:
        return names
    joint = "=" if option.names[-1].startswith("--") else " "
    return f"{names}{joint}{roff.italic(option.metavar)}"


def _types() -> Iterator[str]:
    yield from roff.prose("What -t takes, by machine:")
    yield from roff.definitions([(arch.name, ", ".join(arch.formats) + ".") for arch in all_architectures()])


def completion(shell: str, options: Sequence[Option] = OPTIONS) -> str:
    """Return the completion script for that shell. Raises UsageError for a shell that is not in `SHELLS`."""
    if shell not in SHELLS:
        raise UsageError(f"no completion for {shell}", hint=f"there is one for: {', '.join(SHELLS)}")
    return SHELLS[shell](options)


def _choices(option: Option) -> Sequence[str]:
    """Return the words that its argument can be, where these are known."""
    if option.field == _FORMAT_OPTION:
        return list(dict.fromkeys(each for arch in all_architectures() for each in arch.formats))
    return option.choices


def _takes_file(option: Option) -> bool:
    # The first word of a module is its file.
    return option.takes_file or (option.metavar or "").startswith('"FILE')


def _quoted(text: str) -> str:
    """Quote a text for all three shells."""
    return "'" + text.replace("'", "'\\''") + "'"


_BASH = """\
# pykexec completion for bash: source it, or put it into /usr/share/bash-completion/completions/pykexec

_pykexec() {
    local cur=${COMP_WORDS[COMP_CWORD]} option words=''
    COMPREPLY=()
    # Bash takes --name=value for three words.
    if [[ $cur == = ]]; then
        option=${COMP_WORDS[COMP_CWORD - 1]}
        cur=
    elif ((COMP_CWORD > 1)) && [[ ${COMP_WORDS[COMP_CWORD - 1]} == = ]]; then
        option=${COMP_WORDS[COMP_CWORD - 2]}
    else
        option=${COMP_WORDS[COMP_CWORD - 1]}
    fi
    case $option in
@CASES@
    esac
    if [[ -z $words && $cur == -* ]]; then
        words='@NAMES@'
    fi
    if [[ -n $words ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
        return
    fi
    compopt -o filenames 2> /dev/null
    mapfile -t COMPREPLY < <(compgen -f -- "$cur")
}
complete -F _pykexec pykexec kexec
"""


def _bash(options: Sequence[Option]) -> str:
    return _BASH.replace("@CASES@", "\n".join(_bash_cases(options))).replace(
        "@NAMES@", " ".join(name for option in options for name in option.names)
    )


def _bash_cases(options: Sequence[Option]) -> Iterator[str]:
    takes_words = [option for option in options if option.metavar and _choices(option)]
    takes_text = [
        option for option in options if option.metavar and not _choices(option) and not _takes_file(option)
    ]
    takes_files = [option for option in options if _takes_file(option)]
    for option in takes_words:
        yield f"        {'|'.join(option.names)}) words={_quoted(' '.join(_choices(option)))} ;;"
    for group, action in ((takes_text, "return"), (takes_files, "words=")):
        names = "|".join(name for option in group for name in option.names)
        if names and action == "return":
            yield f"        {names}) return ;;"
        elif names:
            yield f"        {names}) cur=${{cur/#\\~\\//$HOME/}} ;;"


def _zsh(options: Sequence[Option]) -> str:
    lines = ["#compdef pykexec kexec", "", "_arguments -s -S \\"]
    for option in options:
        lines += [f"  {spec} \\" for spec in _zsh_specs(option)]
    return "\n".join([*lines, "  '1:kernel:_files'"]) + "\n"


def _zsh_specs(option: Option) -> Iterator[str]:
    """Yield a specification for each name. Each excludes the option's other names."""
    text = re.sub(r"([\[\]\\])", r"\\\1", option.help)
    others = "*" if option.repeats else f"({' '.join(option.names)})"
    for name in option.names:
        if option.metavar is None:
            yield _quoted(f"{others}{name}[{text}]")
            continue
        metavar = re.sub(r"([:\\])", r"\\\1", option.metavar)
        if words := _choices(option):
            action = f"({' '.join(words)})"
        else:
            action = "_files" if _takes_file(option) else " "
        joint = "=" if name.startswith("--") else "+"
        yield _quoted(f"{others}{name}{joint}[{text}]:{metavar}:{action}")


def _fish(options: Sequence[Option]) -> str:
    lines = ["# pykexec completion for fish: put it into ~/.config/fish/completions/pykexec.fish"]
    for option in options:
        names = " ".join(
            f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names
        )
        lines.append(f"complete -c pykexec {names}{_fish_argument(option)} -d {_fish_quoted(option.help)}")
    lines.append("complete -c kexec -w pykexec")
    return "\n".join(lines) + "\n"


def _fish_argument(option: Option) -> str:
    if option.metavar is None:
        return ""
    if words := _choices(option):
        return f" -x -a {_fish_quoted(' '.join(words))}"
    return " -r -F" if _takes_file(option) else " -x"


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


SHELLS: Mapping[str, Callable[[Sequence[Option]], str]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
"""The completion script's function for each shell."""

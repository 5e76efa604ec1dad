"""pykdump.conf(5): the configuration that pykdump reads, from the tables of its keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby

from pykexec import roff
from pykexec.kdump.config import FACTS, fedora, keys
from pykexec.kdump.config.keys import Key, Use
from pykexec.kdump.config.names import UNREAD

_DATE = "2026-11-30"
"""The day of the last change of the texts here."""

_DESCRIPTION = (
    "pykdump reads the configuration of the kdump service that a distribution has, and does what that would"
    " do. It has none of its own.",
    "Where /etc/default/kdump-tools exists, that is read; both it and one of the others is an error. Where"
    " /etc/kdump.conf exists, that and /etc/sysconfig/kdump are read, and otherwise /etc/sysconfig/kdump"
    " alone, as openSUSE has it. Without any of them pykdump start says how to begin.",
    "Nothing in these files is run. An unknown key in /etc/kdump.conf, and a value that makes no sense in"
    " any, is an error with its line, and what is loaded stays loaded. Of a variable that the others do not"
    " know there is a warning.",
    "Each key has its meaning here, its default, and, where it is not simply honoured, what pykdump does"
    " with it. Without a default it is off, or has no value.",
)
_CONF = (
    "Lines of KEY VALUE, without =. # begins a comment. A dump goes to one target: of the keys from ext2 to"
    " ssh only one may be there."
)
_SHELL = (
    "Lines of NAME=VALUE as a shell reads them, with quotes and earlier variables, but without commands."
)
_OURS = "They may be in each of the files of assignments above."
_FILES = (
    ("/etc/kdump/pre.d, /etc/kdump/post.d", "With /etc/kdump.conf: more programs to run before and after."),
    ("/etc/default/pykdump", "PYKDUMP_ARGS: options of pykdump start for the service."),
)
EXAMPLES = (
    ("/etc/kdump.conf, for dumps on a file system of their own:", ("ext4 LABEL=dumps", "path /")),
    (
        "/etc/kdump.conf, for dumps on a server:",
        ("ssh kdump@dumps.example", "sshkey /root/.ssh/kdump_id_ed25519", "path /srv/crash"),
    ),
    ("/etc/default/kdump-tools:", ("USE_KDUMP=1", "KDUMP_COREDIR=/var/crash", "KDUMP_NUM_DUMPS=3")),
)
_BUGS = (
    "What is refused is refused by the capture image that pykdump makes. With an image of the"
    " distribution (pykdump start --initrd) pykdump loads that, and what that makes of the configuration is"
    " its own affair.",
    "The capture image finds partitions, LVM volumes, arrays of md (IMSM and DDF, too), multipath maps,"
    " several devices of a btrfs, encrypted volumes whose keys it is given, and disks that a server has"
    " (iSCSI, NVMe over TCP). It goes over bonds, teams, VLANs and bridges, by IPv4 and IPv6. What it cannot"
    " do is refused.",
)


def page() -> str:
    """Return the page, in roff."""
    lines = [
        roff.title("pykdump.conf", _DATE, section=5),
        *roff.section("Name", "pykdump.conf \\- the configuration of crash dumps that pykdump reads"),
        *roff.section("Synopsis", *roff.lines(_places())),
        *roff.section("Description", *roff.paragraphs(_DESCRIPTION)),
        *roff.section("Keys"),
        *_keys("/etc/kdump.conf of Fedora, RHEL and openEuler", _CONF, keys.KDUMP_CONF),
        *_former(),
        *_keys("/etc/sysconfig/kdump beside it", _SHELL, keys.FEDORA_SYSCONFIG),
        *_keys("/etc/default/kdump-tools of Debian and Ubuntu", _SHELL, keys.DEBIAN),
        *_keys("/etc/sysconfig/kdump of openSUSE and SLE", _SHELL, keys.SUSE),
        *_keys("Assignments that only pykdump knows", _OURS, keys.OURS),
        *_unread(),
        *roff.section("Files", *roff.definitions(_FILES)),
        *roff.section("Examples", *roff.examples(EXAMPLES)),
        *roff.section("Bugs", *roff.paragraphs(_BUGS)),
        *roff.section("See also", *roff.references("pykdump(8)", "makedumpfile(8)", "sysctl(8)")),
    ]
    return "\n".join(lines) + "\n"


def _places() -> list[str]:
    return [f"/{path}" for path in FACTS]


def _keys(title: str, form: str, table: Mapping[str, Key]) -> Iterator[str]:
    yield from roff.subsection(title, *roff.prose(form))
    alike = groupby(table.items(), key=lambda item: item[1])
    yield from roff.definitions([(", ".join(name for name, _ in items), _told(key)) for key, items in alike])


def _told(key: Key) -> str:
    default = "" if key.default is None else f" Default: {key.default}."
    use = "" if key.use is Use.HONOURED else f" {key.use.value.capitalize()}."
    return f"{key.text}{default}{use}"


def _former() -> Iterator[str]:
    told = [(name, f"{instead[0].upper()}{instead[1:]}.") for name, instead in fedora.GONE.items()]
    yield from roff.subsection("Keys that /etc/kdump.conf no longer has", *roff.definitions(told))


def _unread() -> Iterator[str]:
    told = [(f"/{form.file}", f"{form.tool}: {', '.join(sorted(form.names))}.") for form in UNREAD]
    text = "pykdump knows these by their names, says so where it finds them, and does not read them."
    yield from roff.subsection("Files of other tools", *roff.prose(text), *roff.definitions(told))

"""GRUB's menu: the entry that GRUB would start, or a refusal with the place; never another kernel."""

import io
import itertools
import re
from typing import IO

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec import bootentries, grubscript
from pykexec.bootentries import BootEntry
from pykexec.errors import PykexecError, UsageError
from pykexec.machine.root import Root
from tests.support import grub
from tests.support.effort import examples
from tests.support.stopwatch import Stopwatch

# As grub-mkconfig of Debian and Ubuntu writes it, shortened.
HEADER = """\
if [ -s $prefix/grubenv ]; then
  set have_grubenv=true
  load_env
fi
if [ "${next_entry}" ] ; then
   set default="${next_entry}"
   set next_entry=
   save_env next_entry
   set boot_once=true
else
   set default="${saved_entry}"
fi
if [ x"${feature_menuentry_id}" = xy ]; then
  menuentry_id_option="--id"
else
  menuentry_id_option=""
fi
export menuentry_id_option
function savedefault {
  if [ -z "${boot_once}" ]; then
    saved_entry="${chosen}"
    save_env saved_entry
  fi
}
function recordfail {
  set recordfail=1
  if [ -n "${have_grubenv}" ]; then if [ -z "${boot_once}" ]; then save_env recordfail; fi; fi
}
function load_video {
  if [ x$feature_all_video_module = xy ]; then
    insmod all_video
  else
    insmod efi_gop
  fi
}
if loadfont unicode ; then
  set gfxmode=auto
  load_video
  insmod gfxterm
  set locale_dir=$prefix/locale
fi
terminal_output gfxterm
if [ "${recordfail}" = 1 ] ; then
  set timeout=30
else
  if [ x$feature_timeout_style = xy ] ; then
    set timeout_style=hidden
    set timeout=0
  elif sleep --interruptible 0 ; then
    set timeout=0
  fi
fi
function gfxmode {
	set gfxpayload="${1}"
	if [ "${1}" = "keep" ]; then
		set vt_handoff=vt.handoff=7
	else
		set vt_handoff=
	fi
}
if [ "${recordfail}" != 1 ]; then
  if [ -e ${prefix}/gfxblacklist.txt ]; then
    if hwmatch ${prefix}/gfxblacklist.txt 3; then
      if [ ${match} = 0 ]; then
        set linux_gfx_mode=keep
      else
        set linux_gfx_mode=text
      fi
    else
      set linux_gfx_mode=text
    fi
  else
    set linux_gfx_mode=keep
  fi
else
  set linux_gfx_mode=text
fi
export linux_gfx_mode
"""
ENTRY = """\
menuentry '{title}' --class debian --class os $menuentry_id_option '{id}' {{
	recordfail
	load_video
	gfxmode $linux_gfx_mode
	insmod gzio
	if [ x$grub_platform = xxen ]; then insmod xzio; insmod lzopio; fi
	set root='hd0,gpt2'
	if [ x$feature_platform_search_hint = xy ]; then
		search --no-floppy --fs-uuid --set=root --hint-bios=hd0,gpt2  1111-aaaa
	else
		search --no-floppy --fs-uuid --set=root 1111-aaaa
	fi
	echo	'Loading Linux {version} ...'
	linux	/boot/vmlinuz-{version} root=UUID=1111-aaaa ro {more} $vt_handoff
	echo	'Loading initial ramdisk ...'
	initrd	/boot/initrd.img-{version}
}}
"""
FOOTER = """\
if [ "$grub_platform" = "efi" ]; then
	fwsetup --is-supported
	if [ "$?" = 0 ]; then
		menuentry 'UEFI Firmware Settings' $menuentry_id_option 'uefi-firmware' {
			fwsetup
		}
	fi
fi
if [ -f  ${config_directory}/custom.cfg ]; then
  source ${config_directory}/custom.cfg
elif [ -z "${config_directory}" -a -f  $prefix/custom.cfg ]; then
  source $prefix/custom.cfg
fi
"""


def entry(version: str, more: str = "quiet", *, kind: str = "advanced") -> str:
    title = "Debian GNU/Linux" if kind == "simple" else f"Debian, with Linux {version}"
    id_ = f"gnulinux-{kind}-1111" if kind == "simple" else f"gnulinux-{version}-{kind}-1111"
    return ENTRY.format(title=title, id=id_, version=version, more=more)


SUBMENU = (
    "submenu 'Advanced options' $menuentry_id_option 'gnulinux-advanced-1111' {\n"
    f"{entry('6.1')}{entry('6.1', 'single', kind='recovery')}{entry('5.10')}}}\n"
)
DEBIAN = HEADER + entry("6.1", kind="simple") + SUBMENU + FOOTER


class Memory(Root):
    """A root whose files are in memory."""

    def __init__(self, files: dict[str, str]) -> None:
        self._files = {name: content.encode() for name, content in files.items()}

    def open(self, path: str) -> IO[bytes] | None:
        return io.BytesIO(self._files[path]) if path in self._files else None

    def names(self, path: str) -> list[str]:
        below = [name.removeprefix(f"{path}/") for name in self._files if name.startswith(f"{path}/")]
        return sorted({name.partition("/")[0] for name in below})


def root(config: str, path: str = "boot/grub/grub.cfg", **environment: str) -> Memory:
    values = "".join(f"{name}={value}\n" for name, value in environment.items())
    block = f"# GRUB Environment Block\n{values}"
    files = {path: config, f"{path.rpartition('/')[0]}/grubenv": block if environment else ""}
    for version in ("6.1", "5.10"):
        files |= {f"boot/vmlinuz-{version}": "kernel", f"boot/initrd.img-{version}": "initrd"}
    return Memory(files)


def of_grub(where: Root, wanted: str | None = None) -> BootEntry:
    found = bootentries.of_grub(where, wanted)
    assert found is not None
    return found


def refusal(where: Root, wanted: str | None = None) -> str:
    with pytest.raises(UsageError) as caught:
        of_grub(where, wanted)
    return str(caught.value)


def test_as_debian_writes_it() -> None:
    found = of_grub(root(DEBIAN))
    assert found == BootEntry(
        id="gnulinux-simple-1111",
        source="boot/grub/grub.cfg",
        kernel="boot/vmlinuz-6.1",
        title="Debian GNU/Linux",
        initrds=("boot/initrd.img-6.1",),
        options="root=UUID=1111-aaaa ro quiet vt.handoff=7",
    )


ADVANCED = "gnulinux-advanced-1111"


@pytest.mark.parametrize(
    ("saved", "version", "more"),
    [
        ("0", "6.1", "quiet"),
        ("gnulinux-simple-1111", "6.1", "quiet"),
        ("Debian GNU/Linux", "6.1", "quiet"),
        ("1>2", "5.10", "quiet"),
        ("1>1", "6.1", "single"),
        (f"{ADVANCED}>gnulinux-5.10-advanced-1111", "5.10", "quiet"),
        ("Advanced options>Debian, with Linux 5.10", "5.10", "quiet"),
        (f"{ADVANCED}>2", "5.10", "quiet"),
        ("Debian, with Linux 4.9", "6.1", "quiet"),
        ("7", "6.1", "quiet"),
        (f"{ADVANCED}>gone", "6.1", "quiet"),
    ],
)
@pytest.mark.parametrize("how", ["saved_entry", "next_entry"])
def test_what_grubenv_says(saved: str, version: str, more: str, how: str) -> None:
    found = of_grub(root(DEBIAN, **{how: saved}))
    assert found.kernel == f"boot/vmlinuz-{version}"
    assert found.options == f"root=UUID=1111-aaaa ro {more} vt.handoff=7"
    is_missing = saved in ("7", "Debian, with Linux 4.9", f"{ADVANCED}>gone")
    assert [note for note in found.notes if "is not in GRUB's menu" in note] == list(found.notes)
    assert bool(found.notes) == is_missing


def test_what_is_started_next_goes_before_what_is_saved() -> None:
    assert of_grub(root(DEBIAN, saved_entry="0", next_entry="1>2")).kernel == "boot/vmlinuz-5.10"


@pytest.mark.parametrize(
    ("wanted", "kernel"),
    [
        (f"{ADVANCED}>gnulinux-5.10-advanced-1111", "5.10"),
        ("gnulinux-5.10-advanced-1111", "5.10"),
        ("Debian, with Linux 5.10", "5.10"),
        ("gnulinux-simple-1111", "6.1"),
        ("1>2", "5.10"),
        ("0", "6.1"),
    ],
)
def test_entries_by_name(wanted: str, kernel: str) -> None:
    assert of_grub(root(DEBIAN), wanted).kernel == f"boot/vmlinuz-{kernel}"


def test_names_that_nothing_or_too_much_has() -> None:
    assert "no boot entry gnulinux-6.9" in refusal(root(DEBIAN), "gnulinux-6.9")
    assert "gnulinux-simple-1111" in refusal(root(DEBIAN), "gnulinux-sample-1111")
    assert "no boot entry 7" in refusal(root(DEBIAN), "7")
    assert "2 entries of GRUB's menu are called Debian, with Linux 6.1" in refusal(
        root(DEBIAN), "Debian, with Linux 6.1"
    )
    assert "is a submenu" in refusal(root(DEBIAN, saved_entry=ADVANCED))
    assert "is a submenu" in refusal(root(DEBIAN, saved_entry="1"))
    assert "grub.cfg:1: 'Windows' loads no Linux kernel: it has 'chainloader'" in refusal(
        root("menuentry Windows { chainloader +1 }")
    )
    assert "begins with a number" in refusal(root('set default="6.1"\n' + entry("6.1")))
    assert "there is no entry in the menu" in refusal(root("set default=0\n"))


def test_what_only_grub_knows_is_not_guessed() -> None:
    """Ubuntu's list of graphics cards decides on $vt_handoff alone, which nothing needs."""
    where = root(DEBIAN)
    where._files["boot/grub/gfxblacklist.txt"] = b"x"
    found = of_grub(where)
    assert found.options == "root=UUID=1111-aaaa ro quiet"
    assert found.notes == ("$vt_handoff is left out: only GRUB knows it",)
    for script, line in (
        ("if hwmatch x 3; then\nset default=1\nfi\n{}{}", 1),
        ("{}if keystatus --shift; then\nset default=1\nfi\n{}", 13),
        ("if cmostest 1:2\nthen\n{}fi\n{}", 1),
        ("set k=/vmlinuz\nprobe --set=k -f (hd0)\nmenuentry a {{\nlinux $k\n}}\n{}{}", 4),
        (
            "menuentry a {{\nif lsacpi; then\nlinux /vmlinuz-6.1\nelse\nlinux /vmlinuz-5.10\nfi\n}}",
            2,
        ),
        ("eval $x\n{}{}", 1),
        ("while true; do set default=1; break; done\n{}{}", 1),
        ("for each in 1 2; do menuentry $each {{ linux /boot/vmlinuz-6.1; }}; done\n{}{}", 1),
        ("function f {{ f; }}\nf\n{}{}", 1),
    ):
        text = script.format(*(each.replace("\t", "") for each in (simple("6.1"), simple("5.10"))))
        told = refusal(root(text))
        assert re.match(r"/boot/grub/grub\.cfg:\d+: ", told), (text, told)
        assert int(told.split(":")[1]) == line or "f; }" in text, (text, told)
        assert "--reuse-kernel" in told


def simple(version: str) -> str:
    return f"menuentry '{version}' {{\n" + "#\n" * 8 + f"linux /boot/vmlinuz-{version}\n}}\n" + "#\n"


def test_variables_of_a_submenu_are_those_that_were_exported() -> None:
    inner = "submenu s {\nmenuentry a {\nlinux /boot/vmlinuz-6.1 $x\n}\n}\nset default='0>0'\n"
    assert of_grub(root(f"set x=1\nexport x\n{inner}")).options == "1"
    assert refusal(root(f"set x=1\n{inner}")).startswith("/boot/grub/grub.cfg:4: what 'a' loads depends on")
    assert of_grub(root("set x=1\nmenuentry a { linux /boot/vmlinuz-6.1 $x\n}")).options == "1"


def test_further_files() -> None:
    where = root(DEBIAN)
    where._files["boot/grub/custom.cfg"] = b"set default=mine\nmenuentry mine {\nlinux /vmlinuz-5.10 x\n}\n"
    found = of_grub(where)
    assert (found.source, found.kernel, found.options) == ("boot/grub/custom.cfg", "boot/vmlinuz-5.10", "x")
    where._files["boot/grub/custom.cfg"] = b"\nif [ x\n"
    assert refusal(where).startswith("/boot/grub/custom.cfg:3: then is missing here")
    where._files["boot/grub/custom.cfg"] = b"source $prefix/custom.cfg\n"
    assert "grub.cfg" in refusal(where) or "custom.cfg" in refusal(where)
    del where._files["boot/grub/custom.cfg"]
    where._files["custom.cfg"] = b"set default=9x\n"
    assert of_grub(where).kernel == "boot/vmlinuz-6.1", "another file of that name"


def test_where_grub_s_configuration_is() -> None:
    assert bootentries.of_grub(Memory({})) is None
    for path in ("boot/grub2/grub.cfg", "boot/efi/EFI/centos/grub.cfg"):
        assert of_grub(root(DEBIAN, path, saved_entry="1>2")).kernel == "boot/vmlinuz-5.10"
    where = root(DEBIAN)
    where._files["boot/grub2/grub.cfg"] = b""
    assert "GRUB has several configurations: /boot/grub/grub.cfg, /boot/grub2/grub.cfg" in refusal(where)


@pytest.mark.parametrize(
    ("named", "there"),
    [
        ("/boot/vmlinuz", "boot/vmlinuz"),
        ("/vmlinuz", "boot/vmlinuz"),
        ("/@/boot/vmlinuz", "boot/vmlinuz"),
        ("($root)/boot/vmlinuz", "boot/vmlinuz"),
        ("(hd0,gpt2)/vmlinuz", "boot/vmlinuz"),
        ("/BOOT/ubuntu_x@/vmlinuz", "boot/vmlinuz"),
        ("/root/boot/vmlinuz", "boot/vmlinuz"),
        ("$prefix/../vmlinuz", "boot/vmlinuz"),
    ],
)
@pytest.mark.parametrize("command", ["linux", "linuxefi", "linux16", "set x=linux\n$x"])
def test_where_kernels_are(command: str, named: str, there: str) -> None:
    """A device, a subvolume of btrfs, a data set of ZFS, a partition of its own."""
    where = Memory({"boot/grub/grub.cfg": f"menuentry a {{\n{command} {named} ro\n}}\n", there: "kernel"})
    found = of_grub(where)
    assert (found.kernel, found.options, found.initrds) == (there, "ro", ())


def test_an_entry_of_another_system_is_not_this_one_s() -> None:
    """os-prober's: it names files that are here, too."""
    where = root(DEBIAN)
    for fstab, is_here in (
        ("UUID=1111-AAAA / ext4 defaults 0 1\n", True),
        ('# x\nUUID="1111-aaaa" / ext4 defaults 0 1\n', True),
        ("UUID=2222 / ext4 x 0 1\nUUID=1111-aaaa /boot ext4 x 0 2\n", True),
        ("UUID=2222 / ext4 defaults 0 1\n", False),
        ("UUID=2222 / ext4 defaults 0 1\n/dev/sda1 /boot ext4 defaults 0 1\n", True),
        ("UUID=1111-aaaa /home ext4 defaults 0 1\n", True),
        ("/dev/mapper/vg-root / ext4 defaults 0 1\n", True),
        ("", True),
    ):
        where._files["etc/fstab"] = fstab.encode()
        if is_here:
            assert of_grub(where).kernel == "boot/vmlinuz-6.1"
        else:
            assert "its files are on the file system 1111-aaaa, which /etc/fstab has not" in refusal(where)


@pytest.mark.parametrize(
    ("script", "options"),
    [
        ("linux /k a  'b c' \"d\" e\\ f", 'a "b c" d "e f"'),
        ("linux /k $x\"$x\" y$x.z '$x'", '1 "21 2" y1 2.z $x'),
        ("linux /k a\\\n b # c", "a b"),
        ("linux /k a=\"b\\\"c\" d\\;e f#g", 'a=b\\"c d;e f#g'),
        ("linux /k $none '' \"\"; initrd /i", " "),
        ("if [ $y = 3 ]; then linux /k yes; else linux /k no; fi", "yes"),
        ("if [ $y -gt 2 -a ! -f /gone ]; then linux /k yes; fi", "yes"),
        ("if [ -z \"$y\" -o \"$z\" = \"\" ]; then linux /k yes; fi", "yes"),
        ("if test $y = 4; then true; elif [ -s $prefix/grub.cfg ]; then linux /k yes; fi", "yes"),
        ("f 'a b' c", '"a b-c"'),
    ],
)  # fmt: skip
def test_words(script: str, options: str) -> None:
    config = f"set x='1 2'\nset y=3\nfunction f {{\nlinux /k \"$1\"-$2\n}}\nmenuentry a {{\n{script}\n}}\n"
    assert of_grub(Memory({"boot/grub/grub.cfg": config, "k": "kernel"})).options == options


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("if true; then\nset a=1\n", ":3: fi is missing here"),
        ("menuentry a {\nb\n", ":3: } is missing here"),
        ("menuentry a {\n}\n", ":2: a command is missing here"),
        ("if a; then b; fi c\n", ":1: a ; is missing here"),
        ("}\n", ":1: } cannot stand here"),
        ("\nset a='x\n", ":2: a ' that does not end"),
        ('set a="x\n', ':2: a " that does not end'),
        ("a | b\n", ":1: | cannot stand here"),
        ("if " * 100, " deep"),
        ("function f {\n" * 100, "a function cannot stand in a block"),
        ("menuentry f {\n" * 100, " deep"),
        ("a " * 60_000, "more than 50000 words"),
        ("x" * (2 << 20), "more than 1048576 bytes"),
        ("a\0b", "a NUL character"),
        ("a \\", "a \\ at the end"),
        ("set a=xxxxxxxx\n" + 'set a="$a$a"\n' * 900 + 'set default="$a"\nmenuentry a { x\n}', "depends"),
        ("source $prefix/grub.cfg\n" * 1000, "grub.cfg"),
        ("function f {\nf\n}\nf\n", "depends on"),
        pytest.param("function f {\nf; f\n}\nf\n", "is not followed", marks=pytest.mark.slow),
        pytest.param("if a; then set b=1; fi\n" * 8_000, "is not followed", marks=pytest.mark.slow),
        pytest.param("if [ -f /x ]; then a; fi\n" * 6_000, "is not followed", marks=pytest.mark.slow),
        ("if [ 1 -a " + "1 -a " * 10_000 + "]; then a; fi\n", "there is no entry"),
    ],
    ids=range(22),
)  # fmt: skip
def test_scripts_that_are_refused(script: str, message: str) -> None:
    watch = Stopwatch()
    told = refusal(root(script))
    assert message in told
    assert told.isprintable() or told.count("\n") == 1
    assert watch.seconds() < 2


@given(st.text("menutry{}[]=$\"'\\\n;#if thenlsaxk/ >0", max_size=300))
def test_any_script_is_read_or_refused(script: str) -> None:
    chosen = f"set default={script}\nmenuentry a {{ linux /k\n}}"
    for text in (script, f"menuentry a {{\n{script}\n}}\n", chosen):
        for wanted in (None, "a", script):
            try:
                bootentries.of_grub(root(text), wanted)
            except PykexecError as error:
                assert error.what.isprintable()  # noqa: PT017


NAMES = ("a", "b", "c")
CONDITIONS = (
    "true", "false", "loadfont 0", "loadfont 1", "loadfont 2", "[ $x = 1 ]", '[ "$y" ]', "f",
)  # fmt: skip
LINES = st.one_of(
    st.sampled_from(
        [
            *("set x=1", "set x=2", "set y=$x", "set default=0", "set default=1", "set default=a"),
            *("set default=b>0", "export x", "export y", "f", "unset x", "set default=$y", "load_env"),
        ]
    ),
    st.builds("linux /k{}".format, st.sampled_from(["1", "2", "$x", "$y", "1 $x", "1 $y"])),
)
BLOCKS = st.recursive(
    LINES,
    lambda inner: st.one_of(
        st.builds("{}\n{}".format, inner, inner),
        st.builds("if {}; then\n{}\nelse\n{}\nfi".format, st.sampled_from(CONDITIONS), inner, inner),
        st.builds("if {}; then\n{}\nelif {}; then\n{}\nfi".format, st.sampled_from(CONDITIONS), inner,
                  st.sampled_from(CONDITIONS), inner),
        st.builds("menuentry {} {{\n{}\nlinux /k1\n}}".format, st.sampled_from(NAMES), inner),
        st.builds("menuentry {} {{\n{}\n}}".format, st.sampled_from(NAMES), inner),
        st.builds("submenu {} {{\n{}\n}}".format, st.sampled_from(NAMES), inner),
        st.builds("function f {{\n{}\n}}".format, inner),
    ),
    max_leaves=12,
)  # fmt: skip


def outcome(script: str) -> tuple[str, str, str] | None:
    """What is started; None where that is refused."""
    files = {
        "boot/grub/grub.cfg": script,
        "boot/grub/grubenv": "y=1\n",
        **dict.fromkeys(("k", "k1", "k2"), "x"),
    }
    try:
        found = bootentries.of_grub(Memory(files))
    except UsageError:
        return None
    assert found is not None
    return found.id, found.kernel, found.options


@hypothesis.settings(deadline=None, max_examples=examples(150))
@given(BLOCKS.map("{}\nmenuentry z {{\nlinux /k1 $y\n}}".format))
def test_whatever_only_grub_knows_the_kernel_is_the_same(script: str) -> None:
    """Each condition that only GRUB knows is tried both ways: if the answer depends on it, there is none."""
    found = outcome(script)
    if found is None:
        return
    for ways in itertools.product(("true", "false"), repeat=3):
        known = re.sub(r"loadfont (\d)", lambda name, ways=ways: ways[int(name[1])], script)  # type: ignore[misc]
        assert outcome(known) == found


@pytest.mark.programs
@hypothesis.settings(deadline=None, max_examples=examples(60))
@given(st.one_of(BLOCKS, st.text("ab{}=$\"'\\\n;# ", max_size=30)))
@hypothesis.example(DEBIAN)
def test_what_is_understood_is_what_grub_understands(script: str) -> None:
    try:
        grubscript.parse(script, "file")
    except UsageError:
        return
    assert grub.is_script(script)

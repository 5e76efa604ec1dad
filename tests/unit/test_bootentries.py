"""Boot entries below a made-up root; tests/differential asks bootctl about the same ones."""

import io
import itertools
from pathlib import Path
from typing import IO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec import bootentries
from pykexec.bootentries import BootEntry, RunningKernel
from pykexec.errors import MachineError, UsageError
from pykexec.machine.root import Folder, Root
from pykexec.versions import of_release, version_key
from tests.support.bzimage import FakeBzImage
from tests.support.pe import portable_executable

LOADER = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"


class Disk:
    """A root that is filled file by file."""

    def __init__(self, top: Path) -> None:
        self.top = top

    def write(self, path: str, content: str | bytes = b"") -> None:
        full = self.top / path
        full.parent.mkdir(parents=True, exist_ok=True)
        full.write_bytes(content.encode() if isinstance(content, str) else content)

    def entry(self, name: str, content: str, partition: str = "boot") -> None:
        self.write(f"{partition}/loader/entries/{name}.conf", content)

    def variable(self, name: str, value: str) -> None:
        self.write(
            f"sys/firmware/efi/efivars/{name}-{LOADER}", b"\6\0\0\0" + f"{value}\0".encode("utf-16-le")
        )

    def entries(self, machine: str = "x86_64") -> list[BootEntry]:
        return bootentries.entries(Folder(self.top), machine)

    def default(self) -> str:
        return bootentries.default(Folder(self.top), self.entries()).id

    def running(self, command_line: str = "", release: str = "6.1.0") -> RunningKernel:
        return bootentries.running_kernel(Folder(self.top), release, command_line)


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


def image(title: str = "Debian", version: str = "6.1.0", *, machine: int = 0x8664) -> bytes:
    release = f'ID=debian\nPRETTY_NAME="{title}"\nVERSION_ID=12\n'.encode()
    parts = [
        (".osrel", release),
        (".uname", version.encode()),
        (".cmdline", b"quiet"),
        (".linux", b"kernel"),
    ]
    return portable_executable(parts, machine=machine)


def test_every_field(disk: Disk) -> None:
    disk.entry(
        "debian-6.1",
        "# comment\ntitle\tDebian GNU/Linux 12\nversion 6.1.0\nmachine-id abc\nsort-key debian\n"
        "linux   /debian/6.1/linux\ninitrd /debian/6.1/microcode\ninitrd debian/6.1/initrd\n"
        "options root=/dev/sda1\noptions  quiet   splash \ndevicetree /board.dtb\n"
        "devicetree-overlay /one.dtbo /two.dtbo\narchitecture X64\nunknown key\n\n"
        "extra /a.cred\nextra /b.addon.efi\n",
        "efi",
    )
    assert disk.entries() == [
        BootEntry(
            id="debian-6.1",
            source="efi/loader/entries/debian-6.1.conf",
            kernel="efi/debian/6.1/linux",
            title="Debian GNU/Linux 12",
            version="6.1.0",
            machine_id="abc",
            sort_key="debian",
            initrds=("efi/debian/6.1/microcode", "efi/debian/6.1/initrd"),
            options="root=/dev/sda1 quiet   splash",
            device_tree="efi/board.dtb",
            overlays=("efi/one.dtbo", "efi/two.dtbo"),
            extras=("efi/a.cred", "efi/b.addon.efi"),
        )
    ]


@pytest.mark.parametrize(
    ("named", "there", "found"),
    [
        ("/vmlinuz", "boot/vmlinuz", "boot/vmlinuz"),
        ("/boot/vmlinuz", "boot/vmlinuz", "boot/vmlinuz"),
        ("/@/boot/vmlinuz", "boot/vmlinuz", "boot/vmlinuz"),
        ("/root/boot/vmlinuz", "boot/vmlinuz", "boot/vmlinuz"),
        ("\\EFI\\x\\linux", "boot/EFI/x/linux", "boot/EFI/x/linux"),
        ("/usr/lib/modules/6/vmlinuz", "usr/lib/modules/6/vmlinuz", "usr/lib/modules/6/vmlinuz"),
        ("/../../etc/passwd", "etc/passwd", "etc/passwd"),
        ("/missing", "boot/vmlinuz", "boot/missing"),
    ],
)
def test_paths_are_those_of_the_partition_or_of_grub(disk: Disk, named: str, there: str, found: str) -> None:
    disk.write(there)
    disk.entry("a", f"linux {named}\n")
    assert disk.entries()[0].kernel == found


def test_a_file_found_by_the_end_of_its_path_may_be_another(disk: Disk) -> None:
    """As GRUB's subvolumes need it; but a stale entry finds what is newer, for which its options are not."""
    disk.entry(
        "z-stale", "version 9\nlinux /0123/5.10/vmlinuz\ninitrd /0123/5.10/initrd\noptions root=old\n"
    )
    disk.write("vmlinuz")
    disk.write("boot/initrd")
    (found,) = disk.entries()
    assert (found.kernel, found.initrds) == ("vmlinuz", ("boot/initrd",))
    assert found.notes == (
        "it names /0123/5.10/vmlinuz, which is not there: took /vmlinuz",
        "it names /0123/5.10/initrd, which is not there: took /boot/initrd",
    )
    assert disk.default() == "z-stale", "there is no other"
    disk.entry("whole", "version 1\nlinux /own/vmlinuz\n")
    disk.write("boot/own/vmlinuz")
    assert [each.id for each in disk.entries()] == ["z-stale", "whole"]
    assert disk.default() == "whole"
    disk.write("boot/loader/loader.conf", "default z-*\n")
    assert disk.default() == "whole"
    assert disk.entries()[1].notes == ()


def test_a_subvolume_is_where_it_is_mounted(disk: Disk) -> None:
    """As openSUSE and Ubuntu name files on btrfs; the lines are those of proc_pid_mountinfo(5)."""
    disk.write(
        "proc/self/mountinfo",
        "29 1 0:26 /@/.snapshots/1 / rw,relatime shared:1 - btrfs /dev/vda2 rw\n"
        "40 29 0:26 /@boot /boot rw - btrfs /dev/vda2 rw\n"
        "41 29 0:26 /@home /home rw - btrfs /dev/vda2 rw\n",
    )
    disk.write("usr/vmlinuz")
    disk.write("boot/initrd")
    entry = "linux /@/.snapshots/1/usr/vmlinuz\ninitrd {}/initrd\n"
    disk.entry("a", entry.format("/@boot"))
    disk.entry("b", entry.format("/@home"))
    b, a = disk.entries()
    assert (a.kernel, a.initrds) == (b.kernel, b.initrds) == ("usr/vmlinuz", ("boot/initrd",))
    assert a.notes == ()
    assert b.notes == ("it names /@home/initrd, which is not there: took /boot/initrd",)


def test_entries_for_others_are_left_out(disk: Disk) -> None:
    disk.entry("arm", "linux /a\narchitecture aa64\n")
    disk.entry("windows", "efi /EFI/Microsoft/bootmgfw.efi\n")
    disk.entry("nothing", "title x\n")
    disk.write("boot/EFI/Linux/arm.efi", image(machine=0xAA64))
    disk.write("boot/EFI/Linux/shell.efi", portable_executable([(".text", b"x")]))
    disk.write("boot/EFI/Linux/empty.efi", b"")
    disk.write("boot/EFI/Linux/text.txt", b"")
    assert disk.entries() == []
    assert [each.id for each in disk.entries("aarch64")] == ["arm", "arm"]


@pytest.mark.parametrize(
    ("machine", "efi", "number"),
    [("armv6l", "arm", 0x1C2), ("i586", "ia32", 0x14C), ("riscv64", "riscv64", 0x5064)],
)
def test_entries_of_every_architecture_that_efi_has(disk: Disk, machine: str, efi: str, number: int) -> None:
    """UEFI 2.10, 3.5.1.1, and Microsoft's PE format, "Machine types"."""
    disk.entry("entry", f"linux /a\narchitecture {efi}\n")
    disk.write("boot/EFI/Linux/image.efi", image(machine=number))
    assert [each.id for each in disk.entries(machine)] == ["image", "entry"]
    assert disk.entries("ppc64le") == []


def test_images(disk: Disk) -> None:
    disk.write("efi/EFI/Linux/debian-6.1.0.efi", image())
    disk.entry("by-entry", "efi /EFI/Linux/debian-6.1.0.efi\noptions more\n", "efi")
    disk.entry("new-key", "uki /EFI/Linux/debian-6.1.0.efi\nprofile reset\n", "efi")
    path = "efi/EFI/Linux/debian-6.1.0.efi"
    found = {each.id: each for each in disk.entries()}
    assert found["debian-6.1.0"] == BootEntry(
        "debian-6.1.0", path, path, title="Debian", version="6.1.0", sort_key="debian", is_image=True
    )
    assert (found["by-entry"].kernel, found["by-entry"].options) == (path, "more")
    assert (found["new-key"].kernel, found["new-key"].profile) == (path, "reset")


def test_one_partition_in_two_places_counts_once(disk: Disk) -> None:
    disk.entry("a", "linux /first\n", "boot")
    disk.entry("a", "linux /second\n", "boot/efi")
    assert [each.kernel for each in disk.entries()] == ["boot/first"]


KERNELOPTS = """title Fedora
linux /vmlinuz
initrd /initramfs.img $tuned_initrd
options $kernelopts ${tuned_params} ro
"""


def grubenv(**values: str) -> str:
    lines = "".join(f"{name}={value}\n" for name, value in values.items())
    return ("# GRUB Environment Block\n" + lines).ljust(1024, "#")


@pytest.mark.parametrize("path", ["boot/grub2/grubenv", "boot/grub/grubenv", "boot/efi/EFI/fedora/grubenv"])
def test_grub_s_variables(disk: Disk, path: str) -> None:
    disk.entry("fedora", KERNELOPTS)
    disk.write("boot/grub2/grub.cfg", 'x\n  set kernelopts="root=old"\nset tuned_params="isolcpus=1"\n')
    disk.write(path, grubenv(kernelopts="root=UUID=1 quiet a=\\\\b"))
    (found,) = disk.entries()
    assert found.options == "root=UUID=1 quiet a=\\b isolcpus=1 ro"
    assert found.initrds == ("boot/initramfs.img",)
    assert found.notes == (
        "$tuned_initrd has no value: neither GRUB's environment block nor its configuration sets it",
    )


def test_variables_without_a_value(disk: Disk) -> None:
    disk.entry("fedora", KERNELOPTS)
    (found,) = disk.entries()
    assert (found.options, found.notes) == ("$kernelopts ${tuned_params} ro", ()), "no GRUB, no variables"
    disk.write("boot/grub2/grub.cfg")
    found = disk.entries()[0]
    assert found.options == "ro"
    assert [note.split()[0] for note in found.notes] == ["$kernelopts", "$tuned_initrd", "$tuned_params"]


def test_order(disk: Disk) -> None:
    """ "Sorting": bad ones last; sort keys before none; then the newest version."""
    key = "linux /v\nsort-key {}\nmachine-id {}\nversion {}\n"
    disk.entry("z-bad+0-3", key.format("a", "1", "9"))
    disk.entry("k1", key.format("b", "1", "6.1.9"))
    disk.entry("k2", key.format("b", "1", "6.1.10"))
    disk.entry("k3", key.format("b", "0", "5"))
    disk.entry("k4+2-1", key.format("a", "9", "1"))
    disk.entry("x-6.9", "linux /v\n")
    disk.entry("x-6.10", "linux /v\n")
    found = disk.entries()
    assert [each.id for each in found] == ["k4", "k3", "k2", "k1", "x-6.10", "x-6.9", "z-bad"]
    assert [each.tries_left for each in found] == [2, None, None, None, None, None, 0]
    assert found[0].source == "boot/loader/entries/k4+2-1.conf"


# The order in the comment of systemd's strverscmp_improved().
VERSIONS = (
    "~1", "", "ab", "abb", "abc", "0001", "002", "12", "122", "122.9", "123~rc1", "123", "123-a", "123-a.1",
    "123-a1", "123-a1.1", "123-3", "123-3.1", "123^patch1", "123^1", "123.a-1", "123.1-1", "123a-1", "124",
)  # fmt: skip


def test_versions() -> None:
    for earlier, later in itertools.combinations(VERSIONS, 2):
        assert version_key(earlier) < version_key(later), (earlier, later)
    for one, other in [("1_", "1"), ("+1", "1"), ("11ä", "11ö"), ("1_2", "1+2"), ("007", "7")]:
        assert version_key(one) == version_key(other)
    assert version_key("9" * 5000) > version_key("1")


@given(st.text("019aZ~^.-_+", max_size=12), st.text("019aZ~^.-_+", max_size=12))
def test_any_versions_can_be_compared(one: str, other: str) -> None:
    assert (version_key(one) <= version_key(other)) or (version_key(other) <= version_key(one))


def three(disk: Disk) -> None:
    for version in ("5.10", "6.1", "6.2"):
        disk.entry(f"id-{version}", f"title Linux {version}\nversion {version}\nlinux /v\n")


def test_the_newest_is_the_default(disk: Disk) -> None:
    three(disk)
    assert disk.default() == "id-6.2"


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("id-6.1.conf", "id-6.1"),
        ("id-6.1", "id-6.1"),
        ("id-5*", "id-5.10"),
        ("ID-5.10.CONF", "id-5.10"),
        ("windows*", "id-6.2"),
        ("@saved", "id-6.2"),
        ("[", "id-6.2"),
    ],
)
def test_loader_conf(disk: Disk, pattern: str, expected: str) -> None:
    three(disk)
    disk.write("boot/loader/loader.conf", f"timeout 3\n#default no\ndefault  {pattern}\n")
    assert disk.default() == expected


@pytest.mark.parametrize(
    ("saved", "expected"),
    [
        ("id-6.1", "id-6.1"),
        ("Linux 5.10", "id-5.10"),
        ("2", "id-5.10"),
        ("9", "id-6.2"),
        ("9" * 50, "id-6.2"),
    ],
)
def test_grub_s_saved_entry(disk: Disk, saved: str, expected: str) -> None:
    three(disk)
    disk.write("boot/grub2/grubenv", grubenv(saved_entry=saved))
    assert disk.default() == expected


def test_what_decides(disk: Disk) -> None:
    three(disk)
    disk.write("boot/grub2/grubenv", grubenv(saved_entry="id-5.10"))
    assert disk.default() == "id-5.10"
    disk.write("boot/loader/loader.conf", "default @saved\n")
    disk.variable("LoaderEntryLastBooted", "id-6.1.conf")
    assert disk.default() == "id-6.1"
    disk.variable("LoaderEntryDefault", "id-6.2.conf")
    assert disk.default() == "id-6.2"
    disk.variable("LoaderEntryPreferred", "id-6.1.conf")
    assert disk.default() == "id-6.1"
    disk.variable("LoaderEntryOneShot", "id-5.10.conf")
    assert disk.default() == "id-5.10"


def test_saved_is_what_was_booted_last_wherever_it_says_so(disk: Disk) -> None:
    three(disk)
    disk.variable("LoaderEntryLastBooted", "id-6.1.conf")
    disk.variable("LoaderEntryDefault", "@saved")
    assert disk.default() == "id-6.1"


def test_a_preferred_entry_must_not_have_failed(disk: Disk) -> None:
    """loader.conf(5): "preferred" heeds boot counting, "default" does not."""
    disk.entry("old", "linux /v\n")
    disk.entry("new+0-3", "linux /v\n")
    disk.write("boot/loader/loader.conf", "preferred new*\n")
    assert disk.default() == "old"
    disk.write("boot/loader/loader.conf", "default new*\n")
    assert disk.default() == "new"


def test_a_profile_may_be_the_default(disk: Disk) -> None:
    """systemd-boot calls it IMAGE.efi@NUMBER."""
    disk.write("efi/EFI/Linux/b.efi", image())
    disk.write("efi/EFI/Linux/a.efi", image(version="9"))
    disk.variable("LoaderEntryDefault", "b.efi@2")
    found = bootentries.default(Folder(disk.top), disk.entries())
    assert (found.id, found.profile) == ("b", "2")


def test_systemd_boot_does_not_start_what_is_not_there(disk: Disk) -> None:
    three(disk)
    disk.entry("other", "linux /there\n")
    disk.write("boot/there")
    disk.write("boot/loader/loader.conf", "default id-6*\n")
    assert disk.default() == "other"


def test_no_entries(disk: Disk) -> None:
    with pytest.raises(UsageError, match="no boot entries") as error:
        disk.default()
    assert "/boot/efi/EFI/Linux" in str(error.value.hint)
    with pytest.raises(UsageError, match="no boot entry x"):
        bootentries.find([], "x")


def test_find(disk: Disk) -> None:
    three(disk)
    disk.write("efi/EFI/Linux/id-6.1.efi", image("Image", "6.1"))
    known = disk.entries()
    assert bootentries.find(known, "id-5.10").version == "5.10"
    assert bootentries.find(known, "id-6.1.efi").is_image
    assert not bootentries.find(known, "id-6.1.conf").is_image
    assert bootentries.find(known, "Linux 6.2").id == "id-6.2"
    assert bootentries.find(known, "6.2").id == "id-6.2"
    assert bootentries.find(known, "id-6.1.efi@reset").profile == "reset"
    disk.entry("tried+2-1", "linux /v\n")
    for name in ("tried", "tried.conf", "tried+2-1", "tried+2-1.conf"):
        assert bootentries.find(disk.entries(), name).id == "tried"
    with pytest.raises(UsageError, match=r"2 boot entries are called 6\.1"):
        bootentries.find(known, "6.1")
    with pytest.raises(UsageError, match=r"no boot entry id-6\.3") as error:
        bootentries.find(known, "id-6.3")
    assert "id-6.2" in str(error.value.hint)


def test_hidden_files_are_no_entries(disk: Disk) -> None:
    """Nor is a file that is all suffix what is found by a name that nothing has."""
    disk.entry("", "linux /v\n")
    disk.entry(".old", "linux /v\n")
    disk.write("boot/EFI/Linux/.efi", image())
    disk.entry("+3", "linux /v\n")  # all boot counter
    assert [each.source for each in disk.entries()] == ["boot/loader/entries/+3.conf"]
    with pytest.raises(UsageError, match="no boot entry nothing"):
        bootentries.find(disk.entries(), "nothing")


def test_addons(disk: Disk) -> None:
    for path in ("loader/addons/b.addon.efi", "loader/addons/a.addon.efi", "loader/addons/c.efi"):
        disk.write(f"boot/efi/{path}")
    disk.write("boot/efi/EFI/Linux/x.efi.extra.d/a.addon.efi")
    assert bootentries.addons(Folder(disk.top), "boot/efi/EFI/Linux/x.efi") == [
        "boot/efi/loader/addons/a.addon.efi",
        "boot/efi/loader/addons/b.addon.efi",
        "boot/efi/EFI/Linux/x.efi.extra.d/a.addon.efi",
    ]
    assert bootentries.addons(Folder(disk.top), "tmp/x.efi") == []


@pytest.mark.parametrize(
    ("kernel", "initrd"),
    [
        ("vmlinuz-6.1.0", "initrd.img-6.1.0"),
        ("vmlinuz-6.1.0", "initramfs-6.1.0.img"),
        ("vmlinuz-6.1.0", "initrd-6.1.0"),
        ("vmlinuz-linux", "initramfs-linux.img"),
        ("vmlinuz-lts", "initramfs-lts"),
        ("ostree/x-abc/vmlinuz-6.1.0", "ostree/x-abc/initramfs-6.1.0.img"),
        ("token/6.1.0/linux", "token/6.1.0/initrd"),
    ],
)
@pytest.mark.parametrize(
    "line", ["BOOT_IMAGE=/boot/{} quiet", "BOOT_IMAGE=(hd0,gpt2)/{}", "x BOOT_IMAGE=/@/boot/{}"]
)
def test_running_kernel_by_boot_image(disk: Disk, line: str, kernel: str, initrd: str) -> None:
    """As Debian, Fedora, SUSE, Arch, Alpine, OSTree and kernel-install name them."""
    for name in (kernel, initrd, "initrd.img-9", "vmlinuz-9"):
        disk.write(f"boot/{name}")
    found = disk.running(line.format(kernel))
    assert (found.kernel, found.initrds) == (f"boot/{kernel}", (f"boot/{initrd}",))
    assert found.why.startswith("BOOT_IMAGE=")


@pytest.mark.parametrize(
    ("kernel", "initrds"),
    [
        ("boot/vmlinuz-6.1.0", ["boot/initrd.img-6.1.0"]),
        ("usr/lib/modules/6.1.0/vmlinuz", ["usr/lib/modules/6.1.0/initrd"]),
        ("lib/modules/6.1.0/vmlinuz", ["boot/initramfs-6.1.0.img"]),
        ("boot/efi/cafe/6.1.0/linux", ["boot/efi/cafe/6.1.0/initrd"]),
        ("boot/vmlinuz-6.1.0", []),
    ],
)
def test_running_kernel_by_release(disk: Disk, kernel: str, initrds: list[str]) -> None:
    disk.write("etc/machine-id", "cafe\n")
    for name in (kernel, *initrds):
        disk.write(name)
    found = disk.running("quiet")
    assert (found.kernel, list(found.initrds)) == (kernel, initrds)
    assert found.why == "the running kernel's release, 6.1.0"


def versioned(release: str) -> bytes:
    """A bzImage with a version string, at the place that boot.rst's kernel_version names."""
    data = bytearray(FakeBzImage().build())
    text = f"{release} (someone@host) #1 SMP".encode()
    data[0x20E:0x210] = (0x400).to_bytes(2, "little")
    data[0x600 : 0x600 + len(text)] = text
    return bytes(data)


def test_a_replaced_image_is_not_the_running_kernel(disk: Disk) -> None:
    disk.write("boot/vmlinuz", versioned("6.2.0"))
    disk.write("usr/lib/modules/6.1.0/vmlinuz", versioned("6.1.0"))
    assert disk.running("BOOT_IMAGE=/boot/vmlinuz").kernel == "usr/lib/modules/6.1.0/vmlinuz"
    disk.write("boot/vmlinuz", versioned("6.1.0"))
    assert disk.running("BOOT_IMAGE=/boot/vmlinuz").kernel == "boot/vmlinuz"


def test_running_kernel_from_an_image(disk: Disk) -> None:
    disk.write("efi/EFI/Linux/debian.efi", image())
    disk.write("boot/initrd.img-6.1.0")
    disk.variable("StubImageIdentifier", "\\EFI\\Linux\\debian.efi")
    found = disk.running()
    assert (found.kernel, found.initrds) == ("efi/EFI/Linux/debian.efi", ())


def test_initrds_on_the_command_line(disk: Disk) -> None:
    """The EFI stub's; initrd=ADDRESS,SIZE is another thing."""
    for name in ("boot/vmlinuz-6.1.0", "efi/cafe/ucode.img", "efi/cafe/initrd", "boot/initrd.img-6.1.0"):
        disk.write(name)
    found = disk.running("initrd=\\cafe\\ucode.img initrd=\\cafe\\initrd quiet")
    assert found.initrds == ("efi/cafe/ucode.img", "efi/cafe/initrd")
    assert disk.running("initrd=0x1000,4096").initrds == ("boot/initrd.img-6.1.0",)


def test_no_running_kernel(disk: Disk) -> None:
    with pytest.raises(
        MachineError, match=r"no image of the running kernel, 6\.1\.0; looked for /boot/vmlinuz-6"
    ):
        disk.running("BOOT_IMAGE=/vmlinuz-6.1.0")


def test_the_entry_that_systemd_boot_started(disk: Disk) -> None:
    disk.entry("arch", "linux /vmlinuz-linux\ninitrd /ucode.img\ninitrd /initramfs-linux.img\n")
    disk.write("boot/vmlinuz-linux", versioned("6.1.0"))
    for name in ("ucode.img", "initramfs-linux.img"):
        disk.write(f"boot/{name}")
    root = Folder(disk.top)
    assert bootentries.running(root, disk.entries(), "6.1.0") is None
    disk.variable("LoaderEntrySelected", "arch.conf")
    found = bootentries.running(root, disk.entries(), "6.1.0")
    assert found is not None
    assert found.initrds == ("boot/ucode.img", "boot/initramfs-linux.img")
    assert bootentries.running(root, disk.entries(), "6.2.0") is None, "replaced, or another was kexec'ed"
    disk.write("efi/EFI/Linux/b.efi", image(version="6.2.0"))
    disk.variable("LoaderEntrySelected", "b.efi")
    assert bootentries.running(root, disk.entries(), "6.1.0") is None
    assert bootentries.running(root, disk.entries(), "6.2.0") is not None


class Memory(Root):
    """A root whose files are in memory."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self._files = files

    def open(self, path: str) -> IO[bytes] | None:
        assert "\0" not in path, "which the file system would refuse"
        assert all(len(name.encode("utf-8", "surrogateescape")) <= 255 for name in path.split("/"))
        return io.BytesIO(self._files[path]) if path in self._files else None

    def names(self, path: str) -> list[str]:
        below = [name.removeprefix(f"{path}/") for name in self._files if name.startswith(f"{path}/")]
        return sorted({name.partition("/")[0] for name in below})


@given(
    st.text("linuxefid \t#$/\\{}@*[]=\n\0+ö", max_size=200),
    st.text("default saved_entry=kernelopts$@*[]\n0", max_size=100),
    st.binary(max_size=100),
)
def test_any_files_are_read_or_refused(entry: str, settings: str, binary: bytes) -> None:
    root = Memory(
        {
            "boot/loader/entries/a.conf": f"linux /vmlinuz\n{entry}".encode(),
            "boot/loader/entries/b.conf": entry.encode(),
            "boot/loader/entries/c.conf": binary,
            "boot/loader/entries/d.conf": b"linux /a\0" + binary,
            "boot/loader/loader.conf": f"default {settings}".encode(),
            "boot/grub2/grubenv": settings.encode(),
            "boot/EFI/Linux/x.efi": b"MZ" + binary,
            f"sys/firmware/efi/efivars/LoaderEntryDefault-{LOADER}": binary,
            "boot/vmlinuz-6.1.0": binary,
        }
    )
    known = bootentries.entries(root, "x86_64")
    bootentries.default(root, known)
    assert bootentries.running_kernel(root, "6.1.0", f"BOOT_IMAGE=/vmlinuz-6.1.0 {entry}").kernel
    with pytest.raises(UsageError):
        bootentries.find(known, f"{settings}?".replace("@", ""))


def test_an_entry_may_be_absurdly_long(disk: Disk) -> None:
    disk.entry("a", "linux /v\noptions " + "x" * (10 << 20))
    disk.entry("b", "linux /v\noptions " + "$a" * 20000)
    disk.entry("c", "linux " + "/a" * 30000)
    disk.entry("d", "linux /v\ninitrd " + "a" * 3000)
    disk.entry("e", "linux /" + "ö" * 200)
    assert len(disk.entries()) == 5


@pytest.mark.parametrize(
    ("release", "version"),
    [
        ("6.1.0-50-amd64", (6, 1)),
        ("5.15", (5, 15)),
        ("6.18-rc3+", (6, 18)),
        ("", None),
        ("6", None),
        ("v6.1", None),
        ("12345.6", None),
        ("\u0666.\u0661", None),
    ],
)
def test_what_a_release_says(release: str, version: tuple[int, int] | None) -> None:
    assert of_release(release) == version

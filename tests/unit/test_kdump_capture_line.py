"""The capture kernel's command line as each distribution makes it; expectations written out by hand."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec.errors import UsageError
from pykexec.kdump.config import debian, fedora, suse
from pykexec.kdump.config.capture_line import Facts, build, default_append, for_own_image, read_facts
from pykexec.kdump.config.settings import CommandLinePolicy
from pykexec.machine import Machine
from tests.support.machines import write

RUNNING = (
    "BOOT_IMAGE=(hd0,msdos1)/vmlinuz-6.1 root=/dev/mapper/vg-root ro crashkernel=1G-4G:192M,4G-:256M"
    " rd.lvm.lv=vg/root rhgb quiet hugepagesz=1G hugepages=4 console=ttyS0,115200 panic_on_warn"
)
SYSCONFIG = (
    'KDUMP_COMMANDLINE_REMOVE="hugepages hugepagesz slub_debug quiet log_buf_len swiotlb cma hugetlb_cma"\n'
    'KDUMP_COMMANDLINE_APPEND="irqpoll nr_cpus=1 reset_devices"\n'
)


def facts(running: str = RUNNING, arch: str = "x86_64", **more: object) -> Facts:
    return Facts(running=running, arch=arch, **more)  # type: ignore[arg-type]


def fedora_line(given: Facts, sysconfig: str | None = SYSCONFIG) -> str:
    return build(fedora.read("", sysconfig), given).text


def test_fedora() -> None:
    assert fedora_line(facts()) == (
        "BOOT_IMAGE=(hd0,msdos1)/vmlinuz-6.1 ro rhgb console=ttyS0,115200 irqpoll nr_cpus=1 reset_devices"
    )


@pytest.mark.parametrize(
    "word",
    [
        "crashkernel=256M",
        "panic_on_warn",
        "panic_on_warn=1",
        "panic-on-warn",
        "root=UUID=1-2",
        "rd.lvm.lv=a/b",
        "rd.luks.uuid=x",
        "rd.dm.uuid=x",
        "rd.md.uuid=x",
        "fcoe=x",
        "netroot=iscsi:x",
        "rd.iscsi.initiator=x",
        "iscsi_initiator=x",
        'root="LABEL=a b"',
    ],
)
def test_fedora_always_takes_away(word: str) -> None:
    assert fedora_line(facts(f"a {word} b"), "KDUMP_COMMANDLINE_REMOVE=\n") == "a b"


@pytest.mark.parametrize("word", ["rootflags=x", "xroot=y", "rd.lvm.lvx=1", 'x="root=/dev/a quiet"', "foo="])
def test_names_are_compared_whole(word: str) -> None:
    assert fedora_line(facts(f"a {word} b"), "KDUMP_COMMANDLINE_REMOVE=quiet\n") == f"a {word} b"


_THREADS = "core_collector makedumpfile -l -d 31 --num-threads 3\n"


@pytest.mark.parametrize(
    ("appended", "note"),
    [("nr_cpus=1", True), ("maxcpus=0 nr_cpus=8", True), ("nr_cpus=1 nr_cpus=4", False), ("quiet", False)],
)
def test_threads_want_cpus(appended: str, note: bool) -> None:
    """makedumpfile(8): one thread more than --num-threads writes. Without a limit there are all CPUs."""
    line = build(fedora.read(_THREADS, f"KDUMP_COMMANDLINE_APPEND='{appended}'\n"), facts("ro"))
    assert line.text == f"ro {appended}"
    assert any("--num-threads 3" in each and each.endswith("nr_cpus=4") for each in line.notes) == note


@pytest.mark.parametrize("arch", ["x86_64", "arm64", "s390x", "ppc64le", "riscv64"])
def test_threads_have_cpus_where_the_line_is_the_packages_own(arch: str) -> None:
    with_threads = build(fedora.read(_THREADS, None), facts("ro", arch))
    without = build(fedora.read("", None), facts("ro", arch)).text.split()
    assert with_threads.notes == ()
    more = [each for each in with_threads.text.split() if each not in without]
    assert more in ([["nr_cpus=4"], ["maxcpus=4"]] if arch != "ppc64le" else [[]])


def test_debian_names_the_boot_cpu_where_others_run() -> None:
    """x86: a capture kernel that starts the boot CPU from another one resets the machine."""
    boot_cpu = facts("ro", boot_cpu="disable_cpu_apicid=0")
    one = build(debian.read("USE_KDUMP=1\n"), boot_cpu).text
    more = build(debian.read("USE_KDUMP=1\nKDUMP_CMDLINE_APPEND='nr_cpus=3'\n"), boot_cpu).text
    assert "disable_cpu_apicid" not in one
    assert more == "ro nr_cpus=3 disable_cpu_apicid=0"


def test_fedora_computes_the_rest() -> None:
    line = fedora_line(
        facts("ro", boot_cpu="disable_cpu_apicid=0", watchdog_drivers=("iTCO_wdt", "hpwdt"), uki=True),
        "KDUMP_COMMANDLINE_APPEND=nr_cpus=1\n",
    )
    assert line == (
        "ro nr_cpus=1 disable_cpu_apicid=0 iTCO_wdt.pretimeout=0 hpwdt.pretimeout=0 hpwdt.kdumptimeout=0"
        " rd.systemd.gpt_auto=no"
    )


def test_graviton_goes_without_irqpoll() -> None:
    assert (
        fedora_line(facts("ro irqpoll", "arm64", fedora_removes=("irqpoll",)))
        == "ro nr_cpus=1 reset_devices"
    )


def test_fedora_begins_with_what_is_given_and_takes_away_from_that_too() -> None:
    sysconfig = 'KDUMP_COMMANDLINE="ro root=/dev/x quiet"\nKDUMP_COMMANDLINE_REMOVE=quiet\n'
    assert fedora_line(facts(), sysconfig) == "ro"


@pytest.mark.parametrize("arch", ["x86_64", "arm64", "ppc64le", "s390x", "i386", "riscv64", "of the future"])
def test_without_sysconfig_the_architectures_default(arch: str) -> None:
    line = fedora_line(facts("ro crashkernel=1M", arch), None)
    assert line == f"ro {default_append(arch)}"
    words = line.split()
    assert {"novmcoredd", "hugetlb_cma=0", "kfence.sample_interval=0", "initramfs_options=size=90%"} <= {
        *words
    }
    assert ("nokaslr" in words) == (arch == "x86_64")
    assert ("swiotlb=noforce" in words) == (arch == "arm64")
    assert any(word.startswith(("nr_cpus=", "maxcpus=")) for word in words)


def test_debian() -> None:
    line = build(debian.read("USE_KDUMP=1\n"), facts()).text
    assert line == (
        "BOOT_IMAGE=(hd0,msdos1)/vmlinuz-6.1 root=/dev/mapper/vg-root ro rd.lvm.lv=vg/root rhgb quiet"
        " console=ttyS0,115200 panic_on_warn reset_devices systemd.unit=kdump-tools-dump.service nr_cpus=1"
        " irqpoll usbcore.nousb"
    )


def test_debian_takes_nothing_from_a_line_that_was_given() -> None:
    settings = debian.read("KDUMP_CMDLINE='a crashkernel=1M'\nKDUMP_CMDLINE_APPEND=b\n")
    assert build(settings, facts()).text == "a crashkernel=1M b"


def test_suse() -> None:
    line = build(
        suse.read("KDUMP_CPUS=1\n"),
        facts(RUNNING + " notsc console=hvc0 mem=2G", boot_cpu="disable_cpu_apicid=7"),
    ).text
    assert line == (
        "ro rd.lvm.lv=vg/root rhgb quiet hugepagesz=1G console=ttyS0,115200 panic_on_warn"
        " sysrq=yes reset_devices acpi_no_memhotplug cgroup_disable=memory nokaslr numa=off irqpoll"
        " nr_cpus=1 root=kdump rootflags=bind rd.udev.children-max=8 disable_cpu_apicid=7 panic=1"
    )


def test_suse_variations() -> None:
    assert build(suse.read("KDUMP_COMMANDLINE='a root=/x'\n"), facts()).text == "a root=/x panic=1"
    assert (
        build(suse.read("KDUMP_COMMANDLINE=a\nKDUMP_COMMANDLINE_APPEND=panic=5\n"), facts()).text
        == "a panic=5"
    )
    all_cpus = build(suse.read("KDUMP_CPUS=0\n"), facts("ro", "s390x")).text.split()
    assert not any(word.startswith("nr_cpus") for word in all_cpus)
    assert "zfcp.allow_lun_scan=0" in all_cpus
    assert "nr_cpus=32" in build(suse.read(""), facts("ro")).text


def notes(running: str, remove: str) -> tuple[str, ...]:
    return build(
        fedora.read("", f"KDUMP_COMMANDLINE_REMOVE='{remove}'\nKDUMP_COMMANDLINE_APPEND=\n"), facts(running)
    ).notes


def test_what_is_to_go_is_known_by_its_name() -> None:
    """_cmdline_parse() of kdump-utils' kdump-lib.sh splits what is to go, too; names are compared."""
    remove = (
        "quiet ip=dhcp rootflags=prjquota rootflags=nofail udev.children-max=2 ignition.platform.id=metal"
    )
    running = "console=ttyS0 ip=dhcp rootflags=prjquota ignition.platform.id=metal quiet"
    sysconfig = f'KDUMP_COMMANDLINE_REMOVE="{remove}"\nKDUMP_COMMANDLINE_APPEND="rootflags=nofail"\n'
    line = build(fedora.read("", sysconfig), facts(running))
    assert line.text == "console=ttyS0 rootflags=nofail"
    assert line.notes == (
        "KDUMP_COMMANDLINE_REMOVE: 'udev.children-max=2' takes nothing away: the command line has no"
        " 'udev.children-max'",
    )


def test_words_that_take_away_nothing_or_too_much() -> None:
    assert notes("ro quiet", "hugepages slub_debug quiet swiotlb") == (), "as it is shipped"
    (told,) = notes("ro quite", "quiet splash")
    assert "'splash' takes nothing away" in told
    (told,) = notes("ro splash", "splash=")
    assert "'splash=' takes nothing away: write 'splash', without =" in told
    (told,) = notes("console=tty0 console=ttyS1", "console=ttyS1")
    assert "'console=ttyS1' takes 'console=tty0' away, too" in told
    assert notes("console=tty0 a_b=1", "console=ttyS1 console a-b") == ()
    assert all(each.isprintable() and len(each) < 300 for each in notes("ro", "x" * 500 + " é"))
    assert len(notes("ro", " ".join(f"x{number}" for number in range(100)))) < 20


PARAMETERS = ["ro", "quiet", "root=/dev/a", "a=b", 'x="p q"', "crashkernel=1M,high", "hugepages=3", "é"]


@given(st.lists(st.sampled_from(PARAMETERS)), st.booleans())
def test_what_is_kept_keeps_its_order(words: list[str], shipped: bool) -> None:
    sysconfig = SYSCONFIG if shipped else "KDUMP_COMMANDLINE_REMOVE=\nKDUMP_COMMANDLINE_APPEND=\n"
    line = build(fedora.read("", sysconfig), facts(" ".join(words)))
    gone = {"root=/dev/a", "crashkernel=1M,high", *(("quiet", "hugepages=3") if shipped else ())}
    added = "irqpoll nr_cpus=1 reset_devices" if shipped else ""
    assert line.text == " ".join([*(word for word in words if word not in gone), *added.split()])


def test_nul_is_refused() -> None:
    with pytest.raises(UsageError, match="NUL"):
        build(fedora.read("", ""), facts("a\0b"))


CPUINFO = "processor\t: 0\napicid\t\t: 2\ninitial apicid\t: 4\n\nprocessor\t: 1\ninitial apicid\t: 6\n"


def test_facts_of_a_machine(tmp_path: Path) -> None:
    write(tmp_path, "proc/cmdline", "ro quiet\n")
    write(tmp_path, "proc/cpuinfo", CPUINFO)
    write(tmp_path, "proc/sys/kernel/arch", "x86_64\n")
    write(tmp_path, "proc/sys/kernel/osrelease", "6.1.0-50\n")
    write(
        tmp_path,
        "sys/class/watchdog/watchdog0/device/uevent",
        "DRIVER=iTCO_wdt\nMODALIAS=platform:iTCO_wdt\n",
    )
    write(tmp_path, "sys/class/dmi/id/sys_vendor", "Amazon EC2\n")
    found = read_facts(Machine.from_snapshot(tmp_path), "/boot/linux.efi")
    boot_cpu = "disable_cpu_apicid=4"
    assert found == Facts("ro quiet", "x86_64", boot_cpu, watchdog_drivers=("iTCO_wdt",), uki=True)
    other = read_facts(Machine.from_snapshot(tmp_path), "/boot/vmlinuz", "6.9.0")
    assert not other.boot_cpu, "another kernel is loaded"
    write(tmp_path, "proc/sys/kernel/osrelease", "6.10.1\n")
    assert read_facts(Machine.from_snapshot(tmp_path), "/boot/vmlinuz", "6.1.0").boot_cpu == boot_cpu
    assert not read_facts(Machine.from_snapshot(tmp_path)).boot_cpu, "it finds it out by itself"
    write(tmp_path, "proc/sys/kernel/arch", "aarch64\n")
    assert read_facts(Machine.from_snapshot(tmp_path)).fedora_removes == ("irqpoll",)


@pytest.mark.parametrize("uname", ["riscv64", "sh4", "of the future"])
def test_what_is_not_known_of_an_architecture_adds_nothing(uname: str, tmp_path: Path) -> None:
    write(tmp_path, "proc/cmdline", "ro irqpoll notsc console=hvc0\n")
    write(tmp_path, "proc/cpuinfo", CPUINFO)
    write(tmp_path, "proc/sys/kernel/arch", f"{uname}\n")
    write(tmp_path, "proc/sys/kernel/osrelease", "6.1.0-50\n")
    write(tmp_path, "sys/class/dmi/id/sys_vendor", "Amazon EC2\n")
    found = read_facts(Machine.from_snapshot(tmp_path))
    assert (found.boot_cpu, found.fedora_removes) == ("", ())
    line = build(suse.read(""), found).text
    assert line.startswith("ro irqpoll notsc console=hvc0 sysrq=yes")
    assert line.endswith("rd.udev.children-max=8 panic=1")


_TRACEFS, _TESTS, _CMA = "initcall_blacklist=tracer_init_tracefs", "cryptomgr.notests", "cma=0"
_ALL = f"{_TRACEFS} {_TESTS} {_CMA}"


@pytest.mark.parametrize(
    ("line", "policy", "expected"),
    [
        ("quiet", CommandLinePolicy(), f"quiet {_ALL}"),
        ("initcall_blacklist=x", CommandLinePolicy(), f"initcall_blacklist=x {_ALL}"),
        (f"a {_ALL} b", CommandLinePolicy(), f"a {_ALL} b"),
        ("cryptomgr.notests=0", CommandLinePolicy(), f"cryptomgr.notests=0 {_TRACEFS} {_CMA}"),
        ("cma=16M", CommandLinePolicy(), f"cma=16M {_TRACEFS} {_TESTS}"),
        ("quiet", CommandLinePolicy(remove=("cryptomgr.notests",)), f"quiet {_TRACEFS} {_CMA}"),
        ("quiet", CommandLinePolicy(remove=("initcall-blacklist=x", "cma")), f"quiet {_TESTS} {_CMA}"),
        ("quiet", CommandLinePolicy(given="quiet"), "quiet"),
        ("fips=1 quiet", CommandLinePolicy(), f"fips=1 quiet {_TRACEFS} {_CMA}"),
        ("fips=0", CommandLinePolicy(), f"fips=0 {_ALL}"),
    ],
)
def test_what_our_own_image_does_not_need(line: str, policy: CommandLinePolicy, expected: str) -> None:
    """FIPS 140 asks for tests of ciphers. What is configured counts."""
    assert for_own_image(line, policy) == expected

"""Each cause of an errno is told apart by what /proc and /sys say, and comes with a remedy."""

import errno
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from pykexec import explain, privilege
from pykexec.errors import PykexecError
from pykexec.files import FileData
from pykexec.machine import Machine
from pykexec.plan import FileLoadPlan, LoadPlan, Purpose, Segment
from tests.support.bzimage import FakeBzImage
from tests.support.machines import snapshot, write

ALL_CAPABILITIES = "000001ffffffffff"
WITHOUT_BOOT = "000001ffffbfffff"
"""Bit 22, CAP_SYS_BOOT (capability.h), is off."""

IOMEM = """\
00001000-0009fbff : System RAM
00100000-3fffffff : System RAM
  20000000-2fffffff : Crash kernel
"""
IDENTITY = '{"machine": "x86_64", "page_size": 4096}'
MACHINE = {
    "pykexec-snapshot.json": IDENTITY,
    "proc/iomem": IOMEM,
    "proc/self/status": f"Name:\tpython\nCapEff:\t{ALL_CAPABILITIES}\nSeccomp:\t0\n",
    "sys/kernel/kexec_crash_size": f"{0x10000000}\n",
    "sys/kernel/kexec_loaded": "1\n",
    "sys/kernel/security/lockdown": "[none] integrity confidentiality\n",
}

PLAN = LoadPlan(
    arch="x86_64",
    purpose=Purpose.CRASH,
    image="vmlinuz",
    image_format="bzImage",
    initrd=None,
    command_line="",
    entry=0x20000000,
    flags=0x3E0001,
    segments=(Segment("kernel", 0x20000000, 0x1000000, memoryview(b"k"), "why"),),
)
BOOT_PLAN = replace(PLAN, purpose=Purpose.BOOT, flags=0x3E0000)


def at(name: str, address: int, memsz: int, data: bytes = b"") -> Segment:
    return Segment(name, address, memsz, memoryview(data), "why")


def machine(top: Path, changes: Mapping[str, str | None]) -> Machine:
    """The machine above with some files other, or (None) missing."""
    for name, text in {**MACHINE, **changes}.items():
        if text is not None:
            write(top, name, text)
    return Machine.from_snapshot(top)


def status(capabilities: str = ALL_CAPABILITIES, seccomp: int = 0) -> dict[str, str]:
    return {"proc/self/status": f"CapEff:\t{capabilities}\nSeccomp:\t{seccomp}\n"}


def on_arm64(enable_method: str) -> dict[str, str]:
    return {
        "pykexec-snapshot.json": '{"machine": "aarch64", "page_size": 4096}',
        "proc/device-tree/cpus/cpu@0/enable-method": f"{enable_method}\0",
    }


PERMISSION = [
    pytest.param(status(WITHOUT_BOOT), "CAP_SYS_BOOT", id="privilege"),
    pytest.param({"proc/sys/kernel/kexec_load_disabled": "1\n"}, "kexec_load_disabled is 1", id="disabled"),
    pytest.param(
        {"proc/sys/kernel/kexec_load_limit_panic": "0\n"}, "kexec_load_limit_panic is 0", id="limit"
    ),
    pytest.param(
        {"sys/kernel/security/lockdown": "none [integrity] confidentiality\n"},
        r"\(integrity",
        id="integrity",
    ),
    pytest.param(
        {"sys/kernel/security/lockdown": "none integrity [confidentiality]\n"},
        r"\(confidentiality",
        id="confidentiality",
    ),
    pytest.param(status(seccomp=2), "seccomp", id="seccomp"),
    pytest.param({}, "security module", id="unknown"),
    pytest.param({"sys/kernel/security/lockdown": None}, "security module", id="no-lockdown-module"),
]


@pytest.mark.parametrize(("changes", "expected"), PERMISSION)
def test_eperm(tmp_path: Path, changes: dict[str, str | None], expected: str) -> None:
    facts = machine(tmp_path, changes)
    for error, first_line in (
        (explain.explain_load_failure(errno.EPERM, PLAN, facts), "kexec_load failed"),
        (explain.explain_unload_failure(errno.EPERM, PLAN.purpose, facts), "kexec unload failed"),
    ):
        lines = str(error).splitlines()
        assert lines[0] == f"{first_line}: Operation not permitted"
        assert len(lines) == 2
        assert error.errno == errno.EPERM
        with pytest.raises(type(error), match=expected):
            raise error


def test_eperm_causes_are_not_mixed_up(tmp_path: Path) -> None:
    hints = set()
    for index, parameters in enumerate(PERMISSION):
        changes, _ = parameters.values
        assert isinstance(changes, dict)
        error = explain.explain_load_failure(errno.EPERM, PLAN, machine(tmp_path / str(index), changes))
        hints.add(error.hint)
    # Two of the cases are one cause, none that can be found.
    assert len(hints) == len(PERMISSION) - 1


def test_a_call_that_is_refused_whatever_it_loads(tmp_path: Path) -> None:
    """No segment is to blame where none breaks a rule."""
    segments = (*PLAN.segments, at("initrd", 0x22000000, 0x1000))
    plan = replace(PLAN, segments=segments)
    told = explain.explain_load_failure(errno.EINVAL, plan, machine(tmp_path, {}))
    assert str(told).endswith("does not take flags 0x3e0001")


@pytest.mark.parametrize(
    ("total", "is_to_blame"), [("32767 kB\n", True), ("32768 kB\n", False), ("x", False)]
)
def test_the_memory_that_the_kernel_counts(tmp_path: Path, total: str, is_to_blame: bool) -> None:
    """Less than /proc/iomem has: what the kernel itself is in, for instance, is not of it."""
    facts = machine(tmp_path, {"proc/meminfo": f"MemTotal:   {total}MemFree: 1 kB\n"})
    told = str(explain.explain_load_failure(errno.EINVAL, PLAN, facts))
    assert ("segment kernel takes 0x1000000 bytes; the kernel allows half" in told) == is_to_blame


def test_limits_of_the_other_purpose_do_not_count(tmp_path: Path) -> None:
    facts = machine(tmp_path, {"proc/sys/kernel/kexec_load_limit_panic": "0\n"})
    error = explain.explain_load_failure(errno.EPERM, BOOT_PLAN, facts)
    assert "limit" not in str(error)


ADDRESSES = [
    (
        [at("initrd", 0x2FFFF000, 0x2000)],
        "initrd 2ffff000-30000fff is outside of the reservation 20000000-2fffffff, which is 0x1000 bytes",
    ),
    ([at("kernel", 0x1FFFF000, 0x1000)], "kernel 1ffff000-1fffffff is outside"),
    ([at("kernel", 0x20000800, 0x1000)], "kernel .* whole pages"),
    ([at("kernel", 0x20000000, 0x10)], "kernel .* whole pages"),
    ([at("kernel", 0x20000000, 0x10000000)], "load again"),
]


@pytest.mark.parametrize(("segments", "expected"), ADDRESSES)
def test_unusable_address_names_the_segment(tmp_path: Path, segments: list[Segment], expected: str) -> None:
    plan = replace(PLAN, segments=tuple(segments))
    error = explain.explain_load_failure(errno.EADDRNOTAVAIL, plan, machine(tmp_path, {}))
    with pytest.raises(type(error), match=expected):
        raise error


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"sys/kernel/kexec_crash_size": "0\n"}, "no memory is reserved"),
        ({"proc/iomem": "00100000-3fffffff : System RAM\n"}, "no memory is reserved"),
        ({"sys/kernel/kexec_crash_size": f"{0x800000}\n"}, "outside of the reservation 20000000-207fffff"),
        ({"sys/kernel/kexec_crash_size": None}, "load again"),
    ],
)
def test_reservation_is_asked_for_anew(
    tmp_path: Path, changes: dict[str, str | None], expected: str
) -> None:
    error = explain.explain_load_failure(errno.EADDRNOTAVAIL, PLAN, machine(tmp_path, changes))
    with pytest.raises(type(error), match=expected):
        raise error


def test_entry_outside_of_the_reservation(tmp_path: Path) -> None:
    plan = replace(PLAN, entry=0x30000000)
    error = explain.explain_load_failure(errno.EADDRNOTAVAIL, plan, machine(tmp_path, {}))
    assert "entry point 0x30000000" in str(error)


INVALID = [
    ([at(str(n), n << 12, 0x1000) for n in range(17)], 0x3E0001, "17 segments"),
    ([at("kernel", 0x1000, 0x2000), at("initrd", 0x2000, 0x1000)], 0x3E0001, "overlap: kernel .* initrd"),
    ([at("initrd", 0x1000, 0x1000, bytes(0x1001))], 0x3E0001, "initrd has 4097 bytes"),
    ([at("initrd", 0x1000, 0x30000000)], 0x3E0001, "half"),
    ([at("kernel", 0x1000, 0x1000)], 0x3E0041, "flags 0x40"),
    ([at("kernel", 0x1000, 0x1000)], 0x3E0005, "--hotplug"),
    ([at("kernel", 0x1000, 0x1000)], 0xB70001, r"\(x86_64\) does not take flags 0xb70001"),
]


@pytest.mark.parametrize(("segments", "flags", "expected"), INVALID)
def test_einval(tmp_path: Path, segments: list[Segment], flags: int, expected: str) -> None:
    plan = replace(PLAN, segments=tuple(segments), flags=flags)
    error = explain.explain_load_failure(errno.EINVAL, plan, machine(tmp_path, {}))
    with pytest.raises(type(error), match=expected):
        raise error


@pytest.mark.parametrize(
    ("number", "plan", "changes", "expected"),
    [
        (errno.ENOMEM, PLAN, {}, "leave the kernel 0xf000000 bytes of the reservation"),
        (errno.ENOMEM, BOOT_PLAN, {}, "0x1000000 bytes"),
        (errno.EBUSY, PLAN, {}, "another load"),
        (errno.EBUSY, PLAN, on_arm64("spin-table"), "another load"),
        (errno.EBUSY, BOOT_PLAN, on_arm64("psci"), "another load"),
        (errno.EBUSY, BOOT_PLAN, on_arm64("spin-table"), "reboot it through the firmware"),
        (errno.EFAULT, PLAN, {}, "vmlinuz got shorter"),
        (errno.ENOTSUP, PLAN, {}, "TDX"),
        (errno.EACCES, PLAN, {}, "signed"),
        (errno.ENOSYS, PLAN, {}, "CONFIG_KEXEC"),
        (errno.ENOSYS, PLAN, status(seccomp=2), "seccomp"),
    ],
)
def test_other_refusals(
    tmp_path: Path, number: int, plan: LoadPlan, changes: dict[str, str | None], expected: str
) -> None:
    error = explain.explain_load_failure(number, plan, machine(tmp_path, changes))
    lines = str(error).splitlines()
    assert lines[0] == f"kexec_load failed: {os.strerror(number)}"
    assert expected in lines[1]


# Every errno that kexec_load(2) and kexec_file_load(2) (man-pages) name, and what else the running kernel
# answers: kernel/kexec.c, kernel/kexec_core.c, kernel/kexec_file.c, fs/kernel_read_file.c, kimage loaders,
# security/integrity/ima, crypto/asymmetric_keys/verify_pefile.c, and machine_kexec_prepare().
LOAD_ERRORS = [
    "EPERM",
    "EACCES",
    "EADDRNOTAVAIL",
    "EBUSY",
    "EFAULT",
    "EINVAL",
    "ENOMEM",
    "ENOSYS",
    "ENOTSUP",
]
FILE_ERRORS = [
    *LOAD_ERRORS,
    *("ENOEXEC", "EBADMSG", "EFBIG", "EINTR", "EIO", "EKEYREJECTED", "ELIBBAD", "EMSGSIZE"),
    *("ENODATA", "ENOKEY", "ENOPKG", "ETXTBSY"),
]
FILES = FileLoadPlan(
    arch="x86_64",
    purpose=Purpose.CRASH,
    kernel=FileData.from_bytes("vmlinuz", FakeBzImage().build()),
    initrd=FileData.from_bytes("initrd", bytes(0x1000)),
    command_line="quiet",
    flags=2,
)


@pytest.mark.parametrize("name", LOAD_ERRORS)
@pytest.mark.parametrize("plan", [PLAN, BOOT_PLAN], ids=["crash", "boot"])
def test_every_refusal_of_segments_has_cause_and_remedy(tmp_path: Path, name: str, plan: LoadPlan) -> None:
    number = getattr(errno, name)
    error = explain.explain_load_failure(number, plan, machine(tmp_path, {}))
    what, hint = str(error).splitlines()
    assert what == f"kexec_load failed: {os.strerror(number)}"
    assert len(hint) > 40


def test_a_machine_that_kexec_is_off_on_is_not_taken_for_a_file_of_no_kernel(tmp_path: Path) -> None:
    """machine_kexec_prepare() answers EOPNOTSUPP to both system calls."""
    facts = machine(tmp_path, {})
    told = str(explain.explain_file_load_failure(errno.ENOTSUP, FILES, facts))
    assert "tdx_pw_mce" in told
    assert "firmware" in told
    assert "kvm_intel" not in told, "which does not decide it"
    assert "tdx" not in str(
        explain.explain_file_load_failure(errno.ENOTSUP, FILES, snapshot("qemu-arm64-6.1-1g"))
    )


@pytest.mark.parametrize("uname", ["riscv64", "sh4", "of the future"])
def test_what_is_not_known_of_an_architecture_is_not_said(tmp_path: Path, uname: str) -> None:
    identity = {"pykexec-snapshot.json": f'{{"machine": "{uname}", "page_size": 4096}}'}
    facts = machine(tmp_path, {**on_arm64("spin-table"), **identity})
    assert "the kernel's log says why" in str(explain.explain_load_failure(errno.ENOTSUP, PLAN, facts))
    assert "another load" in str(explain.explain_load_failure(errno.EBUSY, BOOT_PLAN, facts))


@pytest.mark.parametrize("name", FILE_ERRORS)
@pytest.mark.parametrize("purpose", Purpose)
def test_every_refusal_of_files_has_cause_and_remedy(tmp_path: Path, name: str, purpose: Purpose) -> None:
    number = getattr(errno, name)
    error = explain.explain_file_load_failure(number, replace(FILES, purpose=purpose), machine(tmp_path, {}))
    what, hint = str(error).splitlines()
    assert os.strerror(number) in what
    assert len(hint) > 40


def test_a_key_that_was_to_be_handed_over(tmp_path: Path) -> None:
    """A crash kernel alone is handed keys of encrypted volumes; a signature's key may be missing, too."""
    folder = "sys/kernel/config/crash_dm_crypt_keys"
    for count, purpose, told in (
        ("1\n", Purpose.CRASH, f"out of /{folder}"),
        ("0\n", Purpose.CRASH, "demands a signature"),
        (None, Purpose.CRASH, "demands a signature"),
        ("1\n", Purpose.BOOT, "demands a signature"),
    ):
        facts = machine(tmp_path / f"{count}-{purpose}", {f"{folder}/count": count} if count else {})
        plan = replace(FILES, purpose=purpose)
        assert told in str(explain.explain_file_load_failure(errno.ENOKEY, plan, facts))
        revoked = str(explain.explain_file_load_failure(errno.EKEYREVOKED, plan, facts))
        assert (told in revoked) == (folder in told)


def test_a_lockdown_leaves_signed_kernels(tmp_path: Path) -> None:
    facts = machine(tmp_path, {"sys/kernel/security/lockdown": "none [integrity] confidentiality\n"})
    assert "leave out -c" in str(explain.explain_load_failure(errno.EPERM, PLAN, facts))
    assert "signed kernels only" in str(explain.explain_file_load_failure(errno.EPERM, FILES, facts))


@pytest.mark.parametrize("purpose", Purpose)
def test_a_line_too_long_for_the_kernel_file(tmp_path: Path, purpose: Purpose) -> None:
    """arch/x86/kernel/kexec-bzimage64.c: the NUL counts, and 30 characters more, also for a boot."""
    length = 2017
    kernel = FileData.from_bytes("vmlinuz", FakeBzImage(cmdline_size=2048).build())
    fits = replace(FILES, kernel=kernel, purpose=purpose, command_line="x" * length)
    facts = machine(tmp_path, {})
    assert "at most" not in str(explain.explain_file_load_failure(errno.EINVAL, fits, facts))
    error = explain.explain_file_load_failure(
        errno.EINVAL, replace(fits, command_line="x" * (length + 1)), facts
    )
    assert "takes 2049 bytes" in str(error)
    assert "vmlinuz takes 2048 at most" in str(error)


def test_what_a_file_unpacks_to_is_counted(tmp_path: Path) -> None:
    """init_size (boot.rst) is what the kernel takes while it unpacks itself."""
    kernel = FileData.from_bytes("vmlinuz", FakeBzImage(init_size=0x10001000).build())
    error = explain.explain_file_load_failure(
        errno.EADDRNOTAVAIL, replace(FILES, kernel=kernel), machine(tmp_path, {})
    )
    assert "0x2000 bytes more than the reservation 20000000-2fffffff" in str(error)


def test_unknown_errno_is_told_plainly(tmp_path: Path) -> None:
    error = explain.explain_load_failure(errno.EXDEV, PLAN, machine(tmp_path, {}))
    assert str(error) == f"kexec_load failed: {os.strerror(errno.EXDEV)}"


def test_unreadable_evidence_does_not_hide_the_error(tmp_path: Path) -> None:
    broken = {"proc/iomem": "gibberish\n", "proc/sys/kernel/kexec_load_disabled": "gibberish\n"}
    facts = machine(tmp_path, broken)
    for number in (errno.EPERM, errno.EADDRNOTAVAIL, errno.EINVAL):
        error = explain.explain_load_failure(number, PLAN, facts)
        assert str(error).splitlines()[0] == f"kexec_load failed: {os.strerror(number)}"


LIVE_UPDATE: dict[str, str | None] = {"sys/class/misc/liveupdate/dev": "10:124\n"}


@pytest.mark.parametrize(
    ("number", "changes", "expected"),
    [
        (errno.EPERM, status(WITHOUT_BOOT), "CAP_SYS_BOOT"),
        (errno.EINVAL, {}, "PID namespace"),
        (errno.EINVAL, {"sys/kernel/kexec_loaded": "0\n"}, "no kernel is loaded"),
        (errno.EBUSY, {}, "another load"),
        (errno.EBUSY, LIVE_UPDATE, "live update session refused"),
        (errno.EAGAIN, LIVE_UPDATE, "live update session refused"),
        (errno.ENOMEM, LIVE_UPDATE, "live update session refused"),
        (errno.EINVAL, LIVE_UPDATE, "PID namespace"),
        (errno.EAGAIN, {"proc/cmdline": "quiet kho=on\n"}, "could not be handed over"),
        (errno.EBUSY, {"proc/cmdline": "quiet kho=on\n"}, "another load"),
        (errno.ENOSYS, status(seccomp=2), "seccomp"),
    ],
)
def test_jump_refused(tmp_path: Path, number: int, changes: dict[str, str | None], expected: str) -> None:
    error = explain.explain_execute_failure(number, machine(tmp_path, changes))
    lines = str(error).splitlines()
    assert lines[0] == f"kexec failed: {os.strerror(number)}"
    assert expected in lines[1]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        (status(WITHOUT_BOOT), False),
        (status("0000000000400000"), True),
        ({"proc/self/status": None}, os.geteuid() == 0),
    ],
)
def test_privilege(tmp_path: Path, changes: dict[str, str | None], expected: bool) -> None:
    assert privilege.may_boot(machine(tmp_path, changes)) is expected


def test_xen_control_domains_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PykexecError, match="Xen control domain"):
        privilege.require_no_xen(machine(tmp_path / "dom0", {"proc/xen/capabilities": "control_d\n"}))
    privilege.require_no_xen(machine(tmp_path / "domu", {"proc/xen/capabilities": "\n"}))
    privilege.require_no_xen(machine(tmp_path / "none", {}))

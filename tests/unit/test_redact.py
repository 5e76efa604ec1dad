"""Secrets: none leaves a machine in a snapshot, and what is left says the same to doctor."""

import json
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec import redact
from pykexec.arch import for_machine
from pykexec.kdump import config, doctor
from pykexec.kdump.config import shell
from pykexec.kdump.doctor import Facts, collect, redaction
from pykexec.kdump.doctor.hostfiles import LISTING, RecordedFiles
from pykexec.machine import Machine
from pykexec.machine.snapshot import write_snapshot
from pykexec.machine.sysfs import read_object
from tests.support.dtb import Blob, Tree
from tests.support.machines import unpacked, write
from tests.support.secret_texts import WITH_SECRETS, WITHOUT_SECRETS, S
from tests.support.stopwatch import Stopwatch

SIZE = 32 << 10
UNITS = [
    "passw",
    "token-",
    "--passw",
    "://a:",
    "-u a:",
    "iscsi:a:",
    "passwd ",
    "mysql ",
    "echo ",
    "$6$",
    "\\\n",
]


@pytest.mark.parametrize(
    "text",
    WITH_SECRETS,
)
def test_what_is_hidden(text: str) -> None:
    safe = redact.text(text)
    assert S not in safe
    assert redact.HIDDEN in safe
    assert redact.text(safe) == safe
    assert S not in redact.text(f"{text}\n{text}\n")


@pytest.mark.parametrize(
    "text",
    WITHOUT_SECRETS,
)
def test_what_stays(text: str) -> None:
    assert redact.text(text) == text


@pytest.mark.parametrize("work", [redact.text, redaction.assignments])
@pytest.mark.parametrize("unit", UNITS)
def test_texts_of_nothing_but_names_take_no_time(unit: str, work: Callable[[str], str]) -> None:
    text = (unit * SIZE)[:SIZE]
    watch = Stopwatch()
    work(text)
    assert watch.seconds() < 1


def test_a_secret_is_one_by_its_name_in_a_document_too() -> None:
    given = {"password": S, "a": [{"api_key": S, "token": ""}], "path": "/x", "signature": 1}
    expected = {
        "password": "REDACTED",
        "a": [{"api_key": "REDACTED", "token": ""}],
        "path": "/x",
        "signature": 1,
    }
    assert json.loads(redact.json_data(json.dumps(given).encode())) == expected


def test_a_comment_is_hidden_to_its_end() -> None:
    text = f"A=1\n#FTP_PASSWORD=a {S}\n# FTP_PASSWORD=\nB=2 # {S[:2]}\nC = 3\nFTP_PASSWORD = '{S}'\n"
    expected = (
        f"A=1\n#FTP_PASSWORD=REDACTED\n# FTP_PASSWORD=\nB=2 # {S[:2]}\nC = 3\nFTP_PASSWORD = 'REDACTED'\n"
    )
    assert redaction.assignments(text) == expected


QUOTED = st.sampled_from(['"{}"', "'{}'", "{}", '"a"{}', "'b'\"{}\"", '"{}\nmore"', "$OTHER", '"x$OTHER"'])


@given(
    forms=st.lists(st.tuples(st.sampled_from(["", "export ", "# "]), QUOTED), min_size=1, max_size=4),
    rest=st.sampled_from(["", "\nKDUMP_CPUS=4", "; A=1", " A='x y' # why", "\n# it's"]),
)
def test_assignments_are_hidden_and_still_parse(forms: list[tuple[str, str]], rest: str) -> None:
    """However they are written: what is not secret keeps its value, and its line."""
    lines = [f"OTHER={S}o", f"URL=ftp://u:{S}@host/"]
    for number, (before, value) in enumerate(forms):
        value = value.replace("\n", "" if before == "# " else "\n")
        lines.append(f"{before}KDUMP_PASSWORD{number}={value.format(S)}{rest}")
    text = "\n".join([*lines, "LAST=1\n"])
    safe = redaction.assignments(text)
    uses_other = any("$OTHER" in value and before != "# " for before, value in forms)
    assert S not in (safe if uses_other else safe.replace(f"OTHER={S}o", "").replace("$OTHER", ""))
    before_, after = shell.parse(text, "f").by_name, shell.parse(safe, "f").by_name
    assert before_.keys() == after.keys()
    for name, each in before_.items():
        assert each.where == after[name].where
        if S not in each.value:
            assert each.value == after[name].value


def test_what_a_secret_is_made_of_is_one() -> None:
    """Whatever the name becomes later; but not what stands beside it."""
    text = f"A={S}\nB=x$A\nHOST=192.0.2.1\nURL=ftp://u:${{B}}y@$HOST/\nA=1\nFREE=2\n"
    expected = "A=REDACTED\nB=REDACTED\nHOST=192.0.2.1\nURL=ftp://u:REDACTED@$HOST/\nA=REDACTED\nFREE=2\n"
    assert redaction.assignments(text) == expected


def test_a_file_that_cannot_be_read_stays_one() -> None:
    text = f"A=1\nFTP_PASSWORD='{S}\nB=2\n"
    safe = redaction.assignments(text)
    assert S not in safe
    for each in (text, safe):
        with pytest.raises(config.ConfigError, match=r"/f:2: a ' that does not end"):
            shell.parse(each, "/f")


def test_the_audit_log_is_denials_alone() -> None:
    log = (
        f'type=USER_TTY msg=audit(1.2:3): pid=1 uid=0 data="mysql -p{S}"\n'
        f'type=EXECVE msg=audit(1.2:4): argc=2 a0="mysql" a1="-p{S}"\n'
        f"type=PROCTITLE msg=audit(1.2:5): proctitle={S}\n"
        f'type=USER_CMD msg=audit(1.2:6): cmd={S} exe="/usr/bin/sudo" res=denied\n'
        'node=a type=AVC msg=audit(1.2:7): avc:  denied  { read } for  pid=1 comm="kexec" name="vmlinuz"\n'
        f'type=AVC msg=audit(1.2:8): avc:  denied  {{ read }} comm="kexec" proctitle={S}\n'
        'type=AVC msg=audit(1.2:9): avc:  granted  { read } comm="kexec"\n'
    )
    safe = redaction.fact("var/log/audit/audit.log", log.encode()).decode()
    assert S not in safe
    assert [line.count("denied") for line in safe.splitlines()] == [1, 1]
    assert safe.splitlines()[0] == log.splitlines()[4]


# Whole machines

LINE = (
    f"root=/dev/vda1 netroot=iscsi:user:{S}@192.0.2.1::3260::iqn.2009-06.com:x rd.iscsi.password={S}"
    " quiet crashkernel=256M"
)
MACHINES: Mapping[str, Mapping[str, str]] = {
    "Fedora": {
        "etc/kdump.conf": f"path /var/crash\n# password {S}\nextra_bins /bin/true\n",
        "etc/sysconfig/kdump": f'KDUMP_COMMANDLINE_APPEND="irqpoll nr_cpus=1 rd.iscsi.password={S}"\n',
        "boot/loader/entries/a.conf": f"title x\nlinux /vmlinuz\noptions {LINE}\n",
        "boot/grub2/grub.cfg": f"set superusers=root\npassword_pbkdf2 root grub.pbkdf2.sha512.10000.{S}\n",
        "etc/kernel/cmdline": LINE,
    },
    "openSUSE": {
        "etc/sysconfig/kdump": f'KDUMP_SAVEDIR="ftp://backup:{S}@192.0.2.1/x"\n'
        f'KDUMP_SMTP_SERVER="mail"\nKDUMP_SMTP_PASSWORD="{S}"\nKDUMP_TRANSFER=\'curl -u me:{S} x\'\n',
    },
    "openSUSE, by another name": {
        "etc/sysconfig/kdump": f"KDUMP_SMTP_USER={S}u\nKDUMP_SAVEDIR=ftp://backup:$KDUMP_SMTP_USER@192.0.2.1/\n",
    },
    "Debian": {
        "etc/default/kdump-tools": f"USE_KDUMP=1\nFTP=192.0.2.1:x\nFTP_USER=me\nFTP_PASSWORD='{S} \"x\"'\n",
        "etc/default/grub": f'GRUB_CMDLINE_LINUX="{LINE}"\n',
        "boot/grub/grub.cfg": f"\tlinux /vmlinuz {LINE}\n password root {S}\n",
    },
    "a configuration that cannot be read": {"etc/default/kdump-tools": f"USE_KDUMP=1\nFTP_PASSWRD={S}\n"},
    "an empty configuration": {"etc/kdump.conf": "", "boot/grub2/grub.cfg": ""},
}
COMMON = {
    "proc/cmdline": LINE,
    "proc/config.gz": "",
    "var/log/dmesg": f"[    0.0] Kernel command line: {LINE}\n[    0.1] ima: x\n",
    "var/log/audit/audit.log": f'type=AVC avc:  denied  {{ read }} comm="kexec"\ntype=TTY data={S}\n',
    "run/pykdump/loaded.json": json.dumps({"boot": "b", "command_line": f'{LINE} "a b"'}),
    "proc/self/mounts": f"//server/x /var/crash cifs rw,password={S} 0 0\n/dev/vda1 / ext4 rw 0 0\n",
    "etc/udev/rules.d/98-kexec.rules": f'RUN+="/usr/bin/curl -u me:{S} http://x"\n',
    "sys/kernel/kexec_crash_loaded": "1\n",
}


def written(machine: Machine, top: Path, tar: Path) -> bytes:
    write_snapshot(machine, tar, for_machine(machine).facts, collect.contents(machine, top))
    with tarfile.open(tar) as opened:
        files = [opened.extractfile(each) for each in opened.getmembers()]
        return b"\n".join(each.read() for each in files if each)


@pytest.mark.parametrize("name", MACHINES)
def test_no_secret_is_in_a_snapshot_and_doctor_says_the_same(name: str, tmp_path: Path) -> None:
    top = tmp_path / "machine"
    machine = unpacked("qemu-6.1-1g", top, {**COMMON, **MACHINES[name]})
    assert S.encode() not in written(machine, top, tmp_path / "m.tar")
    again = Machine.from_snapshot(tmp_path / "m.tar")
    listing = RecordedFiles(read_object(again.root, LISTING) or {})
    here = doctor.diagnose(Facts(machine, places=doctor.HostFiles(top)))
    there = doctor.diagnose(Facts(again, places=listing))
    assert S not in doctor.as_text(here, everything=True)
    for one, other in zip(here, there, strict=True):
        if one.id not in ("P2", "S3"):  # this process, and room on the disk
            assert (one.verdict, one.cause) == (other.verdict, other.cause), one.id
            assert one.evidence == other.evidence


@pytest.mark.parametrize("as_folder", [False, True])
def test_no_secret_is_in_a_device_tree(as_folder: bool, tmp_path: Path) -> None:
    """Kernels wipe the seeds they were given; what one did not wipe must not get out either."""
    seed, line = b"S3cret" + bytes(range(26)), f"quiet rd.iscsi.password={S}{S}\0".encode()
    tree: Tree = {
        "chosen": {"bootargs": line, "rng-seed": seed, "kaslr-seed": seed[:8], "stdout-path": b"x\0"}
    }
    top = tmp_path / "machine"
    machine = unpacked("qemu-arm64-6.1-1g", top)
    if as_folder:
        write(top, "sys/firmware/fdt", None)
        for name, value in tree["chosen"].items():  # type: ignore[union-attr]
            write(top, f"proc/device-tree/chosen/{name}", value)  # type: ignore[arg-type]
    else:
        write(top, "sys/firmware/fdt", Blob(tree).build())
    write_snapshot(machine, tmp_path / "m.tar", for_machine(machine).facts)
    assert S.encode() not in (tmp_path / "m.tar").read_bytes()
    again = Machine.from_snapshot(tmp_path / "m.tar")
    if as_folder:
        assert again.read("proc/device-tree/chosen/stdout-path") == b"x\0"
        assert again.read("proc/device-tree/chosen/rng-seed") is None
    else:
        data = again.read("sys/firmware/fdt")
        assert data is not None
        assert len(data) == len(Blob(tree).build())
        assert b"stdout-path" in data


def test_open_firmwares_password_is_hidden() -> None:
    """drivers/of/kobj.c: nobody else may read properties of such names."""
    folder = "proc/device-tree/options"
    assert redact.fact(f"{folder}/security-password", b"S3cret\0") == bytes(7)
    assert redact.fact(f"{folder}/security-mode", b"none\0") == bytes(5)
    assert redact.fact(f"{folder}/boot-device", b"disk\0") == b"disk\0"


def test_a_damaged_tree_is_left_out(tmp_path: Path) -> None:
    machine = unpacked(
        "qemu-arm64-6.1-1g", tmp_path / "m", {"sys/firmware/fdt": b"\xd0\x0d\xfe\xed" + b"x" * 99}
    )
    write_snapshot(machine, tmp_path / "m.tar", for_machine(machine).facts)
    assert Machine.from_snapshot(tmp_path / "m.tar").read("sys/firmware/fdt") is None


def test_a_configuration_without_secrets_is_kept_byte_by_byte() -> None:
    text = b"# K\xc3\xb6nig\n\tA='x y' # why\nexport B=\"$A\"; C=\\\nd\n\nUSE_KDUMP=1\n\xff"
    for name in ("etc/default/kdump-tools", "etc/kdump.conf", "boot/loader/entries/a.conf"):
        assert redaction.fact(name, text) == text

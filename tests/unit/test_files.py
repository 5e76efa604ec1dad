"""Files that are none: what a user may name by mistake, or on purpose."""

import fcntl
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pykexec import files
from pykexec.errors import FileError
from pykexec.files import FileData
from tests.support.stopwatch import Stopwatch


def test_a_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    """As a shell's <(command) is one."""
    content = os.urandom(300_000)
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=[content])
    writer.start()
    found = FileData.open(path, "kernel")
    writer.join()
    assert bytes(found.data) == content
    assert found.descriptor is None, "kexec_file_load cannot read it once more"


def test_what_is_read_takes_no_more_memory_than_it_has(tmp_path: Path) -> None:
    """In a small machine there is no room for as much as there might be to read."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    program = (
        "import resource, sys; from pykexec.files import FileData;"
        "resource.setrlimit(resource.RLIMIT_AS, (512 << 20, 512 << 20));"
        "print(FileData.open(sys.argv[1], 'initrd').size)"
    )
    writer = threading.Thread(target=path.write_bytes, args=[bytes(5_000_000)])
    writer.start()
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
    writer.join()
    assert done.stdout == "5000000\n"


def test_a_mapped_file_is_not_committed_memory(tmp_path: Path) -> None:
    """proc_pid_smaps(5): a private mapping that can be written to is accounted ("ac") as if it were copied
    already, which vm.overcommit_memory=2 refuses. RLIMIT_DATA counts these mappings, too."""
    path = tmp_path / "initrd"
    with path.open("wb") as file:
        file.truncate(1 << 30)
    program = (
        "import re, resource, sys; from pathlib import Path; from pykexec.files import FileData;"
        "resource.setrlimit(resource.RLIMIT_DATA, (256 << 20, 256 << 20));"
        "file = FileData.open(sys.argv[1], 'initrd'); assert file.size == 1 << 30;"
        "text = Path('/proc/self/smaps').read_text();"
        "print(re.search(r'^\\S+ (\\S+) .* ' + re.escape(sys.argv[1]) + '$', text, re.M)[1]);"
        "print(re.search(re.escape(sys.argv[1]) + r'$.*?VmFlags: ([^\\n]*)', text, re.M | re.S)[1])"
    )
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
    permissions, flags = done.stdout.splitlines()
    assert permissions == "r--p"
    assert "ac" not in flags.split()


def test_nothing_is_an_empty_file() -> None:
    assert FileData.open("/dev/null", "initrd").size == 0


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/full"])
def test_a_device_without_an_end_is_not_read(path: str) -> None:
    stopwatch = Stopwatch()
    with pytest.raises(FileError, match=f"cannot read the kernel {path}: it is a device"):
        FileData.open(path, "kernel")
    assert stopwatch.seconds() < 1


def test_what_goes_on_and_on_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_READ_MAX", 100_000)
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(path, os.O_WRONLY)
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 1 << 20)
    os.write(writer, bytes(200_000))
    with pytest.raises(FileError, match="does not end"):
        FileData.open(path, "initrd")
    os.close(writer)
    os.close(reader)


def test_a_disk_is_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests have no disk: a file stands for one, of which stat(2) does not tell the size."""
    content = os.urandom(100_000)
    (tmp_path / "disk").write_bytes(content)

    def as_disk(descriptor: int) -> os.stat_result:
        mode = stat.S_IFBLK | 0o600
        return os.stat_result((mode, *os.stat(descriptor)[1:6], 0, *os.stat(descriptor)[7:]))

    monkeypatch.setattr(os, "fstat", as_disk)
    found = FileData.open(tmp_path / "disk", "kernel")
    assert bytes(found.data) == content
    assert found.descriptor is None


@pytest.mark.parametrize("name", ["", "a\0b", "x" * 300, "a/" * 5000, "."])
def test_names_that_name_no_file(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileError, match="cannot read the kernel") as error:
        FileData.open(name, "kernel")
    assert len(str(error.value).splitlines()) == 1

"""How the machine is started again so that the boot loader's command line holds."""

from pathlib import Path

import pytest

from pykexec.kdump.reservation import restart
from pykexec.machine.root import Folder
from tests.support.machines import write

# As the package's postinst writes it where nobody answers its question.
DEFAULTS = """\
# Defaults for kexec initscript
# sourced by /etc/init.d/kexec and /etc/init.d/kexec-load

# Load a kexec kernel (true/false)
LOAD_KEXEC=true

# Kernel and initrd image
KERNEL_IMAGE="/vmlinuz"
INITRD="/initrd.img"

# If empty, use current /proc/cmdline
APPEND=""

# Load the default kernel from grub config (true/false)
USE_GRUB_CONFIG=false
"""
SCRIPTS = {"etc/init.d/kexec": "#! /bin/sh\n", "etc/init.d/kexec-load": "#! /bin/sh\n"}
WITH_TOOLS = {"etc/default/kexec": DEFAULTS, **SCRIPTS}


@pytest.mark.parametrize(
    ("files", "command"),
    [
        pytest.param({}, "reboot", id="without-kexec-tools"),
        pytest.param(WITH_TOOLS, "coldreboot", id="as-installed"),
        pytest.param({"etc/default/kexec": DEFAULTS}, "reboot", id="configuration-of-a-removed-one"),
        pytest.param(SCRIPTS, "reboot", id="no-configuration"),
        pytest.param(
            {**WITH_TOOLS, "etc/default/kexec": DEFAULTS.replace("KEXEC=true", "KEXEC=false")},
            "reboot",
            id="told-no",
        ),
        pytest.param(
            {**WITH_TOOLS, "etc/default/kexec": DEFAULTS.replace("CONFIG=false", 'CONFIG="true"')},
            "reboot",
            id="reads-the-menu",
        ),
        pytest.param(
            {**WITH_TOOLS, "etc/default/kexec.d/local": "LOAD_KEXEC=false\n"}, "reboot", id="snippet"
        ),
        pytest.param(
            {**WITH_TOOLS, "etc/default/kexec.d/local": "#LOAD_KEXEC=false\n"}, "coldreboot", id="comment"
        ),
    ],
)
def test_the_command(files: dict[str, str], command: str, tmp_path: Path) -> None:
    for path, content in files.items():
        write(tmp_path, path, content)
    assert restart.command(Folder(tmp_path)) == command


@pytest.mark.parametrize("folder", ["etc/systemd/system", "usr/lib/systemd/system"])
def test_a_masked_script_does_not_run(folder: str, tmp_path: Path) -> None:
    for path, content in WITH_TOOLS.items():
        write(tmp_path, path, content)
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / "kexec.service").symlink_to("/dev/null")
    assert restart.command(Folder(tmp_path)) == "reboot"


def test_what_cannot_be_read_changes_nothing(tmp_path: Path) -> None:
    for path, content in SCRIPTS.items():
        write(tmp_path, path, content)
    (tmp_path / "etc/default/kexec").mkdir(parents=True)
    assert restart.command(Folder(tmp_path)) == "reboot"

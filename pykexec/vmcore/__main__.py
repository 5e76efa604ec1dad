"""``python -m pykexec.vmcore`` is ``vmcore-dmesg``."""

from pykexec.vmcore.cli import main_vmcore_dmesg

main_vmcore_dmesg()

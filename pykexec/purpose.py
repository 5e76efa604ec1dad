"""The purpose of a load: a boot or a crash."""

import enum


class Purpose(enum.Enum):
    """What a kernel is loaded for."""

    BOOT = "boot"
    """Started by reboot(LINUX_REBOOT_CMD_KEXEC)."""
    CRASH = "crash"
    """Started when the running kernel panics; it lives in the memory that crashkernel= reserved."""

"""What a kernel is loaded for."""

import enum


class Purpose(enum.Enum):
    """What a kernel is loaded for."""

    BOOT = "boot"
    """To be started by reboot(LINUX_REBOOT_CMD_KEXEC)."""
    CRASH = "crash"
    """To be started when the running kernel panics; it lives in the memory reserved by crashkernel=."""

"""The running kernel's facts about kexec itself: what is loaded, and what it would refuse."""

from pykexec.errors import MachineError
from pykexec.machine.root import Root
from pykexec.machine.sysfs import read_number, read_text
from pykexec.purpose import Purpose


class KexecState:
    """The state of kexec. Each property reads its file anew, because this state changes with every load.

    None means that this kernel does not show the fact.
    """

    __slots__ = ("_root",)

    def __init__(self, root: Root) -> None:
        self._root = root

    @property
    def loaded(self) -> bool | None:
        """Whether a kernel is loaded for the next reboot."""
        return _flag(self._either("loaded", "kexec_loaded"))

    @property
    def crash_loaded(self) -> bool | None:
        """Whether a kernel is loaded for a panic."""
        return _flag(self._either("crash_loaded", "kexec_crash_loaded"))

    @property
    def crash_size(self) -> int | None:
        """The bytes that are reserved for a crash kernel."""
        return self._either("crash_size", "kexec_crash_size")

    @property
    def elfcorehdr_size(self) -> int | None:
        """The bytes the kernel needs for ELF core headers that it updates itself (CONFIG_CRASH_HOTPLUG)."""
        return self._either("crash_elfcorehdr_size", "crash_elfcorehdr_size")

    @property
    def load_disabled(self) -> bool | None:
        """Whether nothing can be loaded until the next boot."""
        return _flag(read_number(self._root, "proc/sys/kernel/kexec_load_disabled", 10))

    def is_limited(self, purpose: Purpose) -> bool:
        """Return whether each call that loads or unloads counts, even a refused one.

        kernel/kexec_core.c, kexec_load_permitted().
        """
        limit = self.load_limit_panic if purpose is Purpose.CRASH else self.load_limit_reboot
        return limit not in (None, -1)

    @property
    def load_limit_reboot(self) -> int | None:
        """The number of normal loads that are still allowed; -1: any number."""
        return read_number(self._root, "proc/sys/kernel/kexec_load_limit_reboot", 10)

    @property
    def load_limit_panic(self) -> int | None:
        """The number of crash loads that are still allowed; -1: any number."""
        return read_number(self._root, "proc/sys/kernel/kexec_load_limit_panic", 10)

    @property
    def lockdown(self) -> str | None:
        """The mode of lockdown: none, integrity or confidentiality."""
        try:
            text = read_text(self._root, "sys/kernel/security/lockdown") or ""
        except MachineError:
            return None
        # The one in force stands in brackets: none [integrity] confidentiality
        return text.partition("[")[2].partition("]")[0] or None

    def _either(self, new: str, old: str) -> int | None:
        # New kernels keep these files in a folder of their own.
        value = read_number(self._root, f"sys/kernel/kexec/{new}", 10)
        return read_number(self._root, f"sys/kernel/{old}", 10) if value is None else value


def _flag(value: int | None) -> bool | None:
    return None if value is None else value != 0

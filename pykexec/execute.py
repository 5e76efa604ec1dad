"""Leave the running kernel for the loaded one."""

from __future__ import annotations

import os
import struct

from pykexec import log, syscalls
from pykexec.errors import PykexecError, UsageError
from pykexec.machine import Machine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# include/uapi/linux/sockios.h, include/uapi/linux/if.h
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1
_IFREQ = struct.Struct("16sH22x")


def require_loaded(machine: Machine) -> None:
    """Raise UsageError when the kernel says that nothing is loaded, or has no kexec."""
    loaded = machine.kexec_state.loaded
    if loaded is None and machine.root.names("sys/kernel"):
        raise UsageError(
            "Nothing has been loaded: the running kernel has no kexec (no /sys/kernel/kexec_loaded)"
        )
    if loaded is False:
        raise UsageError("Nothing has been loaded!", hint="load a kernel first: pykexec -l KERNEL ...")


def execute(machine: Machine, *, sync: bool = True, ifdown: bool = True) -> None:
    """Start the loaded kernel without a shutdown. Returns only when that kernel jumps back (kexec jump).

    Raises UsageError when nothing is loaded, before anything is touched. Raises SystemCallError with the
    network interfaces up again.
    """
    require_loaded(machine)
    if sync:
        os.sync()
    down = take_interfaces_down() if ifdown else ()
    try:
        syscalls.reboot_kexec()
    except OSError as error:
        from pykexec import explain

        raise explain.explain_execute_failure(error.errno or 0, machine) from error
    finally:
        if down:
            put_interfaces_up(down)


def shutdown_command(root: str | os.PathLike[str] = "/") -> Sequence[str]:
    """Return the command that shuts this system down and then starts the loaded kernel.

    `systemctl kexec` where systemd runs; elsewhere `shutdown -r now`, whose init scripts call ``kexec -e``.
    Raises PykexecError where there is neither.
    """
    from pathlib import Path

    if (Path(root) / "run/systemd/system").is_dir():
        return ("systemctl", "kexec")
    for folder in ("sbin", "usr/sbin", "etc", "bin"):
        if os.access(Path(root) / folder / "shutdown", os.X_OK):
            return (f"/{folder}/shutdown", "-r", "now")
    raise PykexecError("no shutdown program found", hint="start the loaded kernel without one: pykexec -e")


def shut_down(machine: Machine) -> None:
    """Let init stop the system and start the loaded kernel.

    Raises UsageError when nothing is loaded, PykexecError when the shutdown cannot be begun.
    """
    import subprocess

    require_loaded(machine)
    command = shutdown_command()
    try:
        subprocess.run(command, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise PykexecError(f"{' '.join(command)} failed: {error}") from error


def take_interfaces_down() -> Sequence[str]:
    """Clear IFF_UP on all network interfaces except the loopback, so that no card writes to memory any more.

    Return the names of those that were up. Failures are logged and stop nothing.
    """
    import socket

    try:
        known = socket.if_nameindex()
    except OSError as error:
        log.warning("network interfaces stay as they are: %s", error.strerror)
        return ()
    names = [name for _, name in known if name != "lo" and ":" not in name]
    return _change_flags(names, lambda flags: flags & ~_IFF_UP)


def put_interfaces_up(names: Sequence[str]) -> None:
    """Set IFF_UP on these interfaces again."""
    _change_flags(names, lambda flags: flags | _IFF_UP)


def _change_flags(names: Sequence[str], change: Callable[[int], int]) -> Sequence[str]:
    """Apply the change to each interface's flags; return the names of those whose flags it changed."""
    changed: list[str] = []
    if not names:
        return changed
    import fcntl
    import socket

    try:
        # A netlink socket: there may be no IPv4.
        control = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM)
    except OSError as error:
        log.warning("network interfaces stay as they are: %s", error.strerror)
        return changed
    with control:
        for name in names:
            try:
                request = _IFREQ.pack(os.fsencode(name), 0)
                flags = _IFREQ.unpack(fcntl.ioctl(control, _SIOCGIFFLAGS, request))[1]
                if change(flags) != flags:
                    fcntl.ioctl(control, _SIOCSIFFLAGS, _IFREQ.pack(os.fsencode(name), change(flags)))
                    changed.append(name)
            except OSError as error:
                log.warning("interface %s stays as it is: %s", name, error.strerror)
    return changed

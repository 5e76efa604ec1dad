"""Start a kernel and its initial ramdisk from inside another program, as an installer does.

This leaves the running system at once, without a shutdown: what is not on disk is lost.

    python3 -m pykexec.examples.load_and_reboot KERNEL INITRD COMMAND-LINE
"""

import sys
from collections.abc import Sequence

from pykexec import FileLoadPlan, LoadPlan, Machine, PykexecError, Request, execute, load_request


def tell(plan: LoadPlan | FileLoadPlan) -> None:
    """Tell what is going to be loaded. An installer would ask here."""
    print(f"starting with: {plan.command_line}")
    for warning in plan.warnings:
        print(f"warning: {warning}", file=sys.stderr)


def start(kernel: str, initrd: str, command_line: str) -> None:
    """Load these files, and start them. Returns never; raises PykexecError."""
    machine = Machine.live()
    request = Request.from_paths(kernel, initrd=initrd, append=command_line)
    load_request(machine, request, announce=tell)
    # The machine keeps what it has read: that nothing was loaded.
    execute.execute(machine.anew())


def main(arguments: Sequence[str]) -> int:
    """Start what the arguments name; return the exit status if that fails."""
    kernel, initrd, command_line = arguments
    try:
        start(kernel, initrd, command_line)
    except PykexecError as error:
        print(error, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

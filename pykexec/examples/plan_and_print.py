"""Plan a load for the running machine, and print what would go where. Nothing is loaded.

python3 -m pykexec.examples.plan_and_print KERNEL [INITRD]
"""

import sys
from collections.abc import Sequence

from pykexec import Machine, PykexecError, Request, plan_load


def main(arguments: Sequence[str]) -> int:
    """Print the plan for these files; return the exit status."""
    kernel, *rest = arguments
    try:
        request = Request.from_paths(kernel, initrd=rest[0] if rest else None, reuse_command_line=True)
        plan = plan_load(Machine.live(), request)
    except PykexecError as error:
        print(error, file=sys.stderr)
        return 1
    for segment in plan.segments:
        print(f"{segment.name:<12} {segment.range}  {segment.memsz / (1 << 20):8.1f} MiB  {segment.why}")
    for warning in plan.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

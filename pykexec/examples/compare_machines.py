"""Plan the same crash kernel for two machines, and print what differs.

The machines are snapshots, from pykexec --snapshot or pykdump snapshot.

    python3 -m pykexec.examples.compare_machines KERNEL INITRD ONE.tar OTHER.tar
"""

import sys
from collections.abc import Iterator, Sequence

from pykexec import LoadPlan, Machine, Purpose, PykexecError, Request, plan_load


def differences(one: LoadPlan, other: LoadPlan) -> Iterator[str]:
    """Yield a line for each segment that is elsewhere, or holds something else."""
    there = {segment.name: segment for segment in other.segments}
    for segment in one.segments:
        match = there.pop(segment.name, None)
        if match is None:
            yield f"{segment.name}: only the first machine has it"
        elif match.range != segment.range:
            yield f"{segment.name}: {segment.range} and {match.range}"
        elif match.data != segment.data:
            yield f"{segment.name}: the contents differ"
    yield from (f"{name}: only the second machine has it" for name in there)
    if one.command_line != other.command_line:
        yield f"the command line: {one.command_line} and {other.command_line}"


def main(arguments: Sequence[str]) -> int:
    """Print what differs; return the exit status, as diff(1) has it."""
    kernel, initrd, *snapshots = arguments
    try:
        request = Request.from_paths(kernel, initrd=initrd, purpose=Purpose.CRASH, append="nr_cpus=1")
        one, other = (plan_load(Machine.from_snapshot(path), request) for path in snapshots)
    except PykexecError as error:
        print(error, file=sys.stderr)
        return 2
    found = list(differences(one, other))
    print("\n".join(found) or "the plans are the same")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Read system calls from the output of `strace -f -o`."""

import re
from collections.abc import Sequence

_CUT, _GOES_ON = " <unfinished ...>", r"<\.\.\. \w+ resumed>\s*"


def calls(trace: str) -> Sequence[str]:
    """Return each call with its result, such as "close(3) = 0", in the order in which they began.

    strace writes two lines for a call if another thread makes a traced call meanwhile.
    """
    found: list[str] = []
    cut: dict[str, int] = {}
    for line in trace.splitlines():
        process, _, text = line.partition(" ")
        text = text.strip()
        rest = re.sub(_GOES_ON, "", text, count=1)
        if rest != text:
            found[cut.pop(process)] += rest
        elif re.match(r"\w+\(", text):
            if text.endswith(_CUT):
                cut[process] = len(found)
            found.append(text.removesuffix(_CUT))
    return [re.sub(r"\) += ", ") = ", call) for call in found]

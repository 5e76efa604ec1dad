"""System calls out of what `strace -f -o` writes."""

import re
from collections.abc import Sequence

_CUT, _GOES_ON = " <unfinished ...>", r"<\.\.\. \w+ resumed>\s*"


def calls(trace: str) -> Sequence[str]:
    """Each call with its result, such as "close(3) = 0", in the order in which they began.

    A call during which another thread does something that is traced is told in two lines.
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

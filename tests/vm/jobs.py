"""Shell scripts that several cases run in a guest, and readers of what they bring out."""

import re

CAPTURE = """
set -e
cp /proc/cmdline /proc/iomem "$OUT"
makedumpfile -l -d 31 /proc/vmcore "$OUT/vmcore"
# From the saved dump, not from memory: that is what has to be readable later.
makedumpfile --dump-dmesg "$OUT/vmcore" "$OUT/dmesg.txt"
rm "$OUT/vmcore"
"""


def crash_load(loader: str, marker: str) -> str:
    """Loads a capture kernel with `marker` in its command line, and writes `marker` to the log."""
    return f"""
set -e
cp /proc/iomem "$OUT"
{loader} -p "$KERNEL" --initrd "$SECOND_IMAGE" --append "{capture_command_line(marker)}"
echo "{marker}" > /dev/kmsg
"""


def capture_command_line(marker: str) -> str:
    return f"console=ttyS0 panic=-1 nr_cpus=1 irqpoll reset_devices marker={marker}"


def ranges(iomem: str, name: str) -> list[range]:
    """The physical addresses of all entries of /proc/iomem with that name, adjacent ones joined.

    The kernel sets boot data that its loader passed it (struct setup_data) apart in entries of their own.
    """
    found: list[range] = []
    for start, last in re.findall(rf"^ *([0-9a-f]+)-([0-9a-f]+) : {re.escape(name)}$", iomem, re.MULTILINE):
        part = range(int(start, 16), int(last, 16) + 1)
        if found and found[-1].stop == part.start:
            part = range(found.pop().start, part.stop)
        found.append(part)
    return found


def memory_total(meminfo: str) -> int:
    """MemTotal in bytes."""
    match = re.search(r"^MemTotal: +(\d+) kB$", meminfo, re.MULTILINE)
    assert match is not None
    return int(match.group(1)) << 10

"""kexec jump: a kernel is started, is gone back from, and gone to again, each time where it was left."""

import secrets

from tests.vm import jobs
from tests.vm.conftest import RunGuest
from tools.lab import X86_64, Guest, Kernel, Machine

_LENT_END = 1 << 29

# All files of the system are in memory, some of it in what is lent.
_REMEMBER = 'find /usr /lib -type f -exec sha256sum {} + > "$OUT/%s"\n'
_LOAD = f"""
set -e
cp /proc/iomem "$OUT"
{_REMEMBER % "before"}
pykexec --load-preserve-context "$KERNEL" --initrd "$SECOND_IMAGE" --mem-max={_LENT_END - 1:#x} --append "%s"
"""
# There is no other way on than the last line of `then`: the machine ends.
_THERE_AND_BACK = f"""
set -e
pykexec -e
cp /proc/uptime "$OUT/first-time"
pykexec -e
cp /proc/uptime "$OUT/second-time"
{_REMEMBER % "after"}
"""
_LOOK = 'cp /proc/cmdline /proc/iomem "$OUT"\n'
_BACK_TWICE = """
set -e
pykexec --load-jump-back-helper
pykexec -e
cp /proc/uptime /again
pykexec -e
"""


@jobs.FURTHER
def test_there_and_back_twice(run_guest: RunGuest) -> None:
    line = f"{X86_64.line} marker={secrets.token_hex(8)}"
    guest = Guest(
        Kernel.get("6.12-jump", X86_64),
        _LOAD % line,
        _THERE_AND_BACK,
        second_job=_LOOK,
        second_then=_BACK_TWICE,
    )
    result = run_guest(guest, Machine(memory="2G", append=""))
    first, second = result.stage("first"), result.stage("second")
    assert first.read("then").strip() == "0"
    assert first.read("after") == first.read("before")
    assert float(first.read("first-time").split()[0]) < float(first.read("second-time").split()[0])
    assert second.read("cmdline").startswith(line)
    lent = [each for each in jobs.ranges(second.read("iomem"), "System RAM") if each.stop > 1 << 20]
    assert lent
    assert max(each.stop for each in lent) <= _LENT_END

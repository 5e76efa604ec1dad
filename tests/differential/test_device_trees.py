"""Device trees as dtc and fdtget see them: what pykexec reads, and what it writes back."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pykexec.devicetree import DeviceTree
from tests.support.machines import ARM64_SNAPSHOTS, snapshot

CASES = Path(__file__).parents[1] / "cases/device-trees"
SOURCE = """/dts-v1/;
/memreserve/ 0x10000 0x2000;
/memreserve/ 0x100000000 0x3000;
/ {
    #address-cells = <2>; #size-cells = <2>; compatible = "one", "", "two";
    empty; bytes = [01 02 03]; mixed = "text", <1 2>, [ff];
    memory@40000000 { device_type = "memory"; reg = <0 0x40000000 0 0x1000>; };
    cpus { cpu@0 { reg = <0>; }; cpu@1 { reg = <1>; reg-names = "a"; names = "b"; }; };
    chosen { bootargs = "quiet"; };
};
"""


@pytest.fixture(params=[*ARM64_SNAPSHOTS, *(each.name for each in CASES.glob("*.dtb")), "17", "16"])
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """One that firmware made, or dtc, of that version."""
    name, path = request.param, tmp_path / "tree.dtb"
    if name.isdigit():
        command = ["dtc", "-V", name, "-b", "1", "-O", "dtb", "-o", path]
        subprocess.run(command, input=SOURCE.encode(), check=True)
        return path
    data = (CASES / name).read_bytes() if name.endswith(".dtb") else snapshot(name).read("sys/firmware/fdt")
    assert data is not None
    path.write_bytes(data)
    return path


def decompiled(path: Path) -> str:
    command: list[str | Path] = ["dtc", "-q", "-s", "-I", "dtb", "-O", "dts", path]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def values(path: Path, node: str) -> Iterator[tuple[str, bytes]]:
    """What fdtget says the properties of a node are."""
    for name in _fdtget("-p", path, node).splitlines():
        yield (
            name,
            bytes.fromhex("".join(f"{each:0>2}" for each in _fdtget("-tbx", path, node, name).split())),
        )


def _fdtget(*arguments: str | Path) -> str:
    return subprocess.run(["fdtget", *arguments], check=True, capture_output=True, text=True).stdout


def test_what_is_written_back_is_the_same_tree(tree: Path, tmp_path: Path) -> None:
    written = tmp_path / "written.dtb"
    written.write_bytes(DeviceTree(tree.read_bytes(), "tree").to_bytes())
    assert decompiled(written) == decompiled(tree)


def test_what_is_read_is_what_others_read(tree: Path) -> None:
    nodes = dict(DeviceTree(tree.read_bytes(), "tree").nodes())
    assert len(nodes) > 5
    for path in sorted(nodes)[:20]:
        assert nodes[path] == dict(values(tree, path)), path


def test_what_is_changed_is_what_others_read(tree: Path, tmp_path: Path) -> None:
    changed = DeviceTree(tree.read_bytes(), "tree")
    changed.set("/chosen", "bootargs", b"console=none\0")
    changed.remove("/", "compatible")
    changed.update("/new/deep@1", {"reg": b"\0\0\0\1", "empty": b""})
    written = tmp_path / "written.dtb"
    written.write_bytes(changed.to_bytes())
    assert dict(values(written, "/chosen"))["bootargs"] == b"console=none\0"
    assert "compatible" not in dict(values(written, "/"))
    assert dict(values(written, "/new/deep@1")) == {"reg": b"\0\0\0\1", "empty": b""}

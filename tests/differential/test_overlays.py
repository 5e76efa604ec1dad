"""Device tree overlays that dtc compiles, applied by us and by fdtoverlay: the trees are the same."""

import subprocess
from pathlib import Path

import pytest

from pykexec import overlays
from pykexec.devicetree import DeviceTree
from pykexec.errors import DeviceTreeError

BASE = """/dts-v1/;
/ {
    #address-cells = <1>; #size-cells = <1>; model = "base";
    gic: interrupt-controller@1000 { reg = <0x1000 0x100>; interrupt-controller; #interrupt-cells = <1>; };
    soc: soc { #address-cells = <1>; #size-cells = <1>; clock: clock { #clock-cells = <0>; };
        uart0: serial@2000 { reg = <0x2000 0x100>; status = "disabled"; clocks = <&clock>; }; };
    aliases { serial0 = &uart0; };
    chosen { };
};
"""
OVERLAYS = {
    "label": '&uart0 { status = "okay"; speed = <115200>; };',
    "path": '&{/chosen} { bootargs = "quiet"; empty; };',
    "root": '&{/} { model = "changed"; new { nested { deep = <1 2 3>; }; }; };',
    "references": """&soc {
        timer: timer@3000 { reg = <0x3000 0x10>; interrupt-parent = <&gic>; clocks = <&clock>; };
        user@4000 { reg = <0x4000 0x10>; timers = <&timer &timer>, <&clock &timer>; };
    };""",
    "several": '&uart0 { a = <&gic>; }; &gic { b = <&uart0>; }; &{/chosen} { c = "d"; };',
}


def compiled(folder: Path, name: str, source: str, *options: str) -> Path:
    path = folder / f"{name}.dtb"
    subprocess.run(
        ["dtc", "-q", *options, "-I", "dts", "-O", "dtb", "-o", path], input=source.encode(), check=True
    )
    return path


def overlay(folder: Path, name: str, source: str) -> Path:
    return compiled(folder, name, f"/dts-v1/; /plugin/; {source}", "-@")


def decompiled(path: Path) -> str:
    command: list[str | Path] = ["dtc", "-q", "-s", "-I", "dtb", "-O", "dts", path]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def ours(folder: Path, base: Path, *changes: Path) -> Path:
    tree = DeviceTree(base.read_bytes(), "base")
    for each in changes:
        overlays.apply(tree, DeviceTree(each.read_bytes(), each.name), each.name)
    (folder / "ours.dtb").write_bytes(tree.to_bytes())
    return folder / "ours.dtb"


@pytest.mark.parametrize("names", [*([name] for name in OVERLAYS), [*OVERLAYS], ["references", "later"]])
def test_what_fdtoverlay_makes(names: list[str], tmp_path: Path) -> None:
    """One by one, one after the other, and one that refers to what another brought along."""
    sources = {**OVERLAYS, "later": '&timer { status = "okay"; self = <&timer &gic>; };'}
    base = compiled(tmp_path, "base", BASE, "-@")
    changes = [overlay(tmp_path, name, sources[name]) for name in names]
    subprocess.run(["fdtoverlay", "-i", base, "-o", tmp_path / "theirs.dtb", *changes], check=True)
    assert decompiled(ours(tmp_path, base, *changes)) == decompiled(tmp_path / "theirs.dtb")


@pytest.mark.parametrize(
    ("options", "source", "message"),
    [
        ((), OVERLAYS["label"], "it refers to uart0, which the device tree does not have"),
        (("-@",), "&missing { a; };", "it refers to missing"),
        (("-@",), "&{/missing} { a; };", "is for /missing, which the tree has not"),
        (("-@",), "/ { a; };", "no device tree overlay"),
    ],
)
def test_what_does_not_fit(options: tuple[str, ...], source: str, message: str, tmp_path: Path) -> None:
    base, change = compiled(tmp_path, "base", BASE, *options), overlay(tmp_path, "change", source)
    command: list[str | Path] = ["fdtoverlay", "-i", base, "-o", tmp_path / "theirs.dtb", change]
    refused = subprocess.run(command, capture_output=True, check=False).returncode != 0
    assert refused or "no device tree overlay" in message, "which it takes for one that changes nothing"
    with pytest.raises(DeviceTreeError, match=message):
        ours(tmp_path, base, change)

"""Boot entries, told by bootctl and by us; versions, compared by systemd-analyze and by us."""

import itertools
import shutil
from pathlib import Path
from typing import Any

import pytest

from pykexec import bootentries, formats
from pykexec.files import FileData
from pykexec.machine.root import Folder
from pykexec.versions import version_key
from tests.support import systemd
from tests.support.bzimage import FakeBzImage

VERSIONS = (
    "", "0", "1", "~", "~1", "1~rc1", "1~rc1-1", "1-1", "1.1", "1^1", "1a", "1.a", "a", "A", "01", "1_",
    "6.1.0-50-amd64", "6.1.0-9-amd64", "6.10.1-1.fc40.x86_64", "6.9.12-200.fc40.x86_64", "1_2", "10", "9",
    "6.12.0-rc3", "6.12.0~rc3", "6.12.117+deb13-amd64", "5.14.21-150500.53-default", "1..2", "1.-2",
)  # fmt: skip


def test_versions() -> None:
    for one, other in itertools.combinations(VERSIONS, 2):
        ours = (version_key(one) > version_key(other)) - (version_key(one) < version_key(other))
        assert ours == systemd.compare_versions(one, other), (one, other)


TOKEN = "title X\nsort-key x\nmachine-id 00000000000000000000000000000001\nversion"
ENTRIES = {
    "debian-6.1.0-50": "title Debian\nversion 6.1.0-50\nlinux /a/linux\ninitrd /a/initrd\noptions root=x",
    "debian-6.1.0-9": "# old\ntitle Debian\nversion 6.1.0-9\nlinux a/linux\noptions  one\noptions two  3\n",
    "token-6.9": f"{TOKEN} 6.9\nlinux /v\n",
    "token-6.10": f"{TOKEN} 6.10\nlinux /v\n",
    "other-1": "title A\tB\nsort-key a\nversion 1\nlinux /v\ninitrd /i\ninitrd /j\ndevicetree /t.dtb\n",
    "bad-7+0-3": "title Bad\nsort-key a\nversion 7\nlinux /v\n",
    "tried-8+2-1": "title Tried\nversion 8\nlinux\t/v\noptions\tx\n",
    "overlays": "linux /v\ndevicetree /t\ndevicetree-overlay /o1.dtbo  /o2.dtbo\n",
}


@pytest.fixture
def esp(tmp_path: Path) -> Path:
    (tmp_path / "efi/loader/entries").mkdir(parents=True)
    (tmp_path / "efi/EFI/Linux").mkdir(parents=True)
    for name, text in ENTRIES.items():
        (tmp_path / f"efi/loader/entries/{name}.conf").write_text(text)
    for name in ("v", "i", "j", "t", "t.dtb", "o1.dtbo", "o2.dtbo", "a/linux", "a/initrd"):
        (tmp_path / "efi" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "efi" / name).touch()
    return tmp_path


def image(path: Path, version: str) -> Path:
    kernel = path.with_suffix(".kernel")
    kernel.write_bytes(FakeBzImage().build())
    release = f'ID=zeta\nPRETTY_NAME="Zeta {version}"\nVERSION_ID={version}\n'
    arguments = (
        "--stub",
        systemd.stub("linuxx64"),
        "--linux",
        kernel,
        "--efi-arch",
        "x64",
        "--uname",
        version,
    )
    systemd.ukify(
        "build", *arguments, "--os-release", release, "--cmdline", "from the image", "--output", path
    )
    kernel.unlink()
    return path


def of_bootctl(esp: Path) -> list[dict[str, Any]]:
    """Without what it adds for the firmware's setup and such."""
    return [each for each in systemd.bootctl_list(esp) if each["type"] in ("type1", "type2")]


def relative(paths: Any) -> list[str]:
    names = [paths] if isinstance(paths, str) else paths or []
    return [f"efi/{name.removeprefix('/mnt').strip('/')}" for name in names]


def test_entries(esp: Path) -> None:
    for version in ("5.9", "5.10"):
        image(esp / f"efi/EFI/Linux/zeta-{version}.efi", version)
    (esp / "efi/EFI/Linux/no-image.efi").write_bytes(b"MZ")
    for hidden in (".conf", ".debian-6.1.0-8.conf"):
        (esp / f"efi/loader/entries/{hidden}").write_text("title Hidden\nlinux /v\n")
    ours = bootentries.entries(Folder(esp), "x86_64")
    theirs = of_bootctl(esp / "efi")
    assert [each.file_name for each in ours] == [each["id"] for each in theirs]
    for our, their in zip(ours, theirs, strict=True):
        assert our.source == relative(their["path"])[0]
        assert [our.kernel] == relative(their["linux"])
        assert our.title == their.get("title", "")
        assert our.version == their.get("version", "")
        assert our.tries_left == their.get("triesLeft")
        if not our.is_image:
            assert our.options == their.get("options", "")
            assert list(our.initrds) == relative(their.get("initrd"))
            assert list(our.overlays) == relative(their.get("devicetreeOverlay"))
            assert [our.device_tree] == ([*relative(their.get("devicetree")), None][:1])
    assert bootentries.default(Folder(esp), ours).file_name == next(
        e["id"] for e in theirs if e["isDefault"]
    )


@pytest.mark.parametrize("pattern", ["debian-6.1.0-9.conf", "debian*", "*6.9*", "nothing*", "zeta-?.efi"])
def test_default(esp: Path, pattern: str) -> None:
    image(esp / "efi/EFI/Linux/zeta-5.efi", "5")
    (esp / "efi/loader/loader.conf").write_text(f"timeout 3\ndefault {pattern}\n")
    ours = bootentries.default(Folder(esp), bootentries.entries(Folder(esp), "x86_64"))
    assert ours.file_name == next(each["id"] for each in of_bootctl(esp / "efi") if each["isDefault"])


def test_addons(esp: Path) -> None:
    """Those bootctl finds; it lists them as the folder has them, the stub sorts them by name."""
    path = image(esp / "efi/EFI/Linux/zeta-5.efi", "5")
    own = "EFI/Linux/zeta-5.efi.extra.d"
    stub = systemd.stub("addonx64")
    for folder in ("loader/addons", own):
        (esp / "efi" / folder).mkdir()
        for name in "zy":
            file = esp / f"efi/{folder}/{name}.addon.efi"
            systemd.ukify("build", "--stub", stub, "--cmdline", f"{name}={folder}", "--output", file)
    shutil.copy(stub, esp / "efi/loader/addons/no-addon.efi")
    (their,) = (each for each in of_bootctl(esp / "efi") if each["type"] == "type2")
    found = bootentries.addons(Folder(esp), "efi/EFI/Linux/zeta-5.efi")
    said = [each.get("globalAddon") or f"EFI/Linux/{each['localAddon']}" for each in their["addons"]]
    assert sorted(found) == sorted(f"efi/{name}" for name in said)
    opened = formats.open_bundle(
        FileData.open(path, "kernel"), addons=[FileData.open(esp / each, "add-on") for each in found]
    )
    line = opened.command_line or ""
    assert line == f"from the image y=loader/addons z=loader/addons y={own} z={own}"
    assert sorted(line.split()) == sorted(their["cmdline"].split())

"""Put the files of a distribution's package below a folder: ``python3 -m tools.packaging.stage FOLDER``.

It is run where the sources are unpacked. All of Python's files go to one folder of the package's own, which
depends on no version of Python.
"""

import argparse
import os
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2]
sys.path.insert(0, os.fspath(SOURCE))

from pykexec.integration import documentation, install  # noqa: E402
from pykexec.integration.commands import OWN  # noqa: E402
from pykexec.kdump.service import installation  # noqa: E402

_OWN = OWN.lstrip("/")
_INTEGRATION = f"{OWN}/integration"
_PYKDUMP = "/usr/sbin/pykdump"
_PROGRAMS = {
    "/usr/sbin/pykexec": "from pykexec.cli import main",
    _PYKDUMP: "from pykexec.kdump.cli import main",
    _INTEGRATION: "from pykexec.integration.__main__ import run as main",
}
_LAUNCHER = """\
#!/usr/bin/python3 -I
import sys

sys.path.insert(0, "{own}")
{imported}

sys.exit(main())
"""
_ORIGIN = "Part of the distribution's package pykexec."
# mkinitramfs(8) has read the file when it runs its hooks.
_GUARD = """\
# In no image before it is asked for: "export PYKEXEC_INITRAMFS=python", or "=static" for a program without
# Python, in a file of /etc/initramfs-tools/conf.d.
case "${PYKEXEC_INITRAMFS:-}" in
    python) options= ;;
    static) options=--static ;;
    *) exit 0 ;;
esac
"""
_HOOK = "usr/share/initramfs-tools/hooks/pykexec"
# kexec-tools has a page of this name: man(1) shows that one first, and this one where there is no other.
_SHARED_PAGE, _SECTION, _OWN_SECTION = "vmcore-dmesg", "8", "8pykexec"


@dataclass(frozen=True, slots=True)
class File:
    """A file of the package."""

    data: bytes
    mode: int = 0o644


def tree(folders: documentation.Folders, vendor: Path | None = None) -> Mapping[str, File]:
    """Return the files by their paths below the root; `vendor` has libraries that a distribution lacks."""
    return {
        **dict(_modules()),
        **dict(_vendored(vendor) if vendor is not None else ()),
        **dict(_documentation(folders)),
        **{path.lstrip("/"): _launcher(imported) for path, imported in _PROGRAMS.items()},
        installation.PACKAGED_UNIT: _text(installation.unit([_PYKDUMP])),
        installation.PACKAGED_RULES: _text(installation.rules()),
        **dict.fromkeys(installation.PACKAGED_HOOKS, _text(installation.hook([_PYKDUMP], _ORIGIN), 0o755)),
        install.DRACUT_MODULE: _hook(install.DRACUT_TEMPLATE),
        _HOOK: _hook(install.HOOK_TEMPLATE, _GUARD),
        "etc/default/pykdump": File(Path(__file__).with_name("pykdump.default").read_bytes()),
    }


def write(files: Mapping[str, File], root: Path) -> None:
    """Write the files below a folder."""
    for path, file in files.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.data)
        target.chmod(file.mode)


def _modules() -> Iterator[tuple[str, File]]:
    """Yield Python's modules, and what setuptools installs beside them."""
    for path in [*_python_files(SOURCE / "pykexec"), *_package_data()]:
        yield f"{_OWN}/{path.relative_to(SOURCE)}", _copy(path)


def _vendored(folder: Path) -> Iterator[tuple[str, File]]:
    modules = sorted(folder.glob("*/**/*.py"))
    if not modules:
        raise SystemExit(f"there are no libraries in {folder}: tools/build-packages puts them there")
    for path in modules:
        yield f"{_OWN}/{path.relative_to(folder)}", _copy(path)


def _python_files(folder: Path) -> Iterator[Path]:
    # In a checkout pykexec/arch and pykexec/purgatory are links.
    for where, _, names in os.walk(folder, followlinks=True):
        yield from (Path(where, name) for name in sorted(names) if name.endswith(".py"))


def _package_data() -> Iterator[Path]:
    settings = tomllib.loads((SOURCE / "pyproject.toml").read_text())["tool"]["setuptools"]
    for package, patterns in settings["package-data"].items():
        for pattern in patterns:
            yield from sorted((SOURCE / package.replace(".", "/")).glob(pattern))


def _documentation(folders: documentation.Folders) -> Iterator[tuple[str, File]]:
    for path, (kind, name) in documentation.places(folders).items():
        text = documentation.text(kind, name)
        if (kind, name) == ("man", _SHARED_PAGE):
            path = f"{path.removesuffix(_SECTION)}{_OWN_SECTION}"
            text = re.sub(rf"^(\.TH \S+) {_SECTION} ", rf"\1 {_OWN_SECTION} ", text, count=1, flags=re.M)
        yield path, _text(text)


def _hook(template: str, guard: str | None = None) -> File:
    return _text(install.filled(template, [_INTEGRATION], origin=_ORIGIN, guard=guard), 0o755)


def _launcher(imported: str) -> File:
    return _text(_LAUNCHER.format(own=OWN, imported=imported), 0o755)


def _text(text: str, mode: int = 0o644) -> File:
    return File(text.encode(), mode)


def _copy(path: Path) -> File:
    data = path.read_bytes()
    # setuptools takes no modes from scripts that are data: pykexec sets them where it puts them.
    is_program = data.startswith(b"#!") or path.stat().st_mode & 0o100
    return File(data, 0o755 if is_program else 0o644)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--zsh", default="usr/share/zsh/site-functions", help="where zsh finds completions")
    parser.add_argument("--vendor", type=Path, help="where the libraries are that the distribution lacks")
    arguments = parser.parse_args()
    folders = documentation.Folders(
        man="usr/share/man",
        bash="usr/share/bash-completion/completions",
        zsh=arguments.zsh,
        fish="usr/share/fish/vendor_completions.d",
    )
    write(tree(folders, arguments.vendor), arguments.folder)


if __name__ == "__main__":
    main()

"""A FIT image made by hand, from U-Boot's doc/usage/fit/source_file_format.rst."""

import hashlib

from tests.support.dtb import Blob, Tree


def fit(arch: str, kernel: bytes, initrd: bytes, tree: Tree, line: str) -> bytes:
    """Return one with a kernel, its initrd, device tree and command line, in one configuration."""
    two = (2).to_bytes(4)
    cells: Tree = {"#address-cells": two, "#size-cells": two, **tree}
    images: Tree = {
        "kernel": _image(arch, "kernel", kernel),
        "initrd": _image(arch, "ramdisk", initrd),
        "tree": _image(arch, "flat_dt", Blob(cells).build()),
    }
    parts = {"kernel": "kernel", "ramdisk": "initrd", "fdt": "tree", "bootargs": line}
    configurations: Tree = {"default": b"one\0", "one": {key: _text(name) for key, name in parts.items()}}
    return Blob({"description": b"x\0", "images": images, "configurations": configurations}).build()


def _image(arch: str, kind: str, data: bytes) -> Tree:
    said = {"type": kind, "arch": arch, "os": "linux", "compression": "none"}
    digest: Tree = {"algo": b"sha256\0", "value": hashlib.sha256(data).digest()}
    return {"data": data, **{key: _text(value) for key, value in said.items()}, "hash": digest}


def _text(value: str) -> bytes:
    return value.encode() + b"\0"

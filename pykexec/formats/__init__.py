"""Containers of kernels on any architecture, recognised by their first bytes, and what is in them."""

from collections.abc import Sequence

from pykexec.errors import ImageError
from pykexec.files import FileData, Placed
from pykexec.formats import magic
from pykexec.formats.bundle import Bundle
from pykexec.values import replace

__all__ = ["Bundle", "is_bundle", "open_bundle", "unwrap"]

_NESTING_MAX = 4


def unwrap(file: FileData, *, keep_bundles: bool = False) -> tuple[FileData, str]:
    """Return the kernel inside, and the names of its containers ("EFI zboot, gzip"); "" for a bare kernel.

    A container that holds more than a kernel is opened as by `open_bundle` without further arguments. With
    `keep_bundles` it stays closed. Raises ImageError for a damaged container.
    """
    wrappings: list[str] = []
    for _ in range(_NESTING_MAX + 1):
        found = None if keep_bundles and is_bundle(file) else _open(file)
        if found is None:
            return file, ", ".join(wrappings)
        contents, name = found
        placed = file.placed or _placed(file)
        file = replace(FileData.from_bytes(file.path, contents, [file]), placed=placed)
        wrappings.append(name)
    raise ImageError(f"{file.path}: wrapped more than {_NESTING_MAX} times: {', '.join(wrappings)} ...")


def is_bundle(file: FileData) -> bool:
    """Return whether the file has more in it than a kernel: a unified kernel image, or a FIT image."""
    return _bundle_kind(file.data) is not None


def open_bundle(
    file: FileData,
    choice: str | None = None,
    *,
    compatible: Sequence[str] = (),
    addons: Sequence[FileData] = (),
    options: str | None = None,
    secure_boot: bool = False,
) -> Bundle:
    """Return the kernel in such a container, and what belongs to it.

    `choice` names a profile (number, ID or title) or a configuration; None is the default. `compatible` has
    the strings of the machine's device tree. `addons` are files in the order of `uki.addon_names`. `options`
    are a boot loader's; they replace the container's command line, see `uki.Uki.select`. Raises ImageError
    for a damaged container, an unknown choice, and a file that is no such container.
    """
    kind = _bundle_kind(file.data)
    if kind == "uki":
        from pykexec.formats import uki

        return uki.parse(file.path, file.data).select(
            choice,
            compatible=compatible[0] if compatible else None,
            addons=[uki.parse_addon(each.path, each.data) for each in addons],
            options=options,
            secure_boot=secure_boot,
        )
    if addons:
        raise ImageError(f"{file.path}: add-ons are for unified kernel images, which this is not")
    if kind == "fit":
        from pykexec.formats import fit

        found = fit.parse(file.path, file.data).select(choice, compatible=compatible)
        return found if options is None else replace(found, command_line=options)
    raise ImageError(f"{file.path}: neither a unified kernel image nor a FIT image: nothing to choose from")


def _open(file: FileData) -> tuple[bytes | memoryview, str] | None:
    """Remove the outermost container; return its contents and its name. None where there is none."""
    path, data = file.path, file.data
    if packed := magic.compression(data):
        from pykexec.formats import compression

        return compression.decompress(path, data, packed), packed
    if magic.is_zboot(data):
        from pykexec.formats import zboot

        return zboot.payload(path, data), "EFI zboot"
    if bytes(data[: len(magic.UIMAGE)]) == magic.UIMAGE:
        from pykexec.formats import uimage

        return uimage.contents(path, data), "uImage"
    if _bundle_kind(data):
        bundle = open_bundle(file)
        return bundle.kernel, bundle.format
    return None


def _placed(file: FileData) -> Placed | None:
    if bytes(file.data[: len(magic.UIMAGE)]) != magic.UIMAGE:
        return None
    from pykexec.formats import uimage

    return uimage.placed(file.data)


def _bundle_kind(data: memoryview) -> str | None:
    if not magic.may_be_bundle(data):
        return None
    if bytes(data[:4]) == magic.DEVICE_TREE:
        from pykexec.formats import fit

        return "fit" if fit.matches(data) else None
    from pykexec.formats import uki

    return "uki" if uki.matches(data) else None

"""Find the files from which the running kernel was booted."""

import re
from collections.abc import Iterator

from pykexec.booting.kernel import release_of
from pykexec.bootpaths import PARTITIONS, efi_variable, first_file, listed, locate, parts_of, view
from pykexec.errors import MachineError
from pykexec.files import FileData
from pykexec.formats import uki
from pykexec.machine.root import Root
from pykexec.machine.sysfs import read_text
from pykexec.parameters import parameters
from pykexec.values import dataclass

_INITRD_NAMES = (
    ("initrd.img", ""),  # Debian, Ubuntu
    ("initramfs", ".img"),  # Fedora, RHEL, Arch, Gentoo
    ("initrd", ""),  # SUSE
    ("initramfs", ""),  # Alpine
    ("initrd", ".img"),  # Mageia
)
"""The text before and after the version in an initrd's name."""


@dataclass(frozen=True, slots=True)
class RunningKernel:
    """The files from which the running kernel was most likely booted; paths are relative to the root."""

    kernel: str
    """A kernel, or a unified kernel image."""
    initrds: tuple[str, ...]
    """Empty where none belongs to the kernel, or where it is in the image."""
    why: str
    """How the kernel was found."""
    profile: str | None = None
    """A unified kernel image's profile: its number or ID, where that is known."""


def running_kernel(root: Root, release: str, command_line: str) -> RunningKernel:
    """Find the running kernel's image and initrd by its release (``uname -r``) and command line.

    The boot loader's information counts more than names, unless the file has been replaced since. Raises
    MachineError, which lists the places that were searched.
    """
    image, why = _image(root, release, command_line)
    initrds = tuple(_initrd_parameters(root, command_line)) or tuple(_initrd_of(root, image, release))
    return RunningKernel(image, initrds, why)


def _image(root: Root, release: str, command_line: str) -> tuple[str, str]:
    """Return the image's path, and why it is that one."""
    for word in parameters(command_line):
        name, _, value = word.partition("=")
        if name == "BOOT_IMAGE":
            # GRUB puts its own name of the disk before the path, as in (hd0,gpt2)/vmlinuz.
            image = locate(root, ["boot"], re.sub(r"^\([^)]*\)", "", value))
            if image is not None and _fits(root, image, release):
                return image, f"BOOT_IMAGE={value} of the command line"
    stub = efi_variable(root, "StubImageIdentifier")
    image = locate(root, PARTITIONS, stub) if stub else None
    if image is not None and uki.matches(view(root, image)):
        return image, "the EFI variable StubImageIdentifier"
    usual = list(_usual_images(root, release))
    image = first_file(root, usual)
    if image is None:
        raise MachineError(
            f"no image of the running kernel, {release}; looked for {listed(usual[:3])} and others",
            hint="name the kernel's file",
        )
    return image, f"the running kernel's release, {release}"


def _fits(root: Root, image: str, release: str) -> bool:
    """Return whether the image may be the running kernel's. If its release differs, it has been replaced."""
    found = release_of(FileData(image, view(root, image)))
    return found is None or found == release


def _usual_images(root: Root, release: str) -> Iterator[str]:
    """Yield the paths where distributions and kernel-install put images."""
    for name in ("vmlinuz", "vmlinux", "Image", "kernel", "zImage"):
        yield f"boot/{name}-{release}"
    for folder in ("usr/lib/modules", "lib/modules"):
        yield f"{folder}/{release}/vmlinuz"
        yield f"{folder}/{release}/Image"
    for name in ("kernel/entry-token", "machine-id"):
        token = read_text(root, f"etc/{name}")
        if token and "/" not in token:
            yield from (f"{partition}/{token}/{release}/linux" for partition in PARTITIONS)


def _initrd_parameters(root: Root, command_line: str) -> Iterator[str]:
    """Yield the files of the EFI stub's ``initrd=``, by which boot loaders name files on the partition."""
    for word in parameters(command_line):
        name, _, value = word.partition("=")
        # The other form, initrd=ADDRESS,SIZE, is written by early firmware.
        if name == "initrd" and not value[:1].isdigit() and (path := locate(root, PARTITIONS, value)):
            yield path


def _initrd_of(root: Root, image: str, release: str) -> Iterator[str]:
    """Yield the initrd that belongs to the image by its name, if there is one; kernels need none."""
    if uki.matches(view(root, image)):
        return
    *folder, name = parts_of(image)
    version = name.partition("-")[2]
    beside = [f"{prefix}-{version}{end}" for prefix, end in _INITRD_NAMES] if version else ["initrd"]
    places = ["/".join((*folder, each)) for each in beside]
    places += [f"boot/{prefix}-{release}{end}" for prefix, end in _INITRD_NAMES]
    places += [f"usr/lib/modules/{release}/initrd", f"lib/modules/{release}/initrd"]
    found = first_file(root, places)
    if found is not None:
        yield found

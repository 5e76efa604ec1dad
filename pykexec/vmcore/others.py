"""Files that are no dump this package reads: their kind, and what to do with them."""

from typing import NamedTuple

from pykexec.vmcore.source import Source

_SWAP_SIGNATURE_AT = 4096 - 10
"""The offset with pages of 4 KiB (include/linux/swap.h, union swap_header)."""


class Other(NamedTuple):
    """A kind of file, recognised by some of its bytes."""

    magic: bytes
    what: str
    remedy: str | None
    """None: libkdumpfile may read it."""
    at: int = 0
    """The offset of the magic, in bytes."""


def _packed(by: str) -> str:
    return f"unpack it: {by} -d"


_MEMORY_ONLY = "for a dump of a guest that runs: virsh dump --memory-only DOMAIN FILE"
_CRASH_READS = "crash reads it as it is"
_START_AND_DUMP = "the guest can go on from it, and be dumped then"

_OTHERS = (
    Other(b"DISKDUMP", "a dump of the old diskdump facility", None),
    # qemu: migration/savevm.h; libvirt: src/qemu/qemu_saveimage.h
    Other(b"QEVM", "a guest's state as QEMU saves or migrates it, not a dump",
          f"{_CRASH_READS} (x86); {_MEMORY_ONLY}"),
    Other(b"LibvirtQemudSave", "a guest's state as libvirt saves it (virsh save, virsh dump), not a dump",
          f"{_CRASH_READS} (x86); {_MEMORY_ONLY}"),
    Other(b"LibvirtQemudPart", "a guest's state whose saving by libvirt was not finished",
          f"save it again; {_MEMORY_ONLY}"),
    Other(b"QFI\xfb", "a disk image of QEMU (qcow2), which may have snapshots of a guest's memory",
          f"load the snapshot (virsh snapshot-revert); {_MEMORY_ONLY}"),
    # LiME: doc/README.md; AVML has its own version, with compressed blocks.
    Other(b"EMiL", "a memory image of LiME", "Volatility reads it; crash, drgn and makedumpfile do not"),
    Other(b"AVML", "a memory image of AVML",
          "avml-convert makes one of LiME or of raw memory of it; Volatility reads it"),
    # crash: vmware_vmss.h
    *(
        Other(bytes.fromhex(magic), "a guest's state as VMware saves it (.vmss, .vmsn)",
              f"{_CRASH_READS}, with the .vmem file beside it; vmss2core makes a core file of it")
        for magic in ("d0bed2be", "d1bad1ba", "d2bed2be", "d3bed3be")
    ),
    Other(b"\x7fVirtualBox SavedState", "a guest's state as VirtualBox saves it",
          "for a dump of a guest that runs: VBoxManage debugvm NAME dumpvmcore --filename=FILE"),
    # xen: old versions of tools/include/xenctrl.h, libxl_internal.h
    Other(b"\xed\xeb\x0f\xf0", "a core of a Xen guest in the old format", _CRASH_READS),
    Other(b"\xee\xeb\x0f\xf0", "a core of a Xen guest in the old format", _CRASH_READS),
    Other(b"LibxlFmt", "a guest's state as Xen saves it (xl save), not a dump",
          "for a dump of a guest that runs: xl dump-core DOMAIN FILE"),
    Other(b"Xen saved domain", "a guest's state as Xen saves it (xl save), not a dump",
          "for a dump of a guest that runs: xl dump-core DOMAIN FILE"),
    # kernel/power/swap.c: written over SWAPSPACE2
    Other(b"S1SUSPEND", "a swap space with the image of a machine that hibernates", _START_AND_DUMP,
          _SWAP_SIGNATURE_AT),
    Other(b"SWAPSPACE2", "a swap space, and no dump in it", "see where the dump goes: pykdump status",
          _SWAP_SIGNATURE_AT),
    Other(b"LINHIB0001", "an image of hibernation (uswsusp)", _START_AND_DUMP),
    Other(b"PAGEDUMP", "a memory dump of Windows, of 32 bits", "WinDbg reads it, Volatility, too"),
    Other(b"PAGEDU64", "a memory dump of Windows, of 64 bits", "WinDbg reads it, Volatility, too"),
    Other(b"MDMP", "a minidump of Windows", "WinDbg reads it"),
    Other(b"hibr", "a hibernation file of Windows", "Volatility reads it"),
    Other(b"HIBR", "a hibernation file of Windows", "Volatility reads it"),
    Other(b"\x1f\x8b", "compressed with gzip", _packed("gzip")),
    Other(b"\xfd7zXZ", "compressed with xz", _packed("xz")),
    Other(b"\x28\xb5\x2f\xfd", "compressed with zstd", _packed("zstd")),
    Other(b"BZh", "compressed with bzip2", _packed("bzip2")),
    Other(b"\x04\x22\x4d\x18", "compressed with lz4", _packed("lz4")),
    Other(b"\x89LZO\0\r\n\x1a\n", "compressed with lzop", _packed("lzop")),
)  # fmt: skip


def recognise(source: Source) -> Other | None:
    """Return the kind of a file; None where it is none of these. Raises DumpError when it cannot be read."""
    for other in _OTHERS:
        if source.read_at(other.at, len(other.magic)) == other.magic:
            return other
    return None

"""The parameter area of an image (arch/s390/include/asm/setup.h). After a change: tools/compile-layouts."""

from construct import Int64ub, Struct

PARAMETER_AREA = Struct(
    "ipl_device" / Int64ub,
    # Addresses as the kernel sees them, which runs at 0.
    "initrd_start" / Int64ub,
    "initrd_size" / Int64ub,
    # The region that was reserved, where a capture kernel finds the crashed one's memory.
    "oldmem_base" / Int64ub,
    "oldmem_size" / Int64ub,
    "kernel_version" / Int64ub,  # where its text is
    "max_command_line_size" / Int64ub,  # in bytes, with the NUL; 0 in old kernels
)

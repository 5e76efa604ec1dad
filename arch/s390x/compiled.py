"""Compiled from declared.py by tools/compile-layouts: change that one."""

from pykexec.records import Record

PARAMETER_AREA = Record(
    ">QQQQQQQ",
    "ipl_device initrd_start initrd_size oldmem_base oldmem_size kernel_version max_command_line_size",
)

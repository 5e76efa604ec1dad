"""Compiled from declared.py by tools/compile-layouts: change that one."""

from pykexec.records import Record

HEADER = Record(
    "<LLQQQ24x4sL",
    "code0 code1 text_offset image_size flags magic res5",
)

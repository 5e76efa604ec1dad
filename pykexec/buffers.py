"""Addresses of Python buffers, for system calls."""

from __future__ import annotations

import ctypes


class _PyBuffer(ctypes.Structure):
    """Py_buffer (Include/pybuffer.h), part of the stable ABI since Python 3.11."""

    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.c_void_p),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    )


class PinnedBuffer:
    """The bytes of a contiguous view, writable or not; their address is fixed as long as this object lives.

    ctypes itself gives addresses of writable buffers only.
    """

    def __init__(self, data: memoryview) -> None:
        self._buffer = _PyBuffer()
        contiguous_bytes = ctypes.c_int(0)  # PyBUF_SIMPLE
        get = ctypes.pythonapi.PyObject_GetBuffer
        get(ctypes.py_object(data), ctypes.byref(self._buffer), contiguous_bytes)

    @property
    def address(self) -> int | None:
        address: int | None = self._buffer.buf
        return address

    def __del__(self) -> None:
        ctypes.pythonapi.PyBuffer_Release(ctypes.byref(self._buffer))

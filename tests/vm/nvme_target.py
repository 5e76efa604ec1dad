"""A small NVMe/TCP target in user space: one namespace of blocks of 512 bytes, no digests, no secrets.

NVM Express Base Specification 2.0: commands. NVM Express TCP Transport Specification 1.0: PDUs (3.6).
"""

import contextlib
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

_BLOCK = 512
_QUEUE = 128
_INIT_REQUEST, _INIT_RESPONSE, _COMMAND, _RESPONSE, _TO_TARGET, _TO_HOST, _READY = 0, 1, 4, 5, 6, 7, 9
_FLUSH, _WRITE, _READ, _IDENTIFY, _SET_FEATURES, _GET_FEATURES = 0, 1, 2, 6, 9, 10
_LOG_PAGE, _ASYNC_EVENT, _KEEP_ALIVE, _FABRICS = 2, 0x0C, 0x18, 0x7F
_NUMBER_OF_QUEUES = 7
_CAPABILITIES, _VERSION, _CONFIGURATION, _STATUS = 0, 8, 0x14, 0x1C
_INVALID_OPCODE, _INVALID_FIELD = 1, 2
_DO_NOT_RETRY = 0x4000
_UUID = bytes(range(16))


class Target:
    """The target and its sessions, which end with it."""

    def __init__(self, file: Path, name: str, address: str) -> None:
        self.name = name.encode()
        self.disk = os.open(file, os.O_RDWR)
        self.blocks = os.fstat(self.disk).st_size // _BLOCK
        self.configuration = 0
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.listener = socket.create_server((address, 0), family=family)

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    def run(self) -> None:
        with contextlib.suppress(OSError):  # the end
            while True:
                connection, _ = self.listener.accept()
                threading.Thread(target=_Queue(self, connection).run, daemon=True).start()

    def identify(self, what: int) -> bytes | None:
        """The data structure of that number: 0 namespace, 1 controller, 2 list, 3 identifiers."""
        if what > 3:
            return None
        data = bytearray(4096)
        if what == 0:
            struct.pack_into("<3Q", data, 0, self.blocks, self.blocks, self.blocks)
            data[104:120] = _UUID  # NGUID
            data[130] = 9  # LBADS: 512 bytes
        elif what == 1:
            struct.pack_into("<HH20s40s8s", data, 0, 1, 1, b"1".ljust(20), b"test".ljust(40), b"1".ljust(8))
            struct.pack_into("<HI", data, 78, 1, 0x10300)  # CNTLID, VER
            data[111] = 1  # CNTRLTYPE: I/O
            struct.pack_into("<H", data, 320, 10)  # KAS
            data[512:514] = b"\x66\x44"  # SQES, CQES
            struct.pack_into("<HI", data, 514, _QUEUE, 1)  # MAXCMD, NN
            data[525] = 1  # VWC: flushes are to be sent
            struct.pack_into("<I", data, 536, 1 | 1 << 20)  # SGLS
            data[768 : 768 + len(self.name)] = self.name
            struct.pack_into("<II", data, 1792, 4, 1)  # IOCCSZ, IORCSZ
        elif what == 2:
            struct.pack_into("<I", data, 0, 1)
        else:
            struct.pack_into("<BBH16s", data, 0, 3, 16, 0, _UUID)
        return bytes(data)


class _Queue:
    """A connection, which is a queue of its own."""

    def __init__(self, target: Target, connection: socket.socket) -> None:
        self.target = target
        self.connection = connection
        self.head = self.id = 0
        self.writes: dict[int, tuple[int, int]] = {}
        """The offsets on the disk and remaining bytes of commands whose data comes, by their identifiers."""

    def run(self) -> None:
        with contextlib.suppress(EOFError, OSError), self.connection:
            while True:
                kind, _, _, offset, length = struct.unpack("<4BI", self._receive(8))
                body = self._receive(length - 8)
                if kind == _INIT_REQUEST:
                    self._send(_INIT_RESPONSE, struct.pack("<HBBI112x", 0, 0, 0, 1 << 20))
                elif kind == _COMMAND:
                    self._run_command(body[:64], body[64:])
                elif kind == _TO_TARGET:
                    self._take(body, offset - 8)

    def _receive(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self.connection.recv(size - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    def _send(self, kind: int, header: bytes, data: bytes = b"", flags: int = 0) -> None:
        size = 8 + len(header)
        common = struct.pack("<4BI", kind, flags, size, size if data else 0, size + len(data))
        self.connection.sendall(common + header + data)

    def _answer(self, command: int, status: int = 0, result: int = 0) -> None:
        self.head = (self.head + 1) % _QUEUE
        self._send(_RESPONSE, struct.pack("<QHHHH", result, self.head, self.id, command, status << 1))

    def _bring(self, command: int, data: bytes | None) -> None:
        if data is None:
            self._answer(command, _INVALID_FIELD | _DO_NOT_RETRY)
            return
        self._send(_TO_HOST, struct.pack("<HHIII", command, 0, 0, len(data), 0), data, flags=4)
        self._answer(command)

    def _take(self, body: bytes, offset: int) -> None:
        command, _, at, size = struct.unpack_from("<HHII", body)
        start, left = self.writes[command]
        os.pwrite(self.target.disk, body[offset : offset + size], start + at)
        self.writes[command] = start, left - size
        if left == size:
            self._answer(command)

    def _run_command(self, words: bytes, data: bytes) -> None:
        code, command = words[0], int.from_bytes(words[2:4], "little")
        if code == _FABRICS:
            self._run_fabrics(words, data, command)
        elif self.id == 0:
            self._run_admin(words, command)
        else:
            self._run_io(words, data, command)

    def _run_fabrics(self, words: bytes, data: bytes, command: int) -> None:
        offset, value = struct.unpack_from("<IQ", words, 44)
        if words[4] == 1:  # Connect
            self.id = int.from_bytes(words[42:44], "little")
            assert data[256:512].rstrip(b"\0") == self.target.name
            self._answer(command, result=1)
        elif words[4] == 0:  # Property Set
            self.target.configuration = value if offset == _CONFIGURATION else self.target.configuration
            self._answer(command)
        else:  # Property Get
            ready = self.target.configuration & 1 | (8 if self.target.configuration >> 14 & 3 else 0)
            properties = {
                _CAPABILITIES: _QUEUE - 1 | 1 << 16 | 16 << 24 | 1 << 37,
                _VERSION: 0x10300,
                _CONFIGURATION: self.target.configuration,
                _STATUS: ready,
            }
            status = 0 if offset in properties else _INVALID_FIELD
            self._answer(command, status, properties.get(offset, 0))

    def _run_admin(self, words: bytes, command: int) -> None:
        def features() -> None:
            self._answer(command, result=3 | 3 << 16 if words[40] == _NUMBER_OF_QUEUES else 0)

        def log_page() -> None:
            self._bring(command, bytes((int.from_bytes(words[42:44], "little") + 1) * 4))

        answers: Mapping[int, Callable[[], None]] = {
            _IDENTIFY: lambda: self._bring(command, self.target.identify(words[40])),
            _SET_FEATURES: features,
            _GET_FEATURES: features,
            _LOG_PAGE: log_page,
            _ASYNC_EVENT: lambda: None,
            _KEEP_ALIVE: lambda: self._answer(command),
        }
        answers.get(words[0], lambda: self._answer(command, _INVALID_OPCODE | _DO_NOT_RETRY))()

    def _run_io(self, words: bytes, data: bytes, command: int) -> None:
        first, number = struct.unpack_from("<QH", words, 40)
        start, size = first * _BLOCK, (number + 1) * _BLOCK
        if words[0] == _READ:
            self._bring(command, os.pread(self.target.disk, size, start))
        elif words[0] == _WRITE and data:
            os.pwrite(self.target.disk, data[:size], start)
            self._answer(command)
        elif words[0] == _WRITE:
            self.writes[command] = start, size
            self._send(_READY, struct.pack("<HHIII", command, 1, 0, size, 0))
        elif words[0] == _FLUSH:
            self._answer(command)
        else:
            self._answer(command, _INVALID_OPCODE | _DO_NOT_RETRY)


@contextlib.contextmanager
def serve(disk: Path, name: str, address: str = "127.0.0.1") -> Iterator[int]:
    """Serve a file as a disk; the port on this machine."""
    target = Target(disk, name, address)
    thread = threading.Thread(target=target.run, daemon=True)
    thread.start()
    try:
        yield target.port
    finally:
        target.listener.shutdown(socket.SHUT_RDWR)
        target.listener.close()
        thread.join()

"""Framed messages between the flow's process, the supervisors and the simulators' hosts."""

import os
import selectors
import socket
import struct
from typing import Any

import orjson

__all__ = ["Channel", "Frames", "pack", "receive", "write_all"]

Document = dict[str, Any]
Frame = tuple[Document, bytes]

_HEADER = struct.Struct(">IQ")
_PIECE = 1 << 18


def pack(document: Document, blob: bytes = b"") -> bytes:
    """A frame: a JSON document, and bytes that go beside it."""
    body = orjson.dumps(document)
    return b"".join((_HEADER.pack(len(body), len(blob)), body, blob))


def write_all(descriptor: int, data: bytes) -> None:
    """Write to a blocking pipe, which may take less than it is given."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


class Frames:
    """Cuts a stream of bytes into frames."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """Take bytes as they come; returns the frames that are whole now."""
        self._data += data
        frames: list[Frame] = []
        start = 0
        while len(self._data) - start >= _HEADER.size:
            body, blob = _HEADER.unpack_from(self._data, start)
            middle = start + _HEADER.size + body
            if len(self._data) < middle + blob:
                break
            view = memoryview(self._data)
            frames.append((orjson.loads(view[middle - body : middle]), bytes(view[middle : middle + blob])))
            view.release()
            start = middle + blob
        if start:
            del self._data[:start]
        return frames


def receive(sock: socket.socket, frames: Frames) -> list[Frame]:
    """Wait for at least one frame on a blocking socket; no frames when the other side is gone."""
    while True:
        try:
            data = sock.recv(_PIECE)
        except ConnectionError:
            return []
        if not data:
            return []
        if received := frames.feed(data):
            return received


class Channel:
    """A socket that never blocks: what cannot be sent at once waits in `unsent`.

    Attributes:
        sock: the socket.
        unsent: bytes that wait for the other side.
        closed: whether the other side is gone.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.unsent = bytearray()
        self.closed = False
        self._frames = Frames()

    @property
    def events(self) -> int:
        """What a selector is to wait for: frames, and room for what waits to be sent."""
        return selectors.EVENT_READ | (selectors.EVENT_WRITE if self.unsent else 0)

    def send(self, document: Document, blob: bytes = b"") -> None:
        """Send a frame, or as much of it as the other side takes now."""
        self.unsent += pack(document, blob)
        self.flush()

    def flush(self) -> None:
        """Send what waits, as far as the other side takes it."""
        try:
            while self.unsent:
                del self.unsent[: self.sock.send(memoryview(self.unsent)[:_PIECE].tobytes())]
        except BlockingIOError:
            return
        except OSError:
            self.closed = True
            self.unsent.clear()

    def receive(self) -> list[Frame]:
        """The frames that have arrived; sets `closed` when there will be no more."""
        frames: list[Frame] = []
        while not self.closed:
            try:
                data = self.sock.recv(_PIECE)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                self.closed = True
                break
            frames += self._frames.feed(data)
            if len(data) < _PIECE:
                break
        return frames

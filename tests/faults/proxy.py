"""A TCP proxy that does to connections what bad networks and overloaded servers do."""

import random
import socket
import threading
from contextlib import suppress

__all__ = ["Proxy"]

_SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"
BUSY = (
    b"HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s"
    % (len(_SLOW_DOWN), _SLOW_DOWN)
)


class Proxy:
    """Listens on a loopback port in front of another.

    Args:
        port: the real server's.
        seed: of what is decided by chance.

    Attributes:
        port: its own.
        drops: share of answers of which the client gets nothing, or only the first bytes.
        refusals: share of connections that are answered by "503 Slow Down".
        dropped: how many answers were dropped.
        refused: how many connections were refused.
    """

    def __init__(self, port, seed=0):
        self.drops = self.refusals = 0.0
        self.dropped = self.refused = 0
        self._to, self._random = port, random.Random(seed)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self):
        """Listen no more."""
        self._listener.close()

    def _serve(self):
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _pass_on(self, client):
        if self._random.random() < self.refusals:
            self.refused += 1
            with suppress(OSError), client:
                client.recv(65536)
                client.sendall(BUSY)
            return
        with suppress(OSError), client, socket.create_connection(("127.0.0.1", self._to)) as server:
            threading.Thread(target=self._copy, args=(client, server), daemon=True).start()
            while answer := server.recv(65536):
                if self._random.random() < self.drops:
                    self.dropped += 1
                    client.sendall(answer[: self._random.choice([0, 0, 40, len(answer) // 2])])
                    client.shutdown(socket.SHUT_RDWR)
                    return
                client.sendall(answer)

    @staticmethod
    def _copy(client, server):
        with suppress(OSError):
            while data := client.recv(65536):
                server.sendall(data)
        with suppress(OSError):
            server.shutdown(socket.SHUT_WR)

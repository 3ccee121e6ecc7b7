"""A TCP proxy on loopback that cuts connections where a test says, and a server that never answers."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

PIECE = 1 << 14


class Proxy:
    """Forwards connections to a port of loopback.

    Args:
        upstream: the server's port.
        down: bytes from the server after which each connection is cut, in order of connections; None and those after
            the last are whole.
        up: the same, of bytes to the server.
    """

    def __init__(self, upstream: int, *, down: tuple[int | None, ...] = (), up: tuple[int | None, ...] = ()) -> None:
        self.upstream = upstream
        self.connections = 0
        self.cuts = 0
        self.passed = 0
        """Bytes from the server that were passed on."""
        self._down, self._up = list(down), list(up)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            self.connections += 1
            down = self._down.pop(0) if self._down else None
            up = self._up.pop(0) if self._up else None
            server = socket.create_connection(("127.0.0.1", self.upstream))
            for source, sink, limit, counted in ((client, server, up, False), (server, client, down, True)):
                threading.Thread(target=self._forward, args=(source, sink, limit, counted), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket, limit: int | None, counted: bool) -> None:
        left = limit
        with contextlib.suppress(OSError):
            while piece := source.recv(PIECE if left is None else min(PIECE, left)):
                sink.sendall(piece)
                self.passed += len(piece) if counted else 0
                if left is not None:
                    left -= len(piece)
                    if not left:
                        self.cuts += 1
                        for end in (source, sink):  # reset, as a router does: nothing more, and no orderly end
                            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        break
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@contextmanager
def proxy(upstream: int, *, down: tuple[int | None, ...] = (), up: tuple[int | None, ...] = ()) -> Iterator[Proxy]:
    """A `Proxy`, closed at the end."""
    running = Proxy(upstream, down=down, up=up)
    try:
        yield running
    finally:
        running.close()


@contextmanager
def silent() -> Iterator[int]:
    """The port of a server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield server.getsockname()[1]

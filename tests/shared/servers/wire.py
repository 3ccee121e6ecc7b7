"""A TCP connection's worth of trouble: a proxy that cuts, holds back or swallows what passes."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

PIECE = 1 << 16


@dataclass
class Wire:
    """Listens on loopback and passes bytes on to `port`; settings may change while it does.

    Use it as a context manager.
    """

    port: int
    cut_up: int | None = None
    """Bytes from the client after which a connection is reset."""
    cut_down: int | None = None
    """Bytes from the server after which a connection is reset."""
    cuts: int | None = None
    """How many connections are reset before the wire is whole; None: it never is."""
    orderly: bool = False
    """Cut by FIN, after which everything sent before still arrives; a reset throws away what is on its way."""
    hang: bool = False
    """Take connections and never answer."""
    hold: Callable[[bytes], float] = lambda piece: 0.0
    """Seconds that a piece from the client is held back."""
    passed_up: int = 0
    passed_down: int = 0
    was_cut: int = 0
    _closing: bool = False
    _open: list[socket.socket] = field(default_factory=list)

    def __enter__(self) -> Wire:
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(self, *reason: object) -> None:
        self._closing = True
        for link in [self._listener, *self._open]:
            with contextlib.suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)
            link.close()

    @property
    def host(self) -> str:
        """``name:port`` to connect to."""
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def _listen(self) -> None:
        while not self._closing:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(near)
            if self.hang:
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self.port))
            except OSError:
                near.close()
                continue
            self._open.append(far)
            for up in (True, False):
                threading.Thread(target=self._pump, args=(near, far, up), daemon=True).start()

    def _pump(self, near: socket.socket, far: socket.socket, up: bool) -> None:
        source, sink = (near, far) if up else (far, near)
        passed = 0
        with contextlib.suppress(OSError):
            while piece := source.recv(PIECE):
                if up and (wait := self.hold(piece)):
                    time.sleep(wait)
                limit = self.cut_up if up else self.cut_down
                whole = self.cuts is not None and self.was_cut >= self.cuts
                if limit is not None and not whole and passed + len(piece) > limit:
                    sink.sendall(piece[: limit - passed])
                    self.was_cut += 1
                    for end in (near, far):
                        _close(end, orderly=self.orderly)
                    return
                sink.sendall(piece)
                passed += len(piece)
                if up:
                    self.passed_up += len(piece)
                else:
                    self.passed_down += len(piece)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


def _close(link: socket.socket, *, orderly: bool) -> None:
    with contextlib.suppress(OSError):
        if not orderly:
            link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        link.shutdown(socket.SHUT_RDWR)
        link.close()

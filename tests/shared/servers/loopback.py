"""An HTTP server on loopback for as long as a context lasts."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self


class Quiet:
    """A handler that keeps no log."""

    def log_message(self, *message: object) -> None:
        pass


class Loopback:
    """Use it as a context manager.

    Args:
        handler: what answers.
    """

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *reason: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def host(self) -> str:
        """``name:port``."""
        return f"127.0.0.1:{self._server.server_address[1]}"

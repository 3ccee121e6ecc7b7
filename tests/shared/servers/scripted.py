"""An HTTP server that answers as a test says: for what no good registry does."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

import trustme

from servers.loopback import Loopback, Quiet


@dataclass(frozen=True)
class Asked:
    """A request."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Reply:
    """An answer."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = b""


class Scripted(Loopback):
    """Answers with what `script` returns and remembers what was asked. Use it as a context manager.

    Args:
        script: what to answer.
        authority: issues its certificate; None: it speaks http.
    """

    def __init__(self, script: Callable[[Asked], Reply], authority: trustme.CA | None = None) -> None:
        self.asked: list[Asked] = []
        scripted = self

        class Handler(Quiet, BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                asked = Asked(
                    self.command, self.path, {name.title(): value for name, value in self.headers.items()}, body
                )
                scripted.asked.append(asked)
                reply = script(asked)
                self.send_response(reply.status)
                for name, value in {"Content-Length": str(len(reply.content)), **reply.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(reply.content)

            do_GET = do_HEAD = do_POST = do_PUT = answer  # noqa: N815

        super().__init__(Handler)
        if authority:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            authority.issue_cert("127.0.0.1").configure_cert(context)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

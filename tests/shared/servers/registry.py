"""Debian's docker-registry on loopback, with a folder of its own for what it stores."""

from __future__ import annotations

import contextlib
import http.client
import os
import resource
import signal
import socket
import ssl
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import trustme
from debian import program

PATIENCE = 20.0
"""Seconds until a registry that does not answer is taken for broken."""
USER, PASSWORD = "robot", "correct horse"
HTPASSWD = "robot:$2b$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2"
"""bcrypt of `PASSWORD`."""


def free_port() -> int:
    """A port of loopback that nobody listens on just now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True)
class TokenService:
    """Where a registry sends its clients for tokens, and whose it believes."""

    realm: str
    certificates: Path


@dataclass
class DebianRegistry:
    """A running registry; `stop` it."""

    folder: Path
    htpasswd: bool = False
    tokens: TokenService | None = None
    authority: trustme.CA | None = None
    """Issues its certificate; None: it speaks http."""
    names: tuple[str, ...] = ("localhost", "127.0.0.1")
    """Of the certificate."""
    largest_file: int | None = None
    """Bytes that one of its files may have: beyond, its disk is as good as full."""
    storage: Path | None = None
    port: int = field(default_factory=free_port)
    log: Path = field(init=False)
    process: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.storage = self.storage or self.folder / "storage"
        self.log = self.folder / "log"
        config = self.folder / "config.yml"
        config.write_text(self._config(), encoding="utf-8")
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [program("docker-registry", "docker-registry"), "serve", str(config)],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                preexec_fn=self._limit,
            )
        self._wait()

    @property
    def host(self) -> str:
        """``name:port``."""
        return f"localhost:{self.port}" if self.authority else f"127.0.0.1:{self.port}"

    def blob(self, digest: str) -> Path:
        """Where the content with `digest` (``sha256:...``) lies on its disk."""
        assert self.storage
        value = digest.removeprefix("sha256:")
        return self.storage / "docker/registry/v2/blobs/sha256" / value[:2] / value / "data"

    def blobs(self) -> set[str]:
        """Digests of everything that it stores."""
        assert self.storage
        return {f"sha256:{path.parent.name}" for path in self.storage.glob("docker/registry/v2/blobs/sha256/*/*/data")}

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(PATIENCE)

    def pause(self) -> None:
        """Let it hang: its port takes connections, and nothing answers."""
        os.kill(self.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """The end of `pause`."""
        os.kill(self.process.pid, signal.SIGCONT)

    def _limit(self) -> None:
        if self.largest_file is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.largest_file, self.largest_file))

    def _config(self) -> str:
        lines = [
            "version: 0.1",
            "log: {level: warn, accesslog: {disabled: true}}",
            f"storage: {{filesystem: {{rootdirectory: {self.storage}}},"
            " maintenance: {uploadpurging: {enabled: false}}}",
            f"http: {{addr: '127.0.0.1:{self.port}', secret: test{self._tls()}}}",
        ]
        if self.htpasswd:
            passwords = self.folder / "htpasswd"
            passwords.write_text(HTPASSWD + "\n", encoding="utf-8")
            lines.append(f"auth: {{htpasswd: {{realm: test, path: {passwords}}}}}")
        if self.tokens:
            lines.append(
                f"auth: {{token: {{realm: '{self.tokens.realm}', service: test, issuer: test, "
                f"rootcertbundle: {self.tokens.certificates}}}}}"
            )
        return "\n".join(lines) + "\n"

    def _tls(self) -> str:
        if not self.authority:
            return ""
        issued = self.authority.issue_cert(*self.names)
        certificate, key = self.folder / "server.pem", self.folder / "server.key"
        for pem in issued.cert_chain_pems:
            pem.write_to_path(str(certificate), append=True)
        issued.private_key_pem.write_to_path(str(key))
        return f", tls: {{certificate: {certificate}, key: {key}}}"

    def _wait(self) -> None:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            assert self.process.poll() is None, self.log.read_text()
            with contextlib.suppress(OSError):
                if self.authority:
                    context = ssl.create_default_context()
                    self.authority.configure_trust(context)
                    context.check_hostname = False
                    connection: http.client.HTTPConnection = http.client.HTTPSConnection(self.host, context=context)
                else:
                    connection = http.client.HTTPConnection(self.host)
                connection.request("GET", "/v2/")
                assert connection.getresponse().status in {200, 401}
                connection.close()
                return
            time.sleep(0.02)
        raise AssertionError(f"docker-registry does not answer: {self.log.read_text()}")

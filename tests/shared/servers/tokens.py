"""A token service as registries send their clients to: it signs what docker-registry then believes."""

from __future__ import annotations

import base64
import datetime
import json
import time
import uuid
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import NameOID

from servers.loopback import Loopback, Quiet
from servers.registry import PASSWORD, USER, TokenService

REFRESH = "a-refresh-token-that-was-given-at-login"
ACTIONS_OF_NOBODY = ("pull",)


class TokenServer(Loopback):
    """Gives pull to anybody; push to who knows the password or the refresh token. Use it as a context manager.

    Tokens are as the Docker Registry v2 "Token Authentication Implementation" has them: JWT, ES256, ``x5c``.

    Args:
        folder: for the certificate that a registry is told to believe.
        seconds: how long a token is good.
    """

    def __init__(self, folder: Path, seconds: float = 60.0, nobody: tuple[str, ...] = ACTIONS_OF_NOBODY) -> None:
        self.asked: list[str] = []
        """Whom each token was for."""
        self.seconds = seconds
        self.nobody = nobody
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tokens")])
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(self._key.public_key())
        builder = builder.serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - datetime.timedelta(days=1))
        self._certificate = builder.not_valid_after(now + datetime.timedelta(days=1)).sign(self._key, hashes.SHA256())
        folder.mkdir(parents=True, exist_ok=True)
        self._pem = folder / "tokens.pem"
        self._pem.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))
        service = self

        class Handler(Quiet, BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                basic = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
                given = self.headers.get("Authorization")
                query = {key: values[-1] for key, values in parse_qs(urlsplit(self.path).query).items()}
                self._answer("" if given is None else USER if given == f"Basic {basic}" else None, query)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                form = {key: values[-1] for key, values in parse_qs(body).items()}
                assert form["grant_type"] == "refresh_token"
                assert form["client_id"]
                self._answer(USER if form["refresh_token"] == REFRESH else None, form)

            def _answer(self, user: str | None, query: dict[str, str]) -> None:
                service.asked.append("?" if user is None else user)
                content = b"{}" if user is None else json.dumps({"token": service.token(user, query)}).encode()
                self.send_response(401 if user is None else 200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        super().__init__(Handler)

    @property
    def service(self) -> TokenService:
        """What a registry is told."""
        return TokenService(f"http://{self.host}/token", self._pem)

    def token(self, user: str, query: dict[str, str]) -> str:
        """A signed token for what `query` asks and `user` may."""
        access = []
        if "scope" in query:
            kind, name, actions = query["scope"].split(":")
            wanted = actions.split(",")
            access = [{"type": kind, "name": name, "actions": wanted if user else sorted({*wanted} & {*self.nobody})}]
        now = int(time.time())
        claims = {
            "iss": "test", "sub": user, "aud": query.get("service", ""), "exp": now + int(self.seconds), "nbf": now - 5,
            "iat": now, "jti": str(uuid.uuid4()), "access": access,
        }  # fmt: skip
        der = base64.b64encode(self._certificate.public_bytes(serialization.Encoding.DER)).decode()
        head = {"typ": "JWT", "alg": "ES256", "x5c": [der]}
        signed = ".".join(_packed(json.dumps(part).encode()) for part in (head, claims))
        r, s = decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{_packed(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def _packed(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()

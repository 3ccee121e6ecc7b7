"""Ed25519 keys: generated, or read from PEM files and the environment; identified by their id.

Private keys are PKCS #8 (RFC 8410), public keys SubjectPublicKeyInfo, both as PEM, like the files of ``openssl``.
Private keys are never printed or logged.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgec.errors import BackendUnavailableError, SignatureError, StorageError, UsageError
from edgec.storage.stops import stops_held

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PASSWORD = "EDGEC_KEY_PASSWORD"
"""Environment variable with the passphrase of private keys."""
SIGNING_KEY = "EDGEC_SIGNING_KEY"
"""Environment variable that holds a private key itself, for CI."""
_LARGEST = 1 << 16
"""Bytes of a key file at most; a key has about a hundred."""
_LONGEST_PASSWORD = 1023
"""Bytes that OpenSSL accepts."""


def require_packages() -> None:
    """Raise BackendUnavailableError unless the packages of the extra ``sign`` are installed."""
    needed = ("cryptography", "securesystemslib", "cyclonedx", "jsonschema", "packageurl")
    if missing := [name for name in needed if importlib.util.find_spec(name) is None]:
        raise BackendUnavailableError(
            f"not installed: {', '.join(missing)}", where="signing", hint="pip install 'edgec[sign]'"
        )


def generate(name: Path, environ: Mapping[str, str] = os.environ) -> str:
    """Make a pair of keys, ``<name>.key`` and ``<name>.pub``, and return its id. Existing files are not overwritten.

    The private key is for its owner only (mode 0600), and encrypted when `PASSWORD` is set.

    Raises:
        UsageError: `name` is a folder, e.g. ``.``.
        SignatureError: one of the files exists, or the passphrase is too long.
        StorageError: they cannot be written.
    """
    require_packages()
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    if name.name in {"", ".."}:
        raise UsageError(f'"{name}" is not a name for a key', hint="--out fleet makes fleet.key and fleet.pub")
    private = Ed25519PrivateKey.generate()
    password = os.fsencode(environ.get(PASSWORD, ""))
    if len(password) > _LONGEST_PASSWORD:
        what = f"the passphrase in {PASSWORD} has {len(password)} bytes, more than {_LONGEST_PASSWORD}"
        raise SignatureError(what, hint="use a shorter one")
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    pem = serialization.Encoding.PEM
    secret = private.private_bytes(pem, serialization.PrivateFormat.PKCS8, encryption)
    public = private.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    _write_new({Path(f"{name}.key"): (secret, 0o600), Path(f"{name}.pub"): (public, 0o644)})
    return key_id(private.public_key())


def _write_new(files: Mapping[Path, tuple[bytes, int]]) -> None:
    """Write all of the files (content and mode) or none; existing files are not overwritten."""
    written: list[Path] = []
    try:
        with stops_held():
            for file, (content, mode) in files.items():
                handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
                written.append(file)
                with os.fdopen(handle, "wb") as stream:
                    stream.write(content)
                    stream.flush()
                    os.fsync(stream.fileno())
    except BaseException as exc:
        for file in written:
            file.unlink(missing_ok=True)
        if isinstance(exc, FileExistsError):
            raise SignatureError(
                "the file exists already, and keys are not overwritten",
                where=str(exc.filename),
                hint="choose another name with --out",
            ) from exc
        if isinstance(exc, OSError):
            where = str(exc.filename or next(iter(files)))
            raise StorageError(f"cannot be written: {exc.strerror or exc}", where=where) from exc
        raise


def key_id(public: Ed25519PublicKey) -> str:
    """The key's id, 64 hexadecimal digits: ``openssl pkey -pubin -in NAME.pub -outform DER | sha256sum``."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return hashlib.sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def private_keys(files: Sequence[Path], environ: Mapping[str, str] = os.environ) -> dict[str, Ed25519PrivateKey]:
    """Keys to sign with, by id: those of `files` or, when there are none, the one in `SIGNING_KEY`.

    Raises:
        SignatureError: no key is given, one is not an Ed25519 private key, or its passphrase is missing or wrong.
    """
    require_packages()
    sources = {str(file): _read(file) for file in files}
    if not sources and (text := environ.get(SIGNING_KEY, "").strip()):
        sources[SIGNING_KEY] = os.fsencode(f"{text}\n")
    if not sources:
        raise SignatureError(
            "no signing key is given",
            hint=f"give --key FILE, or set {SIGNING_KEY} to the key itself; edgec keygen makes one",
        )
    password = os.fsencode(environ.get(PASSWORD, "")) or None
    keys = [_private(content, where, password) for where, content in sources.items()]
    return {key_id(key.public_key()): key for key in keys}


def _private(content: bytes, where: str, password: bytes | None) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    encrypted = b"BEGIN ENCRYPTED PRIVATE KEY" in content
    if encrypted and password is None:
        raise SignatureError("this key has a passphrase", where=where, hint=f"set {PASSWORD}")
    try:
        key = load_pem_private_key(content, password if encrypted else None)
    except Exception as exc:  # cryptography documents ValueError, TypeError and UnsupportedAlgorithm; none is quoted
        if encrypted:
            raise SignatureError(f"the passphrase in {PASSWORD} is wrong for this key", where=where) from exc
        raise SignatureError("this is not a private key in PEM format", where=where, hint=_HINT) from exc
    if not isinstance(key, Ed25519PrivateKey):
        raise SignatureError("this is not an Ed25519 key", where=where, hint=_HINT)
    return key


def public_keys(files: Sequence[Path]) -> dict[str, Ed25519PublicKey]:
    """Keys to verify with, by id.

    Raises:
        SignatureError: a file is not an Ed25519 public key, or none is given.
    """
    require_packages()
    if not files:
        raise SignatureError("no key to verify signatures with is given", hint="give --key NAME.pub")
    keys = [_public(_read(file), file) for file in files]
    return {key_id(key): key for key in keys}


def _public(content: bytes, file: Path) -> Ed25519PublicKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    if b"PRIVATE KEY" in content:
        hint = "give the .pub file; the private key stays with the signer"
        raise SignatureError("this is a private key", where=str(file), hint=hint)
    try:
        key = load_pem_public_key(content)
    except Exception as exc:
        raise SignatureError("this is not a public key in PEM format", where=str(file), hint=_HINT) from exc
    if not isinstance(key, Ed25519PublicKey):
        raise SignatureError("this is not an Ed25519 key", where=str(file), hint=_HINT)
    return key


_HINT = "edgec keygen makes a pair of keys"


def _read(file: Path) -> bytes:
    try:
        with os.fdopen(os.open(file, os.O_RDONLY | os.O_NONBLOCK), "rb") as stream:  # a pipe is not waited for
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise SignatureError("the key cannot be read: this is not a regular file", where=str(file))
            return stream.read(_LARGEST)
    except OSError as exc:
        raise SignatureError(f"the key cannot be read: {exc.strerror or exc}", where=str(file)) from exc

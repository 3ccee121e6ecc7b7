"""The client of an S3 service, and its errors as edgec's errors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from edgec.errors import BackendUnavailableError, CredentialsError, PublishError
from edgec.publish.location import S3Location
from edgec.publish.transfer import RetryPolicy, TransientError

MISSING = frozenset({"404", "NoSuchKey", "NotFound"})
CONFLICT = frozenset({"409", "412", "ConditionalRequestConflict", "PreconditionFailed"})
CONNECT = 10.0
"""Seconds to connect, at most."""
MAX_MESSAGE = 200
"""Characters of a server's message that are repeated."""

_REFUSED = frozenset(
    {"401", "403", "AccessDenied", "AllAccessDisabled", "ExpiredToken", "InvalidAccessKeyId", "InvalidToken"}
    | {"RequestTimeTooSkewed", "SignatureDoesNotMatch", "TokenRefreshRequired"}
)
_BUSY = frozenset({"InternalError", "RequestTimeout", "ServiceUnavailable", "SlowDown", "Throttling"})
_CHAIN = "boto3 looks in the environment (AWS_ACCESS_KEY_ID, AWS_PROFILE), ~/.aws and the machine's role"


def connect(location: S3Location, policy: RetryPolicy) -> Any:
    """Make a client with time-outs and without retries of its own; nothing is sent yet.

    Args:
        location: bucket and prefix.
        policy: has the time-out.

    Raises:
        BackendUnavailableError: boto3 is not installed.
        CredentialsError, PublishError: boto3's configuration (environment, ~/.aws) is invalid.
    """
    try:
        import boto3.session
        from botocore.config import Config
    except ImportError as exc:
        what = f"publishing to S3 needs a package that is not installed: {exc.name}"
        raise BackendUnavailableError(what, where=str(location), hint="pip install 'edgec[s3]'") from exc
    own = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    config = Config(
        connect_timeout=min(CONNECT, policy.timeout),
        read_timeout=policy.timeout,
        retries={"total_max_attempts": 1, "mode": "standard"},
        s3={"addressing_style": "path"} if own else None,  # few private servers have a host name for each bucket
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",  # parts of objects have none; edgec checks digests
    )
    with translate_errors(str(location)):
        try:
            return boto3.session.Session().client("s3", config=config)
        except ValueError as exc:
            raise PublishError(str(exc), where=str(location), hint="see AWS_ENDPOINT_URL and AWS_REGION") from exc


def code_of(error: Any) -> str:
    """The code in a ClientError, e.g. ``NoSuchKey``; for HEAD, which has no body, the HTTP status."""
    return str(error.response.get("Error", {}).get("Code", ""))


@contextmanager
def translate_errors(where: str) -> Iterator[None]:
    """Raise errors of boto3 and of its connections as edgec's errors.

    Args:
        where: bucket and key, for messages.
    """
    from botocore import exceptions
    from urllib3.exceptions import HTTPError

    try:
        yield
    except exceptions.ClientError as exc:
        raise _refusal(exc, where) from exc
    except (
        exceptions.NoCredentialsError,
        exceptions.PartialCredentialsError,
        exceptions.CredentialRetrievalError,
        exceptions.ProfileNotFound,
        exceptions.TokenRetrievalError,
        exceptions.SSOError,
    ) as exc:
        raise CredentialsError(f"no credentials: {_short(exc)}", where=where, hint=_CHAIN) from exc
    except exceptions.SSLError as exc:
        hint = "for a private certificate authority: set AWS_CA_BUNDLE to its file"
        raise PublishError(
            "the server's certificate cannot be verified, or it has no TLS", where=where, hint=hint
        ) from exc
    except (exceptions.ConnectTimeoutError, exceptions.ReadTimeoutError) as exc:
        raise TransientError(
            "the connection timed out", where=where, hint="see --timeout and AWS_ENDPOINT_URL"
        ) from exc
    except (exceptions.EndpointConnectionError, exceptions.ProxyConnectionError) as exc:
        raise TransientError("the server cannot be reached", where=where, hint="see AWS_ENDPOINT_URL") from exc
    except (exceptions.HTTPClientError, exceptions.IncompleteReadError, exceptions.ResponseStreamingError) as exc:
        raise TransientError("the connection broke", where=where) from exc
    except (HTTPError, ConnectionError, TimeoutError) as exc:
        raise TransientError("the connection broke", where=where) from exc
    except exceptions.BotoCoreError as exc:
        raise PublishError(_short(exc), where=where) from exc


def _refusal(error: Any, where: str) -> PublishError | CredentialsError:
    code = code_of(error)
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    message = _short(error.response.get("Error", {}).get("Message", "") or f"HTTP status {status}")
    if code == "NoSuchBucket":
        hint = "create the bucket, or check AWS_ENDPOINT_URL"
        return PublishError("the bucket does not exist", where=where, hint=hint)
    if code in _REFUSED or status in {401, 403}:
        return CredentialsError(f"the server refuses the request: {code}: {message}", where=where, hint=_CHAIN)
    if code in _BUSY or status in {429, 500, 502, 503, 504}:
        return TransientError(f"the server is busy: {code}: {message}", where=where)
    if code in MISSING:
        return PublishError("the file is missing, although the index names it", where=where, hint="publish again there")
    if code == "InvalidRange":
        return PublishError("the file is shorter than the index states", where=where, hint="publish again there")
    return PublishError(f"the server refuses the request: {code}: {message}", where=where)


def _short(words: object) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in str(words))[:MAX_MESSAGE]

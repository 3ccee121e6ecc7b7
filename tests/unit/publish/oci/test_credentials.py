"""Credentials: where they are looked for, in which order, and that they are never shown."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from edgec.errors import CredentialsError
from edgec.publish.oci.credentials import DOCKER_HUB_KEY, PASSWORD, USER, credentials_for

HOST = "registry.local:5000"
SECRET = "s3cret-of-mine"


@pytest.fixture(autouse=True)
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of docker's configuration, and nothing in the environment."""
    folder = tmp_path / "docker"
    folder.mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    monkeypatch.delenv(USER, raising=False)
    monkeypatch.delenv(PASSWORD, raising=False)
    return folder


def write(folder: Path, **config: Any) -> None:
    (folder / "config.json").write_text(json.dumps(config))


def auth(user: str = "me", password: str = SECRET) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def helper(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    file = folder / "docker-credential-test"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


def test_without_configuration_requests_are_anonymous() -> None:
    assert credentials_for(HOST) is None


@pytest.mark.parametrize("key", [HOST, f"https://{HOST}", f"https://{HOST}/v1/", f"http://{HOST}"])
def test_docker_login_is_found(docker: Path, key: str) -> None:
    write(docker, auths={"other.local": auth("x", "y"), key: auth(password="with:colon")})
    found = credentials_for(HOST)
    assert found is not None
    assert (found.user, found.password) == ("me", "with:colon")
    assert str(docker) in found.source


def test_credentials_are_for_their_own_host_only(docker: Path) -> None:
    write(docker, auths={HOST: auth()})
    for other in ("registry.local", "registry.local:5001", "evil.registry.local:5000", "registry.local:5000.evil"):
        assert credentials_for(other) is None


def test_docker_hub_has_a_key_of_its_own(docker: Path) -> None:
    write(docker, auths={DOCKER_HUB_KEY: auth()})
    for name in ("docker.io", "registry-1.docker.io"):
        found = credentials_for(name)
        assert found is not None
        assert found.user == "me"


def test_environment_goes_before_docker(docker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(docker, auths={HOST: auth()})
    monkeypatch.setenv(USER, "robot")
    monkeypatch.setenv(PASSWORD, "other")
    found = credentials_for(HOST)
    assert found is not None
    assert (found.user, found.password) == ("robot", "other")


@pytest.mark.parametrize("one", [USER, PASSWORD])
def test_half_of_them_is_an_error(monkeypatch: pytest.MonkeyPatch, one: str) -> None:
    monkeypatch.setenv(one, SECRET)
    with pytest.raises(CredentialsError) as error:
        credentials_for(HOST)
    assert SECRET not in str(error.value)
    assert f"{one} is set" in str(error.value)


def test_secrets_are_not_shown(docker: Path) -> None:
    write(docker, auths={HOST: auth("the-user")})
    found = credentials_for(HOST)
    assert found is not None
    for text in (repr(found), str(found), f"{found}"):
        assert SECRET not in text
        assert "the-user" not in text


def test_identity_token_goes_before_a_password(docker: Path) -> None:
    write(docker, auths={HOST: {**auth(), "identitytoken": "refresh"}})
    found = credentials_for(HOST)
    assert found is not None
    assert (found.identity_token, found.password) == ("refresh", "")


@pytest.mark.parametrize("config", [{"credsStore": "test"}, {"credHelpers": {HOST: "test"}}])
def test_helper_is_asked(docker: Path, monkeypatch: pytest.MonkeyPatch, config: dict[str, Any]) -> None:
    asked = docker / "asked"
    helper(docker, monkeypatch, f'cat > {asked}; [ "$1" = get ]; echo \'{{"Username":"me","Secret":"{SECRET}"}}\'')
    write(docker, auths={HOST: {}}, **config)
    found = credentials_for(HOST)
    assert found is not None
    assert (found.user, found.password) == ("me", SECRET)
    assert asked.read_text() == HOST


def test_helper_of_one_host_goes_before_the_store(docker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(docker, monkeypatch, 'echo \'{"Username":"<token>","Secret":"refresh"}\'')
    write(docker, credsStore="absent", credHelpers={HOST: "test"})
    found = credentials_for(HOST)
    assert found is not None
    assert found.identity_token == "refresh"


def test_helper_without_credentials_leaves_what_docker_has(docker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(docker, monkeypatch, "echo credentials not found in native keychain; exit 1")
    write(docker, credsStore="test")
    assert credentials_for(HOST) is None
    write(docker, credsStore="test", auths={HOST: auth()})
    assert credentials_for(HOST) is not None


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (f"echo {SECRET}; echo {SECRET} >&2; exit 3", "failed (exit 3)"),
        (f"echo {SECRET}", "returned invalid output"),
        (f"echo '[\"{SECRET}\"]'", "returned invalid output"),
    ],
)
def test_output_of_a_broken_helper_is_not_shown(
    docker: Path, monkeypatch: pytest.MonkeyPatch, script: str, message: str
) -> None:
    helper(docker, monkeypatch, script)
    write(docker, credsStore="test")
    with pytest.raises(CredentialsError) as error:
        credentials_for(HOST)
    assert message in str(error.value)
    assert SECRET not in str(error.value)


def test_helper_that_is_not_installed(docker: Path) -> None:
    write(docker, credsStore="surely-not-there")
    with pytest.raises(CredentialsError, match=r"docker-credential-surely-not-there.*not installed"):
        credentials_for(HOST)


def test_helper_name_must_not_be_a_path(docker: Path) -> None:
    write(docker, credsStore="../../bin/sh")
    with pytest.raises(CredentialsError, match="invalid name of a credential helper"):
        credentials_for(HOST)


@pytest.mark.parametrize(
    "text",
    [
        f'{{"auths": "{SECRET}',
        json.dumps({"auths": {HOST: {"auth": SECRET}}}),
        json.dumps({"auths": {HOST: {"auth": base64.b64encode(SECRET.encode()).decode()}}}),
    ],
)
def test_content_of_a_broken_configuration_is_not_shown(docker: Path, text: str) -> None:
    (docker / "config.json").write_text(text)
    with pytest.raises(CredentialsError) as error:
        credentials_for(HOST)
    assert SECRET not in str(error.value)
    assert str(docker / "config.json") in str(error.value)


@pytest.mark.parametrize("config", [{}, [], {"auths": []}, {"auths": {HOST: "x"}}, {"auths": {HOST: {}}}])
def test_configuration_without_credentials(docker: Path, config: Any) -> None:
    (docker / "config.json").write_text(json.dumps(config))
    assert credentials_for(HOST) is None

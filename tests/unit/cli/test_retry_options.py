"""Time-outs and retries that nothing can be told are refused as they are read."""

from __future__ import annotations

from typing import Any

import click
import pytest
from click.testing import CliRunner

from edgec.cli.options import retry_options


@click.command()
@retry_options
def verb(**given: Any) -> None:
    click.echo(f"{given['timeout']} {given['retries']}")


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(verb, arguments)
    assert done.exception is None or isinstance(done.exception, SystemExit)
    return done.exit_code, done.output


def test_numbers_are_taken() -> None:
    assert run() == (0, "30.0 4\n")
    assert run("--timeout", "0.5", "--retries", "0") == (0, "0.5 0\n")
    assert run("--timeout", "86400", "--retries", "1000") == (0, "86400.0 1000\n")


@pytest.mark.parametrize("value", ["nan", "-nan", "inf", "-inf", "1e300", "0", "-1", "86401", "x", ""])
def test_time_outs_that_cannot_be(value: str) -> None:
    code, told = run("--timeout", value)
    assert code == 2
    assert "--timeout" in told


@pytest.mark.parametrize("value", ["-1", "1001", "1e3", "nan"])
def test_retries_that_cannot_be(value: str) -> None:
    assert run("--retries", value)[0] == 2

"""Every error a user can cause has its own exit code and is documented."""

from pathlib import Path

from edgec.errors import (
    EdgecError,
    ProjectError,
    StorageError,
    ToolchainError,
    UnsupportedError,
    UsageError,
    WorkerError,
    error_classes,
    outside_the_model,
)

DOCS = Path(__file__).parents[2] / "docs" / "errors.md"


def test_exit_codes_are_distinct_and_valid() -> None:
    codes = [cls.exit_code for cls in error_classes()]
    assert len(set(codes)) == len(codes)
    assert all(0 < code < 256 for code in codes)


def test_every_class_states_its_own_code() -> None:
    assert all("exit_code" in vars(cls) for cls in error_classes())


def test_every_code_is_documented() -> None:
    text = DOCS.read_text()
    for cls in error_classes():
        assert f"| {cls.exit_code} | {cls.__name__} |" in text


def test_message_says_what_where_and_what_to_do() -> None:
    error = UsageError("no such option", where="--treads", hint='did you mean "--threads"?', log="x.log")
    assert str(error).splitlines() == ["--treads: no such option", '  did you mean "--threads"?', "  log: x.log"]
    assert isinstance(error, EdgecError)


def test_what_is_at_fault() -> None:
    outside = (WorkerError("killed"), StorageError("disk full"), ProjectError("no such key"))
    assert all(outside_the_model(error) for error in outside)
    assert not any(outside_the_model(error) for error in (ToolchainError("KeyError"), UnsupportedError("no such op")))
    assert ToolchainError.exit_code == WorkerError.exit_code

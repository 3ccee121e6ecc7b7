"""What all tests share: signals as in a terminal, one cache, and coverage only of packages that have a floor."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from edgec.storage.cache import CACHE_VARIABLE

TESTS = Path(__file__).parent
MEASURED = {TESTS / "e2e", *(TESTS / "unit" / package for package in ("build", "ladder", "lock", "cli"))}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the other tests for pytest-cov."""
    if config.pluginmanager.has_plugin("_cov"):
        for item in items:
            if MEASURED.isdisjoint(item.path.parents):
                item.add_marker("no_cover")


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup() -> Generator[None, object, object]:
    """See `same_environment`."""
    with same_environment():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call() -> Generator[None, object, object]:
    """See `same_environment`."""
    with same_environment():
        return (yield)


@contextlib.contextmanager
def same_environment() -> Iterator[None]:
    """Without the variable that pytest sets for each test: workers of one environment import a framework once."""
    name = "PYTEST_CURRENT_TEST"
    value = os.environ.pop(name, None)
    try:
        yield
    finally:
        if value is not None:
            os.environ[name] = value


@pytest.fixture(scope="session", autouse=True)
def signals_as_in_a_terminal() -> None:
    """Tests send signals; a shell's background jobs ignore SIGINT, and under `nohup` all processes ignore SIGHUP."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session", autouse=True)
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of results that all tests share, instead of the user's: what one has built is not built again."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(folder))
        yield folder


@pytest.fixture(scope="session", autouse=True)
def shared_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Records of what was pulled, instead of the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.getbasetemp() / "state"))
        yield


@pytest.fixture
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, for a test of what is kept or of work that has to be done; its path is the same in each test."""
    folder = tmp_path_factory.getbasetemp() / "own-cache"
    shutil.rmtree(folder, ignore_errors=True)
    monkeypatch.setenv(CACHE_VARIABLE, str(folder))
    return folder

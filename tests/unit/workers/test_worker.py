"""Worker processes: results, errors, crashes, kills, noise and orphans, with real processes."""

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import Field

import edgec
from edgec.errors import DatasetError, ToolchainError, WorkerError
from edgec.frozen import Frozen
from edgec.workers.forked import SERVERS
from edgec.workers.worker import Progress, Worker, WorkerResult, call

HERE = os.pathsep.join((str(Path(__file__).parent), str(Path(edgec.__file__).parents[1])))


class Values(Frozen):
    """JSON values, as a request and as an answer."""

    of: dict[str, Any] = Field(default_factory=dict)


def echo(request: Values, progress: Progress) -> Values:
    progress("speak")
    print("noise on stdout")
    os.write(2, b"noise of native code\n")
    return Values(of={"got": request.of, "threads": os.environ["OMP_NUM_THREADS"], "pid": os.getpid()})


def fail(request: Values, progress: Progress) -> Values:
    progress("read")
    raise DatasetError("no samples", where="x.npz", hint="add some")


def defect(request: Values, progress: Progress) -> Values:
    progress("divide")
    return Values(of={"x": 1 // 0})


def numpy_file(request: Values, progress: Progress) -> Values:
    import numpy

    return Values(of={"file": numpy.__file__})


def leave(request: Values, progress: Progress) -> Values:
    progress("convert")
    sys.exit(3)


def crash(request: Values, progress: Progress) -> Values:
    progress("quantize")
    os.kill(os.getpid(), request.of["signal"])
    time.sleep(30)
    return Values()


def sleep(request: Values, progress: Progress) -> Values:
    Path(request.of["pid_file"]).write_text(str(os.getpid()))
    time.sleep(60)
    return Values()


class Counter:
    """An object that lives in a worker."""

    def __init__(self, request: Values, progress: Progress) -> None:
        self.value = request.of["start"]

    def add(self, request: Values, progress: Progress) -> Values:
        progress(f"add {request.of['number']}")
        self.value += request.of["number"]
        return Values(of={"value": self.value, "pid": os.getpid()})

    def fail(self, request: Values, progress: Progress) -> Values:
        raise DatasetError("no samples")

    def crash(self, request: Values, progress: Progress) -> Values:
        return crash(request, progress)


class Division(Frozen):
    """A request."""

    dividend: float
    divisor: float


class Quotient(Frozen):
    """Its answer."""

    value: Annotated[float, Field(strict=False)]
    work: Path


def divide(request: Division, progress: Progress) -> Quotient:
    progress(f"divide by {request.divisor}")
    return Quotient(value=request.dividend / request.divisor if request.divisor else math.inf, work=Path("here"))


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", HERE)


def run(function: str, log: Path, values: dict[str, Any] | None = None, **options: Any) -> WorkerResult[Values]:
    return call(f"test_worker:{function}", Values(of=values or {}), Values, log=log, what="unit test", **options)


def test_result_progress_noise_and_cost(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    steps: list[str] = []
    result = run("echo", tmp_path / "log", {"a": [1, "ü"]}, threads=2, on_progress=steps.append)
    assert result.value.of["got"] == {"a": [1, "ü"]}
    assert result.value.of["threads"] == "2"
    assert result.value.of["pid"] != os.getpid()
    assert steps == ["speak"]
    assert result.peak_rss_mb > 1
    assert "noise on stdout" in (tmp_path / "log").read_text()
    assert "noise of native code" in (tmp_path / "log").read_text()
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def test_records_arrive_as_records(tmp_path: Path) -> None:
    request = Division(dividend=1.0, divisor=4.0)
    answer = call("test_worker:divide", request, Quotient, log=tmp_path / "log", what="unit test").value
    assert answer == Quotient(value=0.25, work=Path("here"))
    with Worker(log=tmp_path / "log", what="unit test") as worker:
        infinite = worker.call("test_worker:divide", Division(dividend=1.0, divisor=0.0), Quotient)
    assert infinite.value.value == math.inf


def test_explained_error_arrives_as_itself_with_the_log(tmp_path: Path) -> None:
    with pytest.raises(DatasetError) as caught:
        run("fail", tmp_path / "log")
    assert (caught.value.what, caught.value.where, caught.value.hint) == ("no samples", "x.npz", "add some")
    assert caught.value.log == str(tmp_path / "log")


@pytest.mark.parametrize(("function", "words"), [("defect", "ZeroDivisionError"), ("leave", "SystemExit: 3")])
def test_unexplained_end_names_the_step_and_the_log_has_the_traceback(
    tmp_path: Path, function: str, words: str
) -> None:
    with pytest.raises(ToolchainError, match=r"step (divide|convert): the toolchain could not do this step") as caught:
        run(function, tmp_path / "log")
    assert words in str(caught.value)
    assert "log" in caught.value.hint
    assert "Traceback" in (tmp_path / "log").read_text()


@pytest.mark.parametrize(("number", "words"), [(signal.SIGKILL, "out of memory"), (signal.SIGSEGV, "SIGSEGV")])
def test_crash_and_kill_name_the_step(tmp_path: Path, number: int, words: str) -> None:
    with pytest.raises(WorkerError, match="step quantize") as caught:
        run("crash", tmp_path / "log", {"signal": int(number)})
    assert words in str(caught.value)


def test_a_file_of_the_current_folder_does_not_stand_for_a_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "numpy.py").write_text("raise SystemExit('the file of the folder was imported')\n")
    monkeypatch.chdir(tmp_path)
    assert run("numpy_file", tmp_path / "log").value.of["file"] != str(tmp_path / "numpy.py")


def test_the_process_dies_with_its_parent(tmp_path: Path) -> None:
    values = {"pid_file": str(tmp_path / "pid")}
    code = f"""
from pathlib import Path
from edgec.workers.worker import call
from test_worker import Values
call("test_worker:sleep", Values(of={values!r}), Values, log=Path({str(tmp_path / "log")!r}), what="orphan")
"""
    parent = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 30
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    child = Path("/proc", (tmp_path / "pid").read_text(), "stat")
    while child.exists() and child.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_an_object_lives_from_call_to_call_and_outlives_errors(tmp_path: Path) -> None:
    steps: list[str] = []
    with Worker(log=tmp_path / "log", what="unit test", on_progress=steps.append) as worker:
        worker.create("test_worker:Counter", Values(of={"start": 40}))
        first = worker.ask("add", Values(of={"number": 1}), Values).value.of
        with pytest.raises(DatasetError, match="no samples"):
            worker.ask("fail", Values(), Values)
        assert worker.ask("add", Values(of={"number": 1}), Values).value.of == {"value": 42, "pid": first["pid"]}
        with pytest.raises(WorkerError, match=r"step quantize: .*SIGSEGV"):
            worker.ask("crash", Values(of={"signal": int(signal.SIGSEGV)}), Values)
        with pytest.raises(WorkerError, match="SIGSEGV"):
            worker.ask("add", Values(of={"number": 1}), Values)
    assert steps == ["add 1", "add 1", "quantize"]
    assert [item.name for item in tmp_path.iterdir()] == ["log"]


def test_memory_is_the_workers_own(tmp_path: Path) -> None:
    ballast = bytearray(os.urandom(1 << 20) * 300)
    assert run("echo", tmp_path / "log").peak_rss_mb < 200, "what the parent held when it forked is not counted"
    assert len(ballast) == 300 << 20


def surroundings(request: Values, progress: Progress) -> Values:
    values = {
        "folder": os.getcwd(),
        "environment": dict(os.environ),
        "imported": [name for name in ("json", "wave") if name in sys.modules],
        "server": os.getppid(),
    }
    return Values(of=values)


def test_a_worker_has_the_folder_environment_and_modules_that_it_was_started_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run("surroundings", tmp_path / "log", imports=("wave",)).value.of
    monkeypatch.chdir(tmp_path)
    second = run("surroundings", tmp_path / "log", imports=("wave",)).value.of
    assert second["server"] == first["server"], "what is the same is imported once"
    assert (first["folder"] != second["folder"], second["folder"]) == (True, str(tmp_path))
    assert first["imported"] == ["json", "wave"]
    assert first["environment"]["TMPDIR"] != second["environment"]["TMPDIR"]
    environment = {"PYTHONPATH": HERE, "PATH": os.environ["PATH"]}
    bare = run("surroundings", tmp_path / "log", environment=environment).value.of
    assert environment.items() <= bare["environment"].items()
    assert "PYTHONHASHSEED" not in bare["environment"]
    assert bare["server"] != first["server"]
    assert bare["imported"] == ["json"]


def test_a_server_that_is_killed_is_started_again(tmp_path: Path) -> None:
    with Worker(log=tmp_path / "log", what="unit test") as worker:
        server = worker.call("test_worker:surroundings", Values(), Values).value.of["server"]
        os.kill(server, signal.SIGKILL)
        with pytest.raises(WorkerError, match="SIGKILL"):
            worker.call("test_worker:sleep", Values(of={"pid_file": str(tmp_path / "pid")}), Values)
    assert run("surroundings", tmp_path / "log").value.of["server"] != server


def test_a_server_that_is_left_over_ends_after_its_last_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Worker(log=tmp_path / "log", what="unit test") as worker:
        server = worker.call("test_worker:surroundings", Values(), Values).value.of["server"]
        for number in range(SERVERS):
            monkeypatch.setenv("EDGEC_UNIT_TEST", str(number))
            run("surroundings", tmp_path / "log")
        assert worker.call("test_worker:surroundings", Values(), Values).value.of["server"] == server
    deadline = time.monotonic() + 30
    while Path("/proc", str(server)).exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_server_that_dies_while_it_imports_is_told(tmp_path: Path) -> None:
    (tmp_path / "fatal.py").write_text("import os; os._exit(7)\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), HERE))}
    with pytest.raises(WorkerError, match=r"exit code 7 while it imported fatal"):
        run("echo", tmp_path / "log", environment=environment, imports=("fatal",))

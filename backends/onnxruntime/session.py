"""ONNX Runtime sessions with every thread and log setting stated, and its errors told in edgec's words."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from edgec.errors import UnsupportedError

Level = Literal["basic", "all"]


def open_session(
    file: Path, *, threads: int, level: Level = "all", optimized: Path | None = None, profile: Path | None = None
) -> Any:
    """An `onnxruntime.InferenceSession` on the CPU.

    Args:
        file: the ONNX file.
        threads: threads within an op; ops run one after the other.
        level: how far the runtime may rewrite the graph; ``all`` is what artifacts run with.
        optimized: write the graph as the runtime executes it to this file.
        profile: record the time of each op; the file is named after this, and by ``end_profiling()``.

    Raises:
        UnsupportedError: the runtime refuses the model.
    """
    import onnxruntime

    levels = {
        "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
        "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
    }
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = levels[level]
    options.log_severity_level = 3
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as exc:  # its exception classes have no common base but Exception
        raise UnsupportedError(
            f"ONNX Runtime {onnxruntime.__version__} refuses the model: {first_line(exc, file)}", where=file.name
        ) from exc


def first_line(exc: Exception, file: Path) -> str:
    """The message of a toolchain's exception, without paths and further lines."""
    lines = str(exc).replace(str(file), file.name).strip().splitlines()
    return lines[0] if lines else type(exc).__name__

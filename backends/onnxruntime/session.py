"""ONNX Runtime sessions with every thread and log setting stated, and its errors without its source paths and codes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from edgec.backends.onnxruntime.widen import widen
from edgec.errors import UnsupportedError
from edgec.model.spec import Array

_PLAIN = (
    (re.compile(r"\[ONNXRuntimeError\] : \d+ : (?:[A-Z_]+ : )?"), ""),
    (
        re.compile(r"Could not find an implementation for (\w+)\((\d+)\) node with name '(.*?)'"),
        r'no kernel for \1 of opset \2 (node "\3")',
    ),
    (
        re.compile(r"Non-zero status code returned while running (\w+) node\. Name:'(.*?)' Status Message: "),
        r'\1 (node "\2") fails: ',
    ),
    (re.compile(r"Exception during initialization: "), ""),
    (re.compile(r'This is an invalid model\. In Node, \("(.*?)", (\w+), .*Error '), r'\2 (node "\1"): '),
    (re.compile(r"/onnxruntime_src/\S+?:\d+ .*?\)(?: const)? (?:\[[^\]]*\] )?"), ""),
    (re.compile(r"\(?/onnxruntime_src/\S+\s?"), ""),
)
"""What ONNX Runtime says -> the same without its source paths, signatures and codes."""

Level = Literal["basic", "all"]


def open_session(
    file: Path,
    *,
    threads: int,
    level: Level = "all",
    widens: bool = False,
    optimized: Path | None = None,
    profile: Path | None = None,
) -> Any:
    """An `onnxruntime.InferenceSession` on the CPU.

    Args:
        file: the ONNX file.
        threads: threads within an op; ops run one after the other.
        level: how far the runtime may rewrite the graph; ``all`` is what artifacts run with.
        widens: add int8 products in 32 bits also on an x86 CPU without VNNI, as the device does; slower there.
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
        opened = widen(file, options) if widens else str(file)
        return onnxruntime.InferenceSession(opened, options, providers=["CPUExecutionProvider"])
    except Exception as exc:  # its exception classes have no common base but Exception
        raise UnsupportedError(
            f"ONNX Runtime {onnxruntime.__version__} refuses the model: {first_line(exc, file)}", where=file.name
        ) from exc


def run(session: Any, outputs: Sequence[str], feeds: Mapping[str, Array], where: str) -> list[Array]:
    """One inference.

    Args:
        session: of `open_session`.
        outputs: names of the tensors wanted.
        feeds: input name -> value.
        where: the model or file, for messages.

    Raises:
        UnsupportedError: the runtime stops within the model.
    """
    try:
        values: list[Array] = session.run(list(outputs), dict(feeds))
    except Exception as exc:  # its exception classes have no common base but Exception
        raise UnsupportedError(f"ONNX Runtime stops within the model: {first_line(exc, Path())}", where=where) from exc
    return values


def first_line(exc: Exception, file: Path) -> str:
    """The message of a toolchain's exception, without paths, codes and further lines."""
    lines = str(exc).replace(str(file), file.name).strip().splitlines()
    text = lines[0] if lines else type(exc).__name__
    for pattern, replacement in _PLAIN:
        text = pattern.sub(replacement, text)
    return text.strip()

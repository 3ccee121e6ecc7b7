"""Where an artifact's time goes, op by op, from ONNX Runtime's own profiler."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edgec.backends.onnxruntime.origin import layer_of, origins, plain_name
from edgec.backends.onnxruntime.session import open_session
from edgec.frozen import Frozen
from edgec.model.spec import Array
from edgec.storage.temporary import private_folder

_SUFFIX = "_kernel_time"


class OpTime(Frozen):
    """Time of one executed op."""

    name: str
    """As in `OpRecord.name`."""
    op: str
    layer: str
    microseconds: float
    """Median over the runs; the profiler adds about a microsecond of its own to each op."""


def op_times(file: Path, feeds: Mapping[str, Array], *, runs: int, threads: int) -> tuple[OpTime, ...]:
    """Run an artifact under the profiler.

    Args:
        file: the ONNX file.
        feeds: artifact input name -> value.
        runs: timed runs, after one to warm up.
        threads: threads within an op.

    Returns:
        One record an op, in execution order.
    """
    import onnx

    origin = origins(onnx.load(str(file)))
    with private_folder() as folder:
        session = open_session(file, threads=threads, profile=Path(folder, "ops"))
        for _ in range(runs + 1):
            session.run(None, dict(feeds))
        events = json.loads(Path(session.end_profiling()).read_text())
    seen: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(_SUFFIX):
            seen[event["name"].removesuffix(_SUFFIX), event["args"]["op_name"]].append(float(event["dur"]))
    return tuple(
        OpTime(
            name=name,
            op=op,
            layer=origin[plain].layer if (plain := plain_name(name)) in origin else layer_of(name),
            microseconds=float(np.median(times[1:])),
        )
        for (name, op), times in seen.items()
    )

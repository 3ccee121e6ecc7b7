"""What a pass is: a frozen value with one method, whose effect is measured and not believed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from edgec.errors import DatasetError
from edgec.frozen import Frozen
from edgec.target.spec import Emit, Target

if TYPE_CHECKING:
    from edgec.dataset.spool import Spool

M = TypeVar("M")


@dataclass(frozen=True)
class PassContext:
    """What a pass may know besides the model. Nothing is handed on through it: passes return results."""

    target: Target
    work: Path
    """Private scratch folder of this build step; whatever is left in it is thrown away."""
    calibration: Spool | None = None
    """Calibration samples (batch axis included, in the float model's layout); None for float targets."""
    seed: int = 0
    threads: int = 1
    emit: Emit | None = None
    """The artifact being made; None while portable passes run."""

    def samples(self, what: str) -> Spool:
        """The calibration samples, for who cannot do without.

        Args:
            what: who needs them.

        Raises:
            DatasetError: there are none.
        """
        if self.calibration is None or not len(self.calibration):
            raise DatasetError(f"{what} needs calibration samples", where=self.target.name)
        return self.calibration


FELL_BACK = "fell back to "
"""How the state of an artifact begins that no rung of the accuracy ladder brought through its gates."""
BELOW_GOAL = "below the goal"
"""State of an artifact in a runtime that misses a default gate, and is kept."""
LEFT_OUT = "runtime left out"
"""State of an artifact in a runtime that is wrong where another one is right: the bundle does not allow it."""


WEAK_EVIDENCE = "weak evidence"
"""State of a set of samples that is too small, or too much alike, for what is concluded from it."""


class Coverage(Frozen):
    """One thing that was not done as the target asks, and why. Shown in the report; never silent."""

    subject: str
    """Layer, op or artifact it concerns."""
    state: str
    """What it is instead, e.g. ``float32``, ``skipped``, ``emulated``, ``not measured``."""
    reason: str

    @property
    def loud(self) -> bool:
        """Whether to tell it loudly: an artifact has another precision than the target's, or runs in fewer runtimes.

        Or it is farther from the float model than edgec wants.
        """
        return self.state.startswith((FELL_BACK, LEFT_OUT, BELOW_GOAL))


@dataclass(frozen=True)
class PassResult(Generic[M]):
    """The new model and what the pass has to tell. Whether it changed anything is measured by the runner."""

    model: M
    summary: str = ""
    """One line for people: ``folded 4 BatchNorm2d``."""
    coverage: Sequence[Coverage] = field(default=())


class Pass(ABC, Generic[M]):
    """A step of the pipeline. Subclasses are frozen dataclasses, whose fields are the options of the pass."""

    name: ClassVar[str]
    """Stable identifier, a verb phrase: ``fold-batch-norm``."""
    optional: ClassVar[bool] = False
    """Whether a model is as right without the pass: then its failure is recorded, and does not fail the build."""

    def requires(self, model: M, ctx: PassContext) -> str | None:
        """None when the pass applies to `model`; else the reason it is skipped, which is recorded."""
        return None

    @abstractmethod
    def run(self, model: M, ctx: PassContext) -> PassResult[M]:
        """Return the changed model; `model` itself is left untouched.

        Raises:
            PassError: the pass cannot do what it promises.
        """

    def ensures(self, model: M, ctx: PassContext) -> str | None:
        """None when the result keeps the pass's promise; else what is wrong (the runner raises PassError)."""
        return None


class PassRecord(Frozen):
    """What one pass did, for manifest and report."""

    name: str
    options: dict[str, Any]
    state: str
    """``changed``, ``unchanged`` or ``skipped``."""
    summary: str
    seconds: float
    """Wall time; kept out of the manifest's reproducible part."""
    before: str
    """Fingerprint of the model before (SHA-256, 16 hex digits)."""
    after: str
    coverage: tuple[Coverage, ...] = ()


def options_of(step: Pass[Any]) -> dict[str, Any]:
    """The options of a pass: its dataclass fields, as JSON values."""
    values = {item.name: getattr(step, item.name) for item in fields(step) if item.init}  # type: ignore[arg-type]
    return {key: item.model_dump(mode="json") if isinstance(item, Frozen) else item for key, item in values.items()}

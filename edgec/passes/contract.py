"""The base class of passes, and their context, result and record."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

from edgec.errors import DatasetError
from edgec.frozen import Frozen
from edgec.passes.coverage import Coverage
from edgec.target.spec import Emit, Target

if TYPE_CHECKING:
    from edgec.dataset.spool import Spool

M = TypeVar("M")
PassState = Literal["changed", "unchanged", "skipped"]


@dataclass(frozen=True)
class PassContext:
    """Everything a pass may use besides the model. It carries no results: passes return them."""

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
        """The calibration samples, for a pass that needs them.

        Args:
            what: the pass, for the message.

        Raises:
            DatasetError: the target has no calibration samples.
        """
        if self.calibration is None or not len(self.calibration):
            raise DatasetError(f"{what} needs calibration samples", where=self.target.name)
        return self.calibration


@dataclass(frozen=True)
class PassResult(Generic[M]):
    """The new model and a report. Whether the pass changed anything is measured by the runner."""

    model: M
    summary: str = ""
    """One line for the report: ``folded 4 BatchNorm2d``."""
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
    """Effect of one pass, for manifest and report."""

    name: str
    options: dict[str, Any]
    state: PassState
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
